"""Decide the classes of shards: from ``classes.json`` beside them, else from their labels."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

from deepresidual.data.source.base import class_of_spelling
from deepresidual.data.source.shards.split import Table
from deepresidual.errors import DataError

CLASSES_FILE = "classes.json"
"""Beside the tars: the class names, a JSON list."""

_MAX_CLASSES = 1_000_000  # as many as a spec takes


def class_names_of(
    root: Path, files: Sequence[Path], tables: Collection[Table]
) -> tuple[tuple[str, ...], dict[int | str, int]]:
    """Return the class names, and the number of the class that each label means."""
    numbers = sorted({label for table in tables for label in table.labels if isinstance(label, int)})
    texts = [{label for label in table.labels if isinstance(label, str)} for table in tables]
    meaning: dict[int | str, int] = {}
    if declared := _declared(root, files):
        by_form = {_nfc(name): number for number, name in enumerate(declared)}
        meaning.update({number: number for number in numbers if 0 <= number < len(declared)})
        meaning.update(
            {text: by_form[_nfc(text)] for group in texts for text in group if _nfc(text) in by_form}
        )
        for table in tables:
            for place, label in enumerate(table.labels):
                if label not in meaning:
                    raise DataError(
                        f"{root}: {table.unlabelled.key(place)} has the label {repr(label)[:80]}, "
                        f"which is not in {CLASSES_FILE}",
                        expected=f"0 to {len(declared) - 1:,} or one of its names",
                    )
        return declared, meaning
    if numbers and any(texts):
        raise DataError(f"{root}: some labels are numbers and some are names", remedy="use one of them")
    spellings = class_of_spelling(root, texts)
    names = sorted(set(spellings.values()))
    if max(len(numbers), len(names)) > _MAX_CLASSES:
        raise DataError(
            f"{root} has {max(len(numbers), len(names)):,} different labels",
            expected=f"at most {_MAX_CLASSES:,}",
        )
    meaning.update({number: place for place, number in enumerate(numbers)})
    places = {name: place for place, name in enumerate(names)}
    meaning.update({spelling: places[name] for spelling, name in spellings.items()})
    return tuple(map(str, numbers)) or tuple(names), meaning


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _declared(root: Path, files: Sequence[Path]) -> tuple[str, ...] | None:
    """Return the class names that a file beside the tars lists, where there is one."""
    found: dict[Path, tuple[str, ...]] = {}
    for folder in dict.fromkeys([root, *(file.parent for file in files)]):
        if (file := folder / CLASSES_FILE).is_file():
            found[file] = _read_classes(file)
    if len(set(found.values())) > 1:
        raise DataError(f"{' and '.join(map(str, list(found)[:2]))} differ", remedy="keep one")
    return next(iter(found.values()), None)


def _read_classes(file: Path) -> tuple[str, ...]:
    try:
        names = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON ({error})") from error
    if not (isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)):
        raise DataError(f"{file} is no list of class names", expected='["cat", "dog"] and the like')
    if len(set(names)) != len(names):
        raise DataError(f"{file} names a class twice")
    return tuple(names)
