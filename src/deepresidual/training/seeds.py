"""Train with several seeds and summarize as the papers do: median, mean ± standard deviation, best.

He et al. 2016 report the median of five runs, He et al. 2015 the best of five with mean and deviation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepresidual.data.source import SampleSource
from deepresidual.data.source.dataset import Dataset
from deepresidual.errors import ConfigurationError
from deepresidual.fields import is_whole
from deepresidual.runs.read import SCHEMA_VERSION, holds_run
from deepresidual.runs.statistics import summarize
from deepresidual.runtime.console import note
from deepresidual.runtime.device import resolve_device
from deepresidual.runtime.distributed import Processes
from deepresidual.runtime.files import expanded, write_json
from deepresidual.spec import NetworkSpec
from deepresidual.training.launch import train
from deepresidual.training.options import TrainOptions

_FIGURES = ("top1", "ap", "map")
"""What runs are summarized by, the first that their task measures."""


@dataclass(frozen=True)
class SeedsResult:
    """Results of several runs.

    Attributes:
        path: The folder that holds them as ``seed-N``.
        seeds: Their seeds.
        measured: What each measured, as a fraction.
        split: On which split.
        exit_code: 0, or that of the run that was interrupted.
        figure: Which figure that is: ``top1``, of a detector ``ap``.
    """

    path: Path
    seeds: tuple[int, ...]
    measured: tuple[float, ...]
    split: str
    exit_code: int = 0
    figure: str = "top1"

    def to_dict(self) -> dict[str, Any]:
        """Return the runs and what they come to as JSON types."""
        document: dict[str, Any] = {
            "run": str(self.path),
            "status": "interrupted" if self.exit_code else "finished",
            "split": self.split,
            "seeds": list(self.seeds),
            self.figure: list(self.measured),
        }
        if self.measured:
            summary = summarize(self.measured)
            document |= {
                "median": summary.median,
                "mean": summary.mean,
                "std": summary.std,
                "best": max(self.measured),
            }
        return document

    def to_text(self) -> str:
        """Return the same for people: AP, or top-1 errors, in per cent, as the papers have them."""
        figures = self.to_dict()
        name = "top-1" if self.figure == "top1" else self.figure.upper()
        lines = [
            f"seed {seed}: {self.split} {name} {value:.2%}"
            for seed, value in zip(self.seeds, self.measured, strict=True)
        ]
        if self.exit_code:
            lines.append(f"interrupted; go on with the same command and --resume --out {self.path}")
        if figures.get("std") is not None:
            if self.figure == "top1":
                name = "top-1 error"
                figures |= {each: 1 - figures[each] for each in ("median", "mean", "best")}
            lines.append(
                f"{name}: median {figures['median']:.2%}, mean {figures['mean']:.2%} ± "
                f"{figures['std']:.2%}, best {figures['best']:.2%} of {len(self.measured)} runs"
            )
        lines.append(f"runs    {self.path}")
        return "\n".join(lines)


def train_seeds(
    data: SampleSource | Dataset | str | Path,
    model: str | NetworkSpec | None,
    out: str | Path | None,
    options: TrainOptions,
    *,
    num_seeds: int,
    resume: bool = False,
) -> SeedsResult:
    """Train with ``num_seeds`` seeds from ``options.seed`` on, one after the other, into ``out/seed-N``.

    With ``resume`` finished runs stay as they are, an interrupted one continues, and the rest follow.
    ``out/seeds.json`` holds the summary. The other arguments are those of :func:`deepresidual.train`.

    Raises:
        ConfigurationError: ``num_seeds`` is out of range, or ``out`` is missing or holds something else.
    """
    if not is_whole(num_seeds, 1, 1000):
        raise ConfigurationError(f"seeds is {num_seeds}", expected="1 to 1000")
    if out is None:
        raise ConfigurationError("--seeds needs a folder for the runs", remedy="name it with --out")
    path = expanded(out)
    done: list[tuple[int, dict[str, Any]]] = []
    with Processes.join(resolve_device(options.device)) as processes:
        resume = resume or processes.num_restarts > 0
        with processes.failing_together():
            if processes.is_main:
                _check_folder(path, resume=resume)
        for number, seed in enumerate(range(options.seed, options.seed + num_seeds), start=1):
            run = path / f"seed-{seed}"
            note(f"seed {seed} ({number} of {num_seeds})")
            goes_on = processes.broadcast(resume and holds_run(run))
            result = train(data, model, run, replace(options, seed=seed), resume=goes_on)
            if result.exit_code:
                break
            if result.evaluation is not None:
                done.append((seed, result.evaluation.summary()))
        figure = next((name for name in _FIGURES if done and name in done[0][1]), _FIGURES[0])
        several = SeedsResult(
            path,
            tuple(seed for seed, _ in done),
            tuple(figures[figure] for _, figures in done),
            done[0][1]["split"] if done else "",
            result.exit_code,
            figure,
        )
        with processes.failing_together():
            if processes.is_main:
                write_json(path / "seeds.json", {"schema_version": SCHEMA_VERSION, **several.to_dict()})
    return several


def _check_folder(path: Path, *, resume: bool) -> None:
    if holds_run(path) or (path.exists() and any(path.iterdir()) and not resume):
        raise ConfigurationError(
            f"{path} is not an empty folder", remedy="go on with --resume, or choose another --out"
        )
