"""How options are declared: one that may be left out, and the path of a file or folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import tyro

from deepresidual.runtime.files import expanded

__all__ = ["LocalPath", "Maybe"]

T = TypeVar("T")

Maybe: TypeAlias = Annotated[T | None, tyro.conf.arg(help_behavior_hint="")]
"""An option whose default is decided later; its help says by what."""

LocalPath: TypeAlias = Annotated[
    Path,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: expanded(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A file or folder; a leading ``~`` is expanded, which the shell does not do in ``--out=~/x``."""
