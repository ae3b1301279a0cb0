"""Classification metrics as sums over real samples: added up batch by batch, divided once at the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Tally"]


class Tally:
    """Sums of top-1, top-5, loss and the confusion matrix over the samples seen so far.

    Ties between logits go to the lower class index, as ``argmax`` breaks them. With five
    classes or fewer top-5 counts every sample as right, by definition.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.count = 0
        self.top1_count = 0
        self.top5_count = 0
        self.loss_sum = 0.0
        self.pairs: Counter[tuple[int, int]] = Counter()
        """How many samples of a true class were given a predicted class: ``pairs[true, predicted]``."""

    def add(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Count a batch.

        Args:
            logits: ``(N, num_classes)`` float32.
            labels: ``(N,)`` int64 on the same device.

        Returns:
            The cross-entropy of every sample in nats, ``(N,)`` float64.
        """
        # In float64 the order of the sum cannot show in the digits that are reported.
        losses = functional.cross_entropy(logits.double(), labels, reduction="none")
        predicted = logits.argmax(dim=1)
        best = logits.topk(min(5, self.num_classes), dim=1).indices
        self.count += len(labels)
        self.top1_count += int((predicted == labels).sum())
        self.top5_count += int((best == labels[:, None]).any(dim=1).sum())
        self.loss_sum += float(losses.sum())
        self.pairs.update(zip(labels.tolist(), predicted.tolist(), strict=True))
        return losses

    @classmethod
    def merged(cls, parts: list[Tally]) -> Tally:
        """Return the sums over the samples of all ``parts``, of which each has seen others."""
        total = cls(parts[0].num_classes)
        for part in parts:
            total.count += part.count
            total.top1_count += part.top1_count
            total.top5_count += part.top5_count
            total.loss_sum += part.loss_sum
            total.pairs.update(part.pairs)
        return total

    @property
    def top1(self) -> float:
        """Fraction of samples whose most probable class is the true one."""
        return self.top1_count / self.count

    @property
    def top5(self) -> float:
        """Fraction of samples whose true class is among the five most probable."""
        return self.top5_count / self.count

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.loss_sum / self.count
