"""Save a run in progress, resume it, and go back to an earlier step of it."""

from __future__ import annotations

import time
from pathlib import Path

from deepresidual.errors import ModelFileError
from deepresidual.runs.folder import Run
from deepresidual.runtime.console import note, warn
from deepresidual.runtime.distributed import Processes
from deepresidual.tasks import Result, Task
from deepresidual.training.checkpoint import (
    forget_checkpoints_after,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from deepresidual.training.meter import Meter, Sums
from deepresidual.training.state import Checkpoint, TrainingState
from deepresidual.training.updater import Updater

_NONE = -1  # the step of an evaluation that never was


class Saver:
    """Checkpoints and records of a run.

    Args:
        run: The run folder.
        updater: Network, optimizer and average.
        meter: Training sums since the last log line.
        processes: The processes that train together.
        task: What is learned.
        final_split: The split that is evaluated at the very end only; empty if there is none.
        seconds: Longest time between two checkpoints.
    """

    def __init__(
        self,
        run: Run,
        updater: Updater,
        meter: Meter,
        processes: Processes,
        task: Task,
        *,
        final_split: str,
        seconds: float,
    ) -> None:
        self._run, self._updater, self._meter, self._processes = run, updater, meter, processes
        self._task = task
        self._final_split, self._seconds = final_split, seconds
        self._saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint was too long ago."""
        return time.monotonic() - self._saved_at > self._seconds

    def save(self, state: TrainingState, status: str) -> None:
        """Save a checkpoint, and the status of the run."""
        windows = self._processes.all_gather(self._meter.peek())
        with self._processes.failing_together():
            self._save(state, status, windows)

    def save_before_step(self, state: TrainingState) -> bool:
        """Save, from another thread, the state before what is being computed; return whether it could.

        Until its gradients are there a step has changed nothing but BN's statistics, and an evaluation
        changes nothing. Each of several processes knows its own sums only, so there the step has to end.
        """
        if self._processes.size > 1 or self._updater.device.type == "cuda":
            return False
        self._save(state, "interrupted", [self._meter.peek()], before_step=True)
        return True

    def set_status(self, state: TrainingState, status: str) -> None:
        """Record the status of the run."""
        facts = {"bad_samples": state.bad_samples, "not_finite": sorted(state.not_finite)}
        self._run.set_status(status, state.step, facts=facts)

    def resume(self, path: Path | None) -> tuple[TrainingState, Result | None]:
        """Restore the newest whole checkpoint, or ``path``, which must be whole.

        Returns:
            The state of the run, and the evaluation of the model that is kept.
        """
        checkpoint = None
        with self._processes.failing_together():
            if self._processes.is_main:
                if path is None:
                    _, checkpoint = newest_checkpoint(self._run.checkpoints_path) or (None, None)
                else:
                    checkpoint = load_checkpoint(path)
                    forget_checkpoints_after(self._run.checkpoints_path, checkpoint.state.step)
                if checkpoint is not None and not checkpoint.fits(self._updater):
                    raise ModelFileError(
                        f"the checkpoints in {self._run.checkpoints_path} are of another network "
                        "than the run",
                        remedy="start anew in another --out",
                    )
        return self._restored(checkpoint)

    def go_back(self, step: int) -> tuple[TrainingState, Result | None]:
        """Restore the state of ``step`` or earlier; later steps are done again."""
        checkpoint = None
        with self._processes.failing_together():
            if self._processes.is_main:
                folder = self._run.checkpoints_path
                _, checkpoint = newest_checkpoint(folder, at_most=step) or (None, None)
                if checkpoint is None:
                    raise ModelFileError(
                        f"there is no whole checkpoint of step {step} or before to go back to",
                        remedy="start anew in another --out",
                    )
                forget_checkpoints_after(folder, checkpoint.state.step)
        return self._restored(checkpoint)

    def _save(
        self, state: TrainingState, status: str, windows: list[Sums], *, before_step: bool = False
    ) -> None:
        if self._processes.is_main:
            recipe = self._run.plan.recipe
            checkpoint = state.capture(
                self._updater, windows, self._run.num_metric_lines, before_step=before_step
            )
            back = recipe.rollback_steps if recipe.non_finite == "rollback" else 0
            self._run.flush_metrics()
            save_checkpoint(self._run.checkpoints_path, checkpoint, steps_back=back)
            self.set_status(state, status)
        self._saved_at = time.monotonic()

    def _restored(self, checkpoint: Checkpoint | None) -> tuple[TrainingState, Result | None]:
        """Restore what the main process has read on all of them."""
        checkpoint, finished_at = self._processes.broadcast((checkpoint, self._run.finished_at))
        if checkpoint is None:
            with self._processes.failing_together():
                again = self._run.drop_later_metrics(0, _NONE, self._final_split)
                if again or self._run.record.get("step"):
                    warn(f"there is no checkpoint to go on from: the run begins again{_written_again(again)}")
            return TrainingState(), None
        state = checkpoint.restore(self._updater)
        self._meter.restore(_own_window(state.windows, self._processes))
        evaluation, again, goes_on = None, 0, self._run.num_metric_lines > 0
        with self._processes.failing_together():
            if self._processes.is_main:
                evaluation = self._run.read_evaluation(self._task.read)
                again = self._restore_records(state, is_finished=state.step == finished_at)
        if not goes_on:  # after the warm-up, in the same process
            note(f"resuming at step {state.step} of {self._run.plan.total_steps}{_written_again(again)}")
        return state, self._processes.broadcast(evaluation)

    def _restore_records(self, state: TrainingState, *, is_finished: bool) -> int:
        """Bring the records of the run to the step of its checkpoint; return how many lines come again."""
        num_lines, final_split = state.metric_lines, self._final_split
        if is_finished:
            # The last line is on the split that gives the final figure, and comes after the last checkpoint.
            num_lines = num_lines + bool(final_split) if num_lines is not None else None
            final_split = ""
        else:
            self._run.set_status("running", state.step)
        evaluated_step = state.evaluated_step if state.has_begun or state.evaluated_step else _NONE
        return self._run.drop_later_metrics(state.step, evaluated_step, final_split, num_lines)


def _written_again(num_lines: int) -> str:
    return f"; later lines of metrics ({num_lines:,}) are written again" if num_lines else ""


def _own_window(windows: list[Sums], processes: Processes) -> Sums:
    """Return this process's part of a window; another number of processes leaves all of it to the first."""
    if len(windows) == processes.size:
        return windows[processes.rank]
    return sum(windows, start=Sums()) if processes.is_main else Sums()
