"""Class weights, and what keeps probabilities honest where training weighs classes or draws them evenly.

A network that is trained with every class weighing the same learns the probabilities of data in which all
classes are equally frequent: those of rare classes are too high for data like the training data. By Bayes'
rule the two differ by the logarithm of the class frequencies (Saerens et al. 2002; Menon et al. 2021, arXiv
2007.07314). So the loss is taken of logits that are shifted by it, and what the network itself gives holds
for the frequencies that were asked for, at every evaluation.

Example:
    >>> class_weights([90, 10])
    [0.5555555555555556, 5.0]
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepresidual.recipe.groups import Balance, ClassPrior

_MOST_WEIGHT = 100.0


def class_weights(counts: Sequence[int]) -> list[float]:
    """Return the weight of an image of each class with which all classes weigh the same.

    Images have a mean weight of 1, as with scikit-learn's ``class_weight="balanced"``; a class without images
    has the weight 1.

    Args:
        counts: Training images of each class.
    """
    present = sum(count > 0 for count in counts)
    return [sum(counts) / (present * count) if count else 1.0 for count in counts]


def positive_weights(counts: Sequence[int], num_images: int) -> list[float]:
    """Return, for several labels an image, the weight of an image that has a label: PyTorch's ``pos_weight``.

    Those that have it and those that have not weigh the same then; 100 at most.

    Args:
        counts: Training images that have each label.
        num_images: All training images.
    """
    return [
        min(_MOST_WEIGHT, (num_images - count) / count) if 0 < count < num_images else 1.0 for count in counts
    ]


def loss_shift(counts: Sequence[int], balance: Balance, class_prior: ClassPrior) -> list[float]:
    """Return what is added to the logits before the loss, so that without it they hold for ``class_prior``.

    That is the log prior of what training sees, minus that of what the probabilities are for; 0 for a class
    without images.

    Args:
        counts: Training images of each class.
        balance: How training weighs classes.
        class_prior: Frequencies that the probabilities are for.
    """
    seen = 0.0 if balance == "none" else -1.0
    wanted = 0.0 if class_prior == "training" else -1.0
    total = sum(counts)
    return [(seen - wanted) * math.log(count / total) if count else 0.0 for count in counts]


def few(counts: Sequence[int]) -> list[int]:
    """Return the classes with fewer than a third of the images of the largest one, the fewest first."""
    largest = max(counts, default=0)
    rare = [row for row, count in enumerate(counts) if 0 < 3 * count < largest]
    return sorted(rare, key=lambda row: counts[row])
