"""The training loop, in the order in which things happen: steps, evaluation, checkpoints, the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from deepresidual.data.loader import training_batches
from deepresidual.data.resident import InMemoryImages, can_be_resident
from deepresidual.data.sampler import TrainingOrder
from deepresidual.errors import ConfigurationError, DataError, DivergedError, ModelFileError
from deepresidual.evaluation import Evaluation, EvaluationStopped, evaluate_split
from deepresidual.models import TorchClassifier, create, load, save
from deepresidual.reporting import write_report
from deepresidual.runtime.console import ProgressBar, note, warn
from deepresidual.runtime.memory import peak_memory
from deepresidual.runtime.provenance import now, versions
from deepresidual.runtime.signals import StopRequested
from deepresidual.training.averages import precise_statistics
from deepresidual.training.checkpoint import (
    Checkpoint,
    Progress,
    Tensors,
    forget_checkpoints_after,
    load_checkpoint,
    network_tensors,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from deepresidual.training.meter import Meter, Sums
from deepresidual.training.pictures import heat_maps_of, photos_of
from deepresidual.training.schedule import ScheduleState, after_evaluation, after_window, learning_rate
from deepresidual.training.updater import Updater, learning_norms

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from deepresidual.data.loader import Batch
    from deepresidual.data.source import SampleSource
    from deepresidual.nn import ResNet
    from deepresidual.runs.folder import Run
    from deepresidual.runs.plan import Plan
    from deepresidual.runtime.distributed import Processes
    from deepresidual.runtime.signals import StopRequest

__all__ = ["RunResult", "Trainer"]

_MOST_BAD = 0.01  # beyond this share of bad samples the data set is at fault, not a file
_MOST_BAD_STEPS = 10


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        path: The run folder.
        status: ``finished``, or ``interrupted`` by Ctrl-C, SIGTERM, SIGHUP or SIGUSR1.
        exit_code: 0, 130 after Ctrl-C, 143 after the others.
        evaluation: The evaluation of the model in the run folder; ``None`` where there is none yet.
    """

    path: Path
    status: str
    exit_code: int
    evaluation: Evaluation | None


class _Interrupted(Exception):  # noqa: N818  # no error: somebody asked
    """Every rank has agreed to stop."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Trainer:
    """The state of a run in progress: network, optimizer, step, and the sums since the last log line.

    Args:
        plan: What is going to be done.
        source: The data, with the split that is held out.
        run: The run folder.
        device: Where the network computes.
        num_workers: How many load data.
        processes: The processes that train together.
        stop: Whether somebody asked to stop.
        weights: A model folder to begin with.
        checkpoint_minutes: Longest time between two checkpoints.
    """

    def __init__(
        self,
        plan: Plan,
        source: SampleSource,
        run: Run,
        device: torch.device,
        *,
        num_workers: int,
        processes: Processes,
        stop: StopRequest,
        weights: Path | None,
        checkpoint_minutes: float,
    ) -> None:
        self.plan, self.source, self.run = plan, source, run
        self.device, self.processes, self.stop = device, processes, stop
        self.step = 0
        self.evaluation: Evaluation | None = None
        self._num_workers = num_workers
        self._checkpoint_seconds = 60 * checkpoint_minutes
        self._saved_at = time.monotonic()
        self._show_from = self._draw_from = 0.0
        network = _first_network(plan, weights)
        self.model = TorchClassifier(network, plan.classes, plan.preprocess, provenance=_provenance(plan)).to(
            device
        )
        self._meter = Meter(device)
        self._updater = Updater(network, plan, processes, self._meter)
        self._resident: InMemoryImages | None = None
        self._evaluated_step = 0
        self._epoch_sums = Sums()
        self._measured = ScheduleState()
        self._not_finite: set[int] = set()
        self._bad_samples: dict[str, str] = {}
        self._status = ""
        self._is_finished = False
        # Empty where the split that is watched gives the final figure, too.
        final = source.evaluation_split
        self._final_split = final if final != source.validation_split else ""

    def run_to_end(self, checkpoint: Path | None) -> RunResult:
        """Train from the newest checkpoint, or from ``checkpoint``, to the end or until somebody stops it."""
        self._resume(checkpoint)
        if self.step == 0 and self.plan.recipe.non_finite == "rollback":
            self._save_checkpoint("running")
        ends = set(self.plan.evaluation_steps())
        try:
            with ProgressBar(self.plan.total_steps, done=self.step, label="training") as bar:
                if self.step in ends and self._evaluated_step < self.step:
                    self._end_epoch(bar)  # what a stop had broken off
                while self.step < self.plan.total_steps and not self._gains_no_more():
                    # The stream begins anew after a rollback.
                    for batch in self._batches():
                        if not self._update(batch):
                            break
                        bar.update(self.step, self._status)
                        if self._tenth(self.step) != self._tenth(self.step - 1) or self.step in ends:
                            self._log_window()
                        if self.step in ends:
                            self._end_epoch(bar)
                            if self._gains_no_more():
                                break
            return self._finish()
        except _Interrupted as request:
            return self._interrupted(request.exit_code)

    # -- one update ----------------------------------------------------------------------------------

    def _batches(self) -> Iterator[Batch]:
        """Yield this rank's part of every batch to come; agree with the others before each."""
        recipe = self.plan.recipe
        order = TrainingOrder(
            self.plan.seed,
            self.plan.num_samples,
            recipe.batch_size,
            self.step,
            self.plan.total_steps,
            recipe.repeated_augmentation,
            self.processes.rank,
            self.processes.size,
            self.plan.side_px,
        )
        batches = self._stream(order)
        try:
            while True:
                batch = self._next(batches)
                self._agree(batch)
                if batch is None:
                    return
                yield batch
        finally:
            batches.close()

    def _stream(self, order: TrainingOrder) -> Generator[Batch]:
        """Yield the batches of ``order``: from memory where the images are few and small, or loaded.

        They are read into memory with the first batch, in which a run can be stopped as in any other.
        """
        split, preprocess = self.source.split("train"), self.plan.preprocess
        augment = self.plan.recipe.augment
        if self._resident is None and can_be_resident(split, preprocess, augment):
            self._resident = InMemoryImages.read(split, preprocess, augment, self.device)
        if self._resident is not None:
            yield from self._resident.batches(order)
            return
        yield from training_batches(
            split,
            preprocess,
            augment,
            order,
            num_workers=self._num_workers,
            pin_memory=self.device.type == "cuda",
        )

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        started = time.monotonic()
        try:
            # While it waits for data a run can stop at once: the last step is whole.
            with self.stop.at_once():
                return next(batches, None)
        except StopRequested:
            return None
        finally:
            self._meter.waited(time.monotonic() - started)

    def _agree(self, batch: Batch | None) -> None:
        """Stop, save, and hear of bad samples, on every rank at the same step."""
        due = self.processes.is_main and time.monotonic() - self._saved_at > self._checkpoint_seconds
        bad = batch.bad if batch is not None else []
        unknown = {sample.key: sample.reason for sample in bad if sample.key not in self._bad_samples}
        nothing_left = batch is not None and not len(batch)
        exit_code, due_anywhere, num_unknown, nothing_left_anywhere = self.processes.all_max(
            self.stop.exit_code, due, len(unknown), nothing_left
        )
        if exit_code:
            raise _Interrupted(exit_code)
        if due_anywhere:
            self._save_checkpoint("running")
        if num_unknown or nothing_left_anywhere:
            self._leave_out(unknown, nothing_left=bool(nothing_left_anywhere))

    def _leave_out(self, unknown: dict[str, str], *, nothing_left: bool) -> None:
        """Name the bad samples of all ranks, or end the run at them, which every rank does alike."""
        for found in self.processes.all_gather(unknown):
            for key, reason in found.items():
                if self.plan.bad_samples == "stop":
                    raise DataError(f"{key}: {reason}", remedy="repair or remove this file, then start again")
                if key not in self._bad_samples:
                    self._bad_samples[key] = reason
                    warn(f"{key} is skipped: {reason}")
        if len(self._bad_samples) > _MOST_BAD * self.plan.num_samples or nothing_left:
            raise DataError(
                f"{len(self._bad_samples):,} of {self.plan.num_samples:,} training images cannot be used "
                f"({', '.join(list(self._bad_samples)[:3])}, …)",
                expected=f"at most {_MOST_BAD:.0%}",
                remedy="repair or remove them; 'residual check' lists all",
            )

    def _update(self, batch: Batch) -> bool:
        """Do one update, and return whether the stream of batches goes on from here."""
        if self._is_left_out(self.step):
            self.step += 1
            return True
        rate = self._learning_rate(self.step)
        with self.stop.or_else(self._saved_as_before):
            finite = self._updater.gradients(batch, self.step)
        if not finite:
            return self._leave_step_out(batch, rate)
        self._updater.apply(self.step, rate)
        self._meter.count(self.step, batch)
        self.step += 1
        return True

    def _is_left_out(self, step: int) -> bool:
        recipe = self.plan.recipe
        before = recipe.rollback_steps if recipe.non_finite == "rollback" else 0
        return any(bad - before <= step <= bad for bad in self._not_finite)

    def _leave_step_out(self, batch: Batch, rate: float) -> bool:
        """Deal with a step that is not finite; return whether the stream of batches goes on from here."""
        reaction = self.plan.recipe.non_finite
        what = f"loss or gradient is not finite at step {self.step + 1} (learning rate {rate:.4g})"
        if reaction == "stop" or self._happens_too_often():
            shown = ", ".join(batch.keys[:8]) + (f" and {len(batch) - 8} more" if len(batch) > 8 else "")
            raise DivergedError(
                f"{what}; samples {shown}",
                remedy="start again with a lower --learning-rate or a longer --warmup-epochs",
            )
        known = self._not_finite | {self.step}
        if reaction == "skip":
            warn(f"{what}; the step is left out")
            self._not_finite = known
            self.step += 1
            return True
        first = max(0, self.step - self.plan.recipe.rollback_steps)
        warn(f"{what}; steps {first + 1} to {self.step + 1} are left out")
        self._go_back(first)
        self._not_finite |= known
        return False

    def _happens_too_often(self) -> bool:
        """Return whether ten steps in a row were bad, or ten times a run went back."""
        if self.plan.recipe.non_finite == "rollback":
            return len(self._not_finite) >= _MOST_BAD_STEPS - 1
        # Steps before the first are not among them, so the first ten have to be counted, too.
        return self._not_finite.issuperset(range(self.step - _MOST_BAD_STEPS + 1, self.step))

    def _learning_rate(self, step: int) -> float:
        return learning_rate(
            self.plan.recipe, step, self.plan.total_steps, self.plan.warmup_steps, self._measured
        )

    # -- logging, evaluation, saving -----------------------------------------------------------------

    def _tenth(self, step: int) -> int:
        """Return the tenth of an epoch that ``step`` lies in; there is one log line for each.

        So short runs have curves, long ones small files, and the last line of an epoch ends with it.
        """
        return 10 * step * self.plan.recipe.batch_size // self.plan.num_samples

    def _epoch(self) -> float:
        return self.step * self.plan.recipe.batch_size / self.plan.num_samples

    def _log_window(self) -> None:
        sums = Sums.of_ranks(self.processes.all_gather(self._meter.take()))
        if not sums.count:
            return  # every step of it was left out
        rate = self._learning_rate(self.step - 1)
        self._epoch_sums += sums
        figures = sums.means()
        self._measured = after_window(
            self.plan.recipe, self._measured, self.step, 1 - sums.right / sums.count
        )
        memory = peak_memory(self.device)
        self._status = (
            f"epoch {self._epoch():.1f}  loss {figures['loss']:.3f}  top-1 {figures['top1']:.1%}  "
            f"{figures['images_per_second']:,.0f} images/s  waiting {figures['waiting']:.0%}  "
            f"{memory / 1e9:.1f} GB"
        )
        self.run.log(
            {
                "event": "train",
                "step": self.step,
                "epoch": self._epoch(),
                "learning_rate": rate,
                **figures,
                "memory_bytes": memory,
            }
        )

    def _end_epoch(self, bar: ProgressBar) -> None:
        """Evaluate, keep the model where it is the one to keep, and save a checkpoint."""
        split = self.source.validation_split
        bar.update(self.step, f"evaluating {split}")
        model = self._evaluated_model()
        evaluation = self._evaluate(model, split)
        self._measured = after_evaluation(self.plan.recipe, self._measured, 1 - evaluation.top1)
        self._evaluated_step = self.step
        bar.line(self._epoch_line(evaluation))
        self._epoch_sums = Sums()
        if self.plan.recipe.keep_model == "last" or self._measured.num_since_best == 0:
            self._keep(model, evaluation)
        self._save_checkpoint("running")
        self._show()
        self._meter.skip_time()

    def _show(self) -> None:
        """Write the report, unless that would take more than a twentieth of the time."""
        with self.processes.failing_together():
            started = time.monotonic()
            if self.processes.is_main and started >= self._show_from:
                self._write_report()
                now = time.monotonic()
                self._show_from = now + 20 * (now - started)

    def _write_report(self) -> None:
        try:
            write_report(self.run.path)
        except (ModelFileError, ConfigurationError) as error:
            warn(f"there is no new report ({error})")  # training is not to be lost for a page

    def _gains_no_more(self) -> bool:
        most = self.plan.recipe.early_stopping
        return bool(most) and self._measured.num_since_best >= most

    def _evaluated_model(self) -> TorchClassifier:
        """Return the model to evaluate and keep: averaged, or with exact statistics."""
        average = self._updater.average
        network = average.network if average is not None else self.model.network
        if self.plan.recipe.precise_bn:
            precise = create(self.plan.spec).to(self.device).to(memory_format=torch.channels_last)
            precise.load_state_dict(network.state_dict())
            norms = learning_norms(precise, self.plan.recipe)
            precise_statistics(precise, norms, self._images_to_normalize_by(), self.processes)
            network = precise
        return TorchClassifier(
            network, self.model.label_names, self.model.preprocess, self.model.metrics, self.model.provenance
        )

    def _kept_model(self) -> TorchClassifier:
        """Return the model of the run folder, which only the first rank need be able to read."""
        weights: Tensors = {}
        with self.processes.failing_together():
            if self.processes.is_main:
                weights = load(self.run.model_path).network.state_dict()
        network = create(self.plan.spec)
        network.load_state_dict(self.processes.broadcast(weights))
        names, preprocess = self.model.label_names, self.model.preprocess
        model = TorchClassifier(network, names, preprocess, self.model.metrics, self.model.provenance)
        return model.to(self.device)

    def _images_to_normalize_by(self) -> Iterator[torch.Tensor]:
        recipe = self.plan.recipe
        steps = -(-min(recipe.precise_bn, self.plan.num_samples) // recipe.batch_size)
        order = TrainingOrder(
            self.plan.seed,
            self.plan.num_samples,
            recipe.batch_size,
            0,
            steps,
            rank=self.processes.rank,
            num_ranks=self.processes.size,
            side_px=lambda _step: self.plan.train_px,
        )
        batches = training_batches(
            self.source.split("train"),
            self.plan.preprocess,
            recipe.augment,
            order,
            num_workers=self._num_workers,
        )
        while True:
            batch = self._next(batches)
            (exit_code,) = self.processes.all_max(self.stop.exit_code)
            if exit_code:
                raise _Interrupted(exit_code)
            if batch is None:
                return
            if len(batch):
                yield self.plan.preprocess.normalize(batch.pixels.to(self.device))

    def _evaluate(self, model: TorchClassifier, split: str, *, logs: bool = True) -> Evaluation:
        try:
            with self.stop.or_else(self._saved_as_before):
                evaluation = evaluate_split(
                    model,
                    self.source.split(split),
                    split,
                    num_workers=self._num_workers,
                    processes=self.processes,
                    skip_bad=self.plan.bad_samples == "skip",
                    stop=self.stop,
                )
        except EvaluationStopped as stopped:
            raise _Interrupted(stopped.exit_code) from stopped
        if logs:
            summary = evaluation.summary()
            self.run.log({"event": "evaluation", "step": self.step, "epoch": self._epoch(), **summary})
        return evaluation

    def _keep(self, model: TorchClassifier, evaluation: Evaluation) -> None:
        """Make ``model`` the model of the run."""
        self.evaluation = evaluation
        summary = evaluation.summary()
        self.model.metrics[evaluation.split] = {
            name: value for name, value in summary.items() if name != "split"
        }
        with self.processes.failing_together():
            if self.processes.is_main:
                split = self.source.split(evaluation.split)
                self.run.record_evaluation(self.step, evaluation.to_dict(), photos_of(split, evaluation))
                save(model, self.run.model_path)
                # As the report, unless they would take more than a twentieth of the time; then at the end.
                started = time.monotonic()
                if started >= self._draw_from:
                    self.run.record_heat_maps(heat_maps_of(model, split, evaluation))
                    now = time.monotonic()
                    self._draw_from = now + 20 * (now - started)

    def _epoch_line(self, evaluation: Evaluation) -> str:
        trained = ""
        if self._epoch_sums.count:
            means = self._epoch_sums.means()
            trained = (
                f"training loss {means['loss']:.4f} top-1 {means['top1']:.2%}, "
                f"{means['images_per_second']:,.0f} images/s, "
            )
        return (
            f"epoch {self._epoch():4.0f}  {trained}"
            f"{evaluation.split} loss {evaluation.loss:.4f} top-1 {evaluation.top1:.2%}"
        )

    def _save_checkpoint(self, status: str) -> None:
        windows = self.processes.all_gather(self._meter.peek())
        with self.processes.failing_together():
            self._save(status, windows, network_tensors(self.model.network))

    def _saved_as_before(self) -> bool:
        """Save, from another thread, the state before what is being computed; return whether it could.

        Until its gradients are there a step has changed nothing but BN's statistics, and an evaluation
        changes nothing. Of several ranks each knows its own sums only, so there the step has to end.
        """
        if self.processes.size > 1 or self.device.type == "cuda":
            return False
        network = network_tensors(self.model.network) | self._updater.buffers_before()
        self._save("interrupted", [self._meter.peek()], network)
        self._write_report()
        return True

    def _save(self, status: str, windows: list[Sums], network: Tensors) -> None:
        if self.processes.is_main:
            recipe, average = self.plan.recipe, self._updater.average
            progress = Progress(
                step=self.step,
                evaluated_step=self._evaluated_step,
                windows=windows,
                epoch=self._epoch_sums,
                measured=self._measured,
                metrics=self.model.metrics,
                not_finite=tuple(sorted(self._not_finite)),
                bad_samples=dict(self._bad_samples),
                scaler=self._updater.scaler.state_dict(),
                metric_lines=self.run.num_metric_lines,
            )
            checkpoint = Checkpoint(
                progress,
                network,
                optimizer_tensors(self.model.network, self._updater.optimizer),
                network_tensors(average.network) if average is not None else {},
            )
            back = recipe.rollback_steps if recipe.non_finite == "rollback" else 0
            self.run.flush_metrics()
            save_checkpoint(self.run.checkpoints_path, checkpoint, steps_back=back)
            self._set_status(status)
        self._saved_at = time.monotonic()

    def _set_status(self, status: str) -> None:
        self.run.set_status(
            status, self.step, bad_samples=self._bad_samples, not_finite=sorted(self._not_finite)
        )

    def _resume(self, path: Path | None) -> None:
        """Go on from a checkpoint: from the newest whole one, or from ``path``, which must be whole."""
        checkpoint = None
        with self.processes.failing_together():
            if self.processes.is_main:
                if path is None:
                    _, checkpoint = newest_checkpoint(self.run.checkpoints_path) or (None, None)
                else:
                    checkpoint = load_checkpoint(path)
                    forget_checkpoints_after(self.run.checkpoints_path, checkpoint.progress.step)
                if checkpoint is not None:
                    self._require_own(checkpoint)
        self._restore(checkpoint)

    def _go_back(self, step: int) -> None:
        """Go back to before a step; what was done since is done again, or left out."""
        checkpoint = None
        with self.processes.failing_together():
            if self.processes.is_main:
                _, checkpoint = newest_checkpoint(self.run.checkpoints_path, at_most=step) or (None, None)
                if checkpoint is None:
                    raise ModelFileError(
                        f"there is no whole checkpoint of step {step} or before to go back to",
                        remedy="start anew in another --out",
                    )
                forget_checkpoints_after(self.run.checkpoints_path, checkpoint.progress.step)
        self._restore(checkpoint)

    def _restore(self, checkpoint: Checkpoint | None) -> None:
        """Take up the state that the first rank has read, if there is one."""
        checkpoint, finished_at = self.processes.broadcast((checkpoint, self.run.finished_at))
        if checkpoint is None:
            with self.processes.failing_together():
                again = self.run.forget_after(self.step, self._evaluated_step, self._final_split)
                if again or self.run.record.get("step"):
                    warn(f"there is no checkpoint to go on from: the run begins again{_written_again(again)}")
            return
        progress = checkpoint.progress
        self.model.network.load_state_dict(checkpoint.network)
        restore_optimizer(self.model.network, self._updater.optimizer, checkpoint.optimizer)
        if self._updater.average is not None:
            self._updater.average.network.load_state_dict(checkpoint.average)
        if progress.scaler:
            self._updater.scaler.load_state_dict(progress.scaler)
        self.step, self._evaluated_step = progress.step, progress.evaluated_step
        self._meter.restore(_own_window(progress.windows, self.processes))
        self._epoch_sums, self._measured = progress.epoch, progress.measured
        self._not_finite, self._bad_samples = set(progress.not_finite), dict(progress.bad_samples)
        self.model.metrics.update(progress.metrics)
        self._is_finished = self.step == finished_at
        again = 0
        with self.processes.failing_together():
            if self.processes.is_main:
                self.evaluation = self.run.read_evaluation(Evaluation.from_dict)
                again = self._restore_records(progress.metric_lines)
        self.evaluation = self.processes.broadcast(self.evaluation)
        note(f"resuming at step {self.step} of {self.plan.total_steps}{_written_again(again)}")

    def _restore_records(self, num_lines: int | None) -> int:
        """Bring the records of the run to the step of its checkpoint; return what is written again."""
        final_split = self._final_split
        if self._is_finished:
            # The last line is on the split that gives the final figure, and comes after the last checkpoint.
            num_lines = num_lines + bool(final_split) if num_lines is not None else None
            final_split = ""
        else:
            self.run.set_status("running", self.step)
        return self.run.forget_after(self.step, self._evaluated_step, final_split, num_lines)

    def _require_own(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint that is whole and of another network."""
        own = self.model.network.state_dict()
        average = own if self._updater.average is not None else {}
        parameters = dict(self.model.network.named_parameters())
        fits = all(
            {name: tensor.shape for name, tensor in there.items()}
            == {name: tensor.shape for name, tensor in here.items()}
            for there, here in ((checkpoint.network, own), (checkpoint.average, average))
        )
        if not fits or any(name.partition("/")[2] not in parameters for name in checkpoint.optimizer):
            raise ModelFileError(
                f"the checkpoints in {self.run.checkpoints_path} are of another network than the run",
                remedy="start anew in another --out",
            )

    def _draw_what_is_missing(self) -> None:
        """Draw the heat maps of the model that is kept, where they were left out for their time."""
        if self.evaluation is None or self.run.has_heat_maps:
            return
        try:
            model = load(self.run.model_path).to(self.device)
            split = self.source.split(self.evaluation.split)
            self.run.record_heat_maps(heat_maps_of(model, split, self.evaluation))
        except DataError as error:
            warn(f"there are no heat maps ({error})")  # training is done, and not to be lost for a picture

    # -- ends ----------------------------------------------------------------------------------------

    def _interrupted(self, exit_code: int) -> RunResult:
        self._save_checkpoint("interrupted")
        with self.processes.failing_together():
            if self.processes.is_main:
                # The model folder keeps the weights that its figures were measured on; before there are
                # figures, what has been learned so far is better than nothing.
                if not self.run.model_path.exists():
                    save(self.model, self.run.model_path)
                self._draw_what_is_missing()
                self._write_report()
        return RunResult(self.run.path, "interrupted", exit_code, self.evaluation)

    def _finish(self) -> RunResult:
        """Measure the model that is kept on the split that nothing was chosen by."""
        is_measured = self.processes.broadcast(self.evaluation is not None)
        is_final = bool(self._final_split) and not self._is_finished
        if is_final or not is_measured:
            model = self._kept_model()
            split = self._final_split or self.source.validation_split
            self._keep(model, self._evaluate(model, split, logs=is_final))
        with self.processes.failing_together():
            if self.processes.is_main:
                self._draw_what_is_missing()
                self._set_status("finished")
                self._write_report()
        return RunResult(self.run.path, "finished", 0, self.evaluation)


def _first_network(plan: Plan, weights: Path | None) -> ResNet:
    """Return the network that a run begins with: drawn, or another's, with its classifier for its classes."""
    network = create(plan.spec, seed=plan.seed)
    if weights is not None:
        start = load(weights)
        given = start.network.state_dict()
        keeps = start.label_names == plan.classes
        # A backbone has no classifier to keep.
        network.load_state_dict(
            {
                name: drawn if name.startswith("fc.") and not keeps else given[name]
                for name, drawn in network.state_dict().items()
            }
        )
    return network


def _written_again(num_lines: int) -> str:
    return f"; later lines of metrics ({num_lines:,}) are written again" if num_lines else ""


def _own_window(windows: list[Sums], processes: Processes) -> Sums:
    """Return this rank's part of a window; another number of ranks leaves all of it to the first."""
    if len(windows) == processes.size:
        return windows[processes.rank]
    return sum(windows, start=Sums()) if processes.is_main else Sums()


def _provenance(plan: Plan) -> dict[str, Any]:
    return {
        "data": plan.data,
        "fingerprint": plan.fingerprint.get("train", ""),
        "recipe": plan.recipe.name,
        "recipe_fingerprint": plan.recipe.fingerprint(),
        "seed": plan.seed,
        "precision": plan.precision,
        **({"weights": plan.weights} if plan.weights else {}),
        "residual": versions()["residual"],
        "torch": versions()["torch"],
        "date": now(),
    }
