"""Measure files of what detectors found, ours or another program's, and compare two of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from deepresidual.data.objects import Objects
from deepresidual.data.source import SampleSource
from deepresidual.data.source.annotated.split import DETECTION, objects_of
from deepresidual.data.source.base import canonical_split
from deepresidual.errors import DataError
from deepresidual.evaluation.objects.comparison import DetectedSide, DetectorComparison, compare_sides
from deepresidual.evaluation.objects.measure import measure
from deepresidual.evaluation.objects.result import DetectionEvaluation
from deepresidual.evaluation.objects.results_file import ResultNames, read_results, require_result_suffix
from deepresidual.evaluation.objects.rules import Rules
from deepresidual.evaluation.objects.unused_boxes import warn_of_unused_boxes
from deepresidual.evaluation.opened_data import opened_data
from deepresidual.evaluation.options import EvaluationKeywords, EvaluationOptions
from deepresidual.fields import replaced
from deepresidual.runtime.files import expanded


def evaluate_results(
    path: str | Path,
    data: SampleSource | str | Path,
    options: EvaluationOptions | None = None,
    **keywords: Unpack[EvaluationKeywords],
) -> DetectionEvaluation:
    """Measure what a file says was found: of ``residual evaluate --predictions``, or of another program.

    Args:
        path: A ``.json`` of COCO's format of results, or a table ``.csv``, ``.jsonl`` or ``.parquet``; see
            :mod:`deepresidual.evaluation.objects.results_file`.
        data: A data set with boxes.
        options: Split and rules.
        keywords: Fields of :class:`EvaluationOptions` that replace those of ``options``.

    Raises:
        ConfigurationError: An option is out of range, or the name of the file ends in no known format.
        DataError: The data or the file cannot be used.
    """
    chosen = replaced(options or EvaluationOptions(), keywords, "evaluate_results")
    require_result_suffix(expanded(path), "the file of results")
    annotated = _Annotated.of(data, chosen)
    return measure(
        annotated.split,
        read_results(expanded(path), annotated.names),
        annotated.truth,
        annotated.names.labels,
        keys=annotated.names.keys,
        image_ids=annotated.names.image_ids,
        rules=Rules(chosen.metric),
    )


def compare_results(
    first: str | Path,
    second: str | Path,
    data: SampleSource | str | Path,
    **keywords: Unpack[EvaluationKeywords],
) -> DetectorComparison:
    """Compare two detectors by files of what they found in the same images.

    Args:
        first: A file, as :func:`evaluate_results` takes it.
        second: Another.
        data: A data set with boxes.
        keywords: Fields of :class:`EvaluationOptions`: split and rules.

    Raises:
        ConfigurationError: An option is out of range, or the name of a file ends in no known format.
        DataError: The data or a file cannot be used, or there is no object to find.
    """
    chosen = replaced(EvaluationOptions(), keywords, "compare_results")
    annotated = _Annotated.of(data, chosen)
    before, after = (
        DetectedSide(read_results(expanded(path), annotated.names), annotated.truth)
        for path in (first, second)
    )
    return compare_sides(before, after, len(annotated.names.labels), Rules(chosen.metric))


@dataclass(frozen=True)
class _Annotated:
    """A split of a data set with boxes.

    Attributes:
        split: Its name.
        names: What the data call images and classes.
        truth: The objects of every image.
    """

    split: str
    names: ResultNames
    truth: list[Objects]

    @classmethod
    def of(cls, data: SampleSource | str | Path, options: EvaluationOptions) -> _Annotated:
        source, split = opened_data(data, options, [])
        if source.task != DETECTION:
            raise DataError(
                f"{source.name} has no boxes", expected="data with boxes: COCO, Pascal VOC or YOLO"
            )
        samples = source.split(split)
        warn_of_unused_boxes(samples)
        truth = [objects_of(samples, index) for index in range(len(samples))]
        return cls(canonical_split(split) or split, ResultNames.of(source, split), truth)
