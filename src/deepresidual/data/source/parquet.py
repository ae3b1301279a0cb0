"""Parquet in the layout of Hugging Face data sets: an image column ``{bytes, path}`` and a label column.

A folder holds one file a split (``train.parquet``) or several (``train-00000-of-00002.parquet``, also
under ``data/``). Class names come from the ``huggingface`` entry of the schema's metadata; without it
the labels themselves are the names. Only these two columns are read; the others need not be alike.

A row is called by the path that it carries. Where it carries none, or one that comes again, it is called by
its place: ``train.parquet/row-17``, counted from 0.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deepresidual.data.source.archive import stamp_of
from deepresidual.data.source.base import (
    TRAIN,
    WHOLE,
    EncodedSample,
    IgnoredFile,
    LabelledSplit,
    Row,
    SampleSource,
    Split,
    check_class_names,
    class_of_spelling,
)
from deepresidual.data.source.class_numbers import ClassNumbers
from deepresidual.data.source.files import data_files, files_by_split
from deepresidual.data.source.grouping import units
from deepresidual.errors import DataError

_MAX_CLASSES = 1_000_000  # as many as a spec takes

_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label", "class")
_REMEDY = "add images of another class"


def open_parquet(path: Path, group: str | None = None) -> SampleSource:
    """Open a parquet file, or a folder of them.

    Args:
        path: The file or folder.
        group: Name of a column that says which rows belong together; others are left to the caller.

    Raises:
        DataError: A file is damaged or has no image or label column, a row has no label that can be used,
            or the splits disagree on the classes.
    """
    ignored: list[IgnoredFile] = []
    files = data_files(path, (".parquet",), ignored) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no .parquet files", expected="train.parquet and test.parquet")
    parts = files_by_split(path, files, ignored, complete=path.is_dir())
    tables = {name: _Table.read(path, part, group) for name, part in parts.items()}
    if "test" in tables and len(tables) > 1 and tables["test"].is_unlabelled:
        ignored += [
            IgnoredFile(place.name, "none of its rows has a label") for place in tables.pop("test").files
        ]
    classes = _agreed_classes(path, tables)
    groups = {name or WHOLE: table.groups for name, table in tables.items()}
    unnamed = tables.pop(None, None)
    # Named after the file: its rows are known by their number among all.
    whole = unnamed.split(path.name, classes) if unnamed is not None else None
    splits = {str(name): table.split(str(name), classes) for name, table in tables.items()}
    for name, split in splits.items():
        if not len(split):
            raise DataError(f"{path}: the {name} split has no rows")
    if whole is not None and not len(whole):
        raise DataError(f"{path} has no rows")
    ordered = dict(sorted(splits.items(), key=lambda item: item[0] != TRAIN))
    name = path.resolve().name.removesuffix(".parquet")
    known = _units(splits, whole, groups)
    return SampleSource(name, classes.names, ordered, tuple(ignored), whole=whole, groups=known)


def _units(
    splits: Mapping[str, Split], whole: Split | None, groups: Mapping[str, list[str | None] | None]
) -> dict[str, list[bytes]]:
    """Return the units of the samples of every split, given their groups; nothing where no file has any."""
    named = {**splits, **({WHOLE: whole} if whole is not None else {})}
    return {name: units(named[name], of) for name, of in groups.items() if of is not None and name in named}


@dataclass(frozen=True)
class _Place:
    """A file, and where its rows end among those of the files before it and its own."""

    name: str
    path: Path
    end: int


class ParquetSplit(LabelledSplit):
    """Rows of one split. The table stays encoded in Arrow memory, which worker processes share.

    Args:
        name: Name of the split.
        images: The bytes of every image, in chunks: a single array of Arrow's ``binary`` holds at most 2 GiB.
        paths: The path that every row carries, as bytes; ``None`` where there are none.
        labels: The label of every row.
        files: The files, whose rows are those of the split.
        is_named: Whether the path of a row is its name, that is, there and unlike all others.
    """

    def __init__(
        self,
        name: str,
        images: pa.ChunkedArray,
        paths: pa.ChunkedArray | None,
        labels: NDArray[np.int64],
        files: Sequence[_Place],
        is_named: NDArray[np.bool_],
    ) -> None:
        super().__init__(labels)
        self._name = name
        self._images = images
        self._paths = paths
        self._files = tuple(files)
        self._is_named = is_named

    def key(self, index: int) -> str:
        """Return the path that the row carries, or its place in its file."""
        if self._paths is not None and self._is_named[index]:
            return os.fsdecode(self._paths[index].as_py())
        file, row = _place_of(self._files, index)
        return f"{file.name}/row-{row}"

    def read(self, index: int) -> EncodedSample:
        """Return row ``index``."""
        content = self._images[index].as_py()
        if content is None:
            raise DataError(f"{self.key(index)} has no image bytes")
        return EncodedSample(self.key(index), content, int(self._labels[index]))

    def row_names(self) -> Iterator[str]:
        """Yield the name of every row in :meth:`rows`."""
        # Not the keys: a run of an earlier version knows rows without a path by their number in the split.
        return _names(self._paths, self._name, len(self))

    def stamps(self) -> list[bytes] | None:
        """Return a stamp of every image; ``None`` where a file cannot be had."""
        try:
            files = {file.name: stamp_of(file.path) for file in self._files}
        except OSError:
            return None
        places = (_place_of(self._files, index) for index in range(len(self)))
        return [files[file.name] + str(row).encode() for file, row in places]

    def rows(self) -> Iterator[Row]:
        """Yield name, label and size of every image."""
        sizes = pc.binary_length(self._images).to_pylist()
        yield from zip(self.row_names(), self.labels, (size or 0 for size in sizes), strict=True)


def _names(paths: pa.ChunkedArray | None, name: str, count: int) -> Iterator[str]:
    """Yield the path of every row, or ``name`` and the number of a row without one."""
    for index in range(count):
        path = paths[index].as_py() if paths is not None else None
        yield os.fsdecode(path) if path else f"{name}/{index}"


def _place_of(files: Sequence[_Place], row: int) -> tuple[_Place, int]:
    """Return the file in which a row lies, and its number there."""
    first = 0
    for file in files:
        if row < file.end:
            return file, row - first
        first = file.end
    raise IndexError(row)


# -- columns ----------------------------------------------------------------------------------------------


Label: TypeAlias = int | str | bool


@dataclass(frozen=True)
class _Columns:
    """Contents of one file.

    Attributes:
        images: Bytes of every image, as ``binary`` or ``large_binary``.
        paths: Path of every row as bytes; ``None`` where there is none.
        values: The labels that occur.
        codes: Place of every row's label in ``values``; −1 where the row has none.
        names: Class names that the file declares; ``None`` where it declares none.
        groups: What the column of groups says of every row; ``None`` where there is no such column.
    """

    images: pa.ChunkedArray
    paths: pa.ChunkedArray | None
    values: tuple[Label, ...]
    codes: NDArray[np.int64]
    names: tuple[str, ...] | None
    groups: list[str | None] | None = None


def _read(file: Path, group: str | None) -> _Columns:
    """Read the columns of a file that are needed."""
    try:
        with pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            features = _features(schema)
            image, label = _image_column(file, schema), _label_column(file, schema, features)
            has_groups = group is not None and group in schema.names
            table = parquet.read(columns=[image, label, *([group] if has_groups else [])])
            cells = table[group].to_pylist() if has_groups else None
            groups = None if cells is None else [None if cell is None else str(cell) for cell in cells]
            images, paths = _images_in(file, image, table[image])
            values, codes = _labels_in(file, label, table[label])
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{file} is not a readable parquet file ({reason})") from error
    return _Columns(images, paths, values, codes, _declared(file, label, features), groups)


def _images_in(
    file: Path, name: str, column: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """Return the bytes of the images, and the paths beside them."""
    paths: pa.ChunkedArray | None = None
    images = column
    if pa.types.is_struct(column.type):
        images = pc.struct_field(column, "bytes")
        kind = next((field.type for field in column.type if field.name == "path"), None)
        if kind is not None and _is_text(kind):
            paths = pc.struct_field(column, "path").cast(pa.large_binary())
    if not (pa.types.is_binary(images.type) or pa.types.is_large_binary(images.type)):
        images = images.cast(pa.large_binary())  # views, which Arrow can do little with
    if len(images) and images.null_count == len(images):
        raise _only_paths(file, name, "holds no image bytes")
    return images, paths


def _labels_in(file: Path, name: str, column: pa.ChunkedArray) -> tuple[tuple[Label, ...], NDArray[np.int64]]:
    """Return the labels that occur, and the place of every row's label among them."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = _whole_numbers(file, name, column)
    elif _is_text(column.type):
        column = column.cast(pa.large_string())
    encoded = column.dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else column.slice(0, 0).dictionary_encode()
    values = tuple(encoded.dictionary.to_pylist())
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return values, codes


def _whole_numbers(file: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return floating-point labels as whole numbers, as pandas has them beside missing ones."""
    numbers = column.cast(pa.float64()).to_numpy()  # missing ones are NaN
    odd = np.flatnonzero(~np.isnan(numbers) & ~((numbers == np.round(numbers)) & (np.abs(numbers) < 2**53)))
    if len(odd):
        raise DataError(
            f"{file}: row {odd[0]} has {numbers[odd[0]]:g} in column {name!r}",
            expected="whole numbers or names as labels",
        )
    return pa.chunked_array([pa.array(np.nan_to_num(numbers).astype(np.int64), mask=np.isnan(numbers))])


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = document["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: value for name, value in features.items() if isinstance(value, dict)}


def _declared(file: Path, label: str, features: dict[str, dict[str, Any]]) -> tuple[str, ...] | None:
    """Return the class names that the metadata list for the label column."""
    names = features.get(label, {}).get("names")
    if not names:
        return None
    if not (isinstance(names, list) and all(isinstance(name, str | int) for name in names)):
        raise DataError(f"{file}: the class names in the metadata are no list of names ({str(names)[:80]})")
    return tuple(map(str, names))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return [_is_bytes(field.type) for field in kind if field.name == "bytes"] == [True]
    return _is_bytes(kind)


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_text(kind))


def _image_column(file: Path, schema: pa.Schema) -> str:
    found = [field.name for field in schema if _is_image(field.type)]
    name, unfit = _choose(file, schema, "image", found, _IMAGE_NAMES, _is_image)
    if unfit is not None:
        raise _only_paths(file, name, f"holds {unfit}")
    return name


def _label_column(file: Path, schema: pa.Schema, features: dict[str, dict[str, Any]]) -> str:
    told = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel"]
    found = [field.name for field in schema if (field.name in told if told else _is_label(field.type))]
    # A column of floating-point numbers is a score, unless its name says that it is not.
    name, unfit = _choose(
        file, schema, "label", found, _LABEL_NAMES, lambda kind: _is_label(kind) or pa.types.is_floating(kind)
    )
    if unfit is not None:
        raise DataError(
            f"{file}: the label column {name!r} holds {unfit}", expected="whole numbers or names, one a row"
        )
    return name


def _only_paths(file: Path, name: str, found: str) -> DataError:
    return DataError(
        f"{file}: the image column {name!r} {found}",
        expected="the bytes of the image files",
        remedy="write them into it, or give a .csv table of path and label",
    )


def _choose(
    file: Path,
    schema: pa.Schema,
    what: str,
    found: list[str],
    usual: tuple[str, ...],
    fits: Callable[[pa.DataType], bool],
) -> tuple[str, str | None]:
    """Return the column to take, and its type where that does not fit.

    Args:
        file: The file, for messages.
        schema: Its columns.
        what: What the column holds, for messages.
        found: The columns that may be meant.
        usual: How the column is usually called, the most usual first.
        fits: Whether values of a type can be used.
    """
    columns = list(schema.names)
    name = next((name for name in usual if name in found), None)
    # What is called so is meant, of whatever type it is: no other column may take its place.
    name = name or next((name for name in usual if name in columns), None)
    name = name or next((name for name in columns if name.casefold() in usual), None)
    if name is None and len(found) == 1:
        name = found[0]
    if name is None:
        raise DataError(
            f"{file} has {'no' if not found else 'several'} {what} column{'s' if found else ''}"
            + (f" ({', '.join(found)})" if found else ""),
            expected=f"one called {' or '.join(usual)}",
        )
    if columns.count(name) > 1:
        raise DataError(f"{file} has {columns.count(name)} columns called {name!r}", remedy="keep one")
    kind = schema.field(name).type
    return name, None if fits(kind) else str(kind)[:80]


# -- tables -----------------------------------------------------------------------------------------------


class _Table:
    """The rows of one or more files, before it is known what their labels mean."""

    def __init__(self, files: list[_Place], columns: list[_Columns]) -> None:
        self.files = files
        self.columns = columns

    @classmethod
    def read(cls, root: Path, paths: list[Path], group: str | None) -> _Table:
        files: list[_Place] = []
        columns: list[_Columns] = []
        end = 0
        for path in paths:
            columns.append(_read(path, group))
            end += len(columns[-1].codes)
            name = path.relative_to(root).as_posix() if root in path.parents else path.name
            files.append(_Place(name, path, end))
        return cls(files, columns)

    @property
    def groups(self) -> list[str | None] | None:
        """The group of every row; ``None`` where no file has a column for it."""
        if all(part.groups is None for part in self.columns):
            return None
        return [group for part in self.columns for group in part.groups or [None] * len(part.codes)]

    @property
    def is_unlabelled(self) -> bool:
        """Whether no row has a label, as in tests whose labels are withheld."""
        return self._count > 0 and self.values <= {-1}

    @property
    def lacks_labels(self) -> bool:
        """Whether any row has no label."""
        return any((part.codes < 0).any() for part in self.columns)

    @property
    def values(self) -> set[Label]:
        """The labels that occur."""
        return {value for part in self.columns for value in part.values}

    @property
    def _count(self) -> int:
        return self.files[-1].end

    def split(self, name: str, classes: ClassNumbers) -> ParquetSplit:
        """Return the rows as a split.

        Args:
            name: Name of the split.
            classes: What the labels mean.

        Raises:
            DataError: A row has no label, or one that means no class; the message names it.
        """
        labels = np.concatenate([self._labels(part, classes) for part in range(len(self.files))])
        return ParquetSplit(name, self._images(), self._paths, labels, self.files, self._is_named)

    def _labels(self, part: int, classes: ClassNumbers) -> NDArray[np.int64]:
        columns, file = self.columns[part], self.files[part].path
        without = np.flatnonzero(columns.codes < 0)
        if len(without):
            raise DataError(
                f"{file}: row {without[0]} has no label"
                + (f", and {len(without) - 1:,} more have none" if len(without) > 1 else "")
            )
        meanings = [classes.numbers.get(value, -1) for value in columns.values]
        labels = np.array(meanings, dtype=np.int64)[columns.codes]
        unknown = np.flatnonzero(labels < 0)
        if len(unknown):
            value = columns.values[columns.codes[unknown[0]]]
            raise DataError(
                f"{file}: row {unknown[0]} has label {repr(value)[:80]}", expected=classes.expected
            )
        return labels

    def _images(self) -> pa.ChunkedArray:
        parts = [part.images for part in self.columns]
        if len({part.type for part in parts}) > 1:
            parts = [part.cast(pa.large_binary()) for part in parts]
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], type=parts[0].type)

    @cached_property
    def _paths(self) -> pa.ChunkedArray | None:
        parts = [part.paths for part in self.columns]
        if all(part is None for part in parts):
            return None
        chunks: list[pa.Array] = []
        for part, columns in zip(parts, self.columns, strict=True):
            chunks += part.chunks if part is not None else [pa.nulls(len(columns.codes), pa.large_binary())]
        return pa.chunked_array(chunks, type=pa.large_binary())

    @cached_property
    def _is_named(self) -> NDArray[np.bool_]:
        """Mask of the rows whose path is unique."""
        if self._paths is None:
            return np.zeros(self._count, dtype=bool)
        counts = pc.value_counts(self._paths)
        values, times = counts.field("values"), counts.field("counts")
        unlike_names = pa.concat_arrays(
            [values.filter(pc.greater(times, 1)), pa.array([None, b""], pa.large_binary())]
        )
        named: NDArray[np.bool_] = ~pc.is_in(self._paths, value_set=unlike_names).to_numpy().astype(bool)
        return named


def _agreed_classes(path: Path, tables: Mapping[str | None, _Table]) -> ClassNumbers:
    values = [table.values for table in tables.values()]
    texts = [{value for value in group if isinstance(value, str)} for group in values]
    if declared := _declared_by_all(path, tables):
        check_class_names(path, declared, remedy=_REMEDY)
        numbers: dict[Label, int] = {number: number for number in range(len(declared))}
        by_form = {_nfc(name): number for number, name in enumerate(declared)}
        numbers |= {text: by_form[_nfc(text)] for group in texts for text in group if _nfc(text) in by_form}
        shown = f"one of {', '.join(declared[:8])}{', …' if len(declared) > 8 else ''}"
        return ClassNumbers(declared, numbers, shown if any(texts) else f"0 to {len(declared) - 1}")
    found = set().union(*values)
    kinds = sorted({type(value).__name__ for value in found})
    if len(kinds) > 1:
        raise DataError(
            f"{path}: the files have labels of different types ({', '.join(kinds)})",
            remedy="give all the same type",
        )
    if any(texts):
        spellings = class_of_spelling(path, [group - {""} for group in texts])
        names = tuple(sorted(set(spellings.values())))
        places = {name: place for place, name in enumerate(names)}
        numbers = {spelling: places[name] for spelling, name in spellings.items()}
        expected = "the name of a class"
    else:
        usable = sorted(value for value in found if not isinstance(value, str) and value >= 0)
        names = tuple(map(str, usable))
        numbers = {value: place for place, value in enumerate(usable)}
        expected = "0 or more"
    if len(names) > _MAX_CLASSES:
        raise DataError(f"{path} has {len(names):,} different labels", expected=f"at most {_MAX_CLASSES:,}")
    # Else a row will be named that has no label, or one that cannot be used.
    if len(numbers) == len(found) and not any(table.lacks_labels for table in tables.values()):
        check_class_names(path, names, remedy=_REMEDY)
    return ClassNumbers(names, numbers, expected)


def _declared_by_all(path: Path, tables: Mapping[str | None, _Table]) -> tuple[str, ...]:
    """Return the class names that the files declare; empty where none does."""
    declared = {part.names for table in tables.values() for part in table.columns if part.names}
    by_form = {tuple(map(_nfc, names)) for names in declared}
    if len(by_form) > 1:
        raise DataError(
            f"{path}: the splits declare different class names", remedy="give all the same metadata"
        )
    if not declared:
        return ()
    names = declared.pop() if len(declared) == 1 else by_form.pop()
    if len(set(names)) != len(names):
        raise DataError(f"{path}: class names occur twice in the metadata")
    return names


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)
