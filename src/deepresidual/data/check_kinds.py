"""Kinds of findings about boxes, and which of them training would stop at."""

from __future__ import annotations

from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning"]

OBJECT_KINDS: dict[str, Severity] = {
    "missing-image": "error",
    "unknown-category": "error",
    "mask-differs": "error",
    "size-differs": "warning",
    "exif-ambiguous": "warning",
    "box-empty": "warning",
    "box-outside": "warning",
    "box-twice": "warning",
    "box-two-classes": "warning",
    "mask-empty": "warning",
    "mask-box-differs": "warning",
    "mask-missing": "warning",
    "mask-is-box": "warning",
    "counted-from-0": "warning",
    "id-twice": "warning",
    "not-annotated": "warning",
    "shape-unused": "warning",
    "without-image": "warning",
    "no-objects": "warning",
    "crowd-share": "warning",
    "tiny-objects": "warning",
}
"""Every kind of finding about boxes, and whether training would stop at it."""
