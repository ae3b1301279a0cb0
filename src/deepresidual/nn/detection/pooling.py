"""Pooling of regions: what a map holds under each of many boxes, as bins × bins features.

``pool`` is RoI pooling (Girshick 2015, section 2.1) with Caffe's rounding, ``align`` RoIAlign (He et al.
2017, section 3) and ``align-v2`` the same half a pixel further up and left, all as torchvision computes them;
the last is its ``aligned=True``. A pyramid's regions are read from the map of their size
(Lin et al. 2017, equation 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deepresidual.nn.detection.boxes import areas
from deepresidual.nn.detection.gathering import pixel_table, weighted_sums
from deepresidual.nn.detection.operators import roi_align
from deepresidual.spec import Regions

# A region of the size of ImageNet's images is read where ImageNet's networks have theirs: at stride 16.
_USUAL_PX, _USUAL_STRIDE = 224, 16


def pool_regions(
    maps: Sequence[Tensor], strides: Sequence[int], regions: Sequence[Tensor], settings: Regions
) -> Tensor:
    """Return the features of the regions of all images, ``(K, C, bins, bins)`` float32.

    Args:
        maps: The map of each level, ``(N, C, H, W)``.
        strides: Pixels of the input a pixel of each.
        regions: ``(k, 4)`` boxes of each image.
        settings: How they are pooled.
    """
    boxes = torch.cat(list(regions))
    counts = torch.tensor([len(rows) for rows in regions], device=boxes.device)
    images = torch.repeat_interleave(torch.arange(len(regions), device=boxes.device), counts)
    maps = [level.float() for level in maps]
    with torch.autocast(boxes.device.type, enabled=False):
        levels = level_of(boxes, strides)
        if settings.pooling == "pool":
            return _by_level(maps, strides, boxes, images, levels, settings)
        learns = torch.is_grad_enabled() and any(level.requires_grad for level in maps)
        if learns and settings.sampling:
            return _gather_aligned(maps, strides, boxes, images, levels, settings)
        return _by_level(maps, strides, boxes, images, levels, settings)


def level_of(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Return the level from which each of ``(n, 4)`` boxes is read, ``(n,)`` int64."""
    if len(strides) == 1:
        return torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    exponents = [round(math.log2(stride)) for stride in strides]
    wanted = torch.floor(math.log2(_USUAL_STRIDE) + torch.log2(areas(boxes).sqrt() / _USUAL_PX) + 1e-6)
    edges = torch.tensor(exponents[1:], dtype=torch.float32, device=boxes.device)
    return torch.bucketize(wanted, edges, right=True)


def _by_level(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    settings: Regions,
) -> Tensor:
    """Pool with torchvision's operators, level by level."""
    bins, aligned = settings.bins, settings.pooling == "align-v2"
    rows = torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1)
    pooled, places = list[Tensor](), list[Tensor]()
    for level, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        here = (levels == level).nonzero()[:, 0]
        places.append(here)
        if settings.pooling == "pool":
            pooled.append(_RoiPool.apply(features, rows[here], 1 / stride, bins))
        else:
            pooled.append(
                roi_align(features, rows[here], bins, 1 / stride, settings.sampling or -1, aligned=aligned)
            )
    if len(maps) == 1:
        return pooled[0]
    # An inverse permutation rather than a scatter, whose backward pass is not deterministic on GPUs.
    back = torch.empty_like(levels)
    order = torch.cat(places)
    back[order] = torch.arange(len(order), device=order.device)
    return torch.cat(pooled)[back]


class _RoiPool(torch.autograd.Function):
    """RoI pooling whose gradient is added in one order, which torchvision's is not on GPUs."""

    @staticmethod
    def forward(ctx, features: Tensor, rows: Tensor, scale: float, bins: int) -> Tensor:  # type: ignore[no-untyped-def]
        pooled: Tensor
        pooled, winners = torch.ops.torchvision.roi_pool(features, rows, scale, bins, bins)
        ctx.save_for_backward(winners, rows)
        ctx.shape = features.shape
        return pooled

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[no-untyped-def]
        winners, rows = ctx.saved_tensors
        count, channels, height, width = ctx.shape
        pixels = height * width
        # An empty bin has no winner: −1.
        planes = rows[:, 0].long()[:, None] * channels + torch.arange(channels, device=rows.device)
        places = planes[:, :, None, None] * pixels + winners.clamp(min=0)
        flat = grad.new_zeros(count * channels * pixels)
        flat.index_add_(0, places.reshape(-1), (grad * (winners >= 0)).reshape(-1))
        return flat.reshape(ctx.shape), None, None, None


def _gather_aligned(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    settings: Regions,
) -> Tensor:
    """Return RoIAlign as sums of weighted pixels, of all levels at once.

    It is ``roi_align`` up to rounding. Each bin is a sum over at most (2 · sampling)² pixels, and a gradient
    is the sum with the same weights the other way round; both read whole pixels of channels-last maps. On a
    CPU with AVX-512 that takes a fifth of the time of ``roi_align``, forward and backward; on GPUs its
    gradient is deterministic, for which ``roi_align`` would have to be compiled.
    """
    bins, sampling = settings.bins, settings.sampling
    sizes = torch.tensor([level.shape[2:] for level in maps], device=boxes.device)
    scales = torch.tensor([1 / stride for stride in strides], device=boxes.device)
    counts = [level.shape[0] * level.shape[2] * level.shape[3] for level in maps]
    starts = torch.tensor([sum(counts[:level]) for level in range(len(counts))], device=boxes.device)
    scaled = boxes * scales[levels, None]
    narrowest = 1.0
    if settings.pooling == "align-v2":
        # The center of the first pixel is half a pixel from the edge, and no region is widened.
        scaled, narrowest = scaled - 0.5, -math.inf
    height, width = sizes[levels].unbind(1)
    rows, row_weights = _axis(scaled[:, 1], scaled[:, 3], narrowest, height, (bins, sampling))
    columns, column_weights = _axis(scaled[:, 0], scaled[:, 2], narrowest, width, (bins, sampling))
    first = (starts[levels] + images * height * width)[:, None, None]
    pixels = (first + rows * width[:, None, None])[:, :, None, :, None] + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    each = (2 * sampling) ** 2
    pooled = weighted_sums(pixel_table(maps), pixels.reshape(-1, each), weights.reshape(-1, each))
    features: Tensor = pooled.view(len(boxes), bins, bins, -1).permute(0, 3, 1, 2)
    return features


def _axis(
    low: Tensor, high: Tensor, narrowest: float, length: Tensor, division: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return the pixels of one axis that each box's bins read, and weights; ``(n, bins, 2 · sampling)``.

    Samples lie between two pixels; beyond the map's last pixel centers they take the last one, and more than
    a pixel outside they are zero (torchvision's rule).
    """
    bins, sampling = division
    bin_size = ((high - low).clamp(min=narrowest) / bins)[:, None]
    steps = torch.arange(bins * sampling, device=low.device)
    within = (steps % sampling + 0.5) / sampling
    places = low[:, None] + (steps // sampling) * bin_size + within * bin_size
    last = (length - 1)[:, None]
    outside = (places < -1) | (places > length[:, None])
    places = places.clamp(min=0)
    before = torch.minimum(places.long(), last)
    after = torch.minimum(before + 1, last)
    share = torch.where(before >= last, 0, places - before)
    weights = torch.stack([1 - share, share], dim=-1).masked_fill(outside[..., None], 0) / sampling
    pixels = torch.stack([before, after], dim=-1)
    shape = (len(low), bins, 2 * sampling)
    return pixels.reshape(shape), weights.reshape(shape)
