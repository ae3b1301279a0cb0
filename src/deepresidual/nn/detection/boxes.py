"""Boxes as tensors: coding, clipping, overlaps and suppression.

Boxes are ``(n, 4)`` float32: left, top, right, bottom, in pixels, with continuous edges. A box is coded
against an anchor as in Girshick et al. 2014 (R-CNN, appendix C): shifts of the center in units of the
anchor's sides, and logarithms of the ratios of the sides, each times a weight.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepresidual.nn.detection.operators import nms

BoxWeights = tuple[float, float, float, float]

MAX_LOG_RATIO = math.log(1000 / 16)
"""Largest logarithm of a side over an anchor's that is decoded: what a network says at first may be huge."""


def encode(boxes: Tensor, anchors: Tensor, weights: BoxWeights) -> Tensor:
    """Return the codes ``(n, 4)`` of ``boxes`` against as many ``anchors``."""
    across, down, wide, high = weights
    x, y, width, height = _centers(anchors)
    to_x, to_y, to_width, to_height = _centers(boxes)
    return torch.stack(
        [
            across * (to_x - x) / width,
            down * (to_y - y) / height,
            wide * torch.log(to_width / width),
            high * torch.log(to_height / height),
        ],
        dim=-1,
    )


def decode(codes: Tensor, anchors: Tensor, weights: BoxWeights) -> Tensor:
    """Return the boxes ``(..., 4)`` that ``codes`` mean against ``anchors``, which broadcast."""
    across, down, wide, high = weights
    x, y, width, height = _centers(anchors)
    dx, dy, dw, dh = codes.unbind(-1)
    center_x = dx / across * width + x
    center_y = dy / down * height + y
    half_width = 0.5 * (torch.exp((dw / wide).clamp(max=MAX_LOG_RATIO)) * width)
    half_height = 0.5 * (torch.exp((dh / high).clamp(max=MAX_LOG_RATIO)) * height)
    edges = (center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height)
    return torch.stack(edges, dim=-1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes ``(..., 4)`` cut at the edges of an image of this height and width."""
    height, width = size
    left, top, right, bottom = boxes.unbind(-1)
    edges = (left.clamp(0, width), top.clamp(0, height), right.clamp(0, width), bottom.clamp(0, height))
    return torch.stack(edges, dim=-1)


def at_least(boxes: Tensor, side_px: float) -> Tensor:
    """Return whether both sides of each of ``(n, 4)`` boxes are at least ``side_px``, ``(n,)`` bool."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return (sides >= side_px).all(dim=1)


def areas(boxes: Tensor) -> Tensor:
    """Return the area of each of ``(n, 4)`` boxes in square pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def intersections(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the area that each of n boxes shares with each of m others, ``(n, m)``."""
    left, top, right, bottom = boxes.t()[:, :, None]
    # Rows in one piece: anchors are many.
    to_left, to_top, to_right, to_bottom = others.t().contiguous()
    width = (torch.minimum(right, to_right) - torch.maximum(left, to_left)).clamp_(min=0)
    height = (torch.minimum(bottom, to_bottom) - torch.maximum(top, to_top)).clamp_(min=0)
    return width.mul_(height)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union of each of n boxes with each of m others, ``(n, m)``."""
    shared = intersections(boxes, others)
    return shared / (areas(boxes)[:, None] + areas(others) - shared)


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, max_iou: float, most: int) -> Tensor:
    """Return which boxes remain when each suppresses worse ones of its group that overlap it.

    Equal scores are in the order of their places, on every device alike.

    Args:
        boxes: ``(n, 4)``.
        scores: ``(n,)``.
        groups: ``(n,)`` int64: a box suppresses none of another group.
        max_iou: Overlap above which the worse of two goes.
        most: How many remain at most.

    Returns:
        ``(k,)`` int64 places, the best first.
    """
    remains = torch.zeros_like(groups, dtype=torch.bool)
    order = torch.sort(groups, stable=True).indices
    counts = torch.unique_consecutive(groups[order], return_counts=True)[1]
    for members in torch.split(order, counts.tolist()):
        remains[members[nms(boxes[members], scores[members], max_iou)]] = True
    kept = remains.nonzero()[:, 0]
    return kept[torch.sort(scores[kept], descending=True, stable=True).indices[:most]]


def best(scores: Tensor, most: int) -> Tensor:
    """Return the places of the ``most`` highest of ``(n,)`` scores, sorted by (−score, place).

    ``torch.topk`` leaves open which of equal scores it takes.
    """
    if len(scores) > most:
        threshold = torch.topk(scores, most, sorted=False).values.min()
        places = (scores >= threshold).nonzero()[:, 0]
        return places[torch.sort(scores[places], descending=True, stable=True).indices[:most]]
    return torch.sort(scores, descending=True, stable=True).indices


def _centers(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    left, top, right, bottom = boxes.unbind(-1)
    width, height = right - left, bottom - top
    return left + 0.5 * width, top + 0.5 * height, width, height
