"""Measure what --balance and --class-prior change where some classes have few images.

A probe of a bundled network on images of ten classes, five of which have a tenth of the images of the others,
over several draws::

    python benchmarks/imbalance.py cifar10:PATH

Macro recall is measured on as many images of each class, and what probabilities promise on images of the same
frequencies as the training images.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

import deepresidual
from deepresidual.cli.output import print_line
from deepresidual.data.source import open_source
from deepresidual.data.source.validation import Subset
from deepresidual.recipe.groups import ClassPrior
from deepresidual.training.features import extract_features
from deepresidual.training.probe import fit_probe

MANY, FEW, DRAWS = 200, 20, 5
PRIORS: tuple[ClassPrior, ...] = ("training", "equal")
EVERY, TESTED = 400, 200


def main(data: str) -> None:
    """Print a row for each way of training."""
    split = open_source(data).split("test")  # the network was trained on the others
    labels = np.array(split.labels)
    random = np.random.default_rng(0)
    chosen = [random.permutation(np.flatnonzero(labels == label))[:EVERY] for label in range(10)]
    some = Subset(split, np.concatenate(chosen))
    features = extract_features(deepresidual.load("resnet56-cifar10"), some, views=("center",))
    rows: dict[tuple[bool, str], list[tuple[float, ...]]] = {}
    for draw in range(DRAWS):
        train, even, uneven = parts(features.labels, np.random.default_rng(draw))
        for balanced in (False, True):
            for prior in PRIORS:
                probe = fit_probe(
                    features.values[train], features.labels[train], 10, balanced=balanced, class_prior=prior
                )
                logits = features.values[:, 0] @ probe.weight.T + probe.bias
                powers = np.exp(logits - logits.max(axis=1, keepdims=True))
                shares = powers / powers.sum(axis=1, keepdims=True)
                right = logits.argmax(axis=1) == features.labels
                recalls = [right[even][features.labels[even] == label].mean() for label in range(10)]
                promised = shares[uneven].max(axis=1).mean() - right[uneven].mean()
                figures = (np.mean(recalls), np.mean(recalls[5:]), right[uneven].mean(), promised)
                rows.setdefault((balanced, prior), []).append(figures)
    print_line("balance class_prior  macro recall  recall of the few  accuracy  promised minus right")
    for (balanced, frequencies), values in rows.items():
        mean, deviation = np.mean(values, axis=0), np.std(values, axis=0, ddof=1)
        cells = [f"{value:+.3f} ± {spread:.3f}" for value, spread in zip(mean, deviation, strict=True)]
        print_line("  ".join(["loss" if balanced else "none", frequencies, *cells]))


def parts(labels: NDArray[np.int64], random: np.random.Generator) -> tuple[NDArray[np.int64], ...]:
    """Return uneven training images, as many test images of each class, and test images as uneven."""
    train, even, uneven = [], [], []
    for label in range(10):
        count = MANY if label < 5 else FEW
        members = random.permutation(np.flatnonzero(labels == label))
        train.append(members[:count])
        rest = members[count:]
        even.append(rest[:TESTED])
        uneven.append(rest[: count // 2])
    return np.concatenate(train), np.concatenate(even), np.concatenate(uneven)


if __name__ == "__main__":
    main(sys.argv[1])
