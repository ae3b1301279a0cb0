"""Write a run folder, so that the run can be resumed and reported from it.

RUN/run.json          plan, command, versions, hardware, status
RUN/metrics.jsonl     one line per window of steps and per evaluation
RUN/metrics-damaged.jsonl  lines of it that could not be read when the run went on, as they were
RUN/evaluation.json   the evaluation of that model: figures, confusions, worst mistakes, surest hits
RUN/mistakes/         those mistakes as pictures
RUN/best/             the surest hits as pictures
RUN/heat-maps/        where the network saw the class that it said, for each of these pictures
RUN/label-errors.json    labels that are likely wrong, where the run began with learned weights
RUN/label-errors/     the images of the first of them
RUN/learning-curve.json  what more images would give, likewise
RUN/first-model/      the model folder of step 0, where the recipe fits the classifier or averages with it
RUN/model/            the model folder, as of the last or the best evaluation
RUN/checkpoints/      to resume from
RUN/samples/          keys, labels and sizes of the samples of each split, to divide the data so again
RUN/report.html       all of it to look at
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from deepresidual.data.source import SampleSource
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError, RunError
from deepresidual.runs.plan import Plan
from deepresidual.runs.read import (
    FACTS,
    SCHEMA_VERSION,
    holds_run,
    read_evaluation,
    read_metrics,
    read_plan,
    read_run_record,
)
from deepresidual.runs.samples import first_difference, is_record_of_samples, record_samples
from deepresidual.runs.tensorboard import TensorBoardWriter
from deepresidual.runtime.console import note, warn
from deepresidual.runtime.files import (
    FolderLock,
    append_text,
    atomic_folder,
    cannot_write,
    flush,
    make_folder,
    put_back,
    remove,
    write_bytes,
    write_json,
    write_text,
)
from deepresidual.runtime.provenance import command_line, now, versions
from deepresidual.runtime.strict_json import Line, damage_in

T = TypeVar("T")

# A run that was killed before it had a run.json leaves no more than these, and can be started again.
_RESUMABLE_LEFTOVERS = {".writable.tmp", ".run.json.tmp", ".lock"}
# What a run writes before its first update and its first model; with other files it is never replaced.
_BEFORE_FIRST_UPDATE = {"run.json", "metrics.jsonl", "report.html", ".report.html.tmp", "samples"}


def default_run_path(plan: Plan) -> Path:
    """Return ``runs/DATA-MODEL``, with a number behind it where that is taken."""
    base = Path("runs", f"{plan.data}-{plan.model}")
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


def already_holds_run(path: Path) -> ConfigurationError:
    """Return the error of a new run in a folder that has one."""
    return ConfigurationError(
        f"{path} already holds a run", remedy="continue it with --resume, or choose another --out"
    )


def can_be_replaced(path: Path) -> bool:
    """Return whether a run ended in failure before its first update and left nothing that anyone could miss.

    Such a run has trained nothing: it has no checkpoint, no model, no line of metrics. It cannot be resumed
    either once the data that it failed at are repaired, since they are other data then.
    """
    try:
        record = read_run_record(path, "status", "step", "plan")
        if (record["status"], record["step"]) != ("failed", 0):
            return False
        metrics, samples = path / "metrics.jsonl", path / "samples"
        return (
            {file.name for file in path.iterdir()} <= _BEFORE_FIRST_UPDATE | _RESUMABLE_LEFTOVERS
            and all(file.is_file() for file in path.iterdir() if file != samples)
            and not (metrics.exists() and metrics.stat().st_size)
            and (not samples.exists() or is_record_of_samples(samples))
        )
    except (ResidualError, OSError):
        return False


class Run:
    """A run folder that is open for writing."""

    def __init__(self, path: Path, plan: Plan, record: dict[str, Any], *, writes: bool = True) -> None:
        self.path = path
        self.plan = plan
        self._record = record
        self._writes = writes
        self._lock: FolderLock | None = None
        self._tensorboard: TensorBoardWriter | None = None
        self._num_metric_lines = 0

    @classmethod
    def read_only(cls, path: Path, plan: Plan) -> Run:
        """Return the run as the processes beside the main one see it, which write nothing."""
        return cls(path, plan, {"status": "running"}, writes=False)

    # -- open ----------------------------------------------------------------------------------------

    @classmethod
    def start(cls, path: Path, plan: Plan, source: SampleSource, facts: Mapping[str, Any]) -> Run:
        """Create the folder of a new run.

        Args:
            path: The folder; it must not exist, or be empty, or hold a run that :func:`can_be_replaced`.
            plan: The plan of the run.
            source: The data; keys, labels and sizes of its samples are recorded.
            facts: More fields of ``run.json``: hardware, files that are not used.

        Raises:
            ConfigurationError: The folder holds another run or other files.
            RunError: It cannot be written.
        """
        replaces = can_be_replaced(path)
        if holds_run(path) and not replaces:
            raise already_holds_run(path)
        if (
            not replaces
            and path.exists()
            and not (path.is_dir() and _RESUMABLE_LEFTOVERS.issuperset(file.name for file in path.iterdir()))
        ):
            raise ConfigurationError(f"{path} is not an empty folder", remedy="choose another --out")
        make_folder(path)
        run = cls(path, plan, {**_first_record(plan), **facts})
        run._acquire_lock()
        try:
            if replaces and can_be_replaced(path):
                run._remove_failed()
            elif holds_run(path):  # another process came between the check and here
                raise ConfigurationError(f"{path} already holds a run", remedy="choose another --out")
        except BaseException:
            run.close()
            raise
        run.set_status("running", 0)
        run._complete(source)
        return run

    @classmethod
    def resume(cls, path: Path, plan: Plan, source: SampleSource, facts: Mapping[str, Any]) -> Run:
        """Open the folder of a run that was interrupted.

        Only the plan in ``run.json`` is needed. If another field is damaged, a warning names it, and its
        present value takes its place.

        Args:
            path: The folder.
            plan: The plan that today's options give.
            source: The data.
            facts: As for :meth:`start`.

        Raises:
            ConfigurationError: There is no run, it diverged, or it was started with another plan; the message
                lists the differences.
            ModelFileError: The plan in ``run.json`` is damaged.
        """
        recorded, record = read_plan(path)
        damage = damage_in(record, FACTS)
        if record.get("status") == "diverged":
            raise ConfigurationError(
                f"the run in {path} diverged",
                remedy="start anew in another --out with a lower --learning-rate",
            )
        anew = "start anew in another --out"
        if can_be_replaced(path):
            anew = "leave out --resume to start anew, since it failed before its first update"
        if recorded.fingerprint != plan.fingerprint:
            difference = first_difference(path / "samples", source) or "the splits are others"
            raise ConfigurationError(
                f"the data have changed since the run in {path} began ({difference})",
                remedy=f"resume with the same data, or {anew}",
            )
        differences = recorded.differences(plan)
        if differences:
            raise ConfigurationError(
                f"{path} was started differently ({'; '.join(differences[:8])})",
                remedy=f"resume with the same options, or {anew}",
            )
        make_folder(path)
        run = cls(path, recorded, record)
        run._acquire_lock()
        if damage:
            problems = "; ".join(damage.values())
            warn(f"{path / 'run.json'} is damaged ({problems}); what holds now takes its place")
            for name in damage.keys() & record.keys():
                del record[name]
            run._record = {**_first_record(recorded), "updated": now(), "error": "", **facts, **record}
        put_back(run.model_path)
        run._complete(source)
        return run

    def _remove_failed(self) -> None:
        """Remove a run that failed before its first update, but for its ``run.json``.

        The folder stays where it is, and so do its lock and a link that leads to it. The new ``run.json``
        takes the place of the old one when all else is gone: a kill leaves a run that can still be
        replaced, or the new one.
        """
        names = sorted(_BEFORE_FIRST_UPDATE - {"run.json"})
        try:
            for name in names:
                remove(self.path / name)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        if left := [name for name in names if (self.path / name).exists()]:
            raise RunError(f"cannot remove {self.path / left[0]}", remedy="choose another --out")
        note(f"{self.path} holds a run that failed before its first update; the new run replaces it")

    def _complete(self, source: SampleSource) -> None:
        """Write the files of the first step, if a kill came before them."""
        if not self.metrics_path.exists():
            write_text(self.metrics_path, "")
        if not (self.path / "samples").exists():
            record_samples(self.path / "samples", source)

    def _acquire_lock(self) -> None:
        """Keep other processes from writing the run; the system releases the lock of a killed process."""
        try:
            self._lock = FolderLock(self.path)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"another process is writing the run in {self.path}",
                remedy="wait for it, stop it, or choose another --out",
            ) from error

    def close(self) -> None:
        """Release the lock: other processes may write the run."""
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
    def first_model_path(self) -> Path:
        """The model folder of step 0, if there is one."""
        return self.path / "first-model"

    @property
    def checkpoints_path(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``interrupted``, ``diverged`` or ``failed``."""
        return str(self._record["status"])

    @property
    def record(self) -> Mapping[str, Any]:
        """The document of ``run.json``."""
        return self._record

    @property
    def num_metric_lines(self) -> int:
        """Number of lines of ``metrics.jsonl``."""
        return self._num_metric_lines

    @property
    def finished_at(self) -> int | None:
        """The last step of a finished run; ``None``: not finished."""
        return int(self._record["step"]) if self.status == "finished" else None

    # -- write ---------------------------------------------------------------------------------------

    def set_status(
        self, status: str, step: int, error: str = "", facts: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Record status, step, error and other facts in ``run.json``."""
        self._record |= {"status": status, "step": step, "updated": now(), "error": error, **facts}
        if self._writes:
            write_json(self.path / "run.json", self._record)

    def settle_plan(self, plan: Plan, facts: Mapping[str, Any]) -> None:
        """Record the plan of a run whose length is known now, and other facts."""
        self.plan = plan
        self._record |= {"plan": plan.to_dict(), "total_steps": plan.total_steps, **facts}
        if self._writes:
            write_json(self.path / "run.json", self._record)

    def log_to_tensorboard(self) -> None:
        """Write the metrics for TensorBoard as well.

        Raises:
            MissingDependencyError: tensorboard is not installed.
        """
        if self._writes:
            self._tensorboard = TensorBoardWriter(self.path / "tensorboard")

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        if not self._writes:
            return
        append_text(self.metrics_path, json.dumps(row, allow_nan=False) + "\n")
        self._num_metric_lines += 1
        if self._tensorboard is not None:
            self._tensorboard.add(row)

    def has_logged(self, event: str, step: int) -> bool:
        """Return whether ``metrics.jsonl`` has a line of an event after an update."""
        return any(
            not line.damage and (line.document["event"], line.document["step"]) == (event, step)
            for line in read_metrics(self.path)
        )

    def flush_metrics(self) -> None:
        """Flush the metrics to the disk, before a checkpoint counts their lines."""
        if self._writes and self.metrics_path.exists():
            with self.metrics_path.open("a", encoding="utf-8") as file:
                flush(file.fileno(), self.metrics_path)

    def drop_later_metrics(
        self, step: int, evaluated_step: int, final_split: str, num_lines: int | None = None
    ) -> int:
        """Drop the lines of ``metrics.jsonl`` that a resumed run writes again, and warn of lost ones.

        Damaged lines are moved to ``metrics-damaged.jsonl`` as they are.

        Args:
            step: The last update that is done.
            evaluated_step: The last update that was followed by an evaluation.
            final_split: The split that is evaluated at the very end only; empty: none.
            num_lines: Number of lines up to here; ``None``: not known.

        Returns:
            Number of lines that are written again.
        """
        if not self._writes:
            return 0
        lines = read_metrics(self.path)
        sound = [line for line in lines if not line.damage]
        kept = [line for line in sound if _is_done(line.document, step, evaluated_step, final_split)]
        damaged = [line for line in lines if line.damage and (line.is_whole or num_lines is not None)]
        self._num_metric_lines = len(kept)
        if num_lines is None:
            is_lost = bool(damaged) or (evaluated_step > 0 and not kept)
        else:
            is_lost = len(kept) < num_lines
        if is_lost:
            self._warn_of_lost(step, len(kept), num_lines, damaged)
        if len(kept) < len(lines) or (lines and not lines[-1].is_whole):
            write_bytes(self.metrics_path, b"".join(line.content + b"\n" for line in kept))
        return len(sound) - len(kept)

    def _warn_of_lost(self, step: int, num_kept: int, num_lines: int | None, damaged: list[Line]) -> None:
        """Warn of the lines up to a step that are lost, and set the damaged ones aside."""
        count = f"{num_kept} lines" if num_lines is None else f"{num_kept} of {num_lines} lines"
        text = f"{self.metrics_path} has {count} up to step {step}"
        if damaged:
            aside = self.path / "metrics-damaged.jsonl"
            content = b"".join(line.content + b"\n" for line in damaged)
            write_bytes(aside, (aside.read_bytes() if aside.is_file() else b"") + content)
            numbers = ", ".join(str(line.number) for line in damaged[:8])
            numbers += f" and {len(damaged) - 8} more" if len(damaged) > 8 else ""
            lines, them = ("line", "it") if len(damaged) == 1 else ("lines", "them")
            text += f": {lines} {numbers} cannot be read ({damaged[0].damage}; {aside.name} keeps {them})"
        warn(f"{text}; the curves lack what is lost, the weights do not")

    def record_evaluation(
        self, step: int, evaluation: Mapping[str, Any], photos: Mapping[str, bytes]
    ) -> None:
        """Write an evaluation as ``evaluation.json``, and the photos (PNG) of its mistakes and surest hits.

        Heat maps of an earlier evaluation are removed.
        """
        remove(self.path / "heat-maps")
        for name in ("mistakes", "best"):
            inside = {place: photo for place, photo in photos.items() if place.startswith(f"{name}/")}
            _write_pictures(self.path / name, {place.split("/")[1]: photo for place, photo in inside.items()})
        document = {"schema_version": SCHEMA_VERSION, "step": step, **evaluation}
        write_json(self.path / "evaluation.json", document)

    def record_heat_maps(self, heat_maps: Mapping[str, bytes]) -> None:
        """Write the heat maps (PNG, by name) of the last recorded evaluation."""
        _write_pictures(self.path / "heat-maps", heat_maps)

    def record_findings(
        self, documents: Mapping[str, Mapping[str, Any]], photos: Mapping[str, bytes]
    ) -> None:
        """Write what was found out about the images, by the name of its file, and photos (PNG) of labels."""
        _write_pictures(self.path / "label-errors", photos)
        for name, document in documents.items():
            write_json(self.path / name, document)

    @property
    def has_heat_maps(self) -> bool:
        """Whether the last recorded evaluation has its heat maps."""
        return (self.path / "heat-maps").exists()

    def read_evaluation(self, build: Callable[[Mapping[str, Any]], T]) -> T | None:
        """Return the evaluation of the model in ``model/``, built from its document; ``None``: none is there.

        A damaged one is named in a warning and removed; the model can be evaluated again.
        """
        path = self.path / "evaluation.json"
        try:
            document = read_evaluation(self.path)
            if document is None or document.get("schema_version") != SCHEMA_VERSION:
                return None
            return build(document)
        except (ModelFileError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error) if isinstance(error, ModelFileError) else f"{path} is damaged ({error})"
            warn(f"{reason}; the model is measured again")
            remove(path)
            return None


def _first_record(plan: Plan) -> dict[str, Any]:
    """Return the document of ``run.json`` before the first step."""
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "running",
        "step": 0,
        "total_steps": plan.total_steps,
        "started": now(),
        "command": command_line(),
        "plan": plan.to_dict(),
        "versions": versions(),
    }


def _write_pictures(path: Path, pictures: Mapping[str, bytes]) -> None:
    with atomic_folder(path) as folder:
        for name, picture in pictures.items():
            (folder / f"{name}.png").write_bytes(picture)  # the folder sees that they are on the disk


def _is_done(row: Mapping[str, Any], step: int, evaluated_step: int, final_split: str) -> bool:
    if row["event"] != "evaluation":
        return bool(row["step"] <= step)
    return bool(row["step"] <= evaluated_step and row["split"] != final_split)
