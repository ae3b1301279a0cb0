"""Names of the classes that published classifiers tell apart, in the order of the classifier's rows.

``imagenet_classes.tsv`` has the 1,000 classes of ImageNet-1k (ILSVRC 2012), sorted by WordNet id, which is
the order of the rows of every released classifier. A line is a WordNet id, a tab, and the first English
word of its synset. Three pairs share that word except for capitals (crane, maillot, cardigan); since names
of classes must differ, even as folders where capitals do not count, these have a second word.

Ids and words are from WordNet 3.0, © 2006 by Princeton University, whose licence permits use, copying and
distribution for any purpose with that notice (https://wordnet.princeton.edu/license-and-commercial-use).

Example:
    >>> imagenet_class_names()[207], imagenet_wordnet_ids()[207]
    ('golden retriever', 'n02099601')
"""

from __future__ import annotations

import functools
from importlib import resources

__all__ = ["CIFAR10_CLASS_NAMES", "imagenet_class_names", "imagenet_names_for", "imagenet_wordnet_ids"]

CIFAR10_CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""The ten classes of CIFAR-10, as its ``batches.meta`` lists them."""


def imagenet_class_names() -> tuple[str, ...]:
    """Return the English names of the 1,000 classes of ImageNet-1k; no two are equal."""
    return tuple(name for _, name in _imagenet_classes())


def imagenet_names_for(num_classes: int) -> tuple[str, ...] | None:
    """Return ImageNet's names for a classifier of 1,000 rows; ``None`` for any other."""
    return imagenet_class_names() if num_classes == 1000 else None


def imagenet_wordnet_ids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1,000 classes of ImageNet-1k, which also name its folders."""
    return tuple(wordnet_id for wordnet_id, _ in _imagenet_classes())


@functools.cache
def _imagenet_classes() -> tuple[tuple[str, str], ...]:
    text = (resources.files("deepresidual.zoo") / "imagenet_classes.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple((wordnet_id, name) for wordnet_id, name in rows)
