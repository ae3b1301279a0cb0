"""Weights that others trained give here the accuracy that their own code gives.

Checks network, decoding, preprocessing and evaluation at once, to the last image. The weights are those
of akamaster/pytorch_resnet_cifar10 (BSD-2-Clause), the images CIFAR-10's test set as JPEG of quality 75;
both lie beside the project, where they are at all.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from residual import zoo
from residual.data.source import open_source
from residual.evaluation import evaluate
from residual.models import Model
from residual.models.model import empty_network
from residual.preprocess import Preprocess

SHARED = Path(__file__).parents[3] / "shared"

pytestmark = pytest.mark.skipif(
    not (SHARED / "weights").is_dir(), reason=f"no weights at {SHARED / 'weights'}"
)

# They were trained with ImageNet's mean and standard deviation.
PREPROCESS = Preprocess(
    crop_px=32, resize_px=32, mean=zoo.imagenet.PREPROCESS.mean, std=zoo.imagenet.PREPROCESS.std
)


@pytest.mark.parametrize(
    ("name", "file", "right"),
    [("resnet20", "resnet20-12fca82f.th", 8103), ("resnet56", "resnet56-4bfd9763.th", 8320)],
)
def test_as_many_images_are_right_as_in_the_code_they_come_from(name: str, file: str, right: int) -> None:
    source = open_source(SHARED / "data" / "cifar10-jpeg")
    checkpoint = torch.load(SHARED / "weights" / file, map_location="cpu", weights_only=True)
    state = {
        key.removeprefix("module.").replace("linear.", "fc."): tensor
        for key, tensor in checkpoint["state_dict"].items()
    }
    network = empty_network(dataclasses.replace(zoo.entry(name).spec, shortcut="A-both-sides"))
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(key.endswith("num_batches_tracked") for key in missing)
    measured = evaluate(Model(network, source.classes, PREPROCESS), source, num_workers=0)
    assert (measured.count, round(measured.top1 * measured.count)) == (10_000, right)
