"""The masks of regions: which pixels of a box are the object's (He et al. 2017, section 3).

Layers are named as torchvision names those of its Mask R-CNN (``roi_heads.mask_head.0.0``,
``roi_heads.mask_predictor.conv5_mask``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepresidual.nn.detection.operators import roi_align
from deepresidual.spec import DetectorSpec, MaskHead


@dataclass(frozen=True, eq=False)
class TaughtMask:
    """Which pixels of an image an object covers, as far as it reaches.

    Attributes:
        pixels: ``(h, w)`` uint8: 1 where the object is; with a margin of one pixel, which is 0, or at an edge
            of the image the pixel beside it again.
        left: Column of the network's input that the first column is; the margin may be at −1.
        top: Row that the first row is.
    """

    pixels: Tensor
    left: int
    top: int


def conv(inputs: int, outputs: int, *, norm: bool) -> nn.Sequential:
    """Return a 3×3 convolution with BN or a bias, and ReLU."""
    norms = [nn.BatchNorm2d(outputs)] if norm else []
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm), *norms, nn.ReLU(inplace=True)
    )


class MaskConvs(nn.Sequential):
    """Convolutions over the bins of a region: ``(K, C, bins, bins)`` → ``(K, channels, bins, bins)``."""

    def __init__(self, inputs: int, settings: MaskHead) -> None:
        widths = [inputs, *[settings.channels] * settings.convs]
        super().__init__(*(conv(before, settings.channels, norm=settings.norm) for before in widths[:-1]))


class MaskPredictor(nn.Sequential):
    """A map of twice the size, and on it logits of each class; the background has a row that is not used."""

    def __init__(self, inputs: int, settings: MaskHead, num_classes: int) -> None:
        super().__init__(
            OrderedDict(
                conv5_mask=nn.ConvTranspose2d(inputs, settings.channels, 2, 2),
                relu=nn.ReLU(inplace=True),
                mask_fcn_logits=nn.Conv2d(settings.channels, num_classes + 1, 1),
            )
        )


def make_heads(spec: DetectorSpec, settings: MaskHead) -> tuple[MaskConvs, MaskPredictor]:
    """Return the layers of a detector's masks."""
    inputs = spec.backbone.out_channels if spec.neck == "c4" else spec.map_channels
    width = settings.channels if settings.convs else inputs
    return MaskConvs(inputs, settings), MaskPredictor(width, settings, spec.num_classes)


def of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits of each region's class, ``(K, m, m)`` float32.

    Args:
        logits: ``(K, 1 + classes, m, m)``.
        labels: ``(K,)`` int64: rows of the classifier; 0 is the background.
    """
    return logits[torch.arange(len(labels), device=labels.device), labels].float()


def masks_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the sum over regions of the mean binary cross-entropy of their pixels, times their weights.

    Args:
        logits: ``(K, m, m)`` float32, of the class that each region is taught.
        targets: ``(K, m, m)`` float32: which share of each pixel the object covers.
        weights: ``(K,)`` float32.
    """
    of_pixels = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (of_pixels.mean(dim=(1, 2)) * weights).sum()


def mask_targets(
    masks: Sequence[TaughtMask | None], objects: Tensor, regions: Tensor, side_px: int
) -> tuple[Tensor, Tensor]:
    """Return which share of each pixel of each region its object covers.

    It is RoIAlign of the object's mask, with as many samples as a bin has pixels, as in torchvision.

    Args:
        masks: The mask of each object of an image; ``None``: it has none.
        objects: ``(k,)`` int64: the object of each region.
        regions: ``(k, 4)`` float32: left, top, right, bottom, in pixels of the network's input.
        side_px: Side of the mask of a region.

    Returns:
        ``(k, side_px, side_px)`` float32; and ``(k,)`` bool, whether the object has a mask.
    """
    device = regions.device
    known = torch.tensor([mask is not None for mask in masks], dtype=torch.bool, device=device)[objects]
    targets = torch.zeros(len(objects), side_px, side_px, device=device)
    if not known.any():
        return targets, known
    there = [mask for mask in masks if mask is not None]
    height, width = (max(mask.pixels.shape[axis] for mask in there) for axis in (0, 1))
    canvas = torch.zeros(len(masks), 1, height, width, device=device)
    corners = torch.zeros(len(masks), 4, device=device)
    for row, mask in enumerate(masks):
        if mask is not None:
            rows, columns = mask.pixels.shape
            canvas[row, 0, :rows, :columns] = mask.pixels.to(device)
            corners[row] = torch.tensor([mask.left, mask.top, mask.left, mask.top])
    rois = torch.cat([objects[:, None].float(), regions.float() - corners[objects]], dim=1)
    targets[known] = roi_align(canvas, rois[known], side_px, 1.0, -1, aligned=False)[:, 0]
    return targets, known
