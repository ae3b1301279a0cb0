"""The order of classes by score, with one rule for equal scores: the lower class index comes first.

``argmax`` breaks ties so; ``topk`` promises no order. Of 1,000 classes in bfloat16 the fifth and the sixth
are equal in a tenth of the images, so top-5 would hang on the device and the version.

Example:
    >>> scores = torch.tensor([[1.0, 2.0, 2.0]])
    >>> best_classes(scores, 2), class_ranks(scores, torch.tensor([2]))
    (tensor([[1, 2]]), tensor([2]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["best_classes", "class_ranks"]


def best_classes(scores: Tensor, count: int) -> Tensor:
    """Return the classes with the highest scores, best first, ``(N, count)`` int64.

    Args:
        scores: ``(N, K)`` logits, or anything that grows with the probability.
        count: How many, 1 to K.
    """
    # On the CPU: not every device sorts stably.
    order = scores.cpu().sort(dim=1, descending=True, stable=True).indices
    return order[:, :count].to(scores.device)


def class_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the place of a class of each row among all, 1 for the best, ``(N,)`` int64.

    Nothing is sorted: the classes before it are counted.

    Args:
        scores: ``(N, K)`` logits, or anything that grows with the probability.
        labels: The classes, ``(N,)`` int64 on the same device.
    """
    own = scores.gather(1, labels[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    is_before = (scores > own) | ((scores == own) & (classes < labels[:, None]))
    return is_before.sum(dim=1) + 1
