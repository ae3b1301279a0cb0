"""Read ``data.yaml`` of YOLO: the names of the classes, and where the images of each split lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from deepresidual.data.decode import read_file
from deepresidual.data.formats import is_image_name
from deepresidual.data.source.base import IgnoredFile, canonical_split
from deepresidual.errors import DataError, kind_of, nearest, quoted

_MAX_BYTES = 10_000_000


@dataclass(frozen=True)
class YoloNames:
    """What a file says of a data set.

    Attributes:
        file: The file, for messages.
        by_number: Name of every class by its number, in order.
        splits: Folders of images, or lists of them, as the file has them.
        has_keypoints: Whether rows have the points of a pose behind the box.
        path: What those of splits start from; empty: the folder of the file.
    """

    file: str
    by_number: dict[int, str]
    splits: dict[str, list[str]]
    has_keypoints: bool
    path: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether the numbers of the classes have no gaps."""
        return set(self.by_number) == set(range(len(self.by_number)))


def read_yaml(file: Path) -> YoloNames:
    """Read ``data.yaml``.

    Raises:
        DataError: It is no YAML, or says something impossible; the message names it.
    """
    shown = file.name
    content = read_file(file)
    if len(content) > _MAX_BYTES:
        raise DataError(f"{shown} has {len(content):,} bytes", expected=f"at most {_MAX_BYTES:,}")
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or "nested too deep"
        raise DataError(f"{shown} is not YAML ({reason})") from error
    if not isinstance(document, dict):
        raise DataError(f"{shown} holds {kind_of(document)}", expected="names, and the folders train and val")
    names = _names(document, shown)
    count = document.get("nc")
    if count is not None and count != len(names):
        raise DataError(
            f"{shown} has {quoted(count)} as nc and {len(names)} names", remedy="correct one of them"
        )
    splits = {}
    for key, value in document.items():
        split = canonical_split(key) if isinstance(key, str) else None
        if split and value:
            places = value if isinstance(value, list) else [value]
            if not all(isinstance(place, str) for place in places):
                raise DataError(
                    f"{shown} has {quoted(value)} as {key}", expected="a folder of images, or a list"
                )
            if split in splits:
                raise DataError(f"{shown} has two {split} splits", remedy="keep one")
            splits[split] = places
    path = document.get("path")
    return YoloNames(shown, names, splits, "kpt_shape" in document, path if isinstance(path, str) else "")


def _names(document: dict[Any, Any], shown: str) -> dict[int, str]:
    found = document.get("names")
    if found is None:
        raise DataError(f"{shown} has no names", expected="'names' with the names of the classes")
    numbered = (
        found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    )
    names = {}
    for number, name in numbered:
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise DataError(f"{shown} has the class number {quoted(number)}", expected="whole numbers from 0")
        # YAML reads `no` as false and 3 as a number.
        if isinstance(name, bool) or not isinstance(name, str | int | float) or not str(name).strip():
            raise DataError(
                f"{shown} has {quoted(name)} as the name of class {number}",
                expected="text",
                remedy="put it in quotes",
            )
        names[number] = str(name).strip()
    if not names:
        raise DataError(
            f"{shown} has {quoted(found)} as names", expected="a list of names, or a name by number"
        )
    return dict(sorted(names.items()))


def split_folders_of(
    root: Path, names: YoloNames, ignored: list[IgnoredFile]
) -> dict[str | None, list[Path]]:
    """Return the folders of images, or lists, of every split, train first.

    Raises:
        DataError: One for training or validation is not there; the message names the nearest.
    """
    found: dict[str | None, list[Path]] = {}
    for split, places in names.splits.items():
        for place in places:
            path = located(root, names.path, place)
            if path is not None:
                found.setdefault(split, []).append(path)
            elif split == "test":  # often named and not handed out
                ignored.append(IgnoredFile(f"{split} of {names.file}", f"{place} is not there"))
            else:
                there = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
                close = nearest(PurePosixPath(place).parts[0], there, count=1)
                raise DataError(
                    f"{names.file} has {place} as {split}, which is not there",
                    expected=f"a folder below {root}",
                    remedy=f"the nearest is {close[0]}" if close else "",
                )
    return found


def located(root: Path, path: str, place: str) -> Path | None:
    """Return a file or folder that a description names; ``None``: it is not there.

    What it starts from was right where it was written: ``path``, another machine, or a folder above, as in
    ``../train/images`` of Roboflow. It has to be inside of the data set.
    """
    pure = PurePosixPath(place.replace("\\", "/"))
    parts, base = _inner(pure), _inner(PurePosixPath(path.replace("\\", "/")))
    candidates = [(*base, *parts), parts]
    if pure.is_absolute() or ":" in pure.parts[0]:
        # Of another machine: its end may lie here. One name alone of a folder is in too many paths.
        least = 1 if is_image_name(pure.name) else 2
        candidates += [parts[start:] for start in range(1, len(parts) - least + 1)]
        if root.name in parts:
            candidates.append(parts[parts.index(root.name) + 1 :])
    return next((root.joinpath(*one) for one in candidates if one and root.joinpath(*one).exists()), None)


def _inner(path: PurePosixPath) -> tuple[str, ...]:
    return tuple(part for part in path.parts if part not in ("/", ".", ".."))
