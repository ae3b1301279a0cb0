"""The records of a run folder, read and checked: for its report, for going on with it, for experiments.

A run folder may come from elsewhere or be half written, so nothing is taken for granted: what a page shows
is checked here, once, and a page never fails halfway. ``metrics.jsonl`` may end in the middle of a line, as
it does while a run is writing it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.runtime.strict_json import Between, RecordError, read_lines, read_record

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.runtime.strict_json import Kind, Line

__all__ = [
    "FACTS",
    "RECORD",
    "RunFiles",
    "read_evaluation",
    "read_metrics",
    "read_run",
]

_MOST_PICTURE_BYTES = 2_000_000

_COUNT = Between(0, whole=True)
_SHARE = Between(0, 1)
_MEAN_SHARE = Between(0, 1.001)  # a mean of ones may be rounded up
# Far beyond what training may end with, and far below where a chart overflows.
_LOSS = Between(-1e30, 1e30)
_EPOCH = Between(0, 1e12)

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
    "bad_samples?": {str: str},
    "not_finite?": [_COUNT],
}
"""What ``run.json`` holds beside the plan: a run can go on without it."""

RECORD: dict[str, Kind] = {"plan": _PLAN}
"""What a run cannot go on without."""

_ROW: dict[str, Kind] = {"event": str, "step": _COUNT, "epoch": _EPOCH}
_MEASURED: dict[str, Kind] = {"loss": _LOSS, "top1": _SHARE}
_EVENTS: dict[str, Kind] = {
    "train": {**_MEASURED, "images_per_second?": Between(0, 1e30)},
    "evaluation": {**_MEASURED, "split": str},
}

_SHOWN: dict[str, Kind] = {"key": str, "label": str, "probability": _MEAN_SHARE, "loss": _LOSS}
_EVALUATION: dict[str, Kind] = {
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


@dataclass(frozen=True)
class RunFiles:
    """The files of a run.

    Attributes:
        path: The run folder.
        record: ``run.json``.
        training: Lines of ``metrics.jsonl`` on training, in order.
        held_out: Lines of it on evaluations, in order.
        evaluation: ``evaluation.json``; ``None`` where there is none yet.
    """

    path: Path
    record: dict[str, Any]
    training: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    evaluation: dict[str, Any] | None

    @property
    def plan(self) -> dict[str, Any]:
        """The plan in ``run.json``."""
        plan: dict[str, Any] = self.record["plan"]
        return plan

    @property
    def held_out_splits(self) -> list[str]:
        """Splits that were evaluated, in the order in which they first were."""
        return list(dict.fromkeys(row["split"] for row in self.held_out))

    def held_out_on(self, split: str) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl`` on evaluations of one split."""
        return [row for row in self.held_out if row["split"] == split]

    def picture(self, *parts: str) -> str:
        """Return a PNG of the run folder as a ``data:`` address, or nothing where there is none."""
        path = self.path.joinpath(*parts)
        try:
            if path.stat().st_size > _MOST_PICTURE_BYTES:
                return ""
            content = path.read_bytes()
        except OSError:
            return ""
        return f"data:image/png;base64,{base64.b64encode(content).decode()}" if _is_png(content) else ""


def read_run(path: Path) -> RunFiles:
    """Read the files of the run folder ``path``.

    Raises:
        ConfigurationError: There is no run.
        ModelFileError: A file of the run is damaged; the message says which and how.
    """
    if not (path / "run.json").is_file():
        raise ConfigurationError(f"{path} holds no run", expected="a folder that 'residual train' has made")
    record = read_record(path / "run.json", RECORD | FACTS)
    training: list[dict[str, Any]] = []
    held_out: list[dict[str, Any]] = []
    for line in read_metrics(path):
        if line.damage and line.is_whole:  # behind the last line break is nothing yet
            raise ModelFileError(
                f"{path / 'metrics.jsonl'} is damaged (line {line.number}: {line.damage})",
                remedy="'residual train' with --resume sets damaged lines aside",
            )
        if not line.damage and line.is_whole:
            rows = {"train": training, "evaluation": held_out}.get(line.document["event"], [])
            rows.append(line.document)
    return RunFiles(path, record, training, held_out, read_evaluation(path))


def read_metrics(run: Path) -> list[Line]:
    """Return the lines of a run's ``metrics.jsonl``; none where there is no such file.

    Raises:
        ModelFileError: The file cannot be read.
    """
    try:
        return read_lines(run / "metrics.jsonl", _ROW, lambda row: _EVENTS.get(row["event"], {}))
    except FileNotFoundError:
        return []


def read_evaluation(run: Path) -> dict[str, Any] | None:
    """Return what a run's ``evaluation.json`` holds, or ``None`` where there is none yet.

    Raises:
        ModelFileError: The file is damaged; the message says how.
    """
    path = run / "evaluation.json"
    try:
        evaluation: dict[str, Any] = read_record(path, _EVALUATION)
    except FileNotFoundError:
        return None
    try:
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
