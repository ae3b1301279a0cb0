"""Open shards as a data set."""

from __future__ import annotations

from deepresidual.data.source.base import (
    TRAIN,
    IgnoredFile,
    SampleSource,
    Split,
    check_class_names,
)
from deepresidual.data.source.files import files_by_split
from deepresidual.data.source.shards.classes import class_names_of
from deepresidual.data.source.shards.find import find_tars
from deepresidual.data.source.shards.split import Table
from deepresidual.runtime.files import expanded


def open_shards(pattern: str) -> SampleSource:
    """Open a data set of WebDataset tars.

    Args:
        pattern: A folder, a file, a glob pattern or a brace pattern.

    Raises:
        DataError: There are no tars, one is damaged or has members that are refused, or a sample lacks its
            image or label; the message names it.
        ConfigurationError: The pattern is a command or an address.
    """
    ignored: list[IgnoredFile] = []
    root, files = find_tars(pattern, ignored)
    # Whoever lists tars or ranges of them may want a part of the data set; a folder or * means all of it.
    complete = "*" in pattern or expanded(pattern).is_dir()
    parts = files_by_split(root, files, ignored, complete=complete)
    tables = {name: Table.read(root, group, ignored) for name, group in parts.items()}
    classes, numbers = class_names_of(root, files, list(tables.values()))
    check_class_names(root, classes, remedy="add samples of another class")
    splits: dict[str | None, Split] = {name: table.split(numbers) for name, table in tables.items()}
    whole = splits.pop(None, None)
    named = ((str(name), split) for name, split in splits.items())
    ordered = dict(sorted(named, key=lambda item: item[0] != TRAIN))
    file = expanded(pattern)
    name = file.stem if file.is_file() else root.resolve().name or "shards"
    return SampleSource(name, classes, ordered, tuple(ignored), whole=whole)
