"""Tiny detectors whose weights are large enough that they find something in photos."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from deepresidual.backends.detector import TorchDetector
from deepresidual.models import create
from deepresidual.preprocess import Preprocess
from deepresidual.spec import DetectorSpec, MaskHead
from tests.detectors import TINY_DETECTOR, TINY_PYRAMID

LABELS = ("cat", "dog", "hen")
SIDE = 64


def lively_detector(neck: Literal["c4", "fpn"], *, masks: bool = False, side: int = SIDE) -> TorchDetector:
    """Return a detector of random weights whose BN has statistics other than 0 and 1, as after training."""
    # As detectron2's; C4 is as torchvision's and Caffe's.
    pyramid = dataclasses.replace(
        TINY_PYRAMID,
        fpn_norm=True,
        anchors=dataclasses.replace(TINY_PYRAMID.anchors, exact=True),
        regions=dataclasses.replace(TINY_PYRAMID.regions, pooling="align-v2"),
    )
    spec: DetectorSpec = {"c4": TINY_DETECTOR, "fpn": pyramid}[neck]
    head = MaskHead(bins=4, convs=1, channels=8, norm=neck == "fpn") if masks else None
    network = create(dataclasses.replace(spec, num_classes=len(LABELS), masks=head), seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("weight") and not name.startswith("backbone.body"):
                weight.mul_(8 if "cls" in name else 1 if "pred" in name else 3)
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
                if name.endswith("running_mean"):
                    buffer.mul_(0.2)
    mean = std = (0.5, 0.5, 0.5)
    return TorchDetector(network.eval(), LABELS, Preprocess(side, side, mean, std, fit="whole"))
