"""Read the JSON of COCO strictly and fast: files of hundreds of megabytes, of which polygons are the most."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

from deepresidual.errors import DataError, kind_of, quoted
from deepresidual.runtime.git_lfs import refuse_pointer
from deepresidual.runtime.strict_json import RecordError, parse

_LISTS = ("images", "annotations", "categories")

# Polygons are three quarters of a file, and as objects in memory ten times as large: they become text, which
# is read one at a time. Nothing else than numbers and brackets stands in them, so they end at the first other
# character. A quotation mark within a text has a backslash before it.
_POLYGONS = re.compile(rb'(?<!\\)"segmentation"\s*:\s*(\[[-+0-9.eE,\s\[\]]*\])')
_NO_NUMBER = re.compile(rb"(?<![\w\"])-?(?:NaN|Infinity)\b")


def json_document(content: bytes, shown: str, remedy: str) -> Any:
    """Return the document of a file of annotations, read strictly.

    Args:
        content: The file.
        shown: Its name in messages.
        remedy: What to do with one that is no JSON.

    Raises:
        DataError: It is no strict JSON.
    """
    try:
        return parse(content)
    except RecordError as error:
        raise DataError(f"{shown} is not JSON in UTF-8 ({error})", remedy=remedy) from error


def read_coco_document(file: Path, shown: str) -> dict[str, Any]:
    """Read a file of annotations; polygons are the text of their lists.

    Args:
        file: The file.
        shown: Its name in messages.

    Raises:
        DataError: It cannot be read, is no strict JSON, or lacks one of the three lists.
    """
    refuse_pointer(file, DataError)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{shown} cannot be read ({error.strerror})") from error
    content = _POLYGONS.sub(_as_text, content.removeprefix(codecs.BOM_UTF8))
    try:
        document = parse(content)
    except RecordError as error:
        raise DataError(f"{shown} is not JSON in UTF-8 ({error}){_place_of_nan(content)}") from error
    if not isinstance(document, dict):
        raise DataError(f"{shown} holds {kind_of(document)}", expected=f"an object with {', '.join(_LISTS)}")
    for name in _LISTS:
        if not isinstance(document.get(name), list):
            there = kind_of(document[name]) + f" as {name}" if name in document else f"no {name}"
            raise DataError(
                f"{shown} has {there}",
                expected=f"the lists {', '.join(_LISTS)}, as COCO has them",
            )
    return document


def _as_text(found: re.Match[bytes]) -> bytes:
    return b'"segmentation":"' + found[1].translate(_SPACES) + b'"'


_SPACES = bytes.maketrans(b"\t\n\r", b"   ")  # no text of JSON has these


def _place_of_nan(content: bytes) -> str:
    """Return what stands around the first NaN or Infinity, for a message; empty: there is none."""
    found = _NO_NUMBER.search(content)
    if found is None:
        return ""
    around = content[max(found.start() - 60, 0) : found.end() + 20].decode("utf-8", "replace")
    return f", at {quoted(around, 120)}"
