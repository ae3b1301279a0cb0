"""Parquet in the layout of Hugging Face data sets: an image column ``{bytes, path}`` and a label column.

A folder holds one file a split (``train.parquet``) or several (``train-00000-of-00002.parquet``, also
under ``data/``). Class names come from the ``huggingface`` entry of the schema's metadata; without it
the labels themselves are the names.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from residual.data.source.base import (
    HELD_OUT,
    TRAIN,
    EncodedSample,
    SampleSource,
    held_out_by_name,
)
from residual.data.source.files import split_of_file
from residual.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from residual.data.source.base import Row

__all__ = ["open_parquet"]

_MAX_CLASSES = 1_000_000  # as many as a spec takes


def open_parquet(path: Path) -> SampleSource:
    """Open a parquet file, or a folder of them.

    Raises:
        DataError: A file is damaged, has no image or label column, or the splits disagree on the classes.
    """
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    parts: dict[str | None, list[Path]] = {}
    for file in files:
        parts.setdefault(split_of_file(file, path), []).append(file)
    if None in parts and len(parts) > 1:
        raise DataError(
            f"{parts[None][0]} does not say which split it belongs to",
            expected="names that begin with train, val or test",
            remedy="rename it",
        )
    tables = {name: _Columns.read(group) for name, group in parts.items()}
    classes = _agreed_classes(path, tables)
    if None in tables:
        whole = tables[None].split(path.name, classes, slice(None))
        test = np.array([held_out_by_name(whole.key(index)) for index in range(len(whole))], dtype=bool)
        splits = {
            name: tables[None].split(name, classes, rows) for name, rows in ((TRAIN, ~test), ("test", test))
        }
        held_out = HELD_OUT
    else:
        splits = {
            str(name): columns.split(str(name), classes, slice(None)) for name, columns in tables.items()
        }
        held_out = ""
    for name, split in splits.items():
        if not len(split):
            raise DataError(f"{path}: the {name} split has no rows")
    ordered = dict(sorted(splits.items(), key=lambda item: item[0] != TRAIN))
    return SampleSource(path.resolve().name.removesuffix(".parquet"), classes, ordered, held_out=held_out)


class ParquetSplit:
    """Rows of one split. The table stays encoded in Arrow memory, which worker processes share."""

    def __init__(
        self, name: str, images: pa.ChunkedArray, paths: pa.ChunkedArray | None, labels: NDArray[np.int64]
    ):
        self._name = name
        self._images = images  # in chunks: a single Arrow array holds at most 2 GiB of bytes
        self._paths = paths
        self._labels = labels

    @property
    def labels(self) -> list[int]:
        """The label of every row."""
        return [int(label) for label in self._labels]

    def __len__(self) -> int:
        return len(self._labels)

    def key(self, index: int) -> str:
        """Return the path that the row carries, or its number."""
        path = self._paths[index].as_py() if self._paths is not None else None
        return path or f"{self._name}/{index}"

    def read(self, index: int) -> EncodedSample:
        """Return row ``index``."""
        content = self._images[index].as_py()
        if content is None:
            raise DataError(f"{self.key(index)} has no image bytes")
        return EncodedSample(self.key(index), content, int(self._labels[index]))

    def rows(self) -> Iterator[Row]:
        """Yield name, label and size of every image."""
        sizes = pc.binary_length(self._images).to_pylist()
        keys = (self.key(index) for index in range(len(self)))
        yield from zip(keys, self.labels, (size or 0 for size in sizes), strict=True)


class _Columns:
    """The image and label columns of one or more files, with what the schema says of them."""

    def __init__(self, file: Path, table: pa.Table) -> None:
        self.file = file
        features = _features(table.schema)
        self._image = _choose(
            file,
            "image",
            [field.name for field in table.schema if _is_image(field.type)],
            ("image", "img"),
        )
        labels = [field.name for field in table.schema if _is_label(field, features)]
        self._label = _choose(file, "label", labels, ("label", "labels", "fine_label", "class"))
        self._table = table
        declared = features.get(self._label, {}).get("names")
        self.names: tuple[str, ...] | None = tuple(map(str, declared)) if declared else None

    @classmethod
    def read(cls, files: list[Path]) -> _Columns:
        try:
            tables = [pq.read_table(file) for file in files]
            table = pa.concat_tables(tables)
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:160]
            raise DataError(f"{files[0]} is not a readable parquet file ({reason})") from error
        return cls(files[0], table)

    def values(self) -> set[Any]:
        """Return the distinct labels."""
        return {value for value in pc.unique(self._table[self._label]).to_pylist() if value is not None}

    def split(self, name: str, classes: tuple[str, ...], rows: Any) -> ParquetSplit:
        column = self._table[self._label]
        if column.null_count:
            raise DataError(
                f"{self.file}: column {self._label!r} has {column.null_count} rows without a label"
            )
        if pa.types.is_integer(column.type):
            labels = column.to_numpy().astype(np.int64)
            bad = np.flatnonzero((labels < 0) | (labels >= len(classes)))
            if len(bad):
                raise DataError(
                    f"{self.file}: row {bad[0]} has label {labels[bad[0]]}",
                    expected=f"0 to {len(classes) - 1}",
                )
        else:
            numbers = {label: number for number, label in enumerate(classes)}
            unknown = sorted(self.values() - numbers.keys())
            if unknown:
                raise DataError(
                    f"{self.file}: label {unknown[0]!r} is not among the class names of the metadata",
                    expected=f"one of {', '.join(classes[:8])}",
                )
            labels = np.array([numbers[value] for value in column.to_pylist()], dtype=np.int64)
        image = self._table[self._image]
        paths: pa.ChunkedArray | None = None
        if pa.types.is_struct(image.type):
            has_path = any(field.name == "path" for field in image.type)
            paths = pc.struct_field(image, "path") if has_path else None
            image = pc.struct_field(image, "bytes")
        if not isinstance(rows, slice):
            mask = pa.array(rows)
            image, labels = image.filter(mask), labels[rows]
            paths = paths.filter(mask) if paths is not None else None
        return ParquetSplit(name, image, paths, labels)


def _agreed_classes(path: Path, tables: dict[str | None, _Columns]) -> tuple[str, ...]:
    declared = {columns.names for columns in tables.values() if columns.names}
    if len(declared) > 1:
        raise DataError(
            f"{path}: the splits declare different class names", remedy="give all the same metadata"
        )
    if declared:
        classes = declared.pop()
        if len(set(classes)) != len(classes):
            raise DataError(f"{path}: class names occur twice in the metadata")
    else:
        values = {value for columns in tables.values() for value in columns.values()}
        kinds = {type(value).__name__ for value in values}
        if len(kinds) > 1:
            raise DataError(
                f"{path}: the splits have labels of different types ({', '.join(sorted(kinds))})",
                remedy="give all the same type",
            )
        if kinds == {"int"}:
            if not 0 <= min(values) <= max(values) < _MAX_CLASSES:
                raise DataError(
                    f"{path}: labels run from {min(values)} to {max(values)}",
                    expected=f"0 to {_MAX_CLASSES - 1:,}",
                )
            classes = tuple(str(value) for value in range(max(values) + 1))
        else:
            classes = tuple(sorted(values))
    if len(classes) < 2:
        raise DataError(f"{path} has {len(classes)} class", expected="at least 2")
    return classes


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = document["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: value for name, value in features.items() if isinstance(value, dict)}


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(field: pa.Field, features: dict[str, dict[str, Any]]) -> bool:
    if any(feature.get("_type") == "ClassLabel" for feature in features.values()):
        return bool(features.get(field.name, {}).get("_type") == "ClassLabel")
    return bool(
        pa.types.is_integer(field.type)
        or pa.types.is_string(field.type)
        or pa.types.is_large_string(field.type)
    )


def _choose(file: Path, what: str, found: list[str], usual: tuple[str, ...]) -> str:
    for name in usual:
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    raise DataError(
        f"{file} has {'no' if not found else 'several'} {what} column{'s' if found else ''}"
        + (f" ({', '.join(found)})" if found else ""),
        expected=f"one called {' or '.join(usual)}",
    )
