"""Read images of a split once, for measurements that pass them through a network many times."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deepresidual.data.loader import evaluation_batches
from deepresidual.data.source import Split
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
