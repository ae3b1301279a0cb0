"""Released weights by name: where they are, under which licence, trained on what, and how accurate.

``released.tsv`` has a row for each pair of a file and its preprocessing. timm's names are taken where timm
has the weights (``resnet50.a1_in1k``). torchvision's V1 weights are timm's ``tv_in1k``: the same weights
prepared in the same way, so they are one row, and ``resnet50.IMAGENET1K_V1`` is another name of it. Its V2
weights are the file of timm's ``tv2_in1k``, which prepares images of 176 px; torchvision's own 224 px are
another row, ``resnet50.IMAGENET1K_V2``. Self-supervised backbones are named after their method
(``dino.resnet50``).

``released_detectors.tsv`` has those of torchvision's detectors, named in the same way
(``fasterrcnn_resnet50_fpn.tv_coco``), with their average precision on COCO's val2017.

Accuracies are top-1 and top-5 on ImageNet's validation images with the preprocessing of the row, as timm
(``results-imagenet.csv``) and torchvision (``meta["_metrics"]``) publish them; of a self-supervised backbone,
those of a linear classifier trained on its features. They are other people's figures.

Example:
    >>> released("resnet50.a1_in1k").licence
    'Apache-2.0'
    >>> default_release("resnet50").name
    'resnet50.tv_in1k'
"""

from __future__ import annotations

import csv
import fnmatch
import functools
from dataclasses import dataclass
from importlib import resources
from typing import Literal, TypeAlias

from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.preprocess import Preprocess

__all__ = [
    "NO_LICENCE",
    "CommercialUse",
    "ReleasedWeights",
    "commercial_use",
    "default_release",
    "find_release",
    "licence_warning",
    "list_released",
    "num_released",
    "release_of_hub_id",
    "release_of_url",
    "released",
    "released_names",
]

CommercialUse: TypeAlias = Literal["yes", "no", "unclear"]
"""Whether a licence allows commercial use; ``unclear`` where no licence is recorded."""

NO_LICENCE = "none recorded"
"""What a model folder says of weights whose publisher names no licence."""

_ENUM_SUFFIX = "_weights"  # of torchvision's enums, in lower case: ResNet50_Weights.IMAGENET1K_V2


@dataclass(frozen=True)
class ReleasedWeights:
    """One set of released weights.

    Attributes:
        name: Name by which commands and :func:`deepresidual.load` know it.
        aliases: Other names of the same weights with the same preprocessing.
        source: Who trained or published them, in a word or two.
        network: Name in the zoo; of two ResNeXt networks that it does not list, timm's; of a detector the
            name of torchvision's function.
        hub_id: ``owner/name`` on the Hugging Face Hub; empty where they are not there.
        url: Address of a file; empty where there is none.
        licence: SPDX identifier; empty where none is recorded.
        commercial: Whether that allows commercial use.
        data: What they were trained on.
        num_classes: Rows of the classifier; 0 where there is none.
        num_parameters: Learned numbers.
        preprocess: The preprocessing that belongs to them.
        top1: Published top-1 accuracy in percent with this preprocessing; ``None`` where there is none.
        top5: The same for the five best answers.
        paper: The paper that describes the training, as ``arXiv:NUMBER``; may be empty.
        note: What else there is to know; may be empty.
        box_ap: Published AP of boxes in percent, of a detector; ``None`` for others.
        mask_ap: The same of masks.
    """

    name: str
    aliases: tuple[str, ...]
    source: str
    network: str
    hub_id: str
    url: str
    licence: str
    commercial: CommercialUse
    data: str
    num_classes: int
    num_parameters: int
    preprocess: Preprocess
    top1: float | None
    top5: float | None
    paper: str
    note: str
    box_ap: float | None = None
    mask_ap: float | None = None

    @property
    def detects(self) -> bool:
        """Whether they are a detector's."""
        return self.box_ap is not None

    @property
    def figures(self) -> str:
        """Published accuracy in words; empty where there is none."""
        if self.box_ap is not None:
            return f"box AP {self.box_ap:g} %" + (
                "" if self.mask_ap is None else f", mask AP {self.mask_ap:g} %"
            )
        if self.top1 is None:
            return ""
        return f"{self.top1:.2f} %" + ("" if self.num_classes else " by a linear classifier")

    @property
    def num_bytes(self) -> int:
        """Size to fetch, to a hundredth: parameters in float32."""
        return 4 * self.num_parameters

    def __str__(self) -> str:
        """Return a line such as ``resnet50.tv_in1k (torchvision V1, BSD-3-Clause, ImageNet-1k, 76.13 %)``."""
        said = (self.source, self.licence or "no licence", self.data, *filter(None, [self.figures]))
        return f"{self.name} ({', '.join(said)})"

    @property
    def warning(self) -> str:
        """A sentence about the licence where it does not allow everything; else empty."""
        return licence_warning(self.name, self.licence or NO_LICENCE)


def commercial_use(licence: str) -> CommercialUse:
    """Return whether a licence allows commercial use; that weights of one's own have none forbids nothing."""
    return "unclear" if licence == NO_LICENCE else "no" if "-NC" in licence else "yes"


def licence_warning(name: str, licence: str) -> str:
    """Return a sentence about the licence of weights where it does not allow everything; else empty."""
    if commercial_use(licence) == "no":
        return f"{name} is {licence}: not for commercial use"
    if commercial_use(licence) == "unclear":
        return f"{name} has no recorded licence: ask its authors before you use it"
    return ""


def released(name: str) -> ReleasedWeights:
    """Return the weights called ``name``: a row's name or alias, or a network, meaning its default release.

    Raises:
        UnknownNameError: There are no such weights; the message names the nearest ones.
        ConfigurationError: ``name`` is a network without released weights.
    """
    found = find_release(name) or default_release(name)
    if found is not None:
        return found
    from deepresidual import zoo

    if name in zoo.list_models():
        raise ConfigurationError(
            f"{name!r} is a network without released weights", remedy="--weights none begins from nothing"
        )
    raise UnknownNameError(
        "weights", name, released_names(), remedy=f"'residual models --weights' lists {num_released()}"
    )


def find_release(name: str) -> ReleasedWeights | None:
    """Return the weights whose name or alias is ``name``; ``None`` where there are none.

    torchvision's own spelling, ``ResNet50_Weights.IMAGENET1K_V2``, is an alias as well.
    """
    network, _, tag = name.partition(".")
    if network.lower().endswith(_ENUM_SUFFIX):
        network = network.lower().removesuffix(_ENUM_SUFFIX)
        if tag == "DEFAULT":  # torchvision's best
            versions = ("IMAGENET1K_V2", "IMAGENET1K_V1", "COCO_V1")
            tag = next((version for version in versions if f"{network}.{version}" in _by_name()), tag)
        name = f"{network}.{tag}"
    return _by_name().get(name)


def release_of_hub_id(hub_id: str) -> ReleasedWeights | None:
    """Return the weights that are the repository ``owner/name`` of the Hugging Face Hub."""
    return next((row for row in _rows() if row.hub_id == hub_id), None)


def release_of_url(url: str) -> ReleasedWeights | None:
    """Return the weights that lie at ``url``; of a file with two preprocessings, with its publisher's."""
    rows = [row for row in _rows() if row.url == url]
    return next((row for row in rows if not row.hub_id), rows[0] if rows else None)


def default_release(network: str) -> ReleasedWeights | None:
    """Return the weights that the bare name of a network stands for; ``None`` where there are none.

    That is torchvision's V1 family (``tv_in1k``) where it has the network: it was trained without label
    smoothing and mixing of images, and such features serve a linear classifier better than those of weights
    with a higher accuracy on ImageNet (Kornblith et al. 2021, arXiv 2010.16402). Otherwise the first row of
    the network that has a classifier and a licence for commercial use.
    """
    # timm calls the networks that are "resnet50.v2" here "resnetv2_50".
    if network.startswith("resnetv2_"):
        network = f"resnet{network.removeprefix('resnetv2_')}.v2"
    rows = [row for row in _rows() if row.network == network and row.num_classes and row.commercial == "yes"]
    return next((row for row in rows if row.name.endswith(".tv_in1k")), rows[0] if rows else None)


def list_released(pattern: str = "*") -> list[str]:
    """Return the names of all released weights that match the shell ``pattern``, sorted by network."""
    return [row.name for row in _rows() if fnmatch.fnmatchcase(row.name, pattern)]


def num_released() -> int:
    """Return the number of rows."""
    return len(_rows())


def released_names() -> list[str]:
    """Return every name that stands for released weights: of rows, aliases, and networks with a release."""
    return list(dict.fromkeys([*_by_name(), *(row.network for row in _rows())]))


@functools.cache
def _by_name() -> dict[str, ReleasedWeights]:
    return {name: row for row in _rows() for name in (row.name, *row.aliases)}


@functools.cache
def _rows() -> tuple[ReleasedWeights, ...]:
    return tuple(map(_row, (*_table("released.tsv"), *_table("released_detectors.tsv"))))


def _table(name: str) -> list[dict[str, str]]:
    text = (resources.files("deepresidual.zoo") / name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def _row(fields: dict[str, str]) -> ReleasedWeights:
    detects = "box_ap" in fields
    return ReleasedWeights(
        name=fields["name"],
        aliases=tuple(fields["aliases"].split()),
        source=fields["source"],
        network=fields["network"],
        hub_id=fields.get("hub_id", ""),
        url=fields["url"],
        licence=fields["licence"],
        commercial=_commercial(fields["commercial"]),
        data=fields["data"],
        num_classes=int(fields["num_classes"]),
        num_parameters=int(fields["num_parameters"]),
        preprocess=Preprocess.from_dict(
            {
                "crop_px": int(fields["crop_px"]),
                "resize_px": int(fields["resize_px"]),
                "interpolation": fields["interpolation"],
                "mean": _numbers(fields["mean"]),
                "std": _numbers(fields["std"]),
                "channels": "rgb",
                **({"fit": "whole"} if detects else {}),
            }
        ),
        top1=_figure(fields, "top1"),
        top5=_figure(fields, "top5"),
        paper=fields["paper"],
        note=fields["note"],
        box_ap=_figure(fields, "box_ap"),
        mask_ap=_figure(fields, "mask_ap"),
    )


def _figure(fields: dict[str, str], name: str) -> float | None:
    return float(fields[name]) if fields.get(name) else None


def _commercial(text: str) -> CommercialUse:
    return "yes" if text == "yes" else "no" if text == "no" else "unclear"


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]
