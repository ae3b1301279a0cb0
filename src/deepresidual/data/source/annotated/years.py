"""Find folders in the layout of Pascal VOC, of which there is one a year of the challenge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deepresidual.data.source.base import canonical_split
from deepresidual.data.source.files import list_folder

LISTS = ("train", "val", "trainval", "test")


@dataclass(frozen=True)
class Year:
    """A folder in the layout of Pascal VOC.

    Attributes:
        folder: The folder.
        lists: Its lists of images by name.
    """

    folder: Path
    lists: dict[str, Path]


def find_years(root: Path) -> list[Year]:
    """Return the years of Pascal VOC in a folder: itself, those below it, or those in its ``VOCdevkit``."""
    if year := _year(root):
        return [year]
    listing = list_folder(root)
    folders = [root / name for name in sorted((*listing.folders, *listing.links))]
    found = [year for folder in folders if (year := _year(folder))]
    devkit = root / "VOCdevkit"
    return found if found or not devkit.is_dir() else find_years(devkit)


def _year(folder: Path) -> Year | None:
    main = folder / "ImageSets" / "Main"
    if not (main.is_dir() and (folder / "Annotations").is_dir()):
        return None
    files = [main / name for name in list_folder(main).files if name.endswith(".txt")]
    named = {canonical_split(file.stem) or file.stem.casefold(): file for file in files}
    lists = {name: named[name] for name in LISTS if name in named}
    return Year(folder, lists) if lists else None
