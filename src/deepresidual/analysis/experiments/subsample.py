"""Subsample a data set: the first samples of a fixed permutation, the same for every arm and seed."""

from __future__ import annotations

import dataclasses

import numpy as np

from deepresidual.analysis.experiments.experiment import DataUse
from deepresidual.data.source import SampleSource, Split
from deepresidual.data.source.validation import Subset


def subsample(source: SampleSource, use: DataUse) -> SampleSource:
    """Return the data set with as many training and evaluation samples as an experiment takes.

    A split that is smaller stays whole. Of validation and test samples only those that the final figure is
    measured on remain, so that curves and figures are of the same images.
    """
    name = source.evaluation_split
    splits: dict[str, Split] = {
        "train": _first(source.split("train"), use.num_train),
        name: _first(source.split(name), use.num_test),
    }
    return dataclasses.replace(source, splits=splits)


def _first(split: Split, count: int | None) -> Split:
    if count is None or count >= len(split):
        return split
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(split))
    return Subset(split, np.sort(order[:count]))
