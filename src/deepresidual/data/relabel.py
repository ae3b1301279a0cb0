"""Apply a list of corrected labels: move files between class folders, or rewrite a table, all or nothing.

The list is CSV with the columns ``path``, ``label`` and ``suggested``, as a report offers it to copy: the
name of an image in its data set, the label that it has, and the one that it is to have. Nothing is changed
before every row was held against the data: a row whose image is not there, or has another label by now, is
refused.

In a folder a file keeps its name and the folders below its class; where the name is taken in the other class,
it gets a number, and nothing is ever overwritten. The list that undoes the change has the same columns, and
``to``, the place where a file goes back to.

Example:
    >>> plan = plan_relabelling("photos", Path("labels.csv"))
    >>> apply_relabelling(plan)
    PosixPath('labels-undo.csv')
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deepresidual.data.source import SampleSource, Split, open_source
from deepresidual.data.source.csv import LABEL_NAMES, PATH_NAMES, column_of, read_lines
from deepresidual.data.source.folder import FolderSplit
from deepresidual.errors import DataError, nearest
from deepresidual.runtime.files import cannot_write, expanded, write_bytes, write_text

_COLUMNS = ("path", "label", "suggested")
_TO = ("to",)


@dataclass(frozen=True)
class Correction:
    """One row of a list of corrected labels.

    Attributes:
        row: Its number, as a spreadsheet counts.
        path: Name of the image in its data set.
        label: The label that it has.
        suggested: The label that it is to have.
        to: Where the file goes, in a folder; empty in a table.
    """

    row: int
    path: str
    label: str
    suggested: str
    to: str = ""


@dataclass(frozen=True)
class Relabelling:
    """Corrections that fit their data set.

    Attributes:
        data: The folder or the table.
        list_file: The list of corrections.
        corrections: What is to be done.
    """

    data: Path
    list_file: Path
    corrections: tuple[Correction, ...]


def plan_relabelling(data: str | Path, list_file: Path) -> Relabelling:
    """Hold a list of corrected labels against its data set, and change nothing.

    Args:
        data: A folder of images by class, or a table of images with one label each.
        list_file: The list.

    Raises:
        DataError: The list cannot be read, a row does not fit the data, or the labels of such data cannot be
            changed.
    """
    path = expanded(str(data).removeprefix("csv:") if not Path(data).exists() else data)
    source = open_source(data)
    is_table = path.is_file() and path.suffix.casefold() == ".csv"
    if (
        not (is_table or (path.is_dir() and all(isinstance(part, FolderSplit) for part in _parts(source))))
        or source.task != "classification"
    ):
        raise DataError(
            f"the labels of {data} cannot be changed",
            expected="a folder of images by class, or a .csv table with one label an image",
            remedy="unpack it" if path.is_file() and path.suffix.casefold() in (".zip", ".tar") else "",
        )
    corrections = _read_list(list_file)
    known = _labels_of(source)
    for correction in corrections:
        _check(list_file, correction, known, source.classes)
    if not is_table:
        corrections = _with_destinations(path, list_file, source, corrections)
    return Relabelling(path, list_file, tuple(corrections))


def apply_relabelling(plan: Relabelling) -> Path:
    """Change the labels, all or none of them.

    Returns:
        A list of the same form that undoes it.

    Raises:
        RunError: Something cannot be written or moved; everything is as it was.
    """
    undo = _free(plan.list_file.with_name(f"{plan.list_file.stem}-undo.csv"))
    rows = [(*_COLUMNS, *_TO)]
    rows += [(fix.to or fix.path, fix.suggested, fix.label, fix.to and fix.path) for fix in plan.corrections]
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows(rows)
    write_text(undo, file.getvalue())
    try:
        if plan.data.is_dir():
            _move(plan.data, plan.corrections)
        else:
            _rewrite(plan.data, plan.corrections)
    except BaseException:
        undo.unlink(missing_ok=True)
        raise
    return undo


# -- the list --------------------------------------------------------------------------------------------


def _read_list(file: Path) -> list[Correction]:
    header, lines = read_lines(file)
    path, label, suggested = (column_of(file, header, (name,)) for name in _COLUMNS)
    to = column_of(file, header, _TO) if _TO[0] in [cell.strip().casefold() for cell in header] else None
    corrections = []
    for number, cells in lines:
        given, wanted = cells[label].strip(), cells[suggested].strip()
        target = "" if to is None else cells[to].strip()
        corrections.append(Correction(number, cells[path], given, wanted, target))
    if not corrections:
        raise DataError(f"{file} has no rows", expected="a row for every label to correct")
    seen: dict[str, Correction] = {}
    for correction in corrections:
        first = seen.setdefault(correction.path, correction)
        if first is not correction:
            raise DataError(
                f"{file}: row {correction.row} names {correction.path!r}, as row {first.row} does",
                remedy="keep one of them",
            )
    return corrections


def _check(file: Path, fix: Correction, known: dict[str, str], classes: tuple[str, ...]) -> None:
    place = f"{file}: row {fix.row}"
    if fix.path not in known:
        raise DataError(
            f"{place} names {fix.path!r}, which is no image of this data",
            expected="paths as the report names them, relative to the data",
            remedy="give the data that the list was made of, as it was then",
        )
    if known[fix.path] != fix.label:
        raise DataError(
            f"{place} says that {fix.path!r} is {fix.label!r}, and it is {known[fix.path]!r}",
            remedy="make the list anew",
        )
    if fix.suggested not in classes:
        raise DataError(
            f"{place} suggests {fix.suggested!r}" if fix.suggested else f"{place} has no suggested label",
            expected=f"one of {', '.join((nearest(fix.suggested, classes) or list(classes))[:8])}",
        )


def _parts(source: SampleSource) -> list[Split]:
    """Return the data set in parts, each image once."""
    return [source.whole] if source.whole is not None else list(source.splits.values())


def _labels_of(source: SampleSource) -> dict[str, str]:
    """Return the label of every image by its name."""
    return {
        split.key(index): source.classes[label]
        for split in _parts(source)
        for index, label in enumerate(split.labels)
    }


# -- folders ---------------------------------------------------------------------------------------------


def _with_destinations(
    root: Path, file: Path, source: SampleSource, corrections: list[Correction]
) -> list[Correction]:
    """Return the corrections with the path that each file gets, of which none is taken."""
    depth = 1 if source.whole is not None else 2  # CLASS/IMAGE or train/CLASS/IMAGE

    def class_folder(key: str) -> PurePosixPath:
        return PurePosixPath(*PurePosixPath(key).parts[:depth])

    # A class may be spelt otherwise in another split: its folder there is that of its other images.
    folders = {
        (class_folder(key).parent, label): class_folder(key) for key, label in _labels_of(source).items()
    }
    taken: set[str] = set()
    planned = []
    for fix in corrections:
        here = class_folder(fix.path)
        there = folders.get((here.parent, fix.suggested), here.with_name(fix.suggested))
        target = there / PurePosixPath(fix.path).relative_to(here)
        if fix.to:
            target = PurePosixPath(fix.to)
            if not target.is_relative_to(there) or ".." in target.parts:
                raise DataError(
                    f"{file}: row {fix.row} goes to {fix.to!r}", expected=f"a file below {there.as_posix()}"
                )
        name, number = target, 2
        while os.path.lexists(root / name) or name.as_posix().casefold() in taken:
            name, number = target.with_name(f"{target.stem}-{number}{target.suffix}"), number + 1
        taken.add(name.as_posix().casefold())
        planned.append(Correction(fix.row, fix.path, fix.label, fix.suggested, name.as_posix()))
    return planned


def _move(root: Path, corrections: tuple[Correction, ...]) -> None:
    moved: list[tuple[Path, Path]] = []
    made: list[Path] = []
    try:
        for fix in corrections:
            source, target = root / fix.path, root / fix.to
            made += [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                raise FileExistsError(17, "it has come to be meanwhile", str(target))
            source.rename(target)
            moved.append((source, target))
    except BaseException as error:
        for source, target in reversed(moved):
            target.rename(source)
        for folder in sorted(set(made), reverse=True):
            folder.rmdir()
        if isinstance(error, OSError):
            raise cannot_write(Path(error.filename2 or error.filename or root), error) from error
        raise


# -- tables ----------------------------------------------------------------------------------------------


def _rewrite(file: Path, corrections: tuple[Correction, ...]) -> None:
    text = file.read_bytes().decode("utf-8-sig")
    mark = b"\xef\xbb\xbf" if file.read_bytes().startswith(b"\xef\xbb\xbf") else b""
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    path, label = column_of(file, rows[0], PATH_NAMES), column_of(file, rows[0], LABEL_NAMES)
    new = {fix.path: fix.suggested for fix in corrections}
    for cells in rows[1:]:
        if any(cells):
            key = cells[path] if cells[path] in new else cells[path].replace("\\", "/")
            cells[label] = new.get(key, cells[label])
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\r\n" if "\r\n" in text else "\n").writerows(rows)
    write_bytes(file, mark + written.getvalue().encode())


def _free(file: Path) -> Path:
    """Return a path that is not taken: this one, or one with a number."""
    number, free = 2, file
    while os.path.lexists(free):
        free, number = file.with_name(f"{file.stem}-{number}{file.suffix}"), number + 1
    return free
