"""The run folder: what a run writes, and what it can be resumed and reported from.

RUN/run.json          plan, command, versions, hardware, status
RUN/metrics.jsonl     one line per window of steps and per evaluation
RUN/evaluation.json   the evaluation of that model: figures, confusions, worst mistakes, surest hits
RUN/mistakes/         those mistakes as pictures
RUN/best/             the surest hits as pictures
RUN/heat-maps/        where the network saw the class that it said, for each of these pictures
RUN/model/            the model folder, as of the last or the best evaluation
RUN/checkpoints/      to resume from
RUN/samples/          keys, labels and sizes of the samples, to know the data again
RUN/report.html       all of it to look at
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residual.errors import ConfigurationError, ModelFileError
from residual.evaluation import Evaluation
from residual.runtime.files import (
    FolderLock,
    append_text,
    atomic_folder,
    flush,
    make_folder,
    put_back,
    remove,
    write_json,
    write_text,
)
from residual.runtime.provenance import command_line, now, versions
from residual.training.board import Board
from residual.training.plan import Plan
from residual.training.samples import first_difference, record_samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from residual.data.source import SampleSource

__all__ = ["Run", "default_run_path"]

SCHEMA_VERSION = 1

# A run that was killed before it had a run.json leaves no more than these, and can be started again.
_OURS = {".writable.tmp", ".run.json.tmp", ".lock"}


def default_run_path(plan: Plan) -> Path:
    """Return ``runs/DATA-MODEL``, with a number behind it where that is taken."""
    base = Path("runs", f"{plan.data}-{plan.model}")
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


class Run:
    """A run folder that is open for writing."""

    def __init__(self, path: Path, plan: Plan, record: dict[str, Any], *, writes: bool = True) -> None:
        self.path = path
        self.plan = plan
        self._record = record
        self._writes = writes
        self._lock: FolderLock | None = None
        self._board: Board | None = None

    @classmethod
    def seen_by_others(cls, path: Path, plan: Plan) -> Run:
        """Return the run as the other ranks see it, who do not write."""
        return cls(path, plan, {"status": "running"}, writes=False)

    # -- open ----------------------------------------------------------------------------------------

    @classmethod
    def start(cls, path: Path, plan: Plan, source: SampleSource, facts: Mapping[str, Any]) -> Run:
        """Create the folder of a new run.

        Args:
            path: The folder; it must not exist, or be empty.
            plan: What is going to be done.
            source: The data, whose samples are written down.
            facts: More to remember in ``run.json``: hardware, files that are not used.

        Raises:
            ConfigurationError: The folder holds another run or other files.
            RunError: It cannot be written.
        """
        if (path / "run.json").exists():
            raise ConfigurationError(
                f"{path} already holds a run", remedy="continue it with --resume, or choose another --out"
            )
        if path.exists() and (not path.is_dir() or any(file.name not in _OURS for file in path.iterdir())):
            raise ConfigurationError(f"{path} is not an empty folder", remedy="choose another --out")
        make_folder(path)
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
        run._take()
        if (path / "run.json").exists():  # another process came between the check and here
            run.close()
            raise ConfigurationError(f"{path} already holds a run", remedy="choose another --out")
        run.set_status("running", 0)
        run._complete(source)
        return run

    @classmethod
    def resume(cls, path: Path, plan: Plan, source: SampleSource) -> Run:
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
        if recorded.fingerprint != plan.fingerprint:
            difference = first_difference(path / "samples", source) or "the splits are others"
            raise ConfigurationError(
                f"the data have changed since the run in {path} began ({difference})",
                remedy="resume with the same data, or start anew in another --out",
            )
        differences = recorded.differences(plan)
        if differences:
            raise ConfigurationError(
                f"{path} was started differently ({'; '.join(differences[:8])})",
                remedy="resume with the same options, or start anew in another --out",
            )
        make_folder(path)
        run = cls(path, recorded, record)
        run._take()
        put_back(run.model_path)
        run._complete(source)
        return run

    def _complete(self, source: SampleSource) -> None:
        """Write what belongs to the beginning of a run, where a kill has not let it come to that."""
        if not self.metrics_path.exists():
            write_text(self.metrics_path, "")
        if not (self.path / "samples").exists():
            record_samples(self.path / "samples", source)

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

    def _take(self) -> None:
        """Let no other process write the run while this one does; the system lets go of it at a kill."""
        try:
            self._lock = FolderLock(self.path)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"another process is writing the run in {self.path}",
                remedy="wait for it, stop it, or choose another --out",
            ) from error

    def close(self) -> None:
        """Let other processes write the run."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None

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

    @property
    def finished_at(self) -> int | None:
        """Step at which the run came to its end; ``None``: it has not."""
        return int(self._record["step"]) if self.status == "finished" else None

    # -- write ---------------------------------------------------------------------------------------

    def set_status(self, status: str, step: int, error: str = "", **facts: Any) -> None:
        """Record how far the run is, how it stands, and other facts."""
        self._record |= {"status": status, "step": step, "updated": now(), "error": error, **facts}
        if self._writes:
            write_json(self.path / "run.json", self._record)

    def show_on_board(self) -> None:
        """Write every line of metrics for TensorBoard, too.

        Raises:
            MissingDependencyError: tensorboard is not installed.
        """
        if self._writes:
            self._board = Board(self.path / "tensorboard")

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        if not self._writes:
            return
        append_text(self.metrics_path, json.dumps(row, allow_nan=False) + "\n")
        if self._board is not None:
            self._board.add(row)

    def flush_metrics(self) -> None:
        """See that all lines are on the disk before a checkpoint says that they are."""
        if self._writes and self.metrics_path.exists():
            with self.metrics_path.open("a", encoding="utf-8") as file:
                flush(file.fileno(), self.metrics_path)

    def forget_after(self, step: int, evaluated_step: int, final_split: str) -> None:
        """Drop the lines of ``metrics.jsonl`` that a resumed run writes again.

        Args:
            step: The last update that is done.
            evaluated_step: The last update after which was evaluated.
            final_split: What is evaluated at the very end only; empty where nothing is.
        """
        if self._writes and self.metrics_path.exists():
            lines = self.metrics_path.read_text("utf-8").splitlines()
            kept = [line for line in lines if _is_done(line, step, evaluated_step, final_split)]
            if kept != lines:
                write_text(self.metrics_path, "".join(f"{line}\n" for line in kept))

    def record_evaluation(self, step: int, evaluation: Evaluation, photos: Mapping[str, bytes]) -> None:
        """Write ``evaluation.json`` and the photos (PNG) of its mistakes and surest hits, by name.

        The heat maps are those of another evaluation from then on, so they are removed.
        """
        remove(self.path / "heat-maps")
        for name in ("mistakes", "best"):
            inside = {place: photo for place, photo in photos.items() if place.startswith(f"{name}/")}
            _write_pictures(self.path / name, {place.split("/")[1]: photo for place, photo in inside.items()})
        document = {"schema_version": SCHEMA_VERSION, "step": step, **evaluation.to_dict()}
        write_json(self.path / "evaluation.json", document)

    def record_heat_maps(self, heat_maps: Mapping[str, bytes]) -> None:
        """Write heat maps (PNG) of the evaluation that was recorded last, by name."""
        _write_pictures(self.path / "heat-maps", heat_maps)

    @property
    def has_heat_maps(self) -> bool:
        """Whether there are heat maps of the evaluation that was recorded last."""
        return (self.path / "heat-maps").exists()

    def read_evaluation(self) -> Evaluation | None:
        """Return the evaluation of the model in ``model/``, or ``None`` where there is none yet."""
        try:
            document = json.loads((self.path / "evaluation.json").read_text("utf-8"))
            del document["step"]
            if document.pop("schema_version") != SCHEMA_VERSION:
                return None
            return Evaluation.from_dict(document)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{self.path / 'evaluation.json'} is damaged", remedy="remove it") from error


def _write_pictures(path: Path, pictures: Mapping[str, bytes]) -> None:
    with atomic_folder(path) as folder:
        for name, picture in pictures.items():
            (folder / f"{name}.png").write_bytes(picture)  # the folder sees that they are on the disk


def _is_done(line: str, step: int, evaluated_step: int, final_split: str) -> bool:
    try:
        row = json.loads(line)
        if row["event"] != "evaluation":
            return bool(row["step"] <= step)
        return bool(row["step"] <= evaluated_step and row["split"] != final_split)
    except (ValueError, KeyError, TypeError):
        return False  # a line cut short by a crash
