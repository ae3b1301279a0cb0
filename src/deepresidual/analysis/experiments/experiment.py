"""Describe an experiment as a value: a claim, the networks that test it, and how they are measured.

An experiment has arms: networks that differ in what the claim is about and in nothing else, each trained with
several seeds. Three functions turn them into what a paper prints: ``measure`` takes metrics from one finished
run, ``draw`` makes pictures and ``judge`` verdicts of all of them. Training, resuming and writing are the
business of :mod:`.runner`; nothing here touches a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from matplotlib.figure import Figure

from deepresidual.data.source import SampleSource
from deepresidual.models import TorchClassifier
from deepresidual.recipe import Recipe
from deepresidual.runs.statistics import Summary, difference, summarize
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.published import Published

Scale: TypeAlias = Literal["smoke", "laptop", "paper"]
"""``smoke``: seconds, to see that all works. ``laptop``: the effect on two cores in under an hour. ``paper``:
the schedule and the networks of the paper."""

SCALES: tuple[Scale, ...] = get_args(Scale)


@dataclass(frozen=True)
class Arm:
    """One network trained in one way.

    Attributes:
        name: Name of its folder, such as ``plain-56``.
        label: Its name in figures.
        network: The architecture.
        recipe: Its optimization and augmentation.
        num_seeds: Number of runs.
        image_px: Side of the network's input in pixels; ``None``: its usual one.
        published: The papers' results of the network that this one stands for, which at ``paper`` it is.
        first_seed: The seed of the first run; those of the others follow it. Not 0 where the design of the
            experiment was tried with other seeds than it is judged by.
    """

    name: str
    label: str
    network: ResNetSpec
    recipe: Recipe
    num_seeds: int
    image_px: int | None = None
    published: tuple[Published, ...] = ()
    first_seed: int = 0

    @property
    def seeds(self) -> range:
        """The seeds of its runs."""
        return range(self.first_seed, self.first_seed + self.num_seeds)


@dataclass(frozen=True)
class DataUse:
    """Part of a data set that an experiment takes: the first samples of a fixed permutation, or all.

    Attributes:
        num_train: Training images at most; ``None``: all.
        num_test: Images of the split that errors are measured on at most; ``None``: all.
        default: The data set if none is named; empty: one must be named.
    """

    num_train: int | None = None
    num_test: int | None = None
    default: str = ""


@dataclass(frozen=True)
class Measurement:
    """The measurements of one run, as JSON types.

    Attributes:
        metrics: Name → number; errors are fractions from 0 to 1.
        series: Name → numbers in order, such as a curve or a number a layer.
        note: Why there are no metrics: the run diverged.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {"figures": self.metrics, "series": self.series, "note": self.note}


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, to be measured.

    Attributes:
        path: The run folder.
        arm: The arm.
        seed: Random seed.
        model: The model of the run, on ``device``.
        source: The images, as many of them as were used.
        device: Device to compute on.
    """

    path: Path
    arm: Arm
    seed: int
    model: TorchClassifier
    source: SampleSource
    device: torch.device


@dataclass(frozen=True)
class ArmResult:
    """An arm and what was measured of its runs, by seed."""

    arm: Arm
    runs: Mapping[int, Measurement]

    def values(self, metric: str) -> list[float]:
        """Return a metric of every run that has it."""
        return [run.metrics[metric] for run in self.runs.values() if metric in run.metrics]

    def series(self, name: str) -> list[list[float]]:
        """Return a series of every run that has it."""
        return [run.series[name] for run in self.runs.values() if name in run.series]

    def summary(self, metric: str) -> Summary | None:
        """Summarize a metric over the seeds; ``None``: no run has it."""
        values = self.values(metric)
        return summarize(values) if values else None

    @property
    def num_diverged(self) -> int:
        """Runs that diverged."""
        return sum(bool(run.note) for run in self.runs.values())


@dataclass(frozen=True)
class Results:
    """Everything that was measured in an experiment so far.

    Attributes:
        scale: The scale.
        arms: Name → arm with its runs, in the experiment's order; without arms that have no run.
        comparable: Whether absolute errors compare with the paper's: its schedule on its images.
    """

    scale: Scale
    arms: Mapping[str, ArmResult]
    comparable: bool

    def difference(self, metric: str, first: str, second: str) -> Summary | None:
        """Return a metric of arm ``first`` minus that of ``second``; ``None`` if one has none."""
        values = [self.arms[name].values(metric) if name in self.arms else [] for name in (first, second)]
        return difference(*values) if all(values) else None


@dataclass(frozen=True)
class Verdict:
    """One row of the verdict table.

    Attributes:
        claim: The ordering or number that should hold.
        measured: The measured value, with its interval.
        published: The source's value; empty: it prints no number.
        tolerance: The condition to pass.
        passed: Whether it holds; ``None``: not measured, or the seeds show neither.
        source: Paper and table.
    """

    claim: str
    measured: str
    published: str
    tolerance: str
    passed: bool | None
    source: str

    @property
    def word(self) -> str:
        """``PASS``, ``FAIL``, or ``open``."""
        return "open" if self.passed is None else "PASS" if self.passed else "FAIL"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {
            "claim": self.claim,
            "measured": self.measured,
            "published": self.published,
            "tolerance": self.tolerance,
            "verdict": self.word,
            "source": self.source,
        }


@dataclass(frozen=True)
class Metric:
    """A number that is measured of every run, in claims and as a column of the table of arms.

    Attributes:
        name: Its name in :attr:`Measurement.metrics`.
        label: Its name in claims.
        title: Head of its column. Default: the label.
        is_error: Whether it is an error, shown in per cent, or a plain number.
    """

    name: str
    label: str
    title: str = ""
    is_error: bool = True


TRAINING_ERROR = Metric("training_error", "training error")
TEST_ERROR = Metric("test_error", "test error")


def _no_tables(_results: Results) -> str:
    return ""


@dataclass(frozen=True)
class Experiment:
    """One claim and how it is tested.

    Attributes:
        name: Name on the command line.
        claim: The claim of the source in a sentence.
        source: Paper, tables and figures.
        arms: The arms of a scale; none if the claim needs no training.
        data: Part of the data that each scale takes.
        measure: Measures a finished run; deterministic.
        draw: Results → figures by file name; no figure for arms that are missing.
        judge: Results → rows of the verdict table.
        columns: Metrics in the table of arms.
        needs: Data of the paper, for a message that asks for it.
        tables: Results → more tables, as Markdown.
    """

    name: str
    claim: str
    source: str
    arms: Callable[[Scale], tuple[Arm, ...]]
    data: Mapping[Scale, DataUse]
    measure: Callable[[FinishedRun], Measurement]
    draw: Callable[[Results], dict[str, Figure]]
    judge: Callable[[Results], list[Verdict]]
    columns: tuple[Metric, ...] = (TRAINING_ERROR, TEST_ERROR)
    needs: str = "CIFAR-10"
    tables: Callable[[Results], str] = _no_tables
