"""Take the images of an experiment: a part of a data set, and batches that are read once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from deepresidual.analysis.experiments.experiment import DataUse
from deepresidual.data.loader import evaluation_batches
from deepresidual.data.source import SampleSource, Split
from deepresidual.data.source.validation import Subset
from deepresidual.models import Classifier


@dataclass(frozen=True)
class Images:
    """Images as the network sees them before they are normalized.

    Attributes:
        pixels: ``(N, S, S, C)`` uint8, on the CPU.
        labels: ``(N,)`` int64.
    """

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return pixels and labels, so many images at a time."""
        starts = range(0, len(self), size)
        return [(self.pixels[start : start + size], self.labels[start : start + size]) for start in starts]

    def error(self, model: Classifier, batch_size: int = 250) -> float:
        """Return the share of images that the model gets wrong."""
        wrong = sum(
            int((model.logits(pixels.numpy()).argmax(axis=1) != labels.numpy()).sum())
            for pixels, labels in self.batches(batch_size)
        )
        return wrong / len(self)


def read_images(split: Split, model: Classifier, count: int | None = None) -> Images:
    """Read the first ``count`` images of a split, or all, at the center as in evaluation.

    Raises:
        DataError: One of them cannot be used.
    """
    pixels, labels, num_read = [], [], 0
    for batch in evaluation_batches(split, model.preprocess, batch_size=100, num_workers=0):
        batch.require_all_good()
        pixels.append(batch.pixels)
        labels.append(batch.targets)
        num_read += len(batch)
        if count is not None and num_read >= count:
            break
    return Images(torch.cat(pixels)[:count], torch.cat(labels)[:count])


def subsample(source: SampleSource, use: DataUse) -> SampleSource:
    """Return a data set with as many training and evaluation samples as an experiment takes.

    They are the first of a fixed permutation, the same for every arm and seed. A split that is smaller stays
    whole. Of validation and test samples only those that the final error is measured on remain, so that
    curves and errors are of the same images.
    """
    name = source.evaluation_split
    splits: dict[str, Split] = {
        "train": _first(source.split("train"), use.num_train),
        name: _first(source.split(name), use.num_test),
    }
    return dataclasses.replace(source, splits=splits, whole=None, groups={})


def _first(split: Split, count: int | None) -> Split:
    if count is None or count >= len(split):
        return split
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(split))
    return Subset(split, np.sort(order[:count]))
