"""Convert checkpoints of other libraries, both ways: read safely, translate strictly, compare logits."""
