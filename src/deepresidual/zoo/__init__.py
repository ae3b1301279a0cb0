"""The zoo: every named network as a value, with its source. Tables only; nothing here imports torch.

Example:
    >>> entry("resnet50").spec.num_parameters
    25557032
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from typing import TYPE_CHECKING

from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.spec.detector import DetectorSpec
from deepresidual.zoo import cifar, detectors, imagenet
from deepresidual.zoo.entry import ZooEntry

if TYPE_CHECKING:
    from deepresidual.preprocess import Preprocess
    from deepresidual.spec import NetworkSpec, ResNetSpec

__all__ = [
    "ZooEntry",
    "default_preprocess",
    "entries",
    "entry",
    "list_models",
    "name_of",
    "same_architecture",
]


def entries() -> tuple[ZooEntry, ...]:
    """Return all rows, in the order of the zoo; made when they are first asked for: that takes 0.1 s."""
    return tuple(_by_name().values())


@functools.cache
def _by_name() -> dict[str, ZooEntry]:
    return {row.name: row for row in (*imagenet.entries(), *cifar.entries())}


def entry(name: str) -> ZooEntry:
    """Return the row called ``name``.

    Raises:
        UnknownNameError: There is no such row; the message names the nearest ones.
        ConfigurationError: It is the name of a detector.
    """
    rows = _by_name()
    if name not in rows:
        if detectors.backbone_name(str(name)) in rows:
            raise ConfigurationError(
                f"{name} is a detector",
                expected=f"a network, such as its own, {detectors.backbone_name(name)}",
            )
        raise UnknownNameError("model", str(name), rows, remedy="list all with 'residual models'")
    return rows[name]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of all networks that match the shell ``pattern``, in the order of the zoo."""
    return [name for name in _by_name() if fnmatch.fnmatchcase(name, pattern)]


def name_of(spec: NetworkSpec) -> str | None:
    """Return the name of the row with this architecture, whatever its classes and input channels.

    Of a detector it is the name of its network and of what stands behind it.

    What only training sees, such as stochastic depth, makes no other architecture.
    """
    if isinstance(spec, DetectorSpec):
        return detectors.name_of(spec)
    return _names().get(_without_ends(spec.architecture))


@functools.cache
def _names() -> dict[ResNetSpec, str]:
    names: dict[ResNetSpec, str] = {}
    for row in entries():
        names.setdefault(_without_ends(row.spec), row.name)
    return names


def same_architecture(one: ResNetSpec, other: ResNetSpec) -> bool:
    """Return whether two specs differ in their classes, input channels and what only training sees alone."""
    return _without_ends(one.architecture) == _without_ends(other.architecture)


def _without_ends(spec: ResNetSpec) -> ResNetSpec:
    return dataclasses.replace(spec, num_classes=1, in_channels=1)


def default_preprocess(spec: ResNetSpec) -> Preprocess:
    """Return the preprocessing of the data set that the spec's stem was designed for."""
    return cifar.PREPROCESS if spec.stem == "cifar" else imagenet.PREPROCESS
