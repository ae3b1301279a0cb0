"""Classification metrics as sums over real samples: added up batch by batch, divided once at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

NUM_BINS = 15  # Guo et al. 2017, section 3
CONFIDENCE_UNIT = 2.0**-32  # so fine that no digit that is reported feels it, and 64 bits hold 2³¹ samples
# The inner edges; a confidence that lies on one belongs to the bin below: I_m = ((m − 1) / M, m / M].
_EDGES = torch.arange(1, NUM_BINS, dtype=torch.float64) / NUM_BINS


class SampleFigures(NamedTuple):
    """Loss and prediction of each sample of a batch.

    Attributes:
        losses: Cross-entropy in nats, ``(N,)`` float64.
        predicted: The most probable class, ``(N,)`` int64.
        confidences: Its probability, ``(N,)`` float64.
    """

    losses: Tensor
    predicted: Tensor
    confidences: Tensor


class ClassificationSums:
    """Sums of top-1, top-5, loss, the confusion matrix and calibration over the samples seen so far.

    Ties between logits go to the lower class index, in top-1 and in top-5. With five classes or fewer top-5
    counts every sample as right, by definition.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.count = 0
        self.top1_count = 0
        self.top5_count = 0
        self.loss_sum = 0.0
        self.batch_losses: list[float] = []
        """Loss of each batch, in order: what :attr:`loss_sum` is the sum of."""
        self.pairs: Counter[tuple[int, int]] = Counter()
        """How many samples of a true class were given a predicted class: ``pairs[true, predicted]``."""
        self.bins = torch.zeros(NUM_BINS, 3, dtype=torch.int64)
        """Samples by the probability of the predicted class: their number, its sum, how many are right.

        The sum counts units of ``CONFIDENCE_UNIT``: whole numbers add up to the same in any order, so on any
        number of ranks.
        """

    def add(self, logits: Tensor, labels: Tensor) -> SampleFigures:
        """Count a batch.

        Args:
            logits: ``(N, num_classes)`` float32 or float64.
            labels: ``(N,)`` int64 on the same device.

        Returns:
            What was found of every sample.
        """
        # In float64 the order of the sum cannot show in the digits that are reported.
        log_probabilities = logits.double().log_softmax(dim=1)
        losses = -log_probabilities.gather(1, labels[:, None])[:, 0]
        predicted = logits.argmax(dim=1)
        confidences = log_probabilities.gather(1, predicted[:, None])[:, 0].exp()
        is_correct = predicted == labels
        self.count += len(labels)
        self.top1_count += int(is_correct.sum())
        self.top5_count += int((class_ranks(logits, labels) <= 5).sum())
        self.batch_losses.append(float(losses.sum()))
        self.loss_sum += self.batch_losses[-1]
        self.pairs.update(zip(labels.tolist(), predicted.tolist(), strict=True))
        units = (confidences / CONFIDENCE_UNIT).round().long()
        figures = torch.stack([torch.ones_like(units), units, is_correct.long()], dim=1)
        self.bins.index_add_(0, torch.bucketize(confidences, _EDGES), figures)
        return SampleFigures(losses, predicted, confidences)

    @classmethod
    def merged(cls, parts: list[ClassificationSums]) -> ClassificationSums:
        """Return the sums over the samples of all ``parts``, of which each has seen others."""
        total = cls(parts[0].num_classes)
        for part in parts:
            total.count += part.count
            total.top1_count += part.top1_count
            total.top5_count += part.top5_count
            total.loss_sum += part.loss_sum
            total.batch_losses += part.batch_losses
            total.pairs.update(part.pairs)
            total.bins += part.bins
        return total

    @classmethod
    def joined(cls, parts: list[ClassificationSums]) -> ClassificationSums:
        """Return the sums of batches that follow each other in ``parts``, as if one had seen them all.

        To the bit, where :meth:`merged` adds losses in another order.
        """
        total = cls.merged(parts)
        total.loss_sum = 0.0
        for loss in total.batch_losses:
            total.loss_sum += loss
        return total

    def to_dict(self) -> dict[str, Any]:
        """Return the sums as JSON types."""
        return {
            "num_classes": self.num_classes,
            "count": self.count,
            "top1_count": self.top1_count,
            "top5_count": self.top5_count,
            "batch_losses": self.batch_losses,
            "pairs": [[*pair, count] for pair, count in self.pairs.items()],
            "bins": self.bins.tolist(),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ClassificationSums:
        """Build sums from what :meth:`to_dict` returned."""
        sums = cls(fields["num_classes"])
        sums.count, sums.top1_count = fields["count"], fields["top1_count"]
        sums.top5_count, sums.batch_losses = fields["top5_count"], list(fields["batch_losses"])
        sums.pairs = Counter({(true, predicted): count for true, predicted, count in fields["pairs"]})
        sums.bins = torch.tensor(fields["bins"], dtype=torch.int64).reshape(NUM_BINS, 3)
        return cls.joined([sums])

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


def class_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the place of a class of each row among all, 1 for the best, ``(N,)`` int64.

    Of equal scores the lower class index comes first, as in :mod:`deepresidual.backends.ranking`. Nothing is
    sorted: the classes before it are counted.

    Args:
        scores: ``(N, K)`` logits, or anything that grows with the probability.
        labels: The classes, ``(N,)`` int64 on the same device.
    """
    own = scores.gather(1, labels[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    is_before = (scores > own) | ((scores == own) & (classes < labels[:, None]))
    return is_before.sum(dim=1) + 1
