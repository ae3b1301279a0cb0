"""COCO: a JSON file for each split, as the COCO data sets, Roboflow, CVAT and Label Studio write it.

Classes are the categories, by id; the categories of several files are joined by name. A category that is the
supercategory of others and has no object in any file, as Roboflow adds one, is no class. A box is left, top,
width and height in pixels with continuous edges, and so are the corners of polygons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from deepresidual.data.masks import Polygon, Runs
from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.data.source.annotated.image_files import ListedImages
from deepresidual.data.source.annotated.json_file import read_coco_document
from deepresidual.data.source.annotated.segmentation import read_segmentation
from deepresidual.data.source.annotated.source import Reading, source_of
from deepresidual.data.source.annotated.split import CategoryId
from deepresidual.data.source.base import SampleSource
from deepresidual.data.source.files import files_by_split
from deepresidual.errors import DataError, kind_of, listed, quoted


def open_coco(root: Path, files: Sequence[Path]) -> SampleSource:
    """Open a data set in the layout of COCO.

    Args:
        root: The folder that images and files of annotations lie in.
        files: The files of annotations; their names or folders say the splits.

    Raises:
        DataError: A file is missing, damaged or says something impossible; the message names it.
    """
    reading = Reading(root, {})
    by_split = files_by_split(root, files, reading.ignored, complete=False)
    images = ListedImages(root)
    contents: dict[str | None, _File] = {}
    for split, group in by_split.items():
        if len(group) > 1:
            names = " and ".join(file.relative_to(root).as_posix() for file in group[:2])
            raise DataError(
                f"{root} has two files of annotations for {split or 'the same images'} ({names})",
                remedy="keep one, or give one as coco:FILE",
            )
        with reading.faults.noted():
            contents[split] = _read_file(root, group[0], split, images, reading)
    reading.faults.refuse()
    reading.parts = {split: file.images for split, file in contents.items()}
    reading.classes, unused = _joined_classes(list(contents.values()))
    reading.notes += [
        f"the category {name!r} is the supercategory of others and has no object: it is no class"
        for name in unused
    ]
    for split, file in contents.items():
        ids = {name: category for category, name in file.names.items()}
        reading.category_ids[split] = tuple(ids.get(name) for name in reading.classes)
    reading.ignored += images.unlisted()
    return source_of(reading)


@dataclass
class _File:
    """A file of annotations.

    Attributes:
        names: Name of every category by its id, in the order of classes.
        parents: Names of the supercategories.
        images: The images, with their objects.
    """

    names: dict[CategoryId, str]
    parents: set[str]
    images: list[DescribedImage]


def _joined_classes(files: Sequence[_File]) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the classes, and those of categories that are none."""
    names = dict.fromkeys(name for file in files for name in file.names.values())
    used = {name for file in files for image in file.images for name in image.classes}
    parents = {name for file in files for name in file.parents}
    unused = [name for name in names if name in parents and name not in used]
    return tuple(name for name in names if name not in unused), unused


# -- a file ----------------------------------------------------------------------------------------------


def _read_file(root: Path, file: Path, split: str | None, images: ListedImages, reading: Reading) -> _File:
    shown = file.relative_to(root).as_posix()
    document = read_coco_document(file, shown)
    names, parents = _categories(document["categories"], shown)
    described = _images(document["images"], shown)
    if not described:
        raise DataError(f"{shown} lists no images", expected="at least one in 'images'")
    keys = images.find(file, split, [image.key for image in described.values()])
    for image, key in zip(described.values(), keys, strict=True):
        image.key = key
    _add_annotations(document["annotations"], described, names, reading)
    return _File(names, parents, list(described.values()))


def _categories(entries: Sequence[Any], shown: str) -> tuple[dict[CategoryId, str], set[str]]:
    """Return the name of every category by its id, sorted by it, and the supercategories of others."""
    names: dict[CategoryId, str] = {}
    parents: set[str] = set()
    for place, entry in enumerate(entries):
        where = f"{shown}: category {place + 1}"
        if not isinstance(entry, dict):
            raise DataError(f"{where} is {kind_of(entry)}", expected="an object with id and name")
        category, name = _id(entry, "id", where), entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{where} has {_missing_or(entry, 'name')}", expected="its name as text")
        if category in names:
            raise DataError(f"{shown} has the category id {category!r} twice ({names[category]}, {name})")
        if name.strip() in names.values():
            raise DataError(
                f"{shown} has two categories called {name.strip()!r}",
                remedy="give both the same id, or rename one",
            )
        names[category] = name.strip()
        parent = entry.get("supercategory")
        if isinstance(parent, str) and parent != name:
            parents.add(parent)
    if not names:
        raise DataError(f"{shown} has no categories", expected="at least one with id and name")
    order = sorted(names, key=lambda category: (isinstance(category, str), category))
    return {category: names[category] for category in order}, parents


def _images(entries: Sequence[Any], shown: str) -> dict[CategoryId, DescribedImage]:
    """Return the images by their ids, in order; their keys are the file names that the file has."""
    found: dict[CategoryId, DescribedImage] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{shown}: image {place + 1} is {kind_of(entry)}", expected="an object")
        identity = _id(entry, "id", f"{shown}: image {place + 1}")
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(
                f"{shown}: the image with the id {identity!r} has {_missing_or(entry, 'file_name')}",
                expected="the name of its file",
            )
        if identity in found:
            raise DataError(f"{shown} has the image id {identity!r} twice ({found[identity].key}, {name})")
        sides = [_side(entry, side, f"{shown}: the {side} of {name}") for side in ("height", "width")]
        size = (sides[0], sides[1]) if sides[0] and sides[1] else None
        found[identity] = DescribedImage(name, shown, "bbox {}, {}, {}, {}", size, identity)
    return found


_MOST_PX = 1_000_000


def _side(entry: Mapping[str, Any], side: str, where: str) -> int:
    """Return a side of an image in pixels, 0 where it is not said."""
    value = entry.get(side)
    if value is None:
        return 0
    if type(value) not in _NUMBERS or not 0 <= value <= _MOST_PX or value != int(value):
        raise DataError(f"{where} is {quoted(value)}", expected="a whole number of pixels")
    return int(value)


def _add_annotations(
    entries: Sequence[Any],
    images: Mapping[CategoryId, DescribedImage],
    names: Mapping[CategoryId, str],
    reading: Reading,
) -> None:
    """Add every annotation to its image."""
    shown = next(iter(images.values())).file
    seen: dict[CategoryId, str] = {}
    for place, entry in enumerate(entries):
        try:
            # Of a million annotations nearly all are as they should be, and go no other way than this.
            image, name = images[entry["image_id"]], names[entry["category_id"]]
            left, top, width, height = box = entry["bbox"]
            right, bottom = left + width, top + height
            identity = entry.get("id")
            crowd, area = entry.get("iscrowd", 0), entry.get("area")
            usual = (
                type(identity) in _IDS
                and type(right) in _NUMBERS
                and type(bottom) in _NUMBERS
                and type(area) in _AREAS
            )
        except (KeyError, TypeError, ValueError):
            usual = False
        if not usual:
            try:
                _refuse(entry, place, images, names, shown)
            except DataError as error:
                reading.faults.note(error)
                continue
        subject = f"annotation {place + 1}" if identity is None else f"annotation {identity}"
        if identity is not None:
            if identity in seen:
                reading.findings.append(
                    Finding(
                        "id-twice",
                        shown,
                        f"{subject} ({name})",
                        f"{seen[identity]} has this id, too",
                        is_used=True,
                    )
                )
            seen[identity] = f"the {name} of {image.key}"
        image.classes.append(name)
        image.boxes.append((left, top, right, bottom))
        image.raw.append(box)
        image.numbers.append(subject)
        image.crowd.append(crowd in (1, True))
        image.areas.append(area)
        image.masks.append(_mask(entry, image, subject, name, reading))


def _mask(
    entry: Mapping[str, Any], image: DescribedImage, subject: str, name: str, reading: Reading
) -> list[Polygon] | Runs | None:
    """Return the mask of an annotation; what is wrong with it is noted."""
    value = entry.get("segmentation")
    if value is None:
        return None
    try:
        mask, problem = read_segmentation(value, image.size, f"{image.file}: {subject}")
    except DataError as error:
        reading.faults.note(error)
        return None
    if problem:
        finding = Finding("mask-empty", image.file, f"{subject} ({name})", problem, is_used=True)
        reading.findings.append(finding)
    return mask


_NUMBERS, _AREAS, _IDS = {int, float}, {int, float, type(None)}, {int, str, type(None)}


def _refuse(
    entry: Any,
    place: int,
    images: Mapping[CategoryId, DescribedImage],
    names: Mapping[CategoryId, str],
    shown: str,
) -> NoReturn:
    """Raise the error of an annotation that cannot be used."""
    where = f"{shown}: annotation {place + 1}"
    if not isinstance(entry, dict):
        raise DataError(f"{where} is {kind_of(entry)}", expected="an object")
    if entry.get("id") is not None:
        where = f"{shown}: annotation {_id(entry, 'id', where)}"
    for field, known, what in (("image_id", images, "images"), ("category_id", names, "categories")):
        value = _id(entry, field, where)
        if value not in known:
            some = listed([repr(one) for one in known], 5)
            raise DataError(
                f"{where} has the {field} {value!r}, which '{what}' do not have",
                expected=f"one of {some}",
                kind="unknown-category" if what == "categories" else "missing-image",
            )
    box = entry.get("bbox")
    if not isinstance(box, list):
        raise DataError(f"{where} has {_missing_or(entry, 'bbox')}", expected="left, top, width and height")
    if len(box) != 4:
        raise DataError(
            f"{where} has {len(box)} numbers in its bbox ({quoted(box)})",
            expected="left, top, width and height",
        )
    if not all(type(value) in _NUMBERS for value in box):
        raise DataError(f"{where} has {quoted(box)} as bbox", expected="four numbers")
    raise DataError(f"{where} has {quoted(entry.get('area'))} as area", expected="a number of pixels")


def _id(entry: Mapping[str, Any], field: str, where: str) -> int | str:
    value = entry.get(field)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{where} has {_missing_or(entry, field)}", expected="a whole number or text")
    return value


def _missing_or(entry: Mapping[str, Any], field: str) -> str:
    """Return what a field holds, for a message."""
    return f"{quoted(entry[field])} as {field}" if field in entry else f"no {field}"
