"""Read the index of weights that are stored in several files, as transformers and huggingface_hub write it.

``model.safetensors.index.json`` says of each tensor which file holds it. Nothing that it says is trusted: a
file is a plain name beside the index, and holds the tensors that the index says, no more and no fewer.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from deepresidual.errors import ModelFileError, listed, quoted
from deepresidual.runtime.strict_json import read_object

_MAX_SHARDS = 1000
_MAX_TENSORS = 20_000  # as many as readers allow in one file
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,199}\.(safetensors|bin)")


def read_index(path: Path) -> dict[str, frozenset[str]]:
    """Return the names of the tensors that each file of weights holds, by file name in order.

    Raises:
        ModelFileError: It is no such index, or names files that are no plain names.
    """
    weight_map = read_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFileError(f"{path} has no weight_map", expected="the file of each tensor")
    if len(weight_map) > _MAX_TENSORS:
        raise ModelFileError(
            f"{path} names {len(weight_map):,} tensors", expected=f"at most {_MAX_TENSORS:,}"
        )
    suffix = path.name.removesuffix(".index.json").rpartition(".")[2]
    tensors: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not name.endswith(f".{suffix}"):
            raise ModelFileError(
                f"{path} says that {quoted(tensor)} is in {quoted(name)}",
                expected=f"the name of a .{suffix} file beside it",
            )
        tensors.setdefault(name, set()).add(tensor)
    if len(tensors) > _MAX_SHARDS:
        raise ModelFileError(f"{path} names {len(tensors):,} files", expected=f"at most {_MAX_SHARDS:,}")
    return {name: frozenset(tensors[name]) for name in sorted(tensors)}


def shards_of(path: Path) -> tuple[str, ...]:
    """Return the names of the files that an index names, in order.

    Raises:
        ModelFileError: It is no such index.
    """
    return tuple(read_index(path))


def require_tensors(path: Path, found: Collection[str], expected: Collection[str]) -> None:
    """Refuse a file that holds other tensors than its index says.

    Raises:
        ModelFileError: It does; the message names some of them.
    """
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing:
        raise ModelFileError(
            f"{path} lacks {listed(missing, 3)}",
            expected="the tensors that its index says",
            remedy="copy the folder again",
        )
    if extra:
        raise ModelFileError(
            f"{path} holds {listed(extra, 3)}, which its index does not say of it",
            expected="the tensors that its index says",
        )
