"""Measure errors and curves of a run, as most experiments do.

The training error is that of the finished network on the training images as they are, in evaluation mode,
every image once; the curve of it is what the updates themselves counted, on augmented images, as in the
papers' plots.
"""

from __future__ import annotations

from typing import Any

from deepresidual.analysis.experiments.experiment import FinishedRun, Measurement
from deepresidual.evaluation import evaluate_split
from deepresidual.runs.read import read_metrics
from deepresidual.runtime.console import warn


def measure_errors(run: FinishedRun) -> Measurement:
    """Return errors and losses of the finished network, and the curves that led to them.

    Metrics: ``training_error``, ``training_loss``, ``test_error``, ``test_loss`` (nats), ``test_count``.
    Series: those of :func:`curves`.
    """
    trained = evaluate_split(run.model, run.source.split("train"), "train")
    name = run.source.evaluation_split
    held_out = evaluate_split(run.model, run.source.split(name), name)
    return Measurement(
        metrics={
            "training_error": 1 - trained.top1,
            "training_loss": trained.loss,
            "test_error": 1 - held_out.top1,
            "test_loss": held_out.loss,
            "test_count": float(held_out.count),
        },
        series=curves(run),
    )


def sound_rows(run: FinishedRun) -> list[dict[str, Any]]:
    """Return the lines of the run's metrics; a warning names damaged ones, which are skipped."""
    lines = read_metrics(run.path)
    if damaged := [line for line in lines if line.damage]:
        numbers = ", ".join(str(line.number) for line in damaged[:8]) + (", …" if len(damaged) > 8 else "")
        warn(f"{run.path / 'metrics.jsonl'}: lines left out of the curves: {numbers} ({damaged[0].damage})")
    return [line.document for line in lines if not line.damage]


def curves(run: FinishedRun) -> dict[str, list[float]]:
    """Return ``epoch``, ``training_error`` and ``test_error`` at every evaluation of the run.

    The training error at an evaluation is the mean over the updates since the one before.
    """
    found: dict[str, list[float]] = {"epoch": [], "training_error": [], "test_error": []}
    windows: list[dict[str, Any]] = []
    last_step = 0
    for row in sound_rows(run):
        if row["event"] == "train":
            windows.append(row)
        elif row["event"] == "evaluation" and windows and windows[-1]["step"] > last_step:
            errors, steps = 0.0, 0
            for window in windows:
                errors += (1 - window["top1"]) * (window["step"] - last_step)
                steps += window["step"] - last_step
                last_step = window["step"]
            found["epoch"].append(row["epoch"])
            found["training_error"].append(errors / steps)
            found["test_error"].append(1 - row["top1"])
            windows = []
    return found
