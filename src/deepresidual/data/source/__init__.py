"""Open data sets: the DATA argument of every command."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deepresidual.data.formats import EXTENSIONS
from deepresidual.data.source.annotated.find import (
    BOX_FORMATS,
    find_format,
    format_of_file,
    holds_annotations,
    open_annotated,
)
from deepresidual.data.source.archive import exists, is_folder, is_shard
from deepresidual.data.source.base import (
    EncodedSample,
    IgnoredFile,
    LabelledSplit,
    ObjectTask,
    SampleSource,
    Split,
)
from deepresidual.data.source.division import divide, undivided
from deepresidual.data.source.files import walk
from deepresidual.data.source.folder import list_images
from deepresidual.data.source.grouping import grouped_by_pattern
from deepresidual.data.source.multilabel import MULTILABEL, LabelsChoice
from deepresidual.data.source.shards.tar import COMPRESSED, compressed_tar
from deepresidual.errors import ConfigurationError, DataError, UnknownNameError, nearest
from deepresidual.runtime.files import expanded
from deepresidual.runtime.similar_path import did_you_mean

if TYPE_CHECKING:
    from deepresidual.data.source.dataset import Dataset

__all__ = [
    "BUNDLED",
    "EncodedSample",
    "IgnoredFile",
    "LabelledSplit",
    "LabelsChoice",
    "SampleSource",
    "Split",
    "as_source",
    "list_images",
    "open_source",
    "require_exists",
]

BUNDLED = ("digits", "digit-scenes")
"""Names of the data sets that need no download."""

_PREFIXES = tuple(sorted(("cifar10", "cifar100", "csv", "shards", *BOX_FORMATS)))


def as_source(
    data: SampleSource | Dataset | str | Path,
    *,
    labels: LabelsChoice | None = None,
    group: str | None = None,
    num_workers: int | None = None,
    task: ObjectTask | None = None,
) -> SampleSource:
    """Return a data set as the functions of the package take it: opened, by name, or as a Python object.

    Args:
        data: The data set, for :func:`open_source` or :func:`deepresidual.open_dataset`.
        labels: Whether an image has ``one`` label or ``several``. Default: told by the data.
        group: What samples belong together, for :func:`open_source`.
        num_workers: Threads that read all samples of a Python object, where that is needed.
        task: What of objects is wanted. Default: boxes, and masks where there are.

    Raises:
        DataError: There is no such data set, or it cannot be used; the message says why.
        ConfigurationError: This is no data set.
    """
    if isinstance(data, str | Path):
        return _for_task(open_source(data, labels, group), task)
    if isinstance(data, SampleSource):
        opened = data
    elif labels == "several":
        raise ConfigurationError(
            "data that is a Python object holds one class an image",
            remedy="for several labels an image write a .csv table of path and label, with cat|dog in it",
        )
    else:
        from deepresidual.data.source.dataset import open_dataset

        opened = open_dataset(data, num_workers=num_workers)
    grouped = opened if group is None else divide(grouped_by_pattern(undivided(opened), group))
    return _for_task(grouped, task)


def _for_task(source: SampleSource, task: ObjectTask | None) -> SampleSource:
    if task is None:
        return source
    from deepresidual.data.source.annotated.for_task import for_task

    return for_task(source, task)


def open_source(
    data: str | Path, labels: LabelsChoice | None = None, group: str | None = None
) -> SampleSource:
    """Open a data set.

    Args:
        data: ``digits`` or ``digit-scenes`` (bundled); a folder of images sorted by class, or a ``.zip`` or
            ``.tar`` of one; a ``.parquet`` file or a folder of them; a ``.csv`` file or ``csv:FILE``; a
            ``.tar`` of samples with labels, a folder of them or ``shards:PATTERN``; a folder with boxes as of
            COCO, Pascal VOC or YOLO, or ``coco:PATH``, ``voc:PATH``, ``yolo:PATH``; ``cifar10:PATH`` or
            ``cifar100:PATH``.
        labels: Whether an image has ``one`` label or ``several``. Default: told by the data.
        group: What belongs together and may not stand on both sides (:mod:`.grouping`): a column of the
            table, or a pattern for file names.

    Raises:
        DataError: There is no such data set, or it cannot be used; the message says why.
        ConfigurationError: The word before the colon is unknown, or nothing stands behind it.
    """
    try:
        source = _open(data, labels, group)
        if group is not None and not source.groups:
            source = grouped_by_pattern(source, group)
        source = dataclasses.replace(divide(source), location=_location(data))
    except OSError as error:
        raise DataError(f"{error.filename or data} cannot be read ({error.strerror or error})") from error
    if labels is not None and source.task not in ("classification", MULTILABEL):
        raise DataError(
            f"{data} has boxes instead of labels of whole images", remedy=f"leave out --labels {labels}"
        )
    if labels == "several" and source.task != MULTILABEL:
        raise DataError(
            f"{data} holds one class an image",
            expected="for several labels an image a .csv table of path and label, with cat|dog in it",
        )
    if labels == "one" and source.task == MULTILABEL:
        raise DataError(f"{data} holds several labels an image", remedy="leave out --labels one")
    return source


def _location(data: str | Path) -> str:
    """Return the argument that opens the same data from every folder."""
    if data in BUNDLED:
        return str(data)
    path = expanded(data)
    if prefixed := _prefixed(data, path):
        return f"{prefixed[0]}:{expanded(prefixed[1]).absolute()}"
    return str(path.absolute())


def _open(data: str | Path, labels: LabelsChoice | None, group: str | None) -> SampleSource:
    if data == "digits":
        from deepresidual.data.source.digits import open_digits

        return open_digits()
    if data == "digit-scenes":
        from deepresidual.data.source.annotated.digit_scenes import open_digit_scenes

        return open_digit_scenes()
    path = expanded(data)
    if prefixed := _prefixed(data, path):
        return _open_prefixed(*prefixed, labels, group)
    require_exists(data)
    kind = _kind_of_folder(path) if path.is_dir() else ""
    match path.suffix.casefold() if path.is_file() else kind:
        case ".parquet":
            from deepresidual.data.source.parquet import open_parquet

            return open_parquet(path, group)
        case ".csv":
            from deepresidual.data.source.csv import open_csv

            return open_csv(path, labels, group)
        case ".tar" if kind or is_shard(path):
            from deepresidual.data.source.shards.source import open_shards

            return open_shards(str(path))
    if path.is_dir() and (source := _annotated(path)) is not None:
        return source
    if path.is_file() and (described := format_of_file(path)):
        return open_annotated(described, path)
    if is_folder(path):
        from deepresidual.data.source.folder import open_folder, top_folder

        if path.is_dir():
            return open_folder(path)
        top = top_folder(path)
        try:
            return open_folder(top)
        except DataError as error:
            if not holds_annotations(top):
                raise
            raise DataError(
                f"{data} holds annotations of boxes, which are read from folders alone", remedy="unpack it"
            ) from error
    if path.name.casefold().endswith(COMPRESSED):
        raise compressed_tar(path)
    raise DataError(
        f"{data} is a file", expected="a folder of images by class, or a .zip, .tar, .parquet or .csv file"
    )


def require_exists(data: str | Path) -> None:
    """Refuse a DATA argument that stands for nothing; what is there is not looked into.

    Raises:
        DataError: There is no such file or folder; the message names one that may be meant.
        UnknownNameError: The word before the colon is unknown.
    """
    path = expanded(data)
    if data in BUNDLED or exists(path):
        return
    if prefixed := _prefixed(data, path):
        _require_kind(prefixed[0])
        return
    known = nearest(str(data), BUNDLED, cutoff=0.7)
    meant = f"did you mean {known[0]}?" if known else did_you_mean(data)
    expected = (
        "'digits', 'digit-scenes', a folder of images by class, a .zip of one, a .parquet file or folder, a "
        ".csv file, a .tar file or folder, a folder with boxes (COCO, Pascal VOC, YOLO), cifar10:PATH or "
        "cifar100:PATH"
    )
    raise DataError(f"{data} does not exist", expected="" if meant else expected, remedy=meant)


def _prefixed(data: str | Path, path: Path) -> tuple[str, str] | None:
    """Return the word before the colon and what stands behind it; ``None``: it is a path."""
    # One letter is a drive of Windows, and an existing file may have a colon in its name.
    found = re.match(r"([A-Za-z][\w+-]+):(.*)", str(data), re.DOTALL)
    return (found[1], found[2]) if isinstance(data, str) and found and not path.exists() else None


def _require_kind(kind: str) -> None:
    if kind not in _PREFIXES:
        raise UnknownNameError("kind of data", kind, _PREFIXES)


def _open_prefixed(kind: str, rest: str, labels: LabelsChoice | None, group: str | None) -> SampleSource:
    """Open a data set whose kind is said before a colon."""
    _require_kind(kind)
    if not rest:
        raise ConfigurationError(f"nothing stands behind '{kind}:'", expected=f"{kind}:PATH")
    path = expanded(rest)
    match kind:
        case "shards":
            from deepresidual.data.source.shards.source import open_shards

            return open_shards(rest)
        case "csv":
            from deepresidual.data.source.csv import open_csv

            return open_csv(path, labels, group)
        case "cifar10" | "cifar100":
            from deepresidual.data.source.cifar import open_cifar

            return open_cifar(kind, path)
    return open_annotated(next(one for one in BOX_FORMATS if one == kind), path)


def _annotated(folder: Path) -> SampleSource | None:
    """Open a folder in which there are annotations of boxes; ``None``: there are none."""
    kind = find_format(folder)
    return None if kind is None else open_annotated(kind, folder)


def _kind_of_folder(folder: Path) -> Literal[".parquet", ".tar", ""]:
    """Return the kind of the first folder with data in it, from the top: parquet files, tars, or images."""
    for listing in walk(folder):
        kinds = {os.path.splitext(name)[1].casefold() for name in listing.files}  # noqa: PTH122  # called a million times
        # An image at the top belongs to no class; beside the other kinds or above them it is a banner.
        banner = listing.folder == folder and (
            kinds.isdisjoint((".parquet", ".tar")) or not (listing.folders or listing.links)
        )
        if kinds & EXTENSIONS and not banner:
            return ""
        if ".parquet" in kinds:
            return ".parquet"
        if ".tar" in kinds:
            return ".tar"
    return ""
