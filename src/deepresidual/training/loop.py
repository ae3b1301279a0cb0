"""The training loop: the whole update in the order in which things happen.

What it asks is elsewhere: ``feed`` yields batches, ``updater`` computes forward and backward passes and the
optimizer's step, ``non_finite`` decides, ``state`` is what a checkpoint holds, ``saver`` writes and reads it,
``journal`` tells people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from deepresidual.data.loader import Batch
from deepresidual.data.source import SampleSource
from deepresidual.errors import DivergedError
from deepresidual.models import TorchClassifier, save
from deepresidual.nn import ResNet
from deepresidual.runs.folder import Run
from deepresidual.runtime.console import warn
from deepresidual.runtime.signals import StopRequested
from deepresidual.tasks import Result, task_of
from deepresidual.training.feed import Feed
from deepresidual.training.journal import Journal
from deepresidual.training.meter import Meter, Sums
from deepresidual.training.networks import first_network, kept_network, network_to_evaluate, provenance
from deepresidual.training.non_finite import Go, LeaveOut, RollBack, Stop, decide
from deepresidual.training.resources import Resources
from deepresidual.training.saver import Saver
from deepresidual.training.schedule import after_evaluation, after_window, learning_rate
from deepresidual.training.state import TrainingState
from deepresidual.training.updater import Updater


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
        path: The run folder.
        status: ``finished``, or ``interrupted`` by Ctrl-C, SIGTERM, SIGHUP or SIGUSR1.
        exit_code: 0, 130 after Ctrl-C, 143 after the others.
        evaluation: The evaluation of the model in the run folder; ``None`` before the first one.
    """

    path: Path
    status: str
    exit_code: int
    evaluation: Result | None


class Trainer:
    """A run in progress.

    Args:
        run: The run folder, with the plan of the run.
        source: The data, with the split that is held out.
        resources: Device, threads and processes.
        journal: Observes the run.
        weights: A model folder to begin with.
        checkpoint_minutes: Longest time between two checkpoints.
    """

    def __init__(
        self,
        run: Run,
        source: SampleSource,
        resources: Resources,
        journal: Journal,
        *,
        weights: Path | None,
        checkpoint_minutes: float,
    ) -> None:
        self.state = TrainingState()
        self.task = task_of(run.plan)
        self.evaluation: Result | None = None
        self.run, self.source, self.resources, self.journal = run, source, resources, journal
        self.plan, self.processes, self.stop = run.plan, resources.processes, resources.stop
        self._provenance = provenance(run.plan)
        self._ends = set(run.plan.evaluation_steps())
        # Empty if the split that is watched gives the final figure as well.
        final = source.evaluation_split
        self._final_split = final if final != source.validation_split else ""
        network = first_network(run.plan, self.task, weights).to(resources.device)
        network = network.to(memory_format=torch.channels_last)
        self.updater = Updater(network, run.plan, self.processes, self.task)
        self.feed = Feed(source, run.plan, resources)
        self.meter = Meter(resources.device)
        self.saver = Saver(
            run,
            self.updater,
            self.meter,
            self.processes,
            self.task,
            final_split=self._final_split,
            seconds=60 * checkpoint_minutes,
        )

    def run_to_end(self, checkpoint: Path | None) -> RunResult:
        """Train from the newest checkpoint, or from ``checkpoint``, to the end or until a signal."""
        self.state, self.evaluation = self.saver.resume(checkpoint)
        if self.state.step == 0 and self.plan.recipe.non_finite == "rollback":
            self.saver.save(self.state, "running")  # a step to go back to
        try:
            with self.journal.progress(self.state.step):
                if self.state.step in self._ends and self.state.evaluated_step < self.state.step:
                    self._end_epoch()  # a signal had stopped it
                while self.state.step < self.plan.total_steps and not self._gains_no_more():
                    self._train()  # once, and again after each rollback
            return self._finish()
        except StopRequested as request:
            return self._interrupted(request.exit_code)

    def _train(self) -> None:
        """Train to the end, or until the run goes back, where the stream of batches has to begin anew."""
        for fed in self.feed.batches(self.state.step, self.state.bad_samples, lambda: self.saver.is_due):
            if fed.save:
                self.saver.save(self.state, "running")
            self.meter.waited(fed.waited)
            self.state.bad_samples |= fed.bad
            if not self._update(fed.batch):
                return
            step = self.state.step
            self.journal.step(step)
            if self._tenth(step) != self._tenth(step - 1) or step in self._ends:
                self._log_window()
            if step in self._ends:
                self._end_epoch()
                if self._gains_no_more():
                    return

    def _update(self, batch: Batch) -> bool:
        """Run one update. Return False after a rollback: the stream of batches has to begin anew."""
        step, recipe = self.state.step, self.plan.recipe
        rate = self._learning_rate(step)
        # A step that was not finite before a rollback is left out without computing it again.
        decision = decide(recipe, self.state.not_finite, step)
        if isinstance(decision, Go):
            with self.stop.or_else(self._save_before_step):
                sums = self.updater.gradients(batch, step)
            if sums is not None:
                self.updater.apply(step, rate)
                self.meter.add(sums)
                self.meter.count(step, batch)
            else:
                found = f"loss or gradient is not finite at step {step + 1} (learning rate {rate:.4g})"
                decision = decide(recipe, self.state.not_finite, step, finite=False)
                match decision:
                    case Stop():
                        more = f" and {len(batch) - 8} more" if len(batch) > 8 else ""
                        raise DivergedError(
                            f"{found}; samples {', '.join(batch.keys[:8])}{more}",
                            remedy="start again with a lower --learning-rate or a longer --warmup-epochs",
                        )
                    case RollBack(first):
                        warn(f"{found}; steps {first + 1} to {step + 1} are left out")
                        known = self.state.not_finite | {step}
                        self.state, self.evaluation = self.saver.go_back(first)
                        self.state.not_finite |= known
                        return False
                    case LeaveOut():
                        warn(f"{found}; the step is left out")
                        self.state.not_finite.add(step)
        self.state.step += 1
        return True

    def _learning_rate(self, step: int) -> float:
        plan = self.plan
        return learning_rate(plan.recipe, step, plan.total_steps, plan.warmup_steps, self.state.measured)

    def _tenth(self, step: int) -> int:
        """Return the tenth of an epoch that ``step`` lies in; there is one log line for each.

        So short runs have curves, long ones small files, and the last line of an epoch ends with it.
        """
        return 10 * step * self.plan.recipe.batch_size // self.plan.num_samples

    def _log_window(self) -> None:
        """Log the steps since the last log line."""
        sums = Sums.of_ranks(self.processes.all_gather(self.meter.take()))
        if not sums.count:
            return  # every step of it was left out
        step, error = self.state.step, self.task.training_error(sums.parts, sums.count)
        rate = self._learning_rate(step - 1)
        self.state.epoch += sums
        self.state.measured = after_window(self.plan.recipe, self.state.measured, step, error)
        self.journal.window(step, sums, rate)

    def _end_epoch(self) -> None:
        """Evaluate, keep the model if it is the one to keep, and save a checkpoint."""
        state, recipe, split = self.state, self.plan.recipe, self.source.validation_split
        self.journal.step(state.step, f"evaluating {split}")
        model = self._model(network_to_evaluate(self.updater, self.plan, self.feed, self.processes))
        evaluation = self._evaluate(model, split)
        self.journal.evaluated(state.step, evaluation)
        state.measured = after_evaluation(recipe, state.measured, self.task.error(evaluation))
        state.evaluated_step = state.step
        sums, state.epoch = state.epoch, Sums()
        if recipe.keep_model == "last" or state.measured.num_since_best == 0:
            self._keep(model, evaluation)
        self.saver.save(state, "running")
        self.journal.epoch(state.step, sums, evaluation)
        self.meter.skip_time()

    def _gains_no_more(self) -> bool:
        patience = self.plan.recipe.early_stopping
        return bool(patience) and self.state.measured.num_since_best >= patience

    def _model(self, network: ResNet) -> TorchClassifier:
        plan = self.plan
        return TorchClassifier(
            network, plan.classes, plan.preprocess, self.state.metrics, self._provenance, task=plan.task
        )

    def _evaluate(self, model: TorchClassifier, split: str) -> Result:
        with self.stop.or_else(self._save_before_step):
            return self.task.evaluate(
                model,
                self.source.split(split),
                split,
                num_workers=self.resources.num_workers,
                processes=self.processes,
                skip_bad=self.plan.bad_samples == "skip",
                stop=self.stop,
            )

    def _keep(self, model: TorchClassifier, evaluation: Result) -> None:
        """Make ``model`` the model of the run."""
        self.evaluation = evaluation
        figures = {name: value for name, value in evaluation.summary().items() if name != "split"}
        self.state.metrics[evaluation.split] = figures
        with self.processes.failing_together():
            if self.processes.is_main:
                self.journal.record(self.state.step, evaluation)
                save(model, self.run.model_path)
                self.journal.draw(model, evaluation)

    def _save_before_step(self) -> bool:
        """Save while a step or an evaluation is computed; called by another thread."""
        saved = self.saver.save_before_step(self.state)
        if saved:
            self.journal.end()
        return saved

    def _interrupted(self, exit_code: int) -> RunResult:
        self.saver.save(self.state, "interrupted")
        with self.processes.failing_together():
            if self.processes.is_main:
                # The model folder keeps the weights that its figures were measured on; before there are
                # figures, what has been learned so far is better than nothing.
                if not self.run.model_path.exists():
                    save(self._model(self.updater.network), self.run.model_path)
                self.journal.draw_missing(self.evaluation)
                self.journal.end()
        return RunResult(self.run.path, "interrupted", exit_code, self.evaluation)

    def _finish(self) -> RunResult:
        """Measure the model that is kept on the split that nothing was chosen by."""
        is_measured = self.processes.broadcast(self.evaluation is not None)
        finished_at = self.processes.broadcast(self.run.finished_at)
        is_final = bool(self._final_split) and finished_at != self.state.step
        if is_final or not is_measured:
            network = kept_network(self.run.model_path, self.plan, self.resources.device, self.processes)
            model = self._model(network)
            evaluation = self._evaluate(model, self._final_split or self.source.validation_split)
            if is_final:
                self.journal.evaluated(self.state.step, evaluation)
            self._keep(model, evaluation)
        with self.processes.failing_together():
            if self.processes.is_main:
                self.journal.draw_missing(self.evaluation)
                self.saver.set_status(self.state, "finished")
                self.journal.end()
        return RunResult(self.run.path, "finished", 0, self.evaluation)
