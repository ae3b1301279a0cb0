"""``DetectionSetup``: a detector and data with boxes, opened once, then measured; and files of results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np

from deepresidual.backends.object_detector import ObjectDetector
from deepresidual.data.loader import require_none_bad
from deepresidual.data.objects import Objects
from deepresidual.data.source import SampleSource, Split
from deepresidual.data.source.annotated.split import DETECTION, objects_of
from deepresidual.data.source.base import canonical_split
from deepresidual.data.source.dataset import Dataset
from deepresidual.data.source.validation import Subset
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation.left_out import without_trained
from deepresidual.evaluation.objects.comparison import DetectedSide, DetectorComparison, compare_sides
from deepresidual.evaluation.objects.detect import detected_batches
from deepresidual.evaluation.objects.measure import measure
from deepresidual.evaluation.objects.result import DetectionEvaluation
from deepresidual.evaluation.objects.results_file import (
    ResultNames,
    require_result_suffix,
    write_results,
)
from deepresidual.evaluation.objects.rules import Rules
from deepresidual.evaluation.objects.unused_boxes import warn_of_unused_boxes
from deepresidual.evaluation.opened_data import opened_data, rows_of_classes
from deepresidual.evaluation.options import EvaluationKeywords, EvaluationOptions
from deepresidual.evaluation.shared_samples import Side, shared_samples
from deepresidual.evaluation.views import Views
from deepresidual.fields import replaced
from deepresidual.models import load
from deepresidual.runs.samples import run_of
from deepresidual.runtime.console import ProgressBar, note
from deepresidual.runtime.files import expanded
from deepresidual.runtime.processes import resolve_num_workers

_PIXELS_TOGETHER = 4_000_000  # of the images that are read together, whose sides may be a thousand


@dataclass(frozen=True)
class DetectionSetup:
    """A detector and a data set, ready to be measured.

    Attributes:
        model: The detector, on its device.
        name: What the user calls it.
        source: The data set.
        rows: The detector's class of every class of the data set.
        options: The options it was opened with.
        split: The split that is reported.
        num_left_out: Images of the split that the detector was trained on, and that are not measured.
    """

    model: ObjectDetector
    name: str
    source: SampleSource
    rows: tuple[int, ...]
    options: EvaluationOptions
    split: str
    num_left_out: int = 0

    @classmethod
    def open(
        cls,
        model: ObjectDetector | str | Path,
        data: SampleSource | Dataset | str | Path,
        options: EvaluationOptions | None = None,
        **keywords: Unpack[EvaluationKeywords],
    ) -> DetectionSetup:
        """Load a detector and open data.

        Args:
            model: The detector, or its folder.
            data: A data set with boxes.
            options: Options of the evaluation.
            keywords: Fields of :class:`EvaluationOptions` that replace those of ``options``.

        Raises:
            ConfigurationError: An option is out of range, or has no meaning for a detector.
            DataError: The data cannot be used, or has a class that the detector does not know.
            ModelFileError: The detector cannot be loaded.
        """
        chosen = replaced(options or EvaluationOptions(), keywords, "evaluate")
        setup = cls._open(model, data, chosen)
        runs = (
            [] if isinstance(model, ObjectDetector) else [run for run in [run_of(model)] if run is not None]
        )
        source, left_out = without_trained(setup.source, setup.split, runs, chosen)
        warn_of_unused_boxes(source.split(setup.split))
        return replace(setup, source=source, num_left_out=left_out)

    @classmethod
    def open_two(
        cls, models: tuple[str | Path, str | Path], data: str | Path, **keywords: Unpack[EvaluationKeywords]
    ) -> tuple[DetectionSetup, DetectionSetup]:
        """Load two detectors, each to be measured on the images that both may be judged on.

        Raises:
            ConfigurationError: An option is out of range.
            DataError: The data cannot be used, or no image is held out by both.
            ModelFileError: A detector cannot be loaded.
        """
        chosen = replaced(EvaluationOptions(), keywords, "compare")
        first, second = (cls._open(model, data, chosen) for model in models)
        sides = tuple(
            Side(setup.name, run_of(model), setup.split, setup.source.split(setup.split))
            for setup, model in zip((first, second), models, strict=True)
        )
        samples, left_out = shared_samples(
            (sides[0], sides[1]), str(data), keep_training_images=chosen.keep_training_images
        )
        warn_of_unused_boxes(samples[0])
        return _on(first, samples[0], left_out), _on(second, samples[1], left_out)

    @classmethod
    def _open(
        cls,
        model: ObjectDetector | str | Path,
        data: SampleSource | Dataset | str | Path,
        options: EvaluationOptions,
    ) -> DetectionSetup:
        _require_plain(options)
        loaded = model if isinstance(model, ObjectDetector) else load(model, backend=options.backend)
        if not isinstance(loaded, ObjectDetector):
            raise ConfigurationError(f"{model} finds no objects", expected="a detector")
        name = "the model" if isinstance(model, ObjectDetector) else str(model)
        settled = loaded.to(options.device).settle_precision(options.precision)
        if options.precision == "auto":
            note(f"computing  {settled}")
        detector = loaded.in_precision(settled.precision)
        record = Views.of(options.views).preprocess(detector.preprocess)
        runs = (
            [] if isinstance(model, ObjectDetector) else [run for run in [run_of(model)] if run is not None]
        )
        source, split = opened_data(data, options, runs)
        if source.task != DETECTION:
            raise DataError(
                f"{source.name} has no boxes and {name} finds objects",
                expected="data with boxes: COCO, Pascal VOC or YOLO",
            )
        rows = rows_of_classes(
            detector.label_names,
            source,
            remedy=f"train on these data: residual train {source.location or 'DATA'}",
        )
        return cls(
            detector.with_preprocess(record),
            name,
            source,
            tuple(rows),
            options,
            canonical_split(split) or split,
        )

    # -- what can be measured ----------------------------------------------------------------------------

    def evaluate(self, min_score: float = 0.0) -> DetectionEvaluation:
        """Measure the detector, and write the file of predictions that the options name.

        Args:
            min_score: Score from which on a detection is written; all are measured.

        Raises:
            DataError: An image cannot be used.
            RunError: The file of predictions cannot be written.
        """
        if not 0 <= min_score <= 1:
            raise ConfigurationError(f"min_score is {min_score}", expected="a score from 0 to 1")
        found = self.find()
        if self.options.predictions is not None:
            names = ResultNames.of(self.source, self.split)
            write_results(
                expanded(self.options.predictions),
                [above(each, min_score) for each in found],
                self._own(names),
            )
        return self.measured(found)

    def measured(self, found: Sequence[Objects]) -> DetectionEvaluation:
        """Return the figures of what was found in every image of the split."""
        names = ResultNames.of(self.source, self.split)
        return measure(
            self.split,
            found,
            self.truth(),
            self.model.label_names,
            keys=names.keys,
            image_ids=names.image_ids,
            rules=Rules(self.options.metric),
        )

    def find(self) -> list[Objects]:
        """Return what the detector finds in every image of the split.

        Raises:
            DataError: An image cannot be used.
        """
        found: list[Objects] = []
        num_images = len(self.source.split(self.split))
        self.model.expect(num_images)
        with ProgressBar(num_images, label=f"evaluating {self.split}") as bar:
            for batch in self.found_in(range(num_images)):
                found += batch
                bar.update(len(found), f"{sum(map(len, batch)) / max(1, len(batch)):.0f} found an image")
        return found

    def found_in(self, part: range) -> Iterator[list[Objects]]:
        """Yield what the detector finds in some images in a row of the split, batch by batch.

        How an exported detector is computed is for the caller to settle, by :meth:`ObjectDetector.expect`.

        Args:
            part: Indices into the split.

        Raises:
            DataError: An image cannot be used.
        """
        samples = self.source.split(self.split)
        side = self.model.preprocess.crop_px
        batch_size = max(1, min(self.options.batch_size, _PIXELS_TOGETHER // side**2))
        workers = resolve_num_workers(self.options.num_workers, self.model.device_type, side)
        chosen = samples if len(part) == len(samples) else Subset(samples, part)
        for batch in detected_batches(self.model, chosen, batch_size=batch_size, num_workers=workers):
            require_none_bad(batch.bad)
            yield batch.found

    def truth(self) -> list[Objects]:
        """Return the objects of every image of the split; labels are the detector's classes."""
        samples, rows = self.source.split(self.split), np.array(self.rows)
        annotated = (objects_of(samples, index) for index in range(len(samples)))
        return [dataclasses.replace(objects, labels=rows[objects.labels]) for objects in annotated]

    def _own(self, names: ResultNames) -> ResultNames:
        """Return the names with the classes in the detector's order."""
        categories: list[int | str | None] = [None] * len(self.model.label_names)
        for row, category in zip(self.rows, names.category_ids, strict=True):
            categories[row] = category
        return replace(names, labels=self.model.label_names, category_ids=categories)


def compare_detectors(first: DetectionSetup, second: DetectionSetup) -> DetectorComparison:
    """Measure two detectors on the same images, and tell which is better and how sure that is.

    Args:
        first: A detector.
        second: Another, on images of the same names.

    Raises:
        DataError: An image cannot be used, or there is no object to find.
    """
    sides = []
    for setup in (first, second):
        # In classes of the data, which both know; what else a detector knows has no objects there.
        classes = np.full(len(setup.model.label_names), -1)
        classes[np.array(setup.rows)] = np.arange(len(setup.rows))
        found, truth = (
            [_relabelled(each, classes) for each in side] for side in (setup.find(), setup.truth())
        )
        sides.append(DetectedSide(found, truth))
    return compare_sides(sides[0], sides[1], len(first.rows), Rules(first.options.metric))


def _on(setup: DetectionSetup, samples: Split, num_left_out: int) -> DetectionSetup:
    """Return a setup with these samples in the split that is reported."""
    source = replace(setup.source, splits={**setup.source.splits, setup.split: samples})
    return replace(setup, source=source, num_left_out=num_left_out)


def above(objects: Objects, min_score: float) -> Objects:
    """Return the objects whose score is at least ``min_score``."""
    return objects if objects.scores is None else objects[objects.scores >= min_score]


def _relabelled(objects: Objects, classes: np.ndarray) -> Objects:
    """Return the objects whose class has another number, with that."""
    labels = classes[objects.labels]
    return dataclasses.replace(objects, labels=labels)[labels >= 0]


def _require_plain(options: EvaluationOptions) -> None:
    """Refuse what has a meaning for classifiers only.

    Raises:
        ConfigurationError: Such an option is given.
    """
    given: Sequence[tuple[str, bool]] = (
        (f"views {Views.of(options.views).kind!r}", Views.of(options.views).kind != "one"),
        ("fit_temperature", options.fit_temperature is not None),
        ("precision_target", options.precision_target is not None),
        ("top_k", options.top_k != 1),
    )
    for what, is_given in given:
        if is_given:
            raise ConfigurationError(f"{what} has no meaning for a detector", remedy="leave it out")
    if options.predictions is not None:
        require_result_suffix(expanded(options.predictions), "the file for predictions")
