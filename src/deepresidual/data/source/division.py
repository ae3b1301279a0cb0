"""Divide a data set that names no splits: a fifth of each class is for testing.

Which fifth decides :mod:`deepresidual.data.source.stratified`. A run records on which side its samples were,
and :func:`as_recorded` puts them there again, whatever rule was in force when it began and whatever came
since.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepresidual.data.source.base import (
    DETECTION,
    TRAIN,
    WHOLE,
    Row,
    SampleSource,
    Split,
    listed,
    names_of,
    stamps_of,
)
from deepresidual.data.source.earlier_rows import EarlierRows
from deepresidual.data.source.grouping import num_groups
from deepresidual.data.source.stratified import held_out, unit_of
from deepresidual.data.source.validation import Subset, units_of
from deepresidual.errors import DataError

HELD_OUT = "a fifth of each class is held out by the hash of the file name"
"""Value of :attr:`SampleSource.held_out` after :func:`divide`."""

AS_RECORDED = "the images are on the sides on which the run had them"
"""Value of :attr:`SampleSource.held_out` after :func:`as_recorded`."""

TEST_SHARE = 1 / 5

NO_LABEL = "no label"
"""Stratum of images without any of several labels, behind those of the classes."""

NO_OBJECT = "no object"
"""Stratum of images without objects, where others have boxes."""


def divide(source: SampleSource) -> SampleSource:
    """Return a data set with the splits ``train`` and ``test``, made of :attr:`SampleSource.whole`.

    Samples of one group, and near-copies of one another, are on one side.

    Args:
        source: The data set; one with splits of its own is returned as it is.

    Raises:
        DataError: Nothing can be held out, since no class has two images or groups.
    """
    whole = source.whole
    if whole is None or source.splits:
        return source
    labels = whole.labels
    own = source.groups.get(WHOLE) or _units(whole)
    units, clauses, notes = _with_near_copies(source, whole, labels, own)
    test = held_out(units, labels, TEST_SHARE)
    if not test.any():
        raise DataError(
            f"{source.name}: nothing can be held out for testing, since {_why_alone(source, labels)}",
            remedy="add images, or name the splits: by folders train/ and test/, a column 'split' or names "
            "of files",
        )
    if WHOLE in source.groups:
        number = num_groups(own)
        whole_groups = (
            f"{_counted(number, 'group', 'stays', 'stay')} whole" if number else "no two are of one group"
        )
        clauses = [whole_groups, *clauses]
    notes += _untested(_strata(source), labels, test.tolist())
    grouped = dataclasses.replace(source, groups={**source.groups, WHOLE: units})
    return dataclasses.replace(
        grouped,
        **_parts(grouped, whole, {TRAIN: np.flatnonzero(~test), "test": np.flatnonzero(test)}),
        held_out="; ".join([HELD_OUT, *clauses]),
        notes=(*source.notes, *notes),
    )


def _why_alone(source: SampleSource, labels: Sequence[int]) -> str:
    """Return why no class has two units, one of which could be held out."""
    if WHOLE in source.groups:
        return "the images of every class belong together"
    num_strata = len(set(labels))
    if num_strata == len(labels):
        return "every class has one image"
    if num_strata == 1:
        return "its images are copies of one another"
    return "every class has one image, or copies of one"


def _strata(source: SampleSource) -> tuple[str, ...]:
    return (*source.classes, NO_OBJECT if source.task == DETECTION else NO_LABEL)


def _with_near_copies(
    source: SampleSource, whole: Split, labels: Sequence[int], units: Sequence[bytes]
) -> tuple[Sequence[bytes], list[str], list[str]]:
    """Return the units with near-copies joined, a clause on how many there are, and sentences on others."""
    # Imported here, since it reads samples, whose interface is in this room.
    from deepresidual.data.near_copies import MOST_IMAGES, near_copies

    if stamps_of(whole) is None:
        return units, [], []  # no files: reading all samples may cost anything
    if len(whole) > MOST_IMAGES:
        return units, [], [f"more than {MOST_IMAGES:,} images: near-copies among them are not looked for"]
    found = near_copies(whole, labels)
    names = _strata(source)
    notes = []
    for group in found.large:
        classes = listed({names[labels[index]] for index in group})
        notes.append(
            f"{len(group):,} images of {classes} are like one another, as {whole.key(group[0])}, and not "
            "kept on one side; if they show one thing, say so with --group"
        )
    clauses = [_counted(found.count, "near-copy", "is", "are") + " kept on one side"] if found.count else []
    return found.merged(units), clauses, notes


def _counted(count: int, noun: str, one: str, several: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun} {one}" if count == 1 else f"{count:,} {plural} {several}"


def undivided(source: SampleSource) -> SampleSource:
    """Return a data set before :func:`divide`; one with splits of its own is returned as it is."""
    if not _is_divided(source):
        return source
    return dataclasses.replace(source, splits={}, held_out="", notes=(), groups={})


def _units(whole: Split) -> Sequence[bytes]:
    # By the names in its rows: those of a table are there even where they come again.
    return [unit_of(whole.key(index), name) for index, name in enumerate(names_of(whole))]


def _untested(classes: Sequence[str], labels: Sequence[int], test: Sequence[bool]) -> list[str]:
    """Return a sentence about the classes of which nothing is held out; none where there are no such."""
    counts = Counter(labels)
    tested = {label for label, held in zip(labels, test, strict=True) if held}
    lacking = sorted(label for label in set(counts) - tested if classes[label] != NO_OBJECT)
    if not lacking:
        return []
    single = [label for label in lacking if counts[label] == 1]
    sentences = list[str]()
    if single:
        have = "has 1 image: it is" if len(single) == 1 else "have 1 image each: they are"
        sentences.append(
            f"{listed(classes[label] for label in single)} {have} used for training and cannot be tested; 5 "
            "or more a class are needed for a figure"
        )
    if joined := set(lacking) - set(single):
        sentences.append(
            f"all images of {listed(classes[label] for label in joined)} belong together: they are used for "
            "training and cannot be tested"
        )
    return sentences


# -- as a run has recorded it ----------------------------------------------------------------------------


def as_recorded(source: SampleSource, recorded: Mapping[str, Sequence[Row]]) -> SampleSource:
    """Return a data set whose samples are in the splits in which a run has recorded them.

    Splits that the data set names itself stay as they are, but for what the run held out of the training
    images. Samples that the run does not know are where the rule puts them, behind those that it knows.

    Args:
        source: The data set, as it was opened.
        recorded: The rows of every split of the run, in order.
    """
    if _is_divided(source):
        pool, ours = source.whole, recorded
    else:
        pool = source.splits.get(TRAIN)
        ours = {name: rows for name, rows in recorded.items() if name == TRAIN or name not in source.splits}
    if pool is None or TRAIN not in ours or len(ours) < 2:
        return source
    parts, new = _places(pool, ours)
    if not parts[TRAIN] and pool is source.whole:
        pool = EarlierRows(pool)
        parts, new = _places(pool, ours)
    if not parts[TRAIN]:
        return source  # another data set
    for split, samples in source.splits.items():
        if samples is pool:
            parts[split] += sorted(new)
        elif isinstance(samples, Subset) and samples.split is source.whole:
            parts.setdefault(split, []).extend(index for index in samples.indices.tolist() if index in new)
    return dataclasses.replace(source, **_parts(source, pool, parts), held_out=AS_RECORDED)


def _places(pool: Split, recorded: Mapping[str, Sequence[Row]]) -> tuple[dict[str, list[int]], set[int]]:
    """Return the places of the recorded samples in ``pool``, and those of all others."""
    places: dict[str, deque[int]] = {}
    for index, name in enumerate(names_of(pool)):
        places.setdefault(name, deque()).append(index)
    parts = {
        split: [places[name].popleft() for name, _, _ in rows if places.get(name)]
        for split, rows in recorded.items()
    }
    return parts, {index for left in places.values() for index in left}


def _is_divided(source: SampleSource) -> bool:
    """Return whether the splits are those of :func:`divide`, and not a choice from them."""
    return source.whole is not None and all(
        isinstance(split, Subset) and split.split is source.whole for split in source.splits.values()
    )


def _parts(source: SampleSource, pool: Split, parts: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """Return the fields of a data set of which some splits are parts of ``pool``, given the places in it."""
    splits = {name: Subset(pool, indices) for name, indices in parts.items()}
    units = source.groups.get(WHOLE if source.whole is not None else TRAIN)
    groups = {name: units_of(units, split) for name, split in splits.items()} if units else {}
    others = {name: split for name, split in source.splits.items() if name not in splits}
    return {"splits": {**splits, **others}, "groups": {**source.groups, **groups}}
