"""Pascal VOC, and the same XML beside images, as labelImg writes it.

A year of Pascal VOC is a folder with ``Annotations``, ``JPEGImages`` and ``ImageSets/Main``, whose lists
``train``, ``val``, ``trainval`` and ``test`` name the images; a ``VOCdevkit`` holds several years. Without
lists an XML file belongs to the image of its name, beside it or in another folder, and folders tell
the splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from deepresidual.data.decode import read_file
from deepresidual.data.formats import is_image_name
from deepresidual.data.source.annotated.beside import ImagesBeside, files_below, read_beside
from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.image_files import ImageFiles
from deepresidual.data.source.annotated.source import Reading, source_of
from deepresidual.data.source.annotated.xml import file_name_in, read_described
from deepresidual.data.source.annotated.years import Year, find_years
from deepresidual.data.source.base import TRAIN, IgnoredFile, SampleSource
from deepresidual.data.source.files import list_folder
from deepresidual.errors import DataError


def open_voc(root: Path) -> SampleSource:
    """Open a year of Pascal VOC, a folder of years, or images with XML files.

    Raises:
        DataError: A file is missing, damaged or says something impossible; the message names it.
    """
    years = find_years(root)
    return source_of(_read_years(root, years) if years else _read_beside(root))


# -- years -----------------------------------------------------------------------------------------------


def _read_years(root: Path, years: Sequence[Year]) -> Reading:
    reading = Reading(root, {})
    chosen = _chosen_lists(years, reading.notes)
    used: set[str] = set()
    for year in years:
        folder = year.folder / "JPEGImages"
        images = ImageFiles.below(root, folder if folder.is_dir() else year.folder)
        for split, name in chosen.items():
            if file := year.lists.get(name):
                described = _read_list(root, year, file, images, reading)
                reading.parts.setdefault(split, []).extend(described)
                used |= {Path(image.file).stem for image in described}
        reading.ignored += [
            IgnoredFile(file.relative_to(root).as_posix(), "its image is in no list that is used")
            for file in _unlisted(year, used)
        ]
    return reading


def _chosen_lists(years: Sequence[Year], notes: list[str]) -> dict[str | None, str]:
    """Return the list that each split is taken from.

    Where ``trainval`` and ``test`` are there, a network is trained on one and measured on the other, as in
    the challenge; ``train`` and ``val`` are its halves. Without ``test`` it is measured on ``val``.
    """
    there = {name for year in years for name in year.lists}
    has_all = all("trainval" in year.lists for year in years if {"train", "val"} & set(year.lists))
    if "trainval" not in there or not has_all or ("train" in there and "test" not in there):
        return {TRAIN: "train", "val": "val", "test": "test"}
    if "val" in there:
        notes.append(
            "train is the list trainval of Pascal VOC, which holds its list val: hold out images of it with "
            "--validation"
        )
    return {TRAIN: "trainval", "test": "test"}


def _read_list(
    root: Path, year: Year, file: Path, images: ImageFiles, reading: Reading
) -> list[DescribedImage]:
    """Return the images of a list; none where no image of it has annotations, as of the secret test sets."""
    shown = file.relative_to(root).as_posix()
    stems = list(_stems(file))
    if not stems:
        raise DataError(f"{shown} names no images", remedy="fill it or remove it")
    (most, count), *_ = Counter(stems).most_common(1)
    if count > 1:
        raise DataError(f"{shown} names {most} {count:,} times", remedy="keep one of the lines")
    annotations = [year.folder / "Annotations" / f"{stem}.xml" for stem in stems]
    there = [annotation.is_file() for annotation in annotations]
    if not any(there):
        reading.ignored.append(IgnoredFile(shown, "none of its images has annotations"))
        return []
    described: list[DescribedImage] = []
    for stem, annotation, is_there in zip(stems, annotations, there, strict=True):
        with reading.faults.noted():
            if not is_there:
                raise DataError(
                    f"{shown} names {stem}, which has no annotations",
                    expected=f"the file {annotation.relative_to(root).as_posix()}",
                )
            image = images.of_stem(stem, shown)
            described.append(read_described(root, annotation, image, reading.findings))
    return described


def _stems(file: Path) -> Iterator[str]:
    """Yield the names of images in a list, a line each; some tools write the ending of the file, too."""
    try:
        text = read_file(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not text in UTF-8") from error
    for line in text.splitlines():
        if name := line.strip():
            yield Path(name).stem if is_image_name(name) else name


def _unlisted(year: Year, used: set[str]) -> Iterator[Path]:
    folder = year.folder / "Annotations"
    for name in list_folder(folder).files:
        if name.casefold().endswith(".xml") and Path(name).stem not in used:
            yield folder / name


# -- XML beside images -----------------------------------------------------------------------------------


def _read_beside(root: Path) -> Reading:
    files = files_below(root, ".xml")
    if not files:
        raise DataError(
            f"{root} has no XML files", expected="an XML file for each image, as labelImg writes it"
        )
    return read_beside(root, files, _read_file, "XML file")


def _read_file(file: Path, images: ImagesBeside, reading: Reading) -> DescribedImage:
    image = images.of(file, file.name, lambda: file_name_in(reading.root, file))
    return read_described(reading.root, file, image, reading.findings)
