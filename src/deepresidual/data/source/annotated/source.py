"""Put a data set with boxes together: classes by name, splits in order, and what has to be said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepresidual.data.source.annotated.described import DescribedImage, annotations_of
from deepresidual.data.source.annotated.faults import Faults
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.data.source.annotated.split import DETECTION, AnnotatedSplit, CategoryId
from deepresidual.data.source.base import (
    TRAIN,
    IgnoredFile,
    SampleSource,
    check_class_names,
    class_of_spelling,
    listed,
)
from deepresidual.errors import DataError


@dataclass
class Reading:
    """What the reader of a format has found in a data set.

    Attributes:
        root: The data set, a folder.
        parts: The images of every split, in order; under ``None`` where there are no splits.
        classes: Names of the classes in the order of the format; empty: those of the objects, sorted.
        category_ids: What the files of each split call each class; absent: nothing but its name.
        findings: What was found.
        ignored: Files that are not used.
        notes: What else has to be said, a sentence each.
        faults: What cannot be used.
    """

    root: Path
    parts: dict[str | None, list[DescribedImage]]
    classes: tuple[str, ...] = ()
    category_ids: dict[str | None, tuple[CategoryId, ...]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    ignored: list[IgnoredFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)


def source_of(reading: Reading) -> SampleSource:
    """Return the data set that a reader has found.

    Raises:
        DataError: A fault was met; there are no images or no objects; or there are names of classes
            that a reader takes for the same.
    """
    root = reading.root
    reading.faults.refuse()
    if not any(reading.parts.values()):
        raise DataError(f"{root} has annotations of no image", expected="images, and annotations of them")
    by_part = [{name for image in part for name in image.classes} for part in reading.parts.values()]
    spelled = class_of_spelling(root, [*by_part, set(reading.classes)])
    classes = tuple(spelled[name] for name in reading.classes) or tuple(sorted(set(spelled.values())))
    if not classes:
        raise DataError(
            f"{root} has no object in any image",
            expected="boxes to learn from",
            remedy="annotate some images",
        )
    check_class_names(root, classes, remedy="annotate some objects", minimum=1)
    indices = {name: index for index, name in enumerate(classes)}
    numbers = {name: indices[spelling] for name, spelling in spelled.items()}
    findings = list(reading.findings)
    annotations = {
        part: annotations_of(images, numbers, findings)
        for part, images in sorted(reading.parts.items(), key=lambda item: item[0] != TRAIN)
        if images
    }
    splits = {
        part: AnnotatedSplit(root, rows, len(classes), reading.category_ids.get(part, ()), findings)
        for part, rows in annotations.items()
    }
    return SampleSource(
        root.resolve().name or "folder",
        classes,
        {part: split for part, split in splits.items() if part is not None},
        (*reading.ignored, *(finding.as_ignored() for finding in findings if not finding.is_used)),
        task=DETECTION,
        whole=splits.get(None),
        notes=(*reading.notes, *_notes(classes, splits, findings)),
    )


def findings_of(source: SampleSource) -> tuple[Finding, ...]:
    """Return what the reader of a data set with boxes found in its annotations."""
    for split in (source.whole, *source.splits.values()):
        if isinstance(split, AnnotatedSplit):
            return split.findings
    return ()


def _notes(
    classes: Sequence[str], splits: Mapping[str | None, AnnotatedSplit], findings: Sequence[Finding]
) -> list[str]:
    notes = []
    empty = sum(split.num_empty for split in splits.values())
    if empty:
        notes.append(
            "1 image has no objects, and teaches what the background looks like"
            if empty == 1
            else f"{empty:,} images have no objects, and teach what the background looks like"
        )
    kinds = Counter(finding.kind for finding in findings if finding.is_used)
    if cut := kinds["box-outside"]:
        first = next(finding for finding in findings if finding.kind == "box-outside" and finding.is_used)
        notes.append(
            f"{'1 box reaches' if cut == 1 else f'{cut:,} boxes reach'} over the image's edge, cut there: "
            f"{'' if cut == 1 else 'the first is '}{first.place}"
        )
    if zeros := kinds["counted-from-0"]:
        first = next(finding for finding in findings if finding.kind == "counted-from-0")
        notes.append(
            f"{'1 box has' if zeros == 1 else f'{zeros:,} boxes have'} a 0 where pixels are counted from 1, "
            f"taken as the image's edge: {'' if zeros == 1 else 'the first is '}{first.place}"
        )
    train = splits.get(TRAIN, splits.get(None))
    if train is not None:
        counts = zip(classes, train.counts().tolist(), strict=True)
        if missing := [name for name, count in counts if not count]:
            notes.append(f"no training image has an object of {listed(missing)}")
    return notes
