"""Looking at networks: figures of what they are made of, and the papers' experiments."""

EXPERIMENT_NAMES = (
    "complexity",
    "degradation",
    "depth",
    "shortcuts",
    "arrangements",
    "preactivation",
    "warmup",
    "responses",
    "gradients",
    "lesions",
    "imagenet",
)
"""Names of the experiments, which are known here without what they compute with."""
