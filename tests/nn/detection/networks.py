"""Small detectors, and what small images teach them."""

from __future__ import annotations

import torch
from torch import Tensor

from deepresidual.nn.detection import Detector, Taught, empty_detector, initialize_detector
from deepresidual.spec import Anchors, DetectorSpec, Neck, Regions, ResNetSpec

SMALL = ResNetSpec(unit="basic", depths=(1, 1, 1, 1), widths=(8, 16, 24, 32), num_classes=0)
SIZES: dict[Neck, tuple[tuple[float, ...], ...]] = {
    "fpn": ((8,), (16,), (32,), (64,), (128,)),
    "c4": ((16, 32, 64),),
}


def spec_of(neck: Neck, backbone: ResNetSpec = SMALL, *, num_classes: int = 3) -> DetectorSpec:
    """Return a small detector."""
    return DetectorSpec(
        backbone=backbone,
        num_classes=num_classes,
        neck=neck,
        fpn_channels=16,
        rpn_channels=24,
        anchors=Anchors(sizes=SIZES[neck]),
        regions=Regions(pooling="align" if neck == "fpn" else "pool", hidden=32, samples=32),
    )


def detector(spec: DetectorSpec, seed: int = 1) -> Detector:
    """Return a detector with first weights."""
    network = empty_detector(spec)
    initialize_detector(network, seed)
    return network


def taught(*rows: tuple[float, float, float, float, int], seed: int = 0, ignored: int = 0) -> Taught:
    """Return objects (left, top, right, bottom, label), of which the last ones are ignored."""
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    places = torch.arange(len(rows))
    return Taught(values[:, :4], values[:, 4].long(), places >= len(rows) - ignored, seed)


def images(*shape: int, seed: int = 0) -> Tensor:
    """Return normally distributed images."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
