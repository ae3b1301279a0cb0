"""Read a run folder and check what is read: for reports, for resuming, for experiments. No torch.

A run folder may come from elsewhere or be half written, so nothing is taken for granted: what a page shows
is checked here, once, and a page never fails halfway. ``metrics.jsonl`` may end in the middle of a line, as
it does while a run is writing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.recipe import with_new_names
from deepresidual.runs.detections import check_detections
from deepresidual.runs.plan import Plan
from deepresidual.runtime.strict_json import Between, Kind, Line, RecordError, check, read_lines, read_record

SCHEMA_VERSION = 1

_MAX_PICTURE_BYTES = 2_000_000
_NO_PLAN = "restore it from a copy, or start anew in another --out; the model folder is not touched"

_COUNT = Between(0, whole=True)
_SHARE = Between(0, 1)
_MEAN_SHARE = Between(0, 1.001)  # a mean of ones may be rounded up
# Far beyond what training may end with, and far below where a chart overflows.
_LOSS = Between(-1e30, 1e30)
_EPOCH = Between(0, 1e12)

CLASSIFICATION_CHARTS: Mapping[str, str] = MappingProxyType(
    {"loss": "cross-entropy (nats)", "top1": "top-1 error (%)"}
)
"""Figures whose curves the report of a run without ``charts`` shows, with the label of the axis."""

_PLAN: dict[str, Kind] = {
    "model": str,
    "spec": dict,
    "data": str,
    "num_samples": _COUNT,
    "num_held_out": _COUNT,
    "validation": _SHARE,
    "bad_samples": str,
    "classes": [str],
    "fingerprint": {str: str},
    "preprocess": {"crop_px": _COUNT, "channels": str},
    "recipe": {"augment": dict, "mix": dict},
    "seed": _COUNT,
    "precision": str,
    "compiled": bool,
    "weights": str,
}
FACTS: dict[str, Kind] = {
    "status": str,
    "step": _COUNT,
    "total_steps": _COUNT,
    "started": str,
    "updated": str,
    "error": str,
    "command": [str],
    "versions": {str: (str, None)},
    "hardware": {
        "device": str,
        "name": str,
        "machine?": str,
        "cores?": _COUNT,
        "threads": Between(1, 65_536, whole=True),
        "bf16?": bool,
    },
    "num_ranks": Between(1, 1_000_000, whole=True),
    "ignored": [{"path": str, "reason": str}],
    "data_location?": str,
    "bad_samples?": {str: str},
    "not_finite?": [_COUNT],
    "charts?": {str: str},
    "group?": str,
    "length?": {"minutes": Between(0, 1e6), "is_settled": bool},
}
"""The fields of ``run.json`` beside the plan: a run can go on without them."""

_RECORD: dict[str, Kind] = {"plan": _PLAN, **FACTS}

_ROW: dict[str, Kind] = {"event": str, "step": _COUNT, "epoch": _EPOCH}
_MEASURED: dict[str, Kind] = {"loss": _LOSS}
_EVENTS: dict[str, Kind] = {
    "train": {**_MEASURED, "top1?": _SHARE, "images_per_second?": Between(0, 1e30)},
    "evaluation": {**_MEASURED, "top1?": _SHARE, "map?": _MEAN_SHARE, "split": str},
    "candidate": {**_MEASURED, "top1?": _SHARE, "map?": _MEAN_SHARE, "split": str, "candidate": str},
}

_SHOWN: dict[str, Kind] = {"key": str, "label": str, "probability": _MEAN_SHARE, "loss": _LOSS}
_EVALUATION: dict[str, Kind] = {
    "step?": _COUNT,
    "split": str,
    "top1": _SHARE,
    "top5": _SHARE,
    "loss": _LOSS,
    "count": _COUNT,
    "classes": [str],
    "confusions": [[_COUNT]],
    "mistakes": [{**_SHOWN, "predicted": str}],
    # Older runs have none of these.
    "best?": [_SHOWN],
    "bins?": [
        {"low": _SHARE, "high": _SHARE, "count": _COUNT, "confidence": _MEAN_SHARE, "accuracy": _SHARE}
    ],
    "top1_interval?": ([_SHARE], None),
    "ece?": (_SHARE, None),
}

LABEL_ERRORS, LEARNING_CURVE = "label-errors.json", "learning-curve.json"
"""Files of what was found out about the images; a run has them where it begins with learned weights."""

_LABEL_ERRORS: dict[str, Kind] = {
    "reason": str,
    "num_images": _COUNT,
    "top1": (_SHARE, None),
    "trust": (Between(0, 10, whole=True), None),
    "rows": [
        {
            "path": str,
            "split": str,
            "label": str,
            "suggested": str,
            "probability": _MEAN_SHARE,
            "suggested_probability": _MEAN_SHARE,
        }
    ],
    "conflicts?": [{"path": str, "split": str, "label": str, "twin": str, "twin_label": str}],
}
_LEARNING_CURVE: dict[str, Kind] = {
    "reason": str,
    "points": [{"count": _COUNT, "error": _SHARE}],
    "gain": str,
    "doubling": Between(-1e6, 1),
    "doubling_interval": [Between(-1e6, 1)],
}

_LABELLED: dict[str, Kind] = {
    "key": str,
    "labels": [str],
    "predicted": [str],
    "doubtful": str,
    "probability": _MEAN_SHARE,
    "loss": _LOSS,
}
_LABELS: dict[str, Kind] = {
    "task": str,
    "split": str,
    "loss": _LOSS,
    "count": Between(1, whole=True),
    **dict.fromkeys(
        ("map", "micro_ap", "macro_f1", "micro_f1", "exact_match", "always_macro_f1"), _MEAN_SHARE
    ),
    "num_without": _COUNT,
    "thresholds_from": str,
    "intervals": {name: [_MEAN_SHARE] for name in ("map", "micro_ap", "macro_f1", "micro_f1", "exact_match")},
    "per_class": [
        {
            "name": str,
            "threshold": _SHARE,
            "average_precision": (_MEAN_SHARE, None),
            **dict.fromkeys(("support", "num_predicted", "num_right"), _COUNT),
            **dict.fromkeys(("precision", "recall", "f1", "always_f1"), _MEAN_SHARE),
        }
    ],
    "mistakes": [_LABELLED],
    "best": [_LABELLED],
}
"""An evaluation of several labels an image."""

_ANY_EVALUATION: dict[str, Kind] = {"task": str, "split": str, "loss": _LOSS}


@dataclass(frozen=True)
class RunFiles:
    """The files of a run, read and checked.

    Attributes:
        path: The run folder.
        record: ``run.json``.
        training: The lines of ``metrics.jsonl`` on training, in order.
        held_out: The lines of ``metrics.jsonl`` on evaluations, in order.
        evaluation: ``evaluation.json``; ``None``: not written yet.
        candidates: The lines of ``metrics.jsonl`` on weights that no update led to, in order.
        label_errors: ``label-errors.json``; ``None``: there is none.
        learning_curve: ``learning-curve.json``; ``None``: there is none.
    """

    path: Path
    record: dict[str, Any]
    training: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
    candidates: list[dict[str, Any]] = field(default_factory=list)
    label_errors: dict[str, Any] | None = None
    learning_curve: dict[str, Any] | None = None

    @property
    def plan(self) -> dict[str, Any]:
        """The plan in ``run.json``."""
        plan: dict[str, Any] = self.record["plan"]
        return plan

    @property
    def charts(self) -> Mapping[str, str]:
        """The figures whose curves a report shows, with the label of the axis."""
        charts: Mapping[str, str] = self.record.get("charts", CLASSIFICATION_CHARTS)
        return charts

    @property
    def held_out_splits(self) -> list[str]:
        """Splits that were evaluated, in the order in which they first were."""
        return list(dict.fromkeys(row["split"] for row in self.held_out))

    def held_out_on(self, split: str) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl`` on evaluations of one split."""
        return [row for row in self.held_out if row["split"] == split]

    def picture(self, *parts: str) -> bytes:
        """Return a PNG of the run folder; nothing where there is none, or one of more than 2 MB."""
        path = self.path.joinpath(*parts)
        try:
            if path.stat().st_size > _MAX_PICTURE_BYTES:
                return b""
            content = path.read_bytes()
        except OSError:
            return b""
        return content if _is_png(content) else b""


def holds_run(path: Path) -> bool:
    """Return whether a run was started in the folder ``path``."""
    return (path / "run.json").is_file()


def read_run(path: Path) -> RunFiles:
    """Read the files of the run folder ``path``.

    Raises:
        ConfigurationError: There is no run.
        ModelFileError: A file of the run is damaged; the message says which and how.
    """
    if not holds_run(path):
        raise ConfigurationError(f"{path} holds no run", expected="a folder that 'residual train' has made")
    record = read_run_record(path)
    record["plan"]["recipe"] = with_new_names(record["plan"]["recipe"])
    training: list[dict[str, Any]] = []
    held_out: list[dict[str, Any]] = []
    candidates: list[dict[str, Any]] = []
    for line in read_metrics(path):
        if line.damage and line.is_whole:  # behind the last line break is nothing yet
            raise ModelFileError(
                f"{path / 'metrics.jsonl'} is damaged (line {line.number}: {line.damage})",
                remedy="'residual train' with --resume sets damaged lines aside",
            )
        if not line.damage and line.is_whole:
            of_event = {"train": training, "evaluation": held_out, "candidate": candidates}
            rows = of_event.get(line.document["event"], [])
            rows.append(line.document)
    return RunFiles(
        path,
        record,
        training,
        held_out,
        read_evaluation(path),
        candidates,
        _read_if_there(path / LABEL_ERRORS, _LABEL_ERRORS),
        _read_if_there(path / LEARNING_CURVE, _LEARNING_CURVE),
    )


def _read_if_there(path: Path, kind: dict[str, Kind]) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = read_record(path, kind)
    except FileNotFoundError:
        return None
    return record


def read_run_record(run: Path, *fields: str) -> dict[str, Any]:
    """Read a run's ``run.json``.

    Args:
        run: The run folder.
        *fields: The fields to check; none: all. The others are returned as they are.

    Raises:
        FileNotFoundError: There is no such file.
        ModelFileError: One of the fields is damaged; the message says which and how.
    """
    kind = {name: _RECORD[name] for name in fields} if fields else _RECORD
    record: dict[str, Any] = read_record(run / "run.json", kind)
    return record


def read_plan(run: Path) -> tuple[Plan, dict[str, Any]]:
    """Read the plan of a run to resume, and the whole of its ``run.json``, of which only the plan is checked.

    Raises:
        ConfigurationError: There is no run.
        ModelFileError: The plan is damaged; the message says how.
    """
    if not holds_run(run):
        raise ConfigurationError(f"{run} holds no run to resume", remedy="leave out --resume to start one")
    try:
        record = read_run_record(run, "plan")
    except ModelFileError as error:
        raise ModelFileError(error.found, remedy=_NO_PLAN) from error
    try:
        return Plan.from_dict(record["plan"]), record
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(f"{run / 'run.json'} is damaged (plan: {reason})", remedy=_NO_PLAN) from error


def read_metrics(run: Path) -> list[Line]:
    """Read the lines of a run's ``metrics.jsonl``; none if there is no such file.

    Raises:
        ModelFileError: The file cannot be read.
    """
    try:
        return read_lines(run / "metrics.jsonl", _ROW, lambda row: _EVENTS.get(row["event"], {}))
    except FileNotFoundError:
        return []


def read_evaluation(run: Path) -> dict[str, Any] | None:
    """Read a run's ``evaluation.json``; ``None``: not written yet.

    Raises:
        ModelFileError: The file is damaged; the message says how.
    """
    path = run / "evaluation.json"
    try:
        evaluation: dict[str, Any] = read_record(path)
    except FileNotFoundError:
        return None
    try:
        if "task" in evaluation:  # of another than classification
            is_multilabel = evaluation["task"] == "multilabel"
            check(evaluation, _LABELS if is_multilabel else _ANY_EVALUATION)
            if evaluation["task"] == "detection":
                check_detections(evaluation)
            if is_multilabel and any(len(pair) != 2 for pair in evaluation["intervals"].values()):
                raise RecordError("intervals has one that is not two numbers")
            return evaluation
        check(evaluation, _EVALUATION)
        _check_confusions(evaluation)
        for name in ("mistakes", "best", "bins"):
            evaluation.setdefault(name, [])
        interval = evaluation.setdefault("top1_interval", None)
        if interval is not None and len(interval) != 2:
            raise RecordError(f"top1_interval is a list of {len(interval)}, not of 2")
        evaluation.setdefault("ece", None)
    except RecordError as error:
        raise ModelFileError(f"{path} is damaged ({error})") from error
    return evaluation


def _check_confusions(evaluation: dict[str, Any]) -> None:
    num_classes = len(evaluation["classes"])
    for number, row in enumerate(evaluation["confusions"]):
        if len(row) != 3 or not max(row[:2]) < num_classes:
            raise RecordError(
                f"confusions[{number}] is {row[:4]!s}, not two of {num_classes} classes and a count"
            )


def _is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG\r\n\x1a\n")
