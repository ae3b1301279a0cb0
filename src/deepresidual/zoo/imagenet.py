"""Networks for ImageNet: 224 px, four stages, 1,000 classes (He et al. 2015, Table 1).

``resnet50`` is today's practice, with the stride on the 3×3 convolution; ``resnet50.v1`` is the
paper's own, with the stride on the first 1×1. ``.a`` and ``.c`` name the shortcut options of the
paper's Tables 2 and 3; a name without either is option B, as in every later library.
``.preact`` is full pre-activation, with today's stride as fb.resnet.torch has it, ``.preact-v1`` with the
stride on the first 1×1, as the networks of 2016, Table 5, which were "trained using the same hyper-parameters
and implementations" as those of 2015. A suffix that names a library or release (``.keras``, ``.caffe``,
``.tf``, ``.fb``) is the network as that has it, peculiarities included; ``.v2`` is timm's resnetv2 with BN.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.entry import ZooEntry

__all__ = ["PREPROCESS", "entries"]

PREPROCESS = Preprocess(
    crop_px=224,
    resize_px=256,
    # Mean and standard deviation of the ImageNet training set, as fb.resnet.torch published them.
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

# 2015, Table 1: layers → unit, units in each of the four stages
_DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),  # 2016, section 5: 16 units more than ResNet-152, on the map of 28 px
}


# What the released Caffe models, and Keras's first ones, subtract: blue, green, red, from 0 to 255.
_CAFFE = Preprocess(
    crop_px=224,
    resize_px=256,
    mean=(103.939 / 255, 116.779 / 255, 123.68 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
    channels="bgr",
)
# Keras's "tf" mode: pixels from -1 to 1.
_SYMMETRIC = Preprocess(crop_px=224, resize_px=256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _base(layers: int) -> ResNetSpec:
    """Option B with today's stride on the 3×3; every other row replaces some of its values."""
    return ResNetSpec(unit="basic" if layers < 50 else "bottleneck", depths=_DEPTHS[layers])


def _row(name: str, spec: ResNetSpec, source: str, preprocess: Preprocess = PREPROCESS) -> ZooEntry:
    return ZooEntry(name=name, spec=spec, preprocess=preprocess, source=source)


def _origin(layers: int) -> str:
    return "He et al. 2016, Table 5" if layers == 200 else "He et al. 2015, Table 1"


@functools.cache
def entries() -> tuple[ZooEntry, ...]:
    """Return the rows, in the order in which they are listed."""
    return (
        _row("resnet18", _base(18), "He et al. 2015, Table 1; option B"),
        _row("resnet18.a", replace(_base(18), shortcut="A"), "He et al. 2015, Tables 1 and 2; option A"),
        _row("resnet34", _base(34), "He et al. 2015, Tables 1 and 3; option B"),
        _row("resnet34.a", replace(_base(34), shortcut="A"), "He et al. 2015, Tables 1, 2 and 3; option A"),
        _row("resnet34.c", replace(_base(34), shortcut="C"), "He et al. 2015, Tables 1 and 3; option C"),
        *(
            row
            for layers in (50, 101, 152, 200)
            for row in (
                _row(
                    f"resnet{layers}",
                    _base(layers),
                    f"{_origin(layers)}; stride on the 3×3 as fb.resnet.torch and torchvision",
                ),
                _row(
                    f"resnet{layers}.v1",
                    replace(_base(layers), stride_on="1x1"),
                    f"{_origin(layers)}; stride on the first 1×1 as in the paper",
                ),
            )
        ),
        *(
            _row(
                f"resnet{layers}.preact",
                replace(_base(layers), arrangement="full-preactivation", first_activation="stem"),
                (
                    "He et al. 2016, figure 4 e and Table 5; "
                    "first activation right after conv1, as fb.resnet.torch"
                ),
            )
            for layers in _DEPTHS
        ),
        *(
            _row(
                f"resnet{layers}.preact-v1",
                replace(
                    _base(layers), stride_on="1x1", arrangement="full-preactivation", first_activation="stem"
                ),
                "He et al. 2016, figure 4 e and Table 5; stride on the first 1×1 as in the paper",
            )
            for layers in (152, 200)
        ),
        *(
            _row(
                f"resnet{layers}.v2",
                replace(
                    _base(layers),
                    arrangement="full-preactivation",
                    first_activation="branch" if layers < 50 else "unit",
                ),
                (
                    f"He et al. 2016, figure 4 e; "
                    f"first activation in the first unit, as timm's resnetv2_{layers}"
                ),
            )
            for layers in (18, 34, 50, 101, 152)
        ),
        _row(
            "resnet50.tf",
            replace(
                _base(50),
                stride_on="1x1",
                padding="tensorflow",
                bn_eps=1e-3,
                bn_momentum=1e-3,
                initialization="xavier",
            ),
            "the TensorFlow ResNet-50 of the article; SAME padding, BN epsilon 1e-3 and decay 0.999",
        ),
        *(
            _row(
                f"resnet{layers}.caffe",
                replace(
                    _base(layers),
                    stride_on="1x1",
                    padding="caffe",
                    conv_bias="stem" if layers == 50 else "none",
                ),
                (
                    "He et al. 2015, Table 1, as released for Caffe; the pooling rounds up"
                    + ("; conv1 has a bias" if layers == 50 else "")
                ),
                _CAFFE,
            )
            for layers in (50, 101, 152)
        ),
        *(
            _row(
                f"resnet{layers}.keras",
                replace(
                    _base(layers),
                    stride_on="1x1",
                    padding="keras",
                    conv_bias="all",
                    bn_eps=1.001e-5,
                    bn_momentum=0.01,
                    initialization="xavier",
                ),
                f"Keras ResNet{layers}; convolutions have biases",
                _CAFFE,
            )
            for layers in (50, 101, 152)
        ),
        *(
            _row(
                f"resnet{layers}.keras-v2",
                replace(
                    _base(layers),
                    shortcut="B-subsampled",
                    stride_in="last",
                    arrangement="full-preactivation",
                    padding="keras",
                    conv_bias="unnormalized",
                    bn_eps=1.001e-5,
                    bn_momentum=0.01,
                    initialization="xavier",
                ),
                f"Keras ResNet{layers}V2; the last unit of a stage strides",
                _SYMMETRIC,
            )
            for layers in (50, 101, 152)
        ),
        _row(
            "resnet50.fb",
            replace(_base(50), arrangement="bn-after-addition"),
            "fb.resnet.torch's released ResNet-50; BN after the addition",
        ),
        _row(
            "resnet26",
            replace(_base(50), depths=(2, 2, 2, 2)),
            "timm; two bottleneck units a stage",
        ),
        *(
            _row(
                f"resnext{layers}_{groups}x{width}d",
                replace(_base(layers), groups=groups, inner_multiplier=groups * width // 64),
                f"{source}; {groups} groups of {width} channels",
            )
            for layers, groups, width, source in (
                (50, 32, 4, "Xie et al. 2017 (arXiv 1611.05431), Table 1"),
                (101, 32, 4, "Xie et al. 2017 (arXiv 1611.05431), Table 3"),
                (101, 32, 8, "Mahajan et al. 2018 (arXiv 1805.00932)"),
                (101, 64, 4, "Xie et al. 2017 (arXiv 1611.05431), Table 4"),
            )
        ),
        *(
            _row(
                f"wide_resnet{layers}_2",
                replace(_base(layers), inner_multiplier=2),
                f"Zagoruyko and Komodakis 2016 (arXiv 1605.07146), {table}; inner channels doubled",
            )
            for layers, table in ((50, "Table 8"), (101, "as torchvision has it"))
        ),
        _row("plain18", replace(_base(18), shortcut="none"), "He et al. 2015, Table 2; no shortcuts"),
        _row("plain34", replace(_base(34), shortcut="none"), "He et al. 2015, Table 2; no shortcuts"),
    )
