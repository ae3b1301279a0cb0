"""Train and measure one arm of an experiment with one seed.

OUT/arms/ARM/seed-N/        the run folder
OUT/arms/ARM/seed-N.json    what was measured of that run

A trial whose measurement is there is not touched again; one that was interrupted goes on; one that an
experiment beside this one has trained is measured where it lies: ``depth`` and ``lesions`` need runs of
``degradation``. A run is a function of its network, recipe, images, seed, precision, versions and hardware:
where one agrees in all of these, training it again would give the same bits.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual.analysis.experiments.experiment import Arm, Experiment, FinishedRun, Measurement
from deepresidual.data.source import SampleSource
from deepresidual.errors import ConfigurationError, DivergedError, ModelFileError
from deepresidual.models import load_torch
from deepresidual.recipe import with_new_names
from deepresidual.runs.read import holds_run, read_run_record
from deepresidual.runtime.console import note, warn
from deepresidual.runtime.device import describe_hardware, resolve_device
from deepresidual.runtime.files import make_folder, write_json
from deepresidual.runtime.provenance import versions
from deepresidual.runtime.signals import StopRequest, StopRequested
from deepresidual.runtime.strict_json import Kind, read_record
from deepresidual.training.launch import train
from deepresidual.training.options import TrainOptions

_MEASUREMENT: Kind = {"setting": dict, "figures": {str: float}, "series": {str: [float]}, "note": str}


@dataclass(frozen=True)
class Trial:
    """One arm with one seed.

    Attributes:
        experiment: The experiment.
        arm: The arm to train.
        seed: Random seed.
        path: The experiment's folder.
        source: The images.
        data: Name, sizes and fingerprints of the images, as JSON types.
        options: Device, threads and precision of training; arm and seed settle the rest.
    """

    experiment: Experiment
    arm: Arm
    seed: int
    path: Path
    source: SampleSource
    data: dict[str, Any]
    options: TrainOptions

    @property
    def label(self) -> str:
        """Name in messages."""
        return f"{self.arm.name}, seed {self.seed}"

    @property
    def progress(self) -> str:
        """Name in messages, with its place among the runs of its arm."""
        return f"{self.label} ({self.arm.seeds.index(self.seed) + 1} of {self.arm.num_seeds})"

    @property
    def run_path(self) -> Path:
        """The run folder, if it is trained here."""
        return self.path / "arms" / self.arm.name / f"seed-{self.seed}"

    @property
    def log_path(self) -> Path:
        """Its log, if it runs in a process of its own."""
        return self.run_path.with_name(f"seed-{self.seed}.log")

    def measurement(self) -> Measurement | None:
        """Return the measurement; ``None``: not measured yet.

        A damaged one is named in a warning; its run is measured again.

        Raises:
            ConfigurationError: The file is of another network, recipe or data set.
        """
        file = self._measurement_path
        try:
            document = read_record(file, _MEASUREMENT)
        except FileNotFoundError:
            return None
        except ModelFileError as error:
            warn(f"{error}; the run is measured again")
            return None
        if with_new_names(document["setting"]) != self._setting():
            raise ConfigurationError(
                f"{file} is of another network, recipe or data set", remedy="choose another --out"
            )
        return Measurement(document["figures"], document["series"], document["note"])

    def complete(self, stop: StopRequest) -> int:
        """Train it unless a run exists, measure it and write the measurement.

        Returns:
            0, or the exit code that a signal asks for: then there is no measurement yet.
        """
        beside = None if self.run_path.exists() else self._beside()
        where = f", trained in {beside}" if beside is not None else ""
        note(f"{self.progress}{where}")
        started = time.monotonic()
        measured, exit_code = self._trained(stop) if beside is None else self._measured(beside, stop)
        if measured is not None:
            document = {
                "setting": self._setting(),
                "run": os.path.relpath(beside or self.run_path, self.run_path.parent),
                "seconds": time.monotonic() - started,
                **measured.to_dict(),
            }
            make_folder(self.run_path.parent)
            write_json(self._measurement_path, document)
        return exit_code

    def _beside(self) -> Path | None:
        hardware = describe_hardware(resolve_device(self.options.device))
        return _reusable_run(
            self.path, self._setting(), self.options.precision, {"versions": versions(), "hardware": hardware}
        )

    def _trained(self, stop: StopRequest) -> tuple[Measurement | None, int]:
        """Train a run to its end and measure it; a stopped one gives no measurement and an exit code."""
        if reason := _divergence(self.run_path):
            return Measurement(note=f"diverged: {reason}"), 0
        try:
            result = train(
                self.source,
                self.arm.network,
                self.run_path,
                self.options,
                resume=holds_run(self.run_path),
                recipe=self.arm.recipe,
                image_px=self.arm.image_px,
                seed=self.seed,
            )
        except DivergedError as error:
            warn(f"{self.label}: {error}")
            return Measurement(note=f"diverged: {error}"), 0
        if result.exit_code:
            return None, result.exit_code
        return self._measured(self.run_path, stop)

    def _measured(self, run_path: Path, stop: StopRequest) -> tuple[Measurement | None, int]:
        """Measure a finished run; if stopped, return no measurement and an exit code."""
        device = resolve_device(self.options.device)
        try:
            # Measuring changes nothing, so it can be broken off anywhere.
            with stop.at_once():
                model = load_torch(run_path).to(device)
                run = FinishedRun(run_path, self.arm, self.seed, model, self.source, device)
                return self.experiment.measure(run), 0
        except StopRequested as request:
            return None, request.exit_code

    def _setting(self) -> dict[str, Any]:
        """Return everything that decides a run, as it reads back from JSON."""
        setting = {
            "network": self.arm.network.to_dict(),
            "recipe": self.arm.recipe.to_dict(),
            "image_px": self.arm.image_px,
            "seed": self.seed,
            "data": self.data,
        }
        plain: dict[str, Any] = json.loads(json.dumps(setting))
        return plain

    @property
    def _measurement_path(self) -> Path:
        return self.run_path.with_name(f"seed-{self.seed}.json")


def _reusable_run(
    path: Path, setting: Mapping[str, Any], precision: str, frame: Mapping[str, Any]
) -> Path | None:
    """Return the folder of a finished run with this setting; ``None``: there is none.

    Args:
        path: Folder of the experiment; the folders beside it are searched.
        setting: Network, recipe, size, seed and data, as JSON types.
        precision: Precision of training; ``auto`` is not known beforehand, so no run is returned.
        frame: ``versions`` and ``hardware`` of this experiment.
    """
    if precision == "auto":
        return None
    own = path.resolve()
    for file in sorted(own.parent.glob(f"*/arms/*/seed-{setting['seed']}.json")):
        run = file.with_suffix("")
        if own in file.parents or not run.is_dir():
            continue
        try:
            measured = read_record(file, {"setting": dict})
            trained = read_run_record(run)
        except (FileNotFoundError, ModelFileError):
            continue  # damaged or of another form: its own experiment will say so
        agrees = (
            with_new_names(measured["setting"]) == setting
            and trained["status"] == "finished"
            and trained["plan"]["precision"] == precision
            and all(trained[name] == frame[name] for name in ("versions", "hardware"))
        )
        if agrees:
            # As the experiments lie to each other, so that their common folder can be moved.
            return path / os.path.relpath(run, own)
    return None


def _divergence(run_path: Path) -> str:
    """Return the error of a run that diverged and was killed before it was noted; empty: it did not."""
    try:
        document = read_run_record(run_path, "error", "status")
    except (FileNotFoundError, ModelFileError):
        return ""  # not begun, or damaged, which training says better
    return str(document["error"]) if document["status"] == "diverged" else ""
