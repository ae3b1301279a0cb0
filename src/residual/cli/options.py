"""How options are declared: an option that may be left out, without "(default: None)" in the help."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

import tyro

__all__ = ["Maybe"]

T = TypeVar("T")

Maybe: TypeAlias = Annotated[T | None, tyro.conf.arg(help_behavior_hint="")]
"""An option whose default is decided later; its help says by what."""
