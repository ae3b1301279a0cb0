"""A trial that takes no time, in a module that a process has soon imported."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from deepresidual.analysis.experiments.experiment import Measurement
from deepresidual.errors import DataError
from deepresidual.runtime.processes import usable_cores
from deepresidual.runtime.signals import StopRequest

ENDLESS = 9


@dataclass(frozen=True)
class Quick:
    """What a process asks of a trial.

    One ends only when it is asked to; others act when that one has begun.
    """

    folder: Path
    number: int
    act: Callable[[], None]

    @property
    def label(self) -> str:
        return f"quick, seed {self.number}"

    progress = label

    @property
    def log_path(self) -> Path:
        return self.folder / f"seed-{self.number}.log"

    def measurement(self) -> Measurement | None:
        done = self.log_path.with_suffix(".json")
        return Measurement(json.loads(done.read_text())) if done.exists() else None

    def complete(self, stop: StopRequest) -> int:
        begun = self.folder / "endless"
        if self.number == ENDLESS:
            begun.touch()
        while self.number == ENDLESS and not stop.exit_code:
            time.sleep(0.01)
        while self.act is not nothing and not begun.exists():
            time.sleep(0.01)
        self.act()
        if not stop.exit_code:
            told = {"threads": torch.get_num_threads(), "cores": usable_cores()}
            self.log_path.with_suffix(".json").write_text(json.dumps(told))
        return stop.exit_code


def nothing() -> None:
    pass


def refuse() -> None:
    raise DataError("no figures on Sundays", remedy="come on Monday")


def crash() -> None:
    raise ZeroDivisionError("a mistake of the program")


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def be_terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
