"""YOLO: a text file of the same name for each image, with a row for each object.

A row is the class's number, then the centre, width and height of the box as fractions of the image; or the
corners of a polygon, which is a mask with the box around it. ``data.yaml`` names classes and splits; without
it ``classes.txt`` names the classes, and folders the splits. Labels of ``images/a/b.jpg`` are in
``labels/a/b.txt``, or beside the image. An image without a file of labels shows no object.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from deepresidual.data.decode import read_file
from deepresidual.data.formats import is_image_name
from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.data.source.annotated.image_files import split_of_folders, walk_linked
from deepresidual.data.source.annotated.source import Reading, source_of
from deepresidual.data.source.annotated.yolo_yaml import YoloNames, located, read_yaml, split_folders_of
from deepresidual.data.source.base import IgnoredFile, SampleSource
from deepresidual.errors import DataError, quoted

_NO_LABELS = frozenset({"classes.txt", "obj.names", "predefined_classes.txt"})


def open_yolo(root: Path, description: Path | None) -> SampleSource:
    """Open a data set in the layout of YOLO.

    Args:
        root: The folder that images and labels lie in.
        description: ``data.yaml``, or a text file with the name of a class a line; ``None``: there is none.

    Raises:
        DataError: A file is missing, damaged or says something impossible; the message names it.
    """
    if description is None:
        raise DataError(
            f"{root} does not name its classes",
            expected="data.yaml with 'names', or classes.txt with a name a line, beside images/ and labels/",
        )
    names = _class_names(description)
    reading = Reading(root, {})
    if not _is_here(root, names) and (elsewhere := root / names.path).is_dir():
        reading.root = root = Path(os.path.normpath(elsewhere))
        reading.notes.append(f"images are read from {root}, which {names.file} names")
    if (train := names.splits.get("train")) and train == names.splits.get("val"):
        reading.notes.append(
            f"{names.file} has {train[0]} as train and as val: what is measured there was trained on"
        )
    reading.classes = tuple(names.by_number.values())
    by_split = _images_by_split(root, names, reading.ignored)
    labels_seen: set[Path] = set()
    for split, files in by_split.items():
        described = reading.parts[split] = []
        for file in files:
            with reading.faults.noted():
                described.append(_read_image(root, file, names, labels_seen))
    if not labels_seen:
        first = next((file for files in by_split.values() for file in files), None)
        where = (
            "labels/NAME.txt" if first is None else _label_files(root, first)[0].relative_to(root).as_posix()
        )
        raise DataError(f"{root} has no labels of its images", expected=f"a file such as {where}")
    reading.findings += _without_image(root, labels_seen)
    return source_of(reading)


def _is_here(root: Path, names: YoloNames) -> bool:
    """Return whether a folder that the description names lies in the data set: a copy of it counts first."""
    places = [place for group in names.splits.values() for place in group]
    return not places or any(located(root, names.path, place) for place in places)


def _class_names(description: Path) -> YoloNames:
    if description.suffix.casefold() in (".yaml", ".yml"):
        return read_yaml(description)
    shown = description.name
    try:
        lines = read_file(description).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is not text in UTF-8") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{shown} is empty", expected="the name of a class a line")
    return YoloNames(shown, dict(enumerate(names)), {}, has_keypoints=False)


# -- images ----------------------------------------------------------------------------------------------


def _images_by_split(
    root: Path, names: YoloNames, ignored: list[IgnoredFile]
) -> dict[str | None, list[Path]]:
    """Return the image files of every split, as the description says, or else the folders."""
    if names.splits:
        return {
            split: sorted({file for place in places for file in _images_in(root, place)})
            for split, places in split_folders_of(root, names, ignored).items()
        }
    parts: dict[str | None, list[Path]] = {}
    for file in _images_in(root, root):
        parts.setdefault(split_of_folders(file, root), []).append(file)
    if None in parts and len(parts) > 1:
        raise DataError(
            f"{parts[None][0].relative_to(root).as_posix()} lies in no split, and others do",
            expected="all images in folders called train, val or test",
        )
    return parts


def _images_in(root: Path, place: Path) -> Iterable[Path]:
    """Yield the image files of a folder, or those that a text file lists."""
    if place.is_file():
        for line in read_file(place).decode("utf-8-sig").splitlines():
            if line.strip():
                yield _listed_image(root, place, line.strip())
        return
    for listing in walk_linked(place):
        yield from (listing.folder / name for name in listing.files if is_image_name(name))


def _listed_image(root: Path, listing: Path, name: str) -> Path:
    """Return the image of a line of a list, which starts from the list's folder."""
    found = located(root, listing.parent.relative_to(root).as_posix(), name)
    if found is None or not found.is_file():
        shown = listing.relative_to(root).as_posix()
        raise DataError(f"{shown} names {name}, which is not there", expected="an image file a line")
    return found


def _label_files(root: Path, image: Path) -> list[Path]:
    """Return where the labels of an image may be: in the folder labels beside images, or beside the image."""
    parts = image.relative_to(root).parts
    folders = [place for place, part in enumerate(parts[:-1]) if part.casefold() == "images"]
    places = [root.joinpath(*parts[:place], "labels", *parts[place + 1 :]) for place in folders[-1:]]
    return [place.with_suffix(".txt") for place in (*places, image)]


def _without_image(root: Path, seen: set[Path]) -> list[Finding]:
    """Return a finding for every file of labels that belongs to no image."""
    folders = {file.parent for file in seen}
    return [
        Finding(
            "without-image",
            (listing.folder / name).relative_to(root).as_posix(),
            "",
            "there is no image of its name",
            is_used=False,
        )
        for listing in walk_linked(root)
        if listing.folder in folders
        for name in listing.files
        if name.endswith(".txt") and name not in _NO_LABELS and listing.folder / name not in seen
    ]


# -- labels ----------------------------------------------------------------------------------------------


def _read_image(root: Path, image: Path, names: YoloNames, seen: set[Path]) -> DescribedImage:
    file = next((file for file in _label_files(root, image) if file.is_file()), None)
    key = image.relative_to(root).as_posix()
    shown = key if file is None else file.relative_to(root).as_posix()
    described = DescribedImage(key, shown, "{} {} {} {}", image_id=image.stem, relative=True)
    if file is None:
        return described
    seen.add(file)
    try:
        text = read_file(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is not text in UTF-8") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if words := line.split():
            _add_row(described, words, f"row {number}", names)
    return described


def _add_row(described: DescribedImage, words: Sequence[str], row: str, names: YoloNames) -> None:
    where = f"{row} of {described.file}"
    values = [_number(word, where) for word in words]
    number = values[0]
    if number not in names.by_number:
        known = f"0 to {len(names.by_number) - 1}" if names.is_complete else "a number that 'names' has"
        raise DataError(
            f"{where} has the class {words[0]}",
            expected=f"{known}, as in {names.file}",
            kind="unknown-category",
        )
    is_polygon = len(values) >= 7 and len(values) % 2 == 1 and not names.has_keypoints
    if len(values) != 5 and not is_polygon and not (names.has_keypoints and len(values) > 5):
        raise DataError(
            f"{where} has {len(values)} numbers",
            expected="class, x, y, width and height, or class and a polygon",
        )
    numbers = values[1:] if is_polygon else values[1:5]
    if any(abs(value) > _MOST for value in numbers):
        raise DataError(
            f"{where} has {quoted(' '.join(words[1:5]))}, which looks like pixels",
            expected="fractions of the image's width and height, from 0 to 1",
        )
    if is_polygon:
        across, down = numbers[::2], numbers[1::2]
        box = (min(across), min(down), max(across), max(down))
    else:
        x, y, width, height = numbers
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    described.classes.append(names.by_number[int(number)])
    described.boxes.append(box)
    described.raw.append(box if is_polygon else numbers)
    described.masks.append([np.array(numbers).reshape(-1, 2)] if is_polygon else None)
    described.numbers.append(row)


_MOST = 2.0  # what is larger is no fraction that reaches over an edge


def _number(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} has {quoted(word)}", expected="numbers")
    return value
