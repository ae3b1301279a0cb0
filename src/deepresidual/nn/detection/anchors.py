"""Anchors: boxes of several sizes and shapes around every place of a map (Ren et al. 2015, section 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepresidual.spec import Anchors


def make_anchors(
    anchors: Anchors,
    maps: Sequence[tuple[int, int]],
    image: tuple[int, int],
    strides: Sequence[int],
    device: torch.device,
) -> list[Tensor]:
    """Return the anchors of each level, ``(height · width · anchors a place, 4)`` float32.

    They are in the order of rows, columns, ratios and sizes. The first place is the image's corner. As in
    torchvision, the others lie as many whole pixels apart as the image has for each, and the sides of anchors
    are rounded to even numbers of pixels; where the anchors are exact, places lie a stride apart and nothing
    is rounded, as in detectron2 and mmdetection. Both are the same but for maps whose size was rounded up.

    Args:
        anchors: Sizes and ratios.
        maps: Height and width of each level's map.
        image: Height and width of the batch's images in pixels, padding included.
        strides: Pixels of the images a pixel of each map.
        device: Where to.
    """
    dtype = torch.float64 if anchors.exact else torch.float32  # detectron2 rounds last, torchvision to pixels
    ratios = torch.tensor(anchors.ratios, dtype=dtype)
    levels = []
    for sizes, (rows, columns), stride in zip(anchors.sizes, maps, strides, strict=True):
        around = around_a_place(torch.tensor(sizes, dtype=dtype), ratios)
        around = (around if anchors.exact else around.round()).float().to(device)
        apart = (stride, stride) if anchors.exact else (image[0] // rows, image[1] // columns)
        down = torch.arange(rows, device=device) * apart[0]
        across = torch.arange(columns, device=device) * apart[1]
        y, x = torch.meshgrid(down.float(), across.float(), indexing="ij")
        places = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
        levels.append((places + around).reshape(-1, 4))
    return levels


def inside(anchors: Tensor, size: tuple[int, int]) -> Tensor:
    """Return which of ``(n, 4)`` anchors lie within an image of this height and width, ``(n,)`` bool."""
    height, width = size
    left, top, right, bottom = anchors.unbind(1)
    return (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)


def around_a_place(sizes: Tensor, ratios: Tensor) -> Tensor:
    """Return the anchors of one place, around (0, 0)."""
    root = ratios.sqrt()
    widths = ((1 / root)[:, None] * sizes).reshape(-1)
    heights = (root[:, None] * sizes).reshape(-1)
    return torch.stack([-widths, -heights, widths, heights], dim=1) / 2
