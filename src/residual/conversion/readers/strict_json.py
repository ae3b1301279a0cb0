"""JSON from elsewhere, read strictly: UTF-8 without a mark, an object, no name twice, no NaN, bounded.

Python's own reader takes all of these silently; of a name given twice it keeps the last, so two programs
can read one file differently.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from residual.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["MAX_CONFIG_BYTES", "parse_object", "read_object"]

MAX_CONFIG_BYTES = 64_000_000  # a million class names fit; a config of gigabytes is an attack


def read_object(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read the JSON object in the file at ``path``.

    Raises:
        ModelFileError: The file cannot be read, is larger than ``max_bytes``, or is no strict JSON object.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ModelFileError(f"{path} has {size:,} bytes", expected=f"at most {max_bytes:,}")
        with path.open("rb") as file:
            content = file.read(max_bytes)
    except OSError as error:
        raise ModelFileError(f"cannot read {path} ({error.strerror or error})") from error
    return parse_object(content, str(path))


def parse_object(content: bytes, source: str) -> dict[str, Any]:
    """Parse ``content`` as one JSON object; ``source`` names it in errors.

    Raises:
        ModelFileError: It is no JSON in UTF-8, no object, nested too deep, or names something twice.
    """
    try:
        document = json.loads(
            content.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise ModelFileError(f"{source} is not plain JSON (nested too deep)") from error
    except ValueError as error:
        reason = "a byte that is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ModelFileError(f"{source} is not JSON in UTF-8 ({reason})") from error
    if not isinstance(document, dict):
        raise ModelFileError(f"{source} holds a {type(document).__name__}", expected="a JSON object")
    return document


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:100]!r} is there twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
