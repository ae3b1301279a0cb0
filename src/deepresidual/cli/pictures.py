"""Where a command puts the pictures of files: one a file, each with a name of its own, none overwritten."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from deepresidual.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["picture_paths"]

# File systems take 255 bytes; this leaves room for a method, a number and the ending.
_MOST_STEM_BYTES = 200


def picture_paths(
    files: Sequence[str], folder: Path, ending_of: Callable[[str], str], option: str = "--out"
) -> list[Path]:
    """Return where the picture of each file goes: ``FOLDER/STEM`` and its ending, numbered if taken.

    Args:
        files: The files.
        folder: The folder for the pictures.
        ending_of: Gives what follows the stem of a file, the suffix included.
        option: What has named the folder, for messages.

    Raises:
        ConfigurationError: One of them is there already, or ``folder`` is not a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder", remedy=f"choose another {option}")
    taken: set[str] = set()
    pictures = []
    for file in files:
        stem = os.fsdecode(os.fsencode(Path(file).stem)[:_MOST_STEM_BYTES])
        ending = ending_of(file)
        name, number = f"{stem}{ending}", 2
        # Some file systems do not tell upper from lower case.
        while name.casefold() in taken:
            name, number = f"{stem}{_numbered(ending, number)}", number + 1
        taken.add(name.casefold())
        pictures.append(folder / name)
    present = [picture for picture in pictures if os.path.lexists(picture)]
    if present:
        others = f" and {len(present) - 1} more" if len(present) > 1 else ""
        raise ConfigurationError(
            f"{present[0]}{others} would be overwritten",
            remedy=f"choose another {option}, or remove what is there",
        )
    return pictures


def _numbered(ending: str, number: int) -> str:
    """Return ``-grad-cam-2.png`` for ``-grad-cam.png``."""
    before, dot, suffix = ending.rpartition(".")
    return f"{before}-{number}{dot}{suffix}"
