"""The parts of a detector that are layers alone, as modules that ``torch.onnx.export`` takes.

What chooses boxes has as many outputs as there are objects; it is built of ONNX's own operators around these
(:mod:`.detector_graph`). In all of them BN is folded into the convolutions before it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepresidual.nn.folding import fold_batch_norm

if TYPE_CHECKING:
    from deepresidual.nn.detection import Detector
    from deepresidual.nn.resnet import ResNet


def parts_of(network: Detector) -> tuple[Trunk, RegionHead, MaskLayers | None]:
    """Return the parts of a detector on the CPU, which stays as it is; they share their folded backbone."""
    network = copy.deepcopy(network).eval()
    body = fold_batch_norm(network.backbone.body)
    masks = None if network.spec.masks is None else MaskLayers(network, body).eval()
    return Trunk(network, body).eval(), RegionHead(network, body).eval(), masks


class Trunk(nn.Module):
    """Backbone, pyramid and proposal head: an image → its maps, and logits and codes of its anchors."""

    def __init__(self, network: Detector, body: ResNet) -> None:
        super().__init__()
        self.spec = network.spec
        self.body = body
        self.fpn = network.backbone.fpn
        self.head = network.rpn.head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps that regions read, then logits ``(a,)`` and codes ``(a, 4)`` of each level.

        Args:
            image: ``(1, C, H, W)`` float32, of a pyramid with sides that every stride divides.
        """
        maps = self._maps(image)
        logits, codes = list[Tensor](), list[Tensor]()
        for level in maps:
            hidden = self.head.conv(level)
            logits.append(self.head.cls_logits(hidden).permute(0, 2, 3, 1).reshape(-1))
            codes.append(self.head.bbox_pred(hidden).permute(0, 2, 3, 1).reshape(-1, 4))
        return (*maps[: len(self.spec.read_stages)], *logits, *codes)

    def _maps(self, image: Tensor) -> list[Tensor]:
        maps, names, read = list[Tensor](), self.spec.backbone.stage_names, self.spec.read_stages
        x = self.body.stem(image)
        for name in names[: names.index(read[-1]) + 1]:
            x = self.body.stage(name, x)
            if name in read:
                maps.append(self.body.last_activation(x) if name == names[-1] else x)
        return maps if self.fpn is None else self._pyramid(maps)

    def _pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the maps of a pyramid, each twice the one above it, where torchvision asks for its size."""
        assert self.fpn is not None  # noqa: S101  # asked before
        strides = self.spec.strides
        inner = [block(x) for block, x in zip(self.fpn.inner_blocks, maps, strict=True)]
        for level in range(len(inner) - 2, -1, -1):
            factor = float(strides[level + 1] // strides[level])
            inner[level] = inner[level] + functional.interpolate(inner[level + 1], scale_factor=factor)
        found = [block(x) for block, x in zip(self.fpn.layer_blocks, inner, strict=True)]
        if self.spec.num_levels > len(found):
            found.append(functional.max_pool2d(found[-1], 1, 2, 0))
        return found


class RegionHead(nn.Module):
    """What each pooled region is and where: scores and codes of all classes, the background's first."""

    def __init__(self, network: Detector, body: ResNet) -> None:
        super().__init__()
        heads = network.roi_heads
        self.last_stage = LastStage(body) if network.spec.neck == "c4" else None
        self.box_head, self.box_predictor = heads.box_head, heads.box_predictor

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores ``(K, 1 + classes)`` and codes ``(K, 4 · (1 + classes))`` of pooled regions."""
        if self.last_stage is not None:
            features = self.last_stage(pooled).mean((2, 3))
        else:
            assert self.box_head is not None  # noqa: S101  # of a pyramid
            features = self.box_head(pooled)
        predictor = self.box_predictor
        return predictor.cls_score(features).softmax(dim=1), predictor.bbox_pred(features)


class MaskLayers(nn.Module):
    """The masks of pooled regions: logits ``(K, 1 + classes, m, m)`` of ``(K, C, bins, bins)``."""

    def __init__(self, network: Detector, body: ResNet) -> None:
        super().__init__()
        heads = network.roi_heads
        self.last_stage = LastStage(body) if network.spec.neck == "c4" else None
        self.mask_head, self.mask_predictor = heads.mask_head, heads.mask_predictor

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the logits of every class."""
        assert self.mask_head is not None and self.mask_predictor is not None  # noqa: S101, PT018
        features = pooled if self.last_stage is None else self.last_stage(pooled)
        return cast("Tensor", self.mask_predictor(self.mask_head(features)))


class LastStage(nn.Module):
    """The last stage of a backbone, which is the head of ``c4``."""

    def __init__(self, body: ResNet) -> None:
        super().__init__()
        self.body = body

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the last map of regions."""
        name = self.body.spec.stage_names[-1]
        return self.body.last_activation(self.body.stage(name, pooled))


def sample_image(network: Detector) -> Tensor:
    """Return an image that the trunk takes, of sides that no constant of the graph has."""
    multiple = max(network.spec.backbone.stage_strides)
    return torch.zeros(1, network.spec.in_channels, 4 * multiple, 6 * multiple)
