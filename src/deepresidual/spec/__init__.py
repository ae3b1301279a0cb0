"""An architecture as a value: ``ResNetSpec`` says everything about a network, without torch.

A spec knows its own layers, so depth, parameters and multiply-adds (MACs) are sums over
:meth:`ResNetSpec.layers`, and :class:`deepresidual.nn.ResNet` is built from the same
:meth:`ResNetSpec.units`. It holds no weights and says nothing about training or preprocessing.

Example:
    >>> spec = ResNetSpec(unit="basic", depths=(2, 2, 2, 2))
    >>> spec.num_layers, spec.num_parameters, spec.num_macs(input_px=224)
    (18, 11689512, 1814073344)
"""

from typing import TypeAlias

from deepresidual.spec.detector import (
    Anchors,
    Detections,
    DetectorSpec,
    MaskHead,
    Neck,
    Proposals,
    Regions,
    RoiPooling,
)
from deepresidual.spec.head import Head, Statistic
from deepresidual.spec.kinds import (
    Arrangement,
    ConvBias,
    FirstActivation,
    Initialization,
    Padding,
    Shortcut,
    ShortcutForm,
    Stem,
    StrideIn,
    StrideOn,
    Unit,
)
from deepresidual.spec.layers import Convolution, Layer, UnitShape, shortcut_form
from deepresidual.spec.spec import ResNetSpec

NetworkSpec: TypeAlias = ResNetSpec | DetectorSpec
"""What a network is built from: one for images, or one for the objects in them."""

__all__ = [
    "Anchors",
    "Arrangement",
    "ConvBias",
    "Convolution",
    "Detections",
    "DetectorSpec",
    "FirstActivation",
    "Head",
    "Initialization",
    "Layer",
    "MaskHead",
    "Neck",
    "NetworkSpec",
    "Padding",
    "Proposals",
    "Regions",
    "ResNetSpec",
    "RoiPooling",
    "Shortcut",
    "ShortcutForm",
    "Statistic",
    "Stem",
    "StrideIn",
    "StrideOn",
    "Unit",
    "UnitShape",
    "shortcut_form",
]
