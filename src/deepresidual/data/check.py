"""Checking a data set before a network meets it: what a training run would stop at, and what spoils it.

Every sample of every split is read and decoded as training does. An *error* is what training would stop at:
a file that is damaged, truncated, empty, too large, or no image. A *warning* is what it would pass over or
learn wrongly: files that are not used, tiny images, the same picture twice, under two labels, or in training
and evaluation, and classes with few or no samples.

Pictures are compared by the SHA-256 of their decoded pixels, and those that differ by a perceptual hash
(:mod:`deepresidual.data.near_copies`): the same photo smaller, compressed again or mirrored. The same picture
under two labels comes first, since one of them is probably wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.check_kinds import OBJECT_KINDS, Severity
from deepresidual.data.check_samples import HASH_BYTES, Verdict, verdicts
from deepresidual.data.expectation import images_a_class
from deepresidual.data.near_copy_findings import Compared, near_copy_findings
from deepresidual.data.source import SampleSource, Split, as_source
from deepresidual.data.source.annotated.faults import faults_of
from deepresidual.data.source.base import DETECTION, TRAIN
from deepresidual.data.source.dataset import Dataset
from deepresidual.data.source.multilabel import MULTILABEL, LabelsChoice, targets_of
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.fields import is_whole
from deepresidual.runtime.console import ProgressBar
from deepresidual.runtime.processes import usable_cores

if TYPE_CHECKING:
    from deepresidual.data.check_objects import ObjectCounts, ObjectsCheck

KINDS: dict[str, Severity] = {
    "structure": "error",
    "unreadable": "error",
    "empty": "error",
    "unsupported": "error",
    "truncated": "error",
    "corrupt": "error",
    "too-large": "error",
    "crash": "error",
    "two-labels": "warning",
    "near-two-labels": "warning",
    "ignored": "warning",
    "tiny": "warning",
    "oversized": "warning",
    "leak": "warning",
    "near-leak": "warning",
    "duplicate-file": "warning",
    "duplicate-pixels": "warning",
    "near-copy": "warning",
    "series": "warning",
    "missing-class": "warning",
    "few-samples": "warning",
    "imbalance": "warning",
    **OBJECT_KINDS,
}
"""Every kind of finding, and whether a training run would stop at it."""

_FEW_SAMPLES = 10
_IMBALANCE = 10.0
# Training at 224 px reads 256 px; from four times that on, decoding costs more than the network on a GPU.
_OVERSIZED_PX = 1024
# Below so many samples the pool's start takes longer than the work.
_ALONE = 128


@dataclass(frozen=True)
class Finding:
    """One fault of a data set: an error or a warning.

    Attributes:
        kind: One of :data:`KINDS`.
        severity: ``error`` where a training run would stop, else ``warning``.
        split: The split it is about; empty where it is about the whole data set.
        key: The sample, class or file it is about; empty where it is about all.
        detail: What was found, as a clause.
    """

    kind: str
    severity: Severity
    split: str
    key: str
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """Result of :func:`check`.

    Attributes:
        num_samples: Samples of every split.
        num_classes: Classes of the data set; 0 where it could not be opened.
        findings: Errors first, then warnings.
        images_per_class: Training images of every class; empty where there is no such split.
        has_several_labels: Whether an image has several labels, so that it may count for several classes.
        objects: Of data with boxes, what the objects of every split are.
    """

    num_samples: Mapping[str, int]
    num_classes: int
    findings: tuple[Finding, ...]
    images_per_class: Mapping[str, int] = field(default_factory=dict)
    has_several_labels: bool = False
    objects: Mapping[str, ObjectCounts] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are no errors: training could read every sample."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """Findings of every kind that occurred, in the order of :data:`KINDS`."""
        found = [finding.kind for finding in self.findings]
        return {kind: found.count(kind) for kind in KINDS if kind in set(found)}

    def summary(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {
            "ok": self.ok,
            "num_samples": dict(self.num_samples),
            "num_classes": self.num_classes,
            "images_per_class": dict(self.images_per_class),
            **(
                {"objects": {name: asdict(counts) for name, counts in self.objects.items()}}
                if self.objects
                else {}
            ),
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check(
    data: SampleSource | Dataset | str | Path,
    *,
    min_px: int = 16,
    group: str | None = None,
    labels: LabelsChoice | None = None,
    num_workers: int | None = None,
) -> CheckReport:
    """Read and decode every sample of a data set, and report what is wrong with it.

    Args:
        data: A data set: opened, by name, or a Python object.
        min_px: Images whose shorter side has fewer pixels are reported as tiny.
        group: What belongs together, as for :func:`deepresidual.train`.
        labels: Whether an image has ``one`` label or ``several``. Default: told by the data.
        num_workers: Processes that decode; 0 decodes in this one. Default: one a core.

    Returns:
        The report. A data set that cannot be opened is a finding of its own, and so is one by name that lacks
        a split which training needs.

    Raises:
        ConfigurationError: An option is out of range, or ``data`` does not name a kind of data set.
    """
    if not is_whole(min_px, 0, 16_384):
        raise ConfigurationError(f"min_px is {min_px!r}", expected="0 to 16384")
    if num_workers is not None and not is_whole(num_workers, 0, 256):
        raise ConfigurationError(f"num_workers is {num_workers!r}", expected="0 to 256")
    try:
        source = as_source(data, labels=labels, group=group)
    except DataError as error:
        faults = [
            _finding(fault.kind if fault.kind in OBJECT_KINDS else "structure", "", "", str(fault))
            for fault in faults_of(error)
        ]
        return CheckReport({}, 0, tuple(faults))
    objects = _objects_check(source)
    told = () if objects is None else objects.told_elsewhere
    findings = [
        _finding("ignored", "", file.path, file.reason) for file in source.ignored if file not in told
    ]
    if not isinstance(data, SampleSource):  # of one that was opened already, a part may be all that is wanted
        findings += _lacking_splits(source)
    num_samples = {name: len(split) for name, split in source.splits.items()}
    total = sum(num_samples.values())
    workers = (usable_cores() if total >= _ALONE else 0) if num_workers is None else num_workers
    measured: dict[str, _Measured] = {}
    names, meanings = _label_sets(source)
    done = 0
    with ProgressBar(total, label="checking") as bar:
        for name, split in source.splits.items():
            measured[name] = _Measured(split, meanings[name])
            for verdict in verdicts(split, workers):
                if verdict.kind:
                    findings.append(_finding(verdict.kind, name, verdict.key, verdict.detail))
                else:
                    measured[name].add(verdict)
                if objects is not None and verdict.objects is not None:
                    objects.add(name, verdict.index, verdict.objects)
                done += 1
                bar.update(done, f"{name}, {len(findings):,} findings")
    sets, numbers = (names, meanings) if objects is None else objects.annotation_sets()
    for name, measurement in measured.items():
        findings += _sizes(name, measurement, min_px)
        findings += _duplicates(name, measurement, numbers[name], sets)
        if objects is None:
            findings += _classes(name, _counts(source, name), source.classes)
    if objects is not None:
        findings += itertools.starmap(_finding, objects.findings())
    findings += _leaks(measured, names)
    compared = {
        name: Compared(part.split, part.labels, part.pixel_hashes, part.near_hashes)
        for name, part in measured.items()
    }
    findings += itertools.starmap(
        _finding, near_copy_findings(compared, names, by_pixels=objects is not None)
    )
    places = {kind: place for place, kind in enumerate(KINDS)}
    findings.sort(key=lambda finding: (finding.severity != "error", places[finding.kind]))
    return CheckReport(
        num_samples,
        len(source.classes),
        tuple(findings),
        _images_per_class(source, objects),
        source.task == MULTILABEL,
        {} if objects is None else {name: objects.counts(name) for name in source.splits},
    )


def _objects_check(source: SampleSource) -> ObjectsCheck | None:
    """Return the check of the objects of a data set; ``None``: its images have classes."""
    if source.task != DETECTION:
        return None
    from deepresidual.data.check_objects import ObjectsCheck

    return ObjectsCheck(source)


def _images_per_class(source: SampleSource, objects: ObjectsCheck | None) -> dict[str, int]:
    if TRAIN not in source.splits:
        return {}
    if objects is not None:
        return dict(objects.counts(TRAIN).images_per_class)
    return dict(zip(source.classes, _counts(source, TRAIN).tolist(), strict=True))


def _counts(source: SampleSource, name: str) -> NDArray[np.int64]:
    """Return the images of a split that have each class."""
    split = source.split(name)
    if source.task == MULTILABEL:
        return np.asarray(targets_of(split).sum(axis=0), dtype=np.int64)
    return np.array(images_a_class(split.labels, len(source.classes)), dtype=np.int64)


def _label_sets(source: SampleSource) -> tuple[Sequence[str], dict[str, NDArray[np.int64]]]:
    """Return names of what images are labelled with, and a number of it for every image of every split.

    Of several labels an image each set of labels that occurs counts for itself: ``cat|dog``. What has boxes
    is labelled with them, and no image differs from another by its label.
    """
    if source.task == DETECTION:
        zeros = {name: np.zeros(len(split), dtype=np.int64) for name, split in source.splits.items()}
        return (source.name,), zeros
    if source.task != MULTILABEL:
        labels = {name: np.array(split.labels, dtype=np.int64) for name, split in source.splits.items()}
        return source.classes, labels
    parts = [targets_of(split) for split in source.splits.values()]
    sets, numbers = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    names = ["|".join(itertools.compress(source.classes, row)) or "no label" for row in sets]
    ends = np.cumsum([len(part) for part in parts])
    return names, dict(zip(source.splits, np.split(numbers.reshape(-1), ends[:-1]), strict=True))


def _lacking_splits(source: SampleSource) -> Iterator[Finding]:
    try:
        source.require_training_splits()
    except DataError as error:
        yield _finding("structure", "", "", str(error))


def _finding(kind: str, split: str, key: str, detail: str) -> Finding:
    return Finding(kind, KINDS[kind], split, key, detail)


# -- a whole split ----------------------------------------------------------------------------------------


class _Measured:
    """Hashes and sizes of the good samples of a split: 52 bytes a sample, whatever the images take."""

    def __init__(self, split: Split, labels: NDArray[np.int64]) -> None:
        self.split, self.labels = split, labels
        self.content_hashes, self.pixel_hashes = np.zeros((2, len(split)), dtype=f"S{HASH_BYTES}")
        self.near_hashes = np.zeros((len(split), 2), dtype=np.uint64)
        self.shorter_px = np.zeros(len(split), dtype=np.int32)  # 0: not a good sample

    def add(self, verdict: Verdict) -> None:
        """Note a good sample."""
        self.content_hashes[verdict.index] = verdict.content_hash
        self.pixel_hashes[verdict.index] = verdict.pixel_hash
        self.near_hashes[verdict.index] = verdict.near_hash
        self.shorter_px[verdict.index] = verdict.shorter_px

    @property
    def good(self) -> NDArray[np.int64]:
        """Places of the good samples, in order."""
        return np.flatnonzero(self.shorter_px)


def _sizes(name: str, measured: _Measured, min_px: int) -> Iterator[Finding]:
    sides = measured.shorter_px[measured.good]
    if not len(sides):
        return
    tiny = measured.good[sides < min_px]
    if len(tiny) > len(sides) / 2:
        # Small pictures on purpose, as digits are: one word about them is enough.
        detail = f"{len(tiny):,} of {len(sides):,} images have a shorter side under {min_px} px"
        yield _finding("tiny", name, "", detail)
    else:
        for index in tiny.tolist():
            side = measured.shorter_px[index]
            yield _finding("tiny", name, measured.split.key(index), f"the shorter side has {side} px")
    median = int(np.median(sides))
    if median >= _OVERSIZED_PX:
        detail = (
            f"half of the images have a shorter side of {median:,} px or more; smaller copies train faster"
        )
        yield _finding("oversized", name, "", detail)


def _duplicates(
    name: str, measured: _Measured, labels: NDArray[np.int64], classes: Sequence[str]
) -> Iterator[Finding]:
    """Yield a finding for every picture that has come before in its split."""
    good = measured.good
    _, firsts, groups = np.unique(measured.pixel_hashes[good], return_index=True, return_inverse=True)
    for place in np.flatnonzero(firsts[groups] != np.arange(len(good))).tolist():
        index, first = int(good[place]), int(good[firsts[groups[place]]])
        key, original = measured.split.key(index), measured.split.key(first)
        if labels[index] != labels[first]:
            here, there = classes[labels[index]], classes[labels[first]]
            detail = f"{here} here, and {there} as {original}: the same picture"
            yield _finding("two-labels", name, key, detail)
        elif measured.content_hashes[index] == measured.content_hashes[first]:
            yield _finding("duplicate-file", name, key, f"the same file as {original}")
        else:
            yield _finding("duplicate-pixels", name, key, f"the same picture as {original}")


def _leaks(measured: Mapping[str, _Measured], classes: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for every picture of another split that training sees, too."""
    if "train" not in measured:
        return
    train = measured["train"]
    hashes, firsts = np.unique(train.pixel_hashes[train.good], return_index=True)
    for name, other in measured.items():
        if name == "train" or not len(hashes):
            continue
        wanted = other.pixel_hashes[other.good]
        places = np.searchsorted(hashes, wanted).clip(max=len(hashes) - 1)
        for place in np.flatnonzero(hashes[places] == wanted).tolist():
            index, first = int(other.good[place]), int(train.good[firsts[places[place]]])
            label, trained = other.labels[index], train.labels[first]
            suffix = f", where it is {classes[trained]} and not {classes[label]}" if label != trained else ""
            detail = f"training sees the same picture as {train.split.key(first)}{suffix}"
            yield _finding("leak", name, other.split.key(index), detail)


def _classes(name: str, counts: NDArray[np.int64], classes: Sequence[str]) -> Iterator[Finding]:
    for label in np.flatnonzero(counts == 0).tolist():
        yield _finding("missing-class", name, classes[label], "no sample of this class")
    if name != "train":
        return
    for label in np.flatnonzero((counts > 0) & (counts < _FEW_SAMPLES)).tolist():
        yield _finding("few-samples", name, classes[label], f"only {counts[label]} to learn from")
    largest, smallest = int(counts.argmax()), int(np.where(counts, counts, counts.max() + 1).argmin())
    ratio = counts[largest] / counts[smallest]
    if ratio > _IMBALANCE:
        detail = (
            f"{classes[largest]} has {counts[largest]:,} samples and {classes[smallest]} "
            f"{counts[smallest]:,}: {ratio:,.0f} times as many; consider --class-prior equal"
        )
        yield _finding("imbalance", name, "", detail)
