"""Networks for CIFAR: 32 px, three stages of 16, 32 and 64 channels.

6n + 2 layers of basic units (He et al. 2015, section 4.2 and Table 6) and 9n + 2 of bottlenecks, with the
arrangements of He et al. 2016 (Tables 2 to 4).

They have a quarter of the channels of the "CIFAR ResNet-18" of many tutorials, which is the ImageNet
network without its stem, and so a sixteenth of the work a layer. Option A in all basic nets, so each plain
twin has exactly the same parameters; bottlenecks project where the shape changes, and stride on their first
1×1 ("constructed following" the networks of 2015, says the appendix of 2016, whose release strides there; so
does the authors' Torch code, KaimingHe/resnet-1k-layers, resnet-pre-act.lua).
"""

from __future__ import annotations

import dataclasses
import functools

from deepresidual.preprocess import Preprocess
from deepresidual.spec import Arrangement, ResNetSpec, Shortcut, Unit
from deepresidual.zoo.entry import ZooEntry

__all__ = ["PREPROCESS", "entries"]

PREPROCESS = Preprocess(
    crop_px=32,
    resize_px=32,
    # Mean and standard deviation of the CIFAR-10 training set, as fb.resnet.torch published them (0 to 255).
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
    std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
)


# akamaster/pytorch_resnet_cifar10 normalizes CIFAR-10 with ImageNet's mean and standard deviation.
_AKAMASTER = dataclasses.replace(PREPROCESS, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# 2016, Table 2, beside the original and the full pre-activation
_OTHER_ARRANGEMENTS: dict[str, Arrangement] = {
    "bnadd": "bn-after-addition",
    "relubefore": "relu-before-addition",
    "reluonly": "relu-only-preactivation",
}


def _spec(layers: int, unit: Unit, shortcut: Shortcut, arrangement: Arrangement = "original") -> ResNetSpec:
    """6n + 2 layers of basic units (two convolutions), or 9n + 2 of bottlenecks; n in each stage."""
    n = (layers - 2) // (6 if unit == "basic" else 9)
    return ResNetSpec(
        unit=unit,
        depths=(n, n, n),
        widths=(16, 32, 64),
        stem="cifar",
        shortcut=shortcut,
        stride_on="1x1" if unit == "bottleneck" else "3x3",
        arrangement=arrangement,
        num_classes=10,
    )


def _entry(name: str, spec: ResNetSpec, source: str, preprocess: Preprocess = PREPROCESS) -> ZooEntry:
    return ZooEntry(name=name, spec=spec, preprocess=preprocess, source=source)


_LAYERS = (20, 32, 44, 56, 110, 1202)
_GATES: tuple[Shortcut, ...] = ("exclusive-gating", "shortcut-only-gating")
_TABLE_1 = "He et al. 2016, section 3.1 and Table 1"
_TABLE_6 = "He et al. 2015, section 4.2 and Table 6"


@functools.cache
def entries() -> tuple[ZooEntry, ...]:
    """Return the rows, in the order in which they are listed."""
    return (
        *(_entry(f"resnet{layers}", _spec(layers, "basic", "A"), _TABLE_6) for layers in _LAYERS),
        *(_entry(f"plain{layers}", _spec(layers, "basic", "none"), _TABLE_6) for layers in _LAYERS),
        *(
            _entry(f"resnet{layers}", _spec(layers, "bottleneck", "B"), "He et al. 2016, Table 3")
            for layers in (164, 1001)
        ),
        _entry(
            "resnet110.preact",
            _spec(110, "basic", "A", "full-preactivation"),
            "He et al. 2016, figure 4 e and Table 2",
        ),
        *(
            _entry(
                f"resnet{layers}.preact",
                _spec(layers, "bottleneck", "B", "full-preactivation"),
                "He et al. 2016, figure 4 e and Tables 2 to 4",
            )
            for layers in (164, 1001)
        ),
        *(
            _entry(
                f"resnet{layers}.{short}",
                _spec(110, "basic", "A", arrangement)
                if layers == 110
                else _spec(164, "bottleneck", "B", arrangement),
                f"He et al. 2016, figure 4 and Table 2; {arrangement}",
            )
            for layers in (110, 164)
            for short, arrangement in _OTHER_ARRANGEMENTS.items()
        ),
        *(
            _entry(
                f"resnet{layers}.akamaster",
                _spec(layers, "basic", "A-both-sides"),
                f"{_TABLE_6}, as akamaster/pytorch_resnet_cifar10; zeros on both sides",
                _AKAMASTER,
            )
            for layers in _LAYERS
        ),
        _entry("resnet110.c", _spec(110, "basic", "C"), f"{_TABLE_1}; 1×1 convolutional shortcuts"),
        _entry(
            "resnet110.scaled",
            dataclasses.replace(_spec(110, "basic", "scaled"), shortcut_scale=0.5, residual_scale=0.5),
            f"{_TABLE_1}; constant scaling, 0.5 and 0.5",
        ),
        *(
            _entry(
                f"resnet110.{kind}",
                dataclasses.replace(_spec(110, "basic", kind), gate_bias=-6.0),
                f"{_TABLE_1}; gates begin at b = −6",
            )
            for kind in _GATES
        ),
        _entry("resnet110.dropout", _spec(110, "basic", "dropout"), f"{_TABLE_1}; dropout of one half"),
    )
