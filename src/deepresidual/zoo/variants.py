"""Relatives of the ResNets in timm that Residual does not have, told by their names.

The tensors of most tell them as well, but only after they have been fetched; of those with blurred pooling
nothing but the name does.

Example:
    >>> missing_variant("resnet50d.ra2_in1k")
    MissingVariant(what='a deep stem of three convolutions', nearest='resnet50')
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MissingVariant", "missing_variant"]

_DEEP_STEM = "a deep stem of three convolutions"
_VARIANTS = (
    (re.compile(r"ecaresnetlight()"), "channel attention"),
    (re.compile(r"(?:legacy_)?(?:se|eca|ese|gc)resne(?:x?t)(?:aa)?(\d+)"), "channel attention"),
    (re.compile(r"(?:legacy_)?senet(\d+)"), "channel attention"),
    (re.compile(r"test_resnet()"), "widths of its own"),
    (re.compile(r"skresne[x]?t(\d+)"), "selective kernels"),
    (re.compile(r"resnest(\d+)"), "split attention"),
    (re.compile(r"resnetrs(\d+)"), "a deep stem of three convolutions and channel attention"),
    (re.compile(r"resnetblur(\d+)|resnetaa(\d+)"), "blurred pooling before it strides"),
    (re.compile(r"cspresne[x]?t(\d+)"), "cross-stage partial connections"),
    (re.compile(r"resnetv2_(\d+)x\d+_bit"), "group normalization and standardized weights"),
    (re.compile(r"resnetv2_(\d+)d?_(?:gn|evos|evob|frn)"), "another normalization than BN"),
    (re.compile(r"resnet(\d+)_gn"), "group normalization"),
    (re.compile(r"(?:gluon_)?(?:resnet|resnetv2_|resnext)(\d+)[dtcs](?:$|[._])"), _DEEP_STEM),
)


@dataclass(frozen=True)
class MissingVariant:
    """A network that Residual does not have.

    Attributes:
        what: What it has that Residual does not have, as a noun phrase.
        nearest: Name of the zoo's network with as many layers; it may be none of the zoo.
    """

    what: str
    nearest: str


def missing_variant(name: str) -> MissingVariant | None:
    """Return what timm's network ``name``, with or without tag, has that Residual lacks; else ``None``."""
    for pattern, what in _VARIANTS:
        if match := pattern.match(name):
            layers = next((group for group in match.groups() if group), "50")
            return MissingVariant(what, f"resnet{layers}")
    return None
