"""Published results of the zoo's networks, as data: errors as their sources print them.

These are other people's figures, to compare one's own with. They are no promise about a network that
Residual trains, and errors by different protocols do not compare: ten crops take a point or two off.

Sources: He et al. 2015 (arXiv 1512.03385), He et al. 2016 (arXiv 1603.05027), and the releases named in
each row.

Example:
    >>> published("resnet50.v1")[0]
    Published(network='resnet50.v1', data='imagenet', top1_error=22.85, top5_error=6.71, protocol='10-crop', \
source='He et al. 2015, Table 3', std=None, is_lower_bound=False)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["RESULTS", "DataSet", "Published", "published"]

DataSet: TypeAlias = Literal["imagenet", "cifar10", "cifar100"]
"""ImageNet-1k's 50,000 validation images, or the 10,000 test images of CIFAR-10 or CIFAR-100."""


@dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
        network: Name in the zoo.
        data: Data set whose held-out images were classified.
        top1_error: Share of wrong answers, in percent, as the source prints it; a source that prints the
            accuracy gives 100 minus that.
        top5_error: The same for the five best answers; ``None`` where the source has none.
        protocol: How images were shown, or runs summed up: "10-crop", "median of 5 runs".
        source: Where it stands.
        std: Standard deviation over the runs of a mean; ``None`` for everything else.
        is_lower_bound: Whether all that is known is that the error was above ``top1_error``, as where
            He et al. 2016 print "fail" for errors above 20 %.
    """

    network: str
    data: DataSet
    top1_error: float
    top5_error: float | None
    protocol: str
    source: str
    std: float | None = None
    is_lower_bound: bool = False

    def __str__(self) -> str:
        """Return the errors as a table shows them: ``22.85 % / 6.71 %``, ``6.61 ± 0.16 %``, ``> 20 %``."""
        if self.is_lower_bound:
            return f"> {self.top1_error:g} %"
        numbers = [x for x in (self.top1_error, self.top5_error, self.std) if x is not None]
        # A table prints all its numbers to as many digits; a float has lost its zeros at the end. Those of
        # CIFAR have two.
        digits = max(len(repr(x).split(".")[1]) for x in numbers)
        digits = digits if self.data == "imagenet" else max(digits, 2)
        text = f"{self.top1_error:.{digits}f}"
        if self.std is not None:
            text += f" ± {self.std:.{digits}f}"
        if self.top5_error is not None:
            text += f" % / {self.top5_error:.{digits}f}"
        return f"{text} %"


def published(name: str) -> tuple[Published, ...]:
    """Return the published results of the network called ``name``, the defining paper's first."""
    return _by_network().get(name, ())


@functools.cache
def _by_network() -> dict[str, tuple[Published, ...]]:
    found: dict[str, list[Published]] = {}
    for row in RESULTS:
        found.setdefault(row.network, []).append(row)
    return {name: tuple(rows) for name, rows in found.items()}


_Errors: TypeAlias = tuple[float, float]


def _imagenet(protocol: str, source: str, errors: dict[str, _Errors | float]) -> list[Published]:
    """Rows of one table: network → top-1 and top-5 error, or top-1 error alone."""
    rows = []
    for network, error in errors.items():
        top1, top5 = error if isinstance(error, tuple) else (error, None)
        rows.append(Published(network, "imagenet", top1, top5, protocol, source))
    return rows


def _cifar(
    protocol: str, source: str, errors: dict[str, float], data: DataSet = "cifar10"
) -> list[Published]:
    """Rows of one table: network → error."""
    return [Published(network, data, error, None, protocol, source) for network, error in errors.items()]


def _mean(network: str, error: float, std: float, source: str, data: DataSet = "cifar10") -> Published:
    return Published(network, data, error, None, "mean of 5 runs", source, std=std)


def _failed(network: str, above: float, source: str) -> Published:
    return Published(network, "cifar10", above, None, "1 view", source, is_lower_bound=True)


_MULTI_SCALE = "fully convolutional, 5 scales"  # shorter side 224, 256, 384, 480 and 640
_MEDIAN = "median of 5 runs"
_ONE_CROP = "1-crop 224 px"
_2015, _2016 = "He et al. 2015", "He et al. 2016"
_CAFFE = "KaimingHe/deep-residual-networks, released Caffe models"
_FB = "facebook/fb.resnet.torch, pretrained models"
_KERAS = "keras-team/keras-applications, README"
_AKAMASTER = "akamaster/pytorch_resnet_cifar10"

RESULTS: tuple[Published, ...] = (
    # -- ImageNet, the papers ------------------------------------------------------------------------
    *_imagenet("10-crop", f"{_2015}, Table 2", {"plain18": 27.94, "resnet18.a": 27.88}),
    *_imagenet(
        "10-crop",
        f"{_2015}, Table 3",
        {
            "plain34": (28.54, 10.02),
            "resnet34.a": (25.03, 7.76),
            "resnet34": (24.52, 7.46),
            "resnet34.c": (24.19, 7.40),
            "resnet50.v1": (22.85, 6.71),
            "resnet101.v1": (21.75, 6.05),
            "resnet152.v1": (21.43, 5.71),
        },
    ),
    *_imagenet(
        _MULTI_SCALE,
        f"{_2015}, Table 4",
        {
            "resnet34": (21.84, 5.71),
            "resnet34.c": (21.53, 5.60),
            "resnet50.v1": (20.74, 5.25),
            "resnet101.v1": (19.87, 4.60),
            "resnet152.v1": (19.38, 4.49),
        },
    ),
    *_imagenet(_ONE_CROP, f"{_2016}, Table 5", {"resnet152.v1": (23.0, 6.7)}),
    *_imagenet(
        "1-crop 320 px",
        f"{_2016}, Table 5",
        {
            "resnet152.v1": (21.3, 5.5),
            "resnet152.preact-v1": (21.1, 5.5),
            "resnet200.v1": (21.8, 6.0),
            "resnet200.preact-v1": (20.7, 5.3),
        },
    ),
    # Marked with † in the table: fb.resnet.torch's network, with its stride.
    *_imagenet(
        "1-crop 320 px",
        f"{_2016}, Table 5; trained with scale and aspect-ratio augmentation",
        {"resnet200.preact": (20.1, 4.8)},
    ),
    *_imagenet(_ONE_CROP, "Xie et al. 2017, Table 3", {"resnext50_32x4d": 22.2}),
    *_imagenet(_ONE_CROP, "Zagoruyko and Komodakis 2016, Table 8", {"wide_resnet50_2": (21.9, 6.03)}),
    # -- ImageNet, released weights ------------------------------------------------------------------
    *_imagenet(
        _ONE_CROP,
        _CAFFE,
        {"resnet50.caffe": (24.7, 7.8), "resnet101.caffe": (23.6, 7.1), "resnet152.caffe": (23.0, 6.7)},
    ),
    *_imagenet(
        "10-crop",
        _CAFFE,
        {"resnet50.caffe": (22.9, 6.7), "resnet101.caffe": (21.8, 6.1), "resnet152.caffe": (21.4, 5.7)},
    ),
    *_imagenet(
        _ONE_CROP,
        _FB,
        {
            "resnet18": (30.43, 10.76),
            "resnet34": (26.73, 8.74),
            "resnet50.fb": (24.01, 7.02),
            "resnet101": (22.44, 6.21),
            "resnet152": (22.16, 6.16),
            "resnet200.preact": (21.66, 5.79),
        },
    ),
    *_imagenet(
        "10-crop",
        _FB,
        {
            "resnet18": (28.22, 9.42),
            "resnet34": (24.76, 7.35),
            "resnet50.fb": (22.24, 6.08),
            "resnet101": (21.08, 5.35),
            "resnet152": (20.69, 5.21),
            "resnet200.preact": (20.15, 4.93),
        },
    ),
    *_imagenet(
        _ONE_CROP,
        "torchvision, IMAGENET1K_V1",
        {
            "resnet18": (30.242, 10.922),
            "resnet34": (26.686, 8.580),
            "resnet50": (23.870, 7.138),
            "resnet101": (22.626, 6.454),
            "resnet152": (21.688, 5.954),
            "resnext50_32x4d": (22.382, 6.302),
            "resnext101_32x8d": (20.688, 5.474),
            "wide_resnet50_2": (21.532, 5.914),
            "wide_resnet101_2": (21.152, 5.716),
        },
    ),
    *_imagenet(
        "1-crop 224 px of 232 px",
        "torchvision, IMAGENET1K_V1",
        {"resnext101_64x4d": (16.754, 3.546)},
    ),
    *_imagenet(
        "1-crop 224 px of 232 px",
        "torchvision, IMAGENET1K_V2",
        {
            "resnet50": (19.142, 4.566),
            "resnet101": (18.114, 4.220),
            "resnet152": (17.716, 3.998),
            "resnext50_32x4d": (18.802, 4.660),
            "resnext101_32x8d": (17.166, 3.772),
            "wide_resnet50_2": (18.398, 4.242),
            "wide_resnet101_2": (17.490, 3.980),
        },
    ),
    # 100 − top-1 accuracy; the recipes are A1 to A3 of Wightman et al. 2021 (arXiv 2110.00476).
    *_imagenet(
        _ONE_CROP,
        "timm, a1_in1k",
        {
            "resnet18": 28.496,
            "resnet34": 23.580,
            "resnet50": 19.618,
            "resnet101": 18.506,
            "resnet152": 18.002,
        },
    ),
    *_imagenet("1-crop 288 px", "timm, a1_in1k", {"resnet50": 18.760}),
    *_imagenet(
        _ONE_CROP,
        "timm, a2_in1k",
        {
            "resnet18": 29.366,
            "resnet34": 24.480,
            "resnet50": 20.172,
            "resnet101": 18.656,
            "resnet152": 18.236,
        },
    ),
    *_imagenet(
        _ONE_CROP,
        "timm, a3_in1k",
        {
            "resnet18": 31.750,
            "resnet34": 27.004,
            "resnet50": 21.948,
            "resnet101": 20.164,
            "resnet152": 19.452,
        },
    ),
    *_imagenet("1-crop 160 px", "timm, a3_in1k", {"resnet50": 24.006}),
    # 100 − accuracy, here too; V1 is trained in Caffe, V2 in TensorFlow.
    *_imagenet(
        _ONE_CROP,
        _KERAS,
        {
            "resnet50.keras": (25.072, 7.940),
            "resnet101.keras": (23.580, 7.214),
            "resnet152.keras": (23.396, 6.882),
        },
    ),
    *_imagenet(
        "1-crop 299 px",
        _KERAS,
        {
            "resnet50.keras-v2": (24.040, 6.966),
            "resnet101.keras-v2": (22.766, 6.184),
            "resnet152.keras-v2": (21.968, 5.838),
        },
    ),
    # -- CIFAR, 2015 ---------------------------------------------------------------------------------
    *_cifar(
        "1 view",
        f"{_2015}, Table 6",
        {
            "resnet20": 8.75,
            "resnet32": 7.51,
            "resnet44": 7.17,
            "resnet56": 6.97,
        },
    ),
    *_cifar("best of 5 runs", f"{_2015}, Table 6", {"resnet110": 6.43}),
    _mean("resnet110", 6.61, 0.16, f"{_2015}, Table 6"),
    *_cifar("1 view", f"{_2015}, Table 6", {"resnet1202": 7.93}),
    _failed("plain110", 60, f"{_2015}, section 4.2"),
    # Its training keeps the epoch that did best on the same test images.
    *_cifar(
        "1 view, best epoch",
        _AKAMASTER,
        {
            "resnet20.akamaster": 8.27,
            "resnet32.akamaster": 7.37,
            "resnet44.akamaster": 6.90,
            "resnet56.akamaster": 6.61,
            "resnet110.akamaster": 6.32,
            "resnet1202.akamaster": 6.18,
        },
    ),
    # -- CIFAR, 2016 ---------------------------------------------------------------------------------
    *_cifar(
        _MEDIAN,
        f"{_2016}, Table 1",
        {
            "resnet110": 6.61,
            "resnet110.scaled": 12.35,
            "resnet110.exclusive-gating": 8.70,
            "resnet110.shortcut-only-gating": 6.91,
            "resnet110.c": 12.22,
        },
    ),
    _failed("resnet110.dropout", 20, f"{_2016}, Table 1"),
    *_cifar(
        _MEDIAN,
        f"{_2016}, Table 2",
        {
            "resnet110.bnadd": 8.17,
            "resnet110.relubefore": 7.84,
            "resnet110.reluonly": 6.71,
            "resnet110.preact": 6.37,
            "resnet164": 5.93,
            "resnet164.bnadd": 6.50,
            "resnet164.relubefore": 6.14,
            "resnet164.reluonly": 5.91,
            "resnet164.preact": 5.46,
        },
    ),
    *_cifar(_MEDIAN, f"{_2016}, Table 3", {"resnet1001": 7.61, "resnet1001.preact": 4.92}),
    *_cifar(
        _MEDIAN,
        f"{_2016}, Table 3",
        {"resnet164": 25.16, "resnet164.preact": 24.33, "resnet1001": 27.82, "resnet1001.preact": 22.71},
        "cifar100",
    ),
    _mean("resnet1001.preact", 4.89, 0.14, f"{_2016}, Table 4"),
    *_cifar(_MEDIAN, f"{_2016}, Table 4; mini-batches of 64", {"resnet1001.preact": 4.62}),
    _mean("resnet1001.preact", 4.69, 0.20, f"{_2016}, Table 4; mini-batches of 64"),
    _mean("resnet1001.preact", 22.68, 0.22, f"{_2016}, Table 4", "cifar100"),
)
