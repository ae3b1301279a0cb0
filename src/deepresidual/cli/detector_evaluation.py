"""``residual evaluate`` and ``residual compare`` for detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepresidual.cli.evaluation_folder import measured_in_shards, print_unfinished
from deepresidual.cli.object_tables import print_comparison, print_detections
from deepresidual.cli.output import print_json, print_line
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.files import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deepresidual.evaluation.objects import DetectorComparison
    from deepresidual.runtime.shard_folder import Share

__all__ = [
    "compare_files",
    "compare_two_detectors",
    "evaluate_detector",
    "evaluate_file",
    "hold_boxes",
    "holds_results",
]

# Options that have a meaning for boxes; what the evaluation calls them where that differs.
_OPTIONS = {
    "split": "split",
    "validation": "validation",
    "group": "group",
    "keep_training_images": "keep_training_images",
    "predictions": "predictions",
    "metric": "metric",
    "batch_size": "batch_size",
    "precision": "precision",
    "backend": "backend",
    "device": "device",
    "workers": "num_workers",
}
_RESULTS = (".json", ".csv", ".jsonl", ".parquet")
_SHOWN = ("details", "json", "min_score", "image_px", "resize_px", "report", "out", "shard", "shard_size")


def evaluate_detector(members: Sequence[str], data: str, given: Mapping[str, Any], share: Share) -> int:
    """Measure a detector on a data set with boxes, and print what was found.

    Args:
        members: The model; of several none but classifiers can be averaged.
        data: The data set.
        given: Options of ``residual evaluate`` that were given, by name.
        share: The shards of this process, where it is measured in shards.
    """
    if len(members) > 1:
        raise ConfigurationError(
            f"there are {len(members)} models, and one of them is a detector",
            expected="one detector",
            remedy="compare two by 'residual compare FIRST SECOND DATA'",
        )
    _require_meaning(given, (*_OPTIONS, *_SHOWN))
    from deepresidual.evaluation import Views
    from deepresidual.evaluation.objects import DetectionSetup

    views = Views("one", (), given.get("image_px"), given.get("resize_px"))
    options = {_OPTIONS[name]: value for name, value in given.items() if name in _OPTIONS}
    setup = DetectionSetup.open(members[0], data, views=views, **options)
    if (out := given.get("out")) is None:
        measured = setup.evaluate(given.get("min_score", 0.0))
    else:
        part = measured_in_shards(setup, out, share, given.get("shard_size"))
        if part is None:
            as_json = given.get("json", False)
            print_unfinished(setup.split, members[0], data, out, as_json=as_json)
            return 0
        measured = part
    if report := given.get("report"):
        from deepresidual.tasks.evaluation_report import report_detections

        report_detections(setup, measured, data, report)
    if given.get("json"):
        left_out = {"num_left_out": setup.num_left_out} if setup.num_left_out else {}
        written = {"report": str(report)} if report else {}
        facts = {"model": members[0], "data": data, **written, "views": views.to_dict(), **left_out}
        print_json({**facts, **measured.to_dict()})
    else:
        print_detections(measured, f"{members[0]} on {data}", details=given.get("details", False))
        if report:
            print_line(f"report  {report}")
    return 0


def holds_results(name: str) -> bool:
    """Return whether an argument is a file of what a detector found; no model is such a file."""
    path = expanded(name)
    return path.suffix.casefold() in _RESULTS and path.is_file()


def evaluate_file(file: str, data: str, given: Mapping[str, Any]) -> int:
    """Measure a file of what a detector found, ours or another program's, and print the figures.

    Args:
        file: COCO's format of results, or a table.
        data: The data set.
        given: Options of ``residual evaluate`` that were given, by name.
    """
    _require_meaning(
        given, ("split", "validation", "group", "metric", "details", "json"), "results in a file"
    )
    from deepresidual.evaluation.objects import evaluate_results

    options = {_OPTIONS[name]: value for name, value in given.items() if name in _OPTIONS}
    measured = evaluate_results(file, data, **options)
    if given.get("json"):
        print_json({"results": file, "data": data, **measured.to_dict()})
    else:
        print_detections(measured, f"{file} on {data}", details=given.get("details", False))
    return 0


def compare_two_detectors(names: tuple[str, str], data: str, given: Mapping[str, Any]) -> int:
    """Measure two detectors on the same images, and print which is better.

    Args:
        names: The two.
        data: The data set.
        given: Options of ``residual compare`` that were given, by name.
    """
    _require_meaning(given, (*_OPTIONS, "json"))
    from deepresidual.evaluation.objects import DetectionSetup, compare_detectors

    options = {_OPTIONS[name]: value for name, value in given.items() if name in _OPTIONS}
    setups = DetectionSetup.open_two(names, data, **options)
    left_out = {"num_left_out": setups[0].num_left_out} if setups[0].num_left_out else {}
    _print_compared(names, compare_detectors(*setups), left_out, as_json=given.get("json", False))
    return 0


def hold_boxes(data: str) -> bool:
    """Return whether a data set has boxes."""
    from deepresidual.data.source import open_source, require_exists
    from deepresidual.data.source.annotated.split import DETECTION

    require_exists(data)
    return open_source(data).task == DETECTION


def compare_files(names: tuple[str, str], data: str, given: Mapping[str, Any]) -> int:
    """Compare two files of what detectors found, and print which is better.

    Args:
        names: The two.
        data: The data set.
        given: Options of ``residual compare`` that were given, by name.
    """
    _require_meaning(given, ("split", "json"), "results in files")
    from deepresidual.evaluation.objects import compare_results

    options = {"split": given["split"]} if "split" in given else {}
    compared = compare_results(*names, data, **options)
    _print_compared(names, compared, {}, as_json=given.get("json", False))
    return 0


def _print_compared(
    names: tuple[str, str], compared: DetectorComparison, facts: Mapping[str, int], *, as_json: bool
) -> None:
    if as_json:
        print_json({"first": names[0], "second": names[1], **facts, **compared.to_dict()})
    else:
        print_comparison(names, compared)


def _require_meaning(given: Mapping[str, Any], known: Sequence[str], what: str = "a detector") -> None:
    """Refuse options that say nothing of boxes.

    Raises:
        ConfigurationError: One is given.
    """
    for name in given:
        if name not in known:
            shown = name.replace("_", "-")
            raise ConfigurationError(f"--{shown} has no meaning for {what}", remedy=f"leave --{shown} out")
