"""The run folder: what a run writes, and what it can be resumed and reported from.

RUN/run.json          plan, command, versions, hardware, status
RUN/metrics.jsonl     one line per window of steps and per evaluation
RUN/evaluation.json   the last evaluation: figures, confusions, worst mistakes
RUN/mistakes/         those mistakes as pictures
RUN/model/            the model folder, as of the last evaluation
RUN/checkpoints/      to resume from
RUN/report.html       all of it to look at
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residual.errors import ConfigurationError, ModelFileError
from residual.evaluation import Evaluation
from residual.runtime.files import atomic_folder, make_folder, write_bytes, write_json, write_text
from residual.runtime.provenance import command_line, now, versions
from residual.training.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["Run", "default_run_path"]

SCHEMA_VERSION = 1


def default_run_path(plan: Plan) -> Path:
    """Return ``runs/DATA-MODEL``, with a number behind it where that is taken."""
    base = Path("runs", f"{plan.data}-{plan.model}")
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


class Run:
    """A run folder that is open for writing."""

    def __init__(self, path: Path, plan: Plan, record: dict[str, Any]) -> None:
        self.path = path
        self.plan = plan
        self._record = record

    # -- open ----------------------------------------------------------------------------------------

    @classmethod
    def start(cls, path: Path, plan: Plan, facts: Mapping[str, Any]) -> Run:
        """Create the folder of a new run.

        Args:
            path: The folder; it must not exist, or be empty.
            plan: What is going to be done.
            facts: More to remember in ``run.json``: hardware, files that are not used.

        Raises:
            ConfigurationError: The folder holds another run or other files.
            RunError: It cannot be written.
        """
        if (path / "run.json").exists():
            raise ConfigurationError(
                f"{path} already holds a run", remedy="continue it with --resume, or choose another --out"
            )
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigurationError(f"{path} is not an empty folder", remedy="choose another --out")
        make_folder(path)
        try:
            (path / "run.json").touch(exist_ok=False)
        except FileExistsError as error:  # another process came between the check and here
            raise ConfigurationError(f"{path} already holds a run", remedy="choose another --out") from error
        record = {
            "schema_version": SCHEMA_VERSION,
            "status": "running",
            "step": 0,
            "total_steps": plan.total_steps,
            "started": now(),
            "command": command_line(),
            "plan": plan.to_dict(),
            "versions": versions(),
            **facts,
        }
        run = cls(path, plan, record)
        run.set_status("running", 0)
        write_text(run.metrics_path, "")
        return run

    @classmethod
    def resume(cls, path: Path, plan: Plan) -> Run:
        """Open the folder of a run that was interrupted.

        Raises:
            ConfigurationError: There is no run, or it was started with another plan; lists the differences.
            ModelFileError: ``run.json`` is damaged.
        """
        recorded, record = cls.read_plan(path)
        if record.get("status") == "diverged":
            raise ConfigurationError(
                f"the run in {path} diverged",
                remedy="start anew in another --out with a lower --learning-rate",
            )
        differences = recorded.differences(plan)
        if differences:
            raise ConfigurationError(
                f"{path} was started differently ({'; '.join(differences[:8])})",
                remedy="resume with the same options, or start anew in another --out",
            )
        make_folder(path)
        return cls(path, recorded, record)

    @staticmethod
    def read_plan(path: Path) -> tuple[Plan, dict[str, Any]]:
        """Return the plan of the run in ``path`` and the whole of its ``run.json``."""
        file = path / "run.json"
        if not file.is_file():
            raise ConfigurationError(
                f"{path} holds no run to resume", remedy="leave out --resume to start one"
            )
        try:
            record = json.loads(file.read_text("utf-8"))
            return Plan.from_dict(record["plan"]), record
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{file} is damaged ({' '.join(str(error).split())})") from error

    # -- places --------------------------------------------------------------------------------------

    @property
    def metrics_path(self) -> Path:
        """One JSON document a line."""
        return self.path / "metrics.jsonl"

    @property
    def model_path(self) -> Path:
        """The model folder."""
        return self.path / "model"

    @property
    def checkpoints_path(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``interrupted``, ``diverged`` or ``failed``."""
        return str(self._record["status"])

    # -- write ---------------------------------------------------------------------------------------

    def set_status(self, status: str, step: int, error: str = "") -> None:
        """Record how far the run is and how it stands."""
        self._record |= {"status": status, "step": step, "updated": now(), "error": error}
        write_json(self.path / "run.json", self._record)

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the lines of ``metrics.jsonl`` beyond ``step``: a resumed run writes them again."""
        if self.metrics_path.exists():
            kept = [
                line for line in self.metrics_path.read_text("utf-8").splitlines() if _step_of(line) <= step
            ]
            write_text(self.metrics_path, "".join(f"{line}\n" for line in kept))

    def record_evaluation(self, step: int, evaluation: Evaluation, pictures: list[bytes]) -> None:
        """Write ``evaluation.json`` and the pictures (PNG) of its mistakes."""
        with atomic_folder(self.path / "mistakes") as folder:
            for number, picture in enumerate(pictures):
                write_bytes(folder / f"{number:02d}.png", picture)
        document = {"schema_version": SCHEMA_VERSION, "step": step, **dataclasses.asdict(evaluation)}
        write_json(self.path / "evaluation.json", document)

    def read_evaluation(self, step: int) -> Evaluation | None:
        """Return the evaluation that was recorded at ``step``, or ``None`` if the last was at another."""
        try:
            document = json.loads((self.path / "evaluation.json").read_text("utf-8"))
            if document.pop("schema_version") != SCHEMA_VERSION or document.pop("step") != step:
                return None
            return Evaluation.from_dict(document)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{self.path / 'evaluation.json'} is damaged", remedy="remove it") from error


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by a crash
