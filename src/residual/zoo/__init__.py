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

from residual.errors import UnknownNameError
from residual.zoo import cifar, imagenet
from residual.zoo.entry import ZooEntry

if TYPE_CHECKING:
    from residual.preprocess import Preprocess
    from residual.spec import ResNetSpec

__all__ = ["ENTRIES", "ZooEntry", "default_preprocess", "entry", "list_models", "name_of"]

ENTRIES: tuple[ZooEntry, ...] = (*imagenet.ENTRIES, *cifar.ENTRIES)
_BY_NAME = {entry.name: entry for entry in ENTRIES}


def entry(name: str) -> ZooEntry:
    """Return the row called ``name``.

    Raises:
        UnknownNameError: There is no such row; the message names the nearest ones.
    """
    if name not in _BY_NAME:
        raise UnknownNameError("model", str(name), _BY_NAME, remedy="list all with 'residual models'")
    return _BY_NAME[name]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of all networks that match the shell ``pattern``, in the order of the zoo."""
    return [name for name in _BY_NAME if fnmatch.fnmatchcase(name, pattern)]


def name_of(spec: ResNetSpec) -> str | None:
    """Return the name of the row with this architecture, whatever its classes and input channels.

    What only training sees, such as stochastic depth, makes no other architecture.
    """
    return _names().get(_without_ends(spec.architecture))


@functools.cache
def _names() -> dict[ResNetSpec, str]:
    names: dict[ResNetSpec, str] = {}
    for row in ENTRIES:
        names.setdefault(_without_ends(row.spec), row.name)
    return names


def _without_ends(spec: ResNetSpec) -> ResNetSpec:
    return dataclasses.replace(spec, num_classes=1, in_channels=1)


def default_preprocess(spec: ResNetSpec) -> Preprocess:
    """Return the preprocessing of the data set that the spec's stem was designed for."""
    return cifar.PREPROCESS if spec.stem == "cifar" else imagenet.PREPROCESS
