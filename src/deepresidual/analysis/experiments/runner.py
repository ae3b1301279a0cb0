"""Run an experiment: complete its trials, write results, table and figures.

OUT/results.json            everything: setting, versions, hardware, metrics, verdicts
OUT/table.md                the same for people
OUT/FIGURE.svg, .png        the figures
OUT/arms/                   the trials, see :mod:`.trial`

Trials follow each other seed by seed, so that an experiment that is stopped half-way has run all arms as far
as it has come.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual.analysis.experiments.experiment import (
    SCALES,
    Arm,
    ArmResult,
    Experiment,
    Measurement,
    Results,
    Scale,
)
from deepresidual.analysis.experiments.images import subsample
from deepresidual.analysis.experiments.jobs import check_jobs, complete_trials
from deepresidual.analysis.experiments.record import SCHEMA_VERSION, record, write_results
from deepresidual.analysis.experiments.trial import Trial
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.base import fingerprint_of
from deepresidual.errors import ConfigurationError, ModelFileError, UnknownNameError
from deepresidual.fields import is_whole
from deepresidual.runtime.console import warn
from deepresidual.runtime.device import describe_hardware, resolve_device
from deepresidual.runtime.files import expanded, make_folder
from deepresidual.runtime.provenance import command_line, now, versions
from deepresidual.runtime.signals import StopRequest
from deepresidual.runtime.strict_json import Kind, read_record
from deepresidual.runtime.torchrun import launched_by_torchrun
from deepresidual.training.options import TrainOptions

EXACT = TrainOptions(precision="fp32")
"""Options of the papers: full precision."""

_DATA: Kind = {"name": str, "num_samples": {str: int}}
_IMAGENET = (1_281_167, 50_000)  # photos for training and for validation


@dataclass(frozen=True)
class Reproduction:
    """Result of an experiment.

    Attributes:
        path: Its folder.
        document: Contents of ``results.json``.
        exit_code: 0; 130 or 143: it was interrupted.
    """

    path: Path
    document: dict[str, Any]
    exit_code: int


def reproduce(
    experiment: Experiment,
    data: SampleSource | str | Path | None = None,
    *,
    scale: Scale,
    out: str | Path,
    arms: Sequence[Arm] | None = None,
    options: TrainOptions = EXACT,
    num_jobs: int = 1,
    resume: bool = False,
) -> Reproduction:
    """Run or resume an experiment, and write figures, table and verdicts.

    Args:
        experiment: The experiment.
        data: A data set, as for :func:`deepresidual.train`. Default: the scale's.
        scale: ``smoke``, ``laptop`` or ``paper``.
        out: The folder; it must not hold anything else.
        arms: The arms to run, from :func:`chosen_arms`. Default: all of the scale.
        options: Device, threads and precision of training. Default: ``fp32``, as in the papers.
        num_jobs: Number of runs at a time, 1 to 64; several have a process each, with its share of the cores.
            A script that asks for several must not do so while it is imported
            (``if __name__ == "__main__":``), as with :mod:`multiprocessing`.
        resume: Go on with the experiment in ``out``.

    Returns:
        Its folder and results. A verdict that fails is a result, not an error.

    Raises:
        ConfigurationError: An option is not allowed, or ``out`` holds something else.
        DataError: The data cannot be used.
        RunError: Something cannot be written.
    """
    if launched_by_torchrun():
        raise ConfigurationError(
            "an experiment runs in one process",
            remedy="start it without torchrun; --arms divides it over machines",
        )
    check_jobs(num_jobs)
    chosen = chosen_arms(experiment, scale) if arms is None else arms
    path = expanded(out)
    target = resolve_device(options.device)
    source = _source(experiment, data, scale) if chosen else None
    setting = {
        "experiment": experiment.name,
        "scale": scale,
        "data": _described(source, data) if source is not None else None,
    }
    _check_folder(path, setting, resume=resume)
    make_folder(path)
    frame = {
        "schema_version": SCHEMA_VERSION,
        **setting,
        "claim": experiment.claim,
        "source": experiment.source,
        "command": command_line(),
        "date": now(),
        "versions": versions(),
        "hardware": describe_hardware(target),
    }
    session = _Session(experiment, scale, chosen, path, frame)
    exit_code = 0
    if source is not None:
        exit_code = session.run(source, options, num_jobs)
    return Reproduction(path, session.finish("interrupted" if exit_code else "finished"), exit_code)


def chosen_arms(
    experiment: Experiment, scale: Scale, names: Sequence[str] = (), num_seeds: int | None = None
) -> tuple[Arm, ...]:
    """Return the chosen arms of an experiment at a scale, with ``num_seeds`` seeds each.

    Raises:
        ConfigurationError: The scale or a number is not allowed.
        UnknownNameError: There is no such arm; the message names the nearest.
    """
    if scale not in SCALES:
        raise ConfigurationError(f"scale is {scale!r}", expected=f"one of {', '.join(SCALES)}")
    if num_seeds is not None and not is_whole(num_seeds, 1, 1000):
        raise ConfigurationError(f"seeds is {num_seeds}", expected="1 to 1000")
    arms = experiment.arms(scale)
    known = [arm.name for arm in arms]
    for name in names:
        if name not in known:
            raise UnknownNameError(f"arm of {experiment.name}", name, known)
    return tuple(
        arm if num_seeds is None else dataclasses.replace(arm, num_seeds=num_seeds)
        for arm in arms
        if not names or arm.name in names
    )


# -- data and folder -------------------------------------------------------------------------------------


def _source(experiment: Experiment, data: SampleSource | str | Path | None, scale: Scale) -> SampleSource:
    use = experiment.data[scale]
    if data is None and not use.default:
        raise ConfigurationError(
            f"{experiment.name} at scale {scale} does not say which data",
            expected=experiment.needs,
            remedy=f"name it: residual reproduce {experiment.name} DATA --scale {scale}",
        )
    chosen = use.default if data is None else data
    return subsample(chosen if isinstance(chosen, SampleSource) else open_source(chosen), use)


def _described(source: SampleSource, data: SampleSource | str | Path | None) -> dict[str, Any]:
    splits = {name: source.split(name) for name in ("train", source.evaluation_split)}
    # The bytes of CIFAR-10 are verified against the published checksums; other copies may be re-encoded.
    # ImageNet is a folder of files like any other.
    is_cifar = isinstance(data, str) and data.startswith("cifar10:")
    is_imagenet = len(source.classes) == 1000 and tuple(map(len, splits.values())) == _IMAGENET
    return {
        "name": source.name,
        "is_official": is_cifar or is_imagenet,
        "num_classes": len(source.classes),
        "num_samples": {name: len(split) for name, split in splits.items()},
        "fingerprint": {name: fingerprint_of(split) for name, split in splits.items()},
    }


def _check_folder(path: Path, setting: dict[str, Any], *, resume: bool) -> None:
    file = path / "results.json"
    if not file.is_file():
        leftovers = (
            [entry for entry in path.iterdir() if not entry.name.startswith(".")] if path.is_dir() else []
        )
        if resume and not leftovers:
            raise ConfigurationError(
                f"{path} holds no experiment to resume", remedy="leave out --resume to start one"
            )
        if leftovers or (path.exists() and not path.is_dir()):
            raise ConfigurationError(f"{path} is not an empty folder", remedy="choose another --out")
        return
    if not resume:
        raise ConfigurationError(
            f"{path} already holds an experiment", remedy="go on with --resume, or choose another --out"
        )
    try:
        before = read_record(file, {"experiment": str, "scale": str, "data": (_DATA, None)})
    except ModelFileError as error:
        # All of it follows from the trials, and each of them knows its own setting.
        warn(f"{error}; it is written anew from what was measured")
        return
    changed = [name for name, value in setting.items() if before[name] != value]
    if changed:
        shown = "; ".join(f"{name}: {_short(before[name])} → {_short(setting[name])}" for name in changed)
        raise ConfigurationError(
            f"{path} was started differently ({shown})", remedy="resume with the same options and data"
        )


def _short(value: Any) -> str:
    return str(value) if not isinstance(value, dict) else f"{value['name']} {value['num_samples']}"


# -- trials ----------------------------------------------------------------------------------------------


class _Session:
    """An experiment in progress: its measurements so far, and its folder.

    Args:
        experiment: The experiment.
        scale: Its scale.
        arms: The arms to run.
        path: Its folder, which exists.
        frame: The entries of ``results.json`` besides the results.
    """

    def __init__(
        self, experiment: Experiment, scale: Scale, arms: Sequence[Arm], path: Path, frame: dict[str, Any]
    ) -> None:
        self._experiment, self._scale, self._arms = experiment, scale, arms
        self._path, self._frame = path, frame
        self._found: dict[str, dict[int, Measurement]] = {arm.name: {} for arm in arms}
        write_results(path, self._document("running"))

    def run(self, source: SampleSource, options: TrainOptions, num_jobs: int) -> int:
        """Complete the missing trials; return 0, or the exit code that a signal asks for."""
        data = self._frame["data"]
        trials = [
            Trial(self._experiment, arm, seed, self._path, source, data, options)
            for seed, arm in _in_turn(self._arms)
        ]
        with StopRequest() as stop:
            return complete_trials(trials, num_jobs, stop, self._add)

    def _add(self, trial: Trial, measured: Measurement) -> None:
        """Add the measurement of a trial."""
        self._found[trial.arm.name][trial.seed] = measured
        write_results(self._path, self._document("running"))

    def finish(self, status: str) -> dict[str, Any]:
        """Draw and write everything, and return the contents of ``results.json``."""
        results = self._results()
        figures = self._experiment.draw(results) if results.arms or not self._arms else {}
        document = self._document(status) | {"figures": list(figures)}
        write_results(
            self._path,
            document,
            figures=figures,
            tables=self._experiment.tables(results),
            columns=[metric.title or metric.label for metric in self._experiment.columns],
        )
        return document

    def _document(self, status: str) -> dict[str, Any]:
        return record(self._experiment, self._results(), self._frame, status=status)

    def _results(self) -> Results:
        data = self._frame["data"]
        return Results(
            scale=self._scale,
            arms={
                # By seed: several at a time end in any order.
                arm.name: ArmResult(arm, dict(sorted(self._found[arm.name].items())))
                for arm in self._arms
                if self._found[arm.name]
            },
            comparable=self._scale == "paper" and data is not None and data["is_official"],
        )


def _in_turn(arms: Sequence[Arm]) -> list[tuple[int, Arm]]:
    """Return (seed, arm) seed by seed; further seeds of some arms come last."""
    most = max((arm.num_seeds for arm in arms), default=0)
    return [(arm.seeds[turn], arm) for turn in range(most) for arm in arms if turn < arm.num_seeds]
