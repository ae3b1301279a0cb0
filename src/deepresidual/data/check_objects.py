"""Check the boxes of a data set: what is wrong with them, how many there are of what, and how large.

What the reader of the annotations has found (:mod:`deepresidual.data.source.annotated.findings`) is joined by
what shows only beside the pixels, and in the whole: sizes that differ, objects twice, classes that are rare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.check_masks import JudgedMasks, findings_of_masks, judge_masks
from deepresidual.data.decode import read_header
from deepresidual.data.expectation import other_spellings
from deepresidual.data.objects import Objects
from deepresidual.data.readers import ImageHeader
from deepresidual.data.source.annotated.source import findings_of
from deepresidual.data.source.annotated.split import AnnotatedSplit, Annotation
from deepresidual.data.source.annotated.upright import is_ambiguous
from deepresidual.data.source.base import TRAIN, EncodedSample, IgnoredFile, SampleSource, Split
from deepresidual.data.source.validation import Subset

Found: TypeAlias = tuple[str, str, str, str]
"""Kind, split, what it is about, and what was found."""

# Two boxes that share so much of their union are one object that was annotated twice: in crowds of COCO, too,
# distinct objects of a class share less.
_SAME_IOU = 0.9
# Of so few a 95 % interval of recall is over 25 points wide.
_FEW_OBJECTS, _FEW_MEASURED = 10, 30
# A usual share of images without objects is below a hundredth; in COCO's crowds are 1.2 % of the boxes.
_MANY_EMPTY, _MANY_CROWDS = 0.25, 0.1
# The finest maps of a detector have a cell every 4 px, and an object smaller than two of them is a dot.
_TINY_PX, _MANY_TINY = 8, 0.1
_USUAL_PX = 416  # what a detector from nothing sees, by recipe `detect`
# COCO's bounds of small, medium and large objects, as areas in pixels.
_SMALL, _LARGE = 32.0**2, 96.0**2


# -- one image --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JudgedObjects:
    """The objects of an image, beside its pixels.

    Attributes:
        objects: In pixels of the upright image, without masks.
        size: Height and width of the upright image.
        findings: Kind and clause of what is wrong between the annotations and the file.
        masks: What is known of their masks.
    """

    objects: Objects
    size: tuple[int, int]
    findings: tuple[tuple[str, str], ...]
    masks: JudgedMasks


def judge_objects(split: Split, index: int, sample: EncodedSample) -> JudgedObjects:
    """Return the objects of an image that a split has read, held against its file."""
    header = read_header(sample.content)
    annotation = annotation_of(split, index)
    findings = () if annotation is None else tuple(_size_findings(annotation, header))
    objects: Objects = sample.target
    return JudgedObjects(replace(objects, masks=None), header.upright, findings, judge_masks(objects))


def annotation_of(split: Split, index: int) -> Annotation | None:
    """Return what a format says of an image of a split, which may be a part of another; ``None``: nothing."""
    if isinstance(split, Subset):
        return annotation_of(split.split, int(split.indices[index]))
    return split.annotation(index) if isinstance(split, AnnotatedSplit) else None


def _size_findings(annotation: Annotation, header: ImageHeader) -> Iterator[tuple[str, str]]:
    """Yield what is wrong between the size in the annotations and that of the file."""
    size, upright = annotation.size, header.upright
    if size is not None and size not in (upright, (header.height, header.width)):
        shape = "" if _same_shape(size, upright) else ", which is of another shape"
        written, there = (f"{width}×{height}" for height, width in (size, upright))
        detail = f"its annotations are for {written} px, and the file has {there}{shape}"
        yield "size-differs", f"{detail}: its boxes lie elsewhere"
    elif is_ambiguous(size, header):
        detail = f"it is turned as it is read (EXIF orientation {header.orientation})"
        yield "exif-ambiguous", f"{detail}, and its boxes are taken for boxes of the turned image"


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    # To a pixel of either, by which resized images are rounded.
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)


def _twice(objects: Objects, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield a finding for every object whose box is that of one before."""
    kept = objects[~objects.crowd]
    for row, first in _same_boxes(kept.boxes):
        here, there = (classes[kept.labels[place]] for place in (row, first))
        edges = ", ".join(f"{edge:g}" for edge in kept.boxes[row].round(1).tolist())
        if here == there:
            yield "box-twice", f"one {here} has two boxes ({edges})"
        else:
            yield "box-two-classes", f"one box is of {there} and of {here} ({edges})"


def _same_boxes(boxes: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Yield places of a box and of the first before it that is the same, by their IoU."""
    sides = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])
    shared = sides.clip(0).prod(axis=-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    same = np.tril(shared >= _SAME_IOU * (area[:, None] + area - shared), -1) & (shared > 0)
    for row in np.flatnonzero(same.any(axis=1)).tolist():
        yield row, int(same[row].argmax())


def _masks_apart(judged: JudgedObjects, classes: Sequence[str]) -> Iterator[str]:
    """Yield a clause for every object whose mask is not that of its box."""
    for row, difference in judged.masks.differing:
        edges = ", ".join(f"{edge:g}" for edge in judged.objects.boxes[row].round(1).tolist())
        yield f"the mask of one {classes[judged.objects.labels[row]]} {difference} ({edges})"


# -- a data set -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ObjectCounts:
    """What the objects of a split are.

    Attributes:
        images: Images that could be read.
        empty: How many of them have no objects.
        objects: Objects, crowds included.
        crowd: How many are crowds.
        difficult: How many need not be found.
        small: Share below 32² px, by COCO's bounds, in pixels of the images.
        medium: Share from there to 96² px.
        large: Share from there on.
        side_px: Side of a square as large as an object, in pixels: the 5th, 50th and 95th percentile.
        masks: How many have a mask, crowds not counted.
        per_class: Objects of every class, crowds not counted.
        images_per_class: Images that have the class.
    """

    images: int
    empty: int
    objects: int
    crowd: int
    difficult: int
    small: float
    medium: float
    large: float
    side_px: tuple[float, float, float]
    masks: int
    per_class: Mapping[str, int]
    images_per_class: Mapping[str, int]


class ObjectsCheck:
    """The objects of a data set, as they are judged.

    Args:
        source: The data set.
    """

    def __init__(self, source: SampleSource) -> None:
        self._source = source
        self._judged: dict[str, dict[int, JudgedObjects]] = {name: {} for name in source.splits}

    @property
    def told_elsewhere(self) -> set[IgnoredFile]:
        """Files and objects that are not used, of which a finding tells."""
        return {finding.as_ignored() for finding in findings_of(self._source) if not finding.is_used}

    def add(self, name: str, index: int, judged: JudgedObjects) -> None:
        """Note the objects of an image of a split."""
        self._judged[name][index] = judged

    def findings(self) -> Iterator[Found]:
        """Yield everything about the objects: of the reader, of images, of splits."""
        for finding in findings_of(self._source):
            yield finding.kind, "", finding.place, finding.sentence
        for name, judged in self._judged.items():
            split = self._source.splits[name]
            for index in sorted(judged):
                key = split.key(index)
                for kind, detail in judged[index].findings:
                    yield kind, name, key, detail
                for kind, detail in _twice(judged[index].objects, self._source.classes):
                    yield kind, name, key, detail
                for detail in _masks_apart(judged[index], self._source.classes):
                    yield "mask-box-differs", name, key, detail
            yield from self._of_split(name)

    def annotation_sets(self) -> tuple[list[str], dict[str, NDArray[np.int64]]]:
        """Return names of what images are annotated with, and a number of it for every image of every split.

        Images of equal numbers have the same boxes of the same classes.
        """
        names: list[str] = []
        told: set[str] = set()
        seen: dict[bytes, int] = {}
        numbers = {name: np.zeros(len(split), np.int64) for name, split in self._source.splits.items()}
        for name, judged in self._judged.items():
            for index in sorted(judged):
                objects = judged[index].objects
                order = np.lexsort((*objects.boxes.T, objects.labels))
                content = objects.boxes[order].tobytes() + objects.labels[order].tobytes()
                if content not in seen:
                    seen[content] = len(names)
                    words = self._in_words(objects)
                    names.append(f"{words} in other places" if words in told else words)
                    told.add(words)
                numbers[name][index] = seen[content]
        return names, numbers

    def _in_words(self, objects: Objects) -> str:
        counts = np.bincount(objects.labels, minlength=len(self._source.classes)).tolist()
        words = [
            f"{count:,} {label}" for label, count in zip(self._source.classes, counts, strict=True) if count
        ]
        return " and ".join(words) or "nothing"

    def counts(self, name: str) -> ObjectCounts:
        """Return what the objects of a split are."""
        objects = [judged.objects for judged in self._judged[name].values()]
        classes = self._source.classes
        crowd = _joined([one.crowd for one in objects], np.bool_)
        areas = _joined([one.areas for one in objects], np.float32)
        labels = _joined([one.labels for one in objects], np.int64)
        present = _joined([np.unique(one.labels[~one.crowd]) for one in objects], np.int64)
        small, medium, large = np.histogram(areas, [0, _SMALL, _LARGE, np.inf])[0] / max(1, len(areas))
        low, middle, high = np.percentile(np.sqrt(areas), (5, 50, 95)) if len(areas) else np.zeros(3)
        per_class, images_per_class = (
            dict(zip(classes, np.bincount(numbers, minlength=len(classes)).tolist(), strict=True))
            for numbers in (labels[~crowd], present)
        )
        return ObjectCounts(
            images=len(objects),
            empty=sum(not len(one) for one in objects),
            objects=len(labels),
            crowd=int(crowd.sum()),
            difficult=int(sum(one.difficult.sum() for one in objects)),
            small=round(float(small), 4),
            medium=round(float(medium), 4),
            large=round(float(large), 4),
            side_px=(round(float(low), 1), round(float(middle), 1), round(float(high), 1)),
            masks=self._masks(name).num_known,
            per_class=per_class,
            images_per_class=images_per_class,
        )

    def _of_split(self, name: str) -> Iterator[Found]:
        counts = self.counts(name)
        if not counts.images:
            return
        slips = other_spellings(counts.per_class) if name == TRAIN else {}
        for label, count in counts.per_class.items():
            meant = f"; did you mean {slips[label]}?" if label in slips else ""
            if not count:
                yield "missing-class", name, label, f"no object of this class{meant}"
            elif name == TRAIN and count < _FEW_OBJECTS:
                yield "few-samples", name, label, f"only {_counted(count, 'object')} to learn from{meant}"
        if name != TRAIN and 0 < counts.objects < _FEW_MEASURED:
            detail = f"only {_counted(counts.objects, 'object')} to measure by"
            each = f"one more that is found is {100 / counts.objects:.0f} points of recall"
            yield "few-samples", name, "", f"{detail}: {each}"
        if counts.empty > _MANY_EMPTY * counts.images:
            detail = f"{counts.empty:,} of {_counted(counts.images, 'image')} have no objects"
            yield "no-objects", name, "", f"{detail}; where they were not annotated, take them out"
        if counts.crowd > _MANY_CROWDS * counts.objects:
            detail = f"{counts.crowd:,} of {_counted(counts.objects, 'object')} are crowds"
            yield "crowd-share", name, "", f"{detail}, which are neither learned nor measured"
        yield from self._tiny(name, counts.objects)
        yield from ((kind, name, "", detail) for kind, detail in findings_of_masks(self._masks(name)))

    def _masks(self, name: str) -> JudgedMasks:
        """Return the counts of the masks of a split."""
        return sum((judged.masks for judged in self._judged[name].values()), JudgedMasks())

    def _tiny(self, name: str, num_objects: int) -> Iterator[Found]:
        """Yield a finding where many objects are tiny at the size at which a network usually sees them."""
        record = self._source.preprocess
        usual_px = _USUAL_PX if record is None else record.crop_px
        tiny = 0
        for judged in self._judged[name].values():
            boxes = judged.objects.boxes
            shorter = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
            tiny += int((shorter * usual_px < _TINY_PX * max(judged.size)).sum())
        if tiny > _MANY_TINY * num_objects:
            detail = (
                f"{tiny:,} of {_counted(num_objects, 'object')} are narrower than {_TINY_PX} px where images"
            )
            yield "tiny-objects", name, "", f"{detail} have {usual_px} px; consider --image-px {2 * usual_px}"


def _joined(arrays: Sequence[NDArray[Any]], kind: type[Any]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *arrays])


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
