"""Networks for ImageNet: 224 px, four stages, 1,000 classes (He et al. 2015, Table 1).

``resnet50`` is today's practice, with the stride on the 3×3 convolution; ``resnet50.v1`` is the
paper's own, with the stride on the first 1×1. ``.a`` and ``.c`` name the shortcut options of the
paper's Tables 2 and 3; a name without either is option B, as in every later library.
``.preact`` is full pre-activation.
"""

from __future__ import annotations

from residual.preprocess import Preprocess
from residual.spec import Arrangement, ResNetSpec, Shortcut, StrideOn
from residual.zoo.entry import ZooEntry

__all__ = ["ENTRIES", "PREPROCESS"]

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


def _spec(
    layers: int,
    shortcut: Shortcut = "B",
    stride_on: StrideOn = "3x3",
    arrangement: Arrangement = "original",
    groups: int = 1,
    inner_multiplier: int = 1,
) -> ResNetSpec:
    return ResNetSpec(
        unit="basic" if layers < 50 else "bottleneck",
        depths=_DEPTHS[layers],
        shortcut=shortcut,
        stride_on=stride_on,
        arrangement=arrangement,
        groups=groups,
        inner_multiplier=inner_multiplier,
    )


def _origin(layers: int) -> str:
    return "He et al. 2016, Table 5" if layers == 200 else "He et al. 2015, Table 1"


def _entry(name: str, spec: ResNetSpec, source: str) -> ZooEntry:
    return ZooEntry(name=name, spec=spec, preprocess=PREPROCESS, source=source)


ENTRIES = (
    _entry("resnet18", _spec(18), "He et al. 2015, Table 1; option B"),
    _entry("resnet18.a", _spec(18, "A"), "He et al. 2015, Tables 1 and 2; option A"),
    _entry("resnet34", _spec(34), "He et al. 2015, Tables 1 and 3; option B"),
    _entry("resnet34.a", _spec(34, "A"), "He et al. 2015, Tables 1, 2 and 3; option A"),
    _entry("resnet34.c", _spec(34, "C"), "He et al. 2015, Tables 1 and 3; option C"),
    *(
        entry
        for layers in (50, 101, 152, 200)
        for entry in (
            _entry(
                f"resnet{layers}",
                _spec(layers),
                f"{_origin(layers)}; stride on the 3×3 as fb.resnet.torch and torchvision",
            ),
            _entry(
                f"resnet{layers}.v1",
                _spec(layers, stride_on="1x1"),
                f"{_origin(layers)}; stride on the first 1×1 as in the paper",
            ),
        )
    ),
    *(
        _entry(
            f"resnet{layers}.preact",
            _spec(layers, arrangement="full-preactivation"),
            "He et al. 2016, figure 4 e and Table 5; full pre-activation",
        )
        for layers in _DEPTHS
    ),
    _entry(
        "resnext50_32x4d",
        _spec(50, groups=32, inner_multiplier=2),
        "Xie et al. 2017 (arXiv 1611.05431), Table 1; 32 groups of 4 channels",
    ),
    _entry(
        "wide_resnet50_2",
        _spec(50, inner_multiplier=2),
        "Zagoruyko and Komodakis 2016 (arXiv 1605.07146), Table 8; inner channels doubled",
    ),
    _entry("plain18", _spec(18, "none"), "He et al. 2015, Table 2; no shortcuts"),
    _entry("plain34", _spec(34, "none"), "He et al. 2015, Table 2; no shortcuts"),
)
