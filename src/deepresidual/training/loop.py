"""The training loop: the whole update in the order in which things happen.

What it asks is elsewhere: ``feed`` yields batches, ``updater`` computes forward and backward passes and the
optimizer's step, ``non_finite`` decides, ``state`` is what a checkpoint holds, ``saver`` writes and reads it,
``kept`` measures and keeps the model, ``journal`` tells people.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

import torch

from deepresidual.data.loader import Batch
from deepresidual.data.source import SampleSource
from deepresidual.errors import DivergedError
from deepresidual.runs.folder import Run
from deepresidual.runtime.console import warn
from deepresidual.runtime.signals import StopRequested
from deepresidual.tasks import Result, task_of
from deepresidual.training.feed import Feed
from deepresidual.training.findings import record_findings
from deepresidual.training.first_classifier import fit_classifier
from deepresidual.training.journal import Journal
from deepresidual.training.kept import KeptModel
from deepresidual.training.meter import Meter, Sums
from deepresidual.training.networks import first_network, network_to_evaluate
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
        evaluation: The evaluation of the model in the run folder, of its task's class; ``None``: none yet.
    """

    path: Path
    status: str
    exit_code: int
    evaluation: Result | None

    def _repr_html_(self) -> str:
        """Return what a notebook shows: how the run ended, its figures, and where its report lies."""
        shown = getattr(self.evaluation, "_repr_html_", str)()
        report = html.escape(str(self.path / "report.html"), quote=True)
        return f'<p>{html.escape(self.status)}; report: <a href="{report}">{report}</a></p>{shown}'


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
        self.run, self.source, self.resources, self.journal = run, source, resources, journal
        self.plan, self.processes, self.stop = run.plan, resources.processes, resources.stop
        self._ends = set(run.plan.evaluation_steps())
        self._weights = weights
        network = first_network(run.plan, self.task, weights).to(resources.device)
        network = network.to(memory_format=torch.channels_last)
        self.kept = KeptModel(
            run, source, resources, journal, self.task, lambda: self.stop.or_else(self._save_before_step)
        )
        self.updater = Updater(network, run.plan, self.processes, self.task)
        self.feed = Feed(source, run.plan, resources)
        self.meter, self.timed, self._is_warm = Meter(resources.device), Sums(), False
        self.saver = Saver(
            run,
            self.updater,
            self.meter,
            self.processes,
            self.task,
            final_split=self.kept.final_split,
            seconds=60 * checkpoint_minutes,
        )

    def run_to_end(self, checkpoint: Path | None = None, until: int | None = None) -> RunResult | None:
        """Train from the newest checkpoint, or from ``checkpoint``, to the end or until a signal.

        Args:
            checkpoint: The folder of a whole checkpoint.
            until: Save and leave after this step, which is before the end.

        Returns:
            The result; ``None``: the run has come to ``until``.
        """
        self.state, self.kept.evaluation = self.saver.resume(checkpoint)
        if self.state.step == 0 and self.plan.recipe.non_finite == "rollback":
            self.saver.save(self.state, "running")  # a step to go back to
        try:
            with self.journal.progress(self.state.step):
                self._begin()
                if self.state.step in self._ends and self.state.evaluated_step < self.state.step:
                    self._end_epoch()  # a signal had stopped it
                while self.state.step < self.plan.total_steps and not self._gains_no_more():
                    if until is not None and self.state.step >= until:
                        self.saver.save(self.state, "running")
                        return None
                    self._train(until)  # once, and again after each rollback
            return self._finish()
        except StopRequested as request:
            return self._interrupted(request.exit_code)

    def _begin(self) -> None:
        """Fit the classifier and measure what the run begins with, where the recipe asks for it."""
        recipe = self.plan.recipe
        if self.state.has_begun or self.state.step or not recipe.measures_beginning:
            return
        if recipe.classifier_init == "probe":
            self.state.bad_samples |= fit_classifier(
                self.updater, self.run, self.source, self.resources, self.journal
            )
        self.kept.save_first(self.updater.network, self.state)
        self._end_epoch()

    def _train(self, until: int | None) -> None:
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
            if step == until:
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
                        self.state, self.kept.evaluation = self.saver.go_back(first)
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
        # The first updates of a process fill caches and say little of those that follow.
        self.timed = self.timed + sums if self._is_warm else self.timed
        self._is_warm = True
        self.state.measured = after_window(self.plan.recipe, self.state.measured, step, error)
        self.journal.window(step, sums, rate)

    def _end_epoch(self) -> None:
        """Evaluate, keep the model if it is the one to keep, and save a checkpoint."""
        state, recipe = self.state, self.plan.recipe
        self.journal.step(state.step, f"evaluating {self.source.validation_split}")
        network = network_to_evaluate(self.updater, self.plan, self.feed, self.processes)
        model = self.kept.model(network, state)
        evaluation = self.kept.measure(model)
        self.journal.evaluated(state.step, evaluation)
        by_loss = recipe.keep_model == "best-loss"
        error = evaluation.summary()["loss"] if by_loss else self.task.error(evaluation)
        state.measured = after_evaluation(recipe, state.measured, error)
        state.evaluated_step, state.has_begun = state.step, True
        sums, state.epoch = state.epoch, Sums()
        if recipe.keep_model in ("last", "average") or state.measured.num_since_best == 0:
            self.kept.keep(model, evaluation, state)
        self.saver.save(state, "running")
        self.journal.epoch(state.step, sums, evaluation)
        self.meter.skip_time()

    def _gains_no_more(self) -> bool:
        patience = self.plan.recipe.early_stopping
        return bool(patience) and self.state.measured.num_since_best >= patience

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
                # The model folder keeps the weights that its figures were measured on.
                self.kept.save_unmeasured(self.updater.network, self.state)
                self.journal.draw_missing(self.kept.evaluation)
                self.journal.end()
        return RunResult(self.run.path, "interrupted", exit_code, self.kept.evaluation)

    def _finish(self) -> RunResult:
        self.kept.finish(self.updater.network, self.state)
        with self.processes.failing_together():
            if self.processes.is_main:
                self.journal.draw_missing(self.kept.evaluation)
                record_findings(self.run, self.source, self.resources, self._weights)
                self.saver.set_status(self.state, "finished")
                self.journal.end()
        return RunResult(self.run.path, "finished", 0, self.kept.evaluation)
