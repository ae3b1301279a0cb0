"""Networks for CIFAR: 32 px, three stages of 16, 32 and 64 channels, 6n + 2 layers.

He et al. 2015, section 4.2 and Table 6.

They have a quarter of the channels of the "CIFAR ResNet-18" of many tutorials, which is the ImageNet
network without its stem, and so a sixteenth of the work a layer. Option A everywhere, so each plain twin
has exactly the same parameters.
"""

from __future__ import annotations

from residual.preprocess import Preprocess
from residual.spec import ResNetSpec, Shortcut
from residual.zoo.entry import ZooEntry

__all__ = ["ENTRIES", "PREPROCESS"]

PREPROCESS = Preprocess(
    crop_px=32,
    resize_px=32,
    # Mean and standard deviation of the CIFAR-10 training set, as fb.resnet.torch published them (0 to 255).
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
    std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
)


def _entry(name: str, layers: int, shortcut: Shortcut) -> ZooEntry:
    n = (layers - 2) // 6
    spec = ResNetSpec(
        unit="basic", depths=(n, n, n), widths=(16, 32, 64), stem="cifar", shortcut=shortcut, num_classes=10
    )
    return ZooEntry(
        name=name, spec=spec, preprocess=PREPROCESS, source="He et al. 2015, section 4.2 and Table 6"
    )


_LAYERS = (20, 32, 44, 56, 110, 1202)

ENTRIES = (
    *(_entry(f"resnet{layers}", layers, "A") for layers in _LAYERS),
    *(_entry(f"plain{layers}", layers, "none") for layers in _LAYERS),
)
