"""What a report is made of: the files of a run folder, read and checked.

A run folder may come from elsewhere or be half written, so nothing is taken for granted: what a page shows
is checked here, once, and a page never fails halfway. ``metrics.jsonl`` may end in the middle of a line, as
it does while a run is writing it.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from residual.errors import ConfigurationError, ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["RunFiles", "read_run"]

Kinds: TypeAlias = "type | tuple[type, ...]"

_NUMBER = (int, float)
_MOST_PICTURE_BYTES = 2_000_000

_RECORD: dict[str, Kinds] = {
    "status": str,
    "step": int,
    "total_steps": int,
    "started": str,
    "updated": str,
    "error": str,
    "command": list,
    "ignored": list,
    "plan": dict,
    "hardware": dict,
    "versions": dict,
}
_PLAN: dict[str, Kinds] = {
    "model": str,
    "data": str,
    "num_samples": int,
    "classes": list,
    "fingerprint": dict,
    "preprocess": dict,
    "recipe": dict,
    "seed": int,
    "precision": str,
}
_TRAIN: dict[str, Kinds] = {"epoch": _NUMBER, "loss": _NUMBER, "top1": _NUMBER}
_HELD_OUT: dict[str, Kinds] = {**_TRAIN, "split": str}
_EVALUATION: dict[str, Kinds] = {
    "split": str,
    "top1": _NUMBER,
    "top5": _NUMBER,
    "loss": _NUMBER,
    "count": int,
    "classes": list,
    "confusions": list,
    "mistakes": list,
}
_SHOWN: dict[str, Kinds] = {"key": str, "label": str, "probability": _NUMBER, "loss": _NUMBER}
_MISTAKE: dict[str, Kinds] = {**_SHOWN, "predicted": str}
_BIN: dict[str, Kinds] = {
    "low": _NUMBER,
    "high": _NUMBER,
    "count": int,
    "confidence": _NUMBER,
    "accuracy": _NUMBER,
}


class _DamagedError(Exception):
    """A file of a run does not hold what it should; the message says what."""


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
    name = "run.json"
    try:
        record = _object(_json((path / name).read_text("utf-8")), _RECORD, "it")
        plan = _object(record["plan"], _PLAN, "the plan")
        _object(plan["preprocess"], {"crop_px": int, "channels": str}, "the preprocessing")
        name = "metrics.jsonl"
        training, held_out = _metrics(path / name)
        name = "evaluation.json"
        evaluation = _evaluation(path / name)
    except (OSError, ValueError, _DamagedError) as error:
        raise ModelFileError(
            f"the run in {path} cannot be read ({name}: {' '.join(str(error).split())})"
        ) from error
    return RunFiles(path, record, training, held_out, evaluation)


def _metrics(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    training: list[dict[str, Any]] = []
    held_out: list[dict[str, Any]] = []
    if path.exists():
        lines = path.read_text("utf-8").split("\n")
        for number, line in enumerate(lines[:-1], start=1):  # behind the last line break is nothing yet
            row = _object(_json(line), {"event": str}, f"line {number}")
            if row["event"] == "train":
                training.append(_object(row, _TRAIN, f"line {number}"))
            elif row["event"] == "evaluation":
                held_out.append(_object(row, _HELD_OUT, f"line {number}"))
    return training, held_out


def _evaluation(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    evaluation = _object(_json(path.read_text("utf-8")), _EVALUATION, "it")
    num_classes = len(evaluation["classes"])
    for row in evaluation["confusions"]:
        counts = isinstance(row, list) and len(row) == 3 and all(type(value) is int for value in row)
        if not counts or not (0 <= row[0] < num_classes and 0 <= row[1] < num_classes and row[2] >= 0):
            raise _DamagedError(f"confusions hold {str(row)[:80]}")
    parts = (("mistakes", _MISTAKE), ("best", _SHOWN), ("bins", _BIN))  # older runs have the first only
    for name, kinds in parts:
        rows = evaluation.setdefault(name, [])
        if not isinstance(rows, list):
            raise _DamagedError(f"{name} is {str(rows)[:80]}")
        for row in rows:
            _object(row, kinds, f"a row of {name}")
    interval = evaluation.setdefault("top1_interval", None)
    if interval is not None and not _are_bounds(interval):
        raise _DamagedError(f"top1_interval is {str(interval)[:80]}")
    if not isinstance(evaluation.setdefault("ece", None), float | int | None):
        raise _DamagedError(f"ece is {str(evaluation['ece'])[:80]}")
    return evaluation


def _are_bounds(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(bound) in _NUMBER for bound in value)


def _json(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise _DamagedError(f"it holds the number {constant}")

    return json.loads(text, parse_constant=refuse)


def _object(value: Any, kinds: Mapping[str, Kinds], what: str) -> dict[str, Any]:
    """Return ``value`` where it is an object with fields of these types."""
    if not isinstance(value, dict):
        raise _DamagedError(f"{what} is {str(value)[:80]}")
    for name, kind in kinds.items():
        if name not in value:
            raise _DamagedError(f"{what} has no {name}")
        found = value[name]
        is_finite = not isinstance(found, float) or math.isfinite(found)
        if not isinstance(found, kind) or isinstance(found, bool) or not is_finite:
            raise _DamagedError(f"{name} of {what} is {str(found)[:80]}")
    return value


def _is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG\r\n\x1a\n")
