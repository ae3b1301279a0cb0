"""One small network of every kind that a spec can describe, for what has to work with all of them."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest
import torch
from torch import nn

from deepresidual.models import TorchClassifier, create
from deepresidual.nn import ResNet
from deepresidual.preprocess import Preprocess
from deepresidual.spec import Arrangement, FirstActivation, Head, Padding, ResNetSpec, Shortcut

BASIC = ResNetSpec(
    unit="basic", depths=(2, 1), widths=(8, 16), stem="cifar", shortcut="B", num_classes=5, in_channels=3
)
BOTTLENECK = dataclasses.replace(BASIC, unit="bottleneck", stem="imagenet")
PREACTIVATED = dataclasses.replace(BOTTLENECK, arrangement="full-preactivation")

KINDS: dict[str, ResNetSpec] = {
    **{f"shortcut {kind}": dataclasses.replace(BASIC, shortcut=kind) for kind in get_args(Shortcut)},
    **{kind: dataclasses.replace(BASIC, arrangement=kind) for kind in get_args(Arrangement)},
    **{
        f"plain {kind}": dataclasses.replace(BASIC, arrangement=kind, shortcut="none")
        for kind in get_args(Arrangement)
    },
    **{
        f"bottleneck {kind}": dataclasses.replace(BOTTLENECK, arrangement=kind)
        for kind in get_args(Arrangement)
    },
    **{f"padding {kind}": dataclasses.replace(BOTTLENECK, padding=kind) for kind in get_args(Padding)},
    **{
        f"first activation {kind}": dataclasses.replace(PREACTIVATED, first_activation=kind)
        for kind in get_args(FirstActivation)
    },
    "bias everywhere": dataclasses.replace(BOTTLENECK, conv_bias="all"),
    "bias where no BN follows": dataclasses.replace(PREACTIVATED, conv_bias="unnormalized"),
    "bias in the stem": dataclasses.replace(BOTTLENECK, conv_bias="stem"),
    "groups": dataclasses.replace(BOTTLENECK, groups=4),
    "dilated": dataclasses.replace(BOTTLENECK, depths=(1, 1, 1), widths=(8, 8, 16), output_stride=8),
    "stride on 1x1": dataclasses.replace(BOTTLENECK, stride_on="1x1"),
    "stride in the last unit": dataclasses.replace(PREACTIVATED, stride_in="last", shortcut="B-subsampled"),
    "scaled": dataclasses.replace(BASIC, shortcut="scaled", shortcut_scale=0.5, residual_scale=0.7),
    "stochastic depth": dataclasses.replace(BASIC, stochastic_depth=0.5),
    "activation checkpointing": dataclasses.replace(BASIC, activation_checkpointing=True),
    "gray": dataclasses.replace(BASIC, in_channels=1),
    "few channels": dataclasses.replace(BASIC, widths=(4, 8)),
    "statistics of two stages": dataclasses.replace(BASIC, head=Head(("layer1", "layer2"), ("mean", "std"))),
    "statistics of the last stage": dataclasses.replace(
        PREACTIVATED, head=Head(("layer2",), ("mean", "std"))
    ),
    "backbone": dataclasses.replace(BASIC, num_classes=0),
}
"""Name → spec."""


def network_of(spec: ResNetSpec, seed: int = 0) -> ResNet:
    """Return a network in evaluation mode whose BN has learned something, so that leaving one out is seen."""
    network = create(spec, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.normal_(0, 0.3, generator=generator)
    return network


def classifier_of(spec: ResNetSpec, task: str = "classification", side: int = 32) -> TorchClassifier:
    """Return such a network as a model of five classes for views of 32 px."""
    mean = (0.4, 0.5, 0.6)[: spec.in_channels]
    record = Preprocess(
        crop_px=side, resize_px=side, mean=mean, std=mean, channels="gray" if spec.in_channels == 1 else "rgb"
    )
    return TorchClassifier(network_of(spec), tuple("abcde"), record, task=task)


def each_classifier(*quick: str) -> list[Any]:
    """Return the kinds that have a classifier as parameters; all but the ``quick`` ones are for test-all."""
    return [
        pytest.param(name, marks=() if name in quick else pytest.mark.test_all)
        for name, spec in KINDS.items()
        if spec.num_classes
    ]
