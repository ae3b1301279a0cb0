"""Checkpoints of other libraries, in and out: read safely, translated strictly, compared on logits."""
