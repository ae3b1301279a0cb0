"""The model that a run keeps: measured, recorded, replaced by a better one, and averaged at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np
from torch import nn

from deepresidual.data.source import SampleSource, Split
from deepresidual.data.source.validation import Subset
from deepresidual.models import Model, save
from deepresidual.models.config import ModelConfig
from deepresidual.models.folder import model_of
from deepresidual.runs.folder import Run
from deepresidual.runtime.console import warn
from deepresidual.tasks import Result, Task
from deepresidual.training.beginning import recorded_beginning
from deepresidual.training.journal import Journal
from deepresidual.training.networks import averaged_network, is_average, kept_network, provenance
from deepresidual.training.resources import Resources
from deepresidual.training.state import TrainingState

MOST_SEEN = 1000
"""Training images that decide whether anything was learned from them."""


class KeptModel:
    """The model of a run, and the evaluation that goes with it.

    Args:
        run: The run folder, with the plan of the run.
        source: The data, with the split that is held out.
        resources: Device, threads and processes.
        journal: Observes the run.
        task: What is learned.
        guard: Surrounds an evaluation, which takes long and changes nothing.

    Attributes:
        evaluation: The evaluation of the model in the run folder; ``None`` before the first one.
        final_split: The split that is measured at the very end only; empty where the split that is watched
            gives the final figure as well.
        evaluation_seconds: Time of the last evaluation of the split that is watched; ``None``: none was made.
    """

    def __init__(
        self,
        run: Run,
        source: SampleSource,
        resources: Resources,
        journal: Journal,
        task: Task,
        guard: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._guard = guard
        self._run, self._source, self._resources, self._journal = run, source, resources, journal
        self._plan, self._processes, self._task = run.plan, resources.processes, task
        # Only the main process writes models, and need be able to read the run folder.
        began = recorded_beginning(run.path) if resources.processes.is_main else None
        self._provenance = provenance(run.plan, began)
        self.evaluation: Result | None = None
        final = source.evaluation_split
        self.final_split = final if final != source.validation_split else ""
        self.evaluation_seconds: float | None = None

    def model(self, network: nn.Module, state: TrainingState) -> Model:
        """Return ``network`` with all that a model folder has beside its weights."""
        plan = self._plan
        config = ModelConfig(
            plan.spec, plan.classes, plan.preprocess, state.metrics, self._provenance, plan.task
        )
        return model_of(network, config)

    def measure(self, model: Model) -> Result:
        """Evaluate on the split that the run watches."""
        started = time.monotonic()
        evaluation = self._evaluate(model, self._source.validation_split)
        self.evaluation_seconds = time.monotonic() - started
        return evaluation

    def keep(self, model: Model, evaluation: Result, state: TrainingState) -> None:
        """Make ``model`` the model of the run."""
        self.evaluation = evaluation
        figures = {name: value for name, value in evaluation.summary().items() if name != "split"}
        state.metrics[evaluation.split] = figures
        with self._processes.failing_together():
            if self._processes.is_main:
                self._journal.record(state.step, evaluation)
                save(self._task.settled(model, evaluation), self._run.model_path)
                self._journal.draw(model, evaluation)

    def save_first(self, network: nn.Module, state: TrainingState) -> None:
        """Write the network that the run begins with, to compare and to average with."""
        with self._processes.failing_together():
            if self._processes.is_main:
                save(self.model(network, state), self._run.first_model_path)

    def save_unmeasured(self, network: nn.Module, state: TrainingState) -> None:
        """On the main process, write a network where nothing is kept yet, which is better than nothing."""
        if not self._run.model_path.exists():
            save(self.model(network, state), self._run.model_path)

    def finish(self, last: nn.Module, state: TrainingState) -> None:
        """Try the average, if the recipe has one, and measure on the split that nothing was chosen by.

        Args:
            last: The network after the last update.
            state: The state of the run.
        """
        is_measured = self._processes.broadcast(self.evaluation is not None)
        is_new = self._processes.broadcast(self._run.finished_at) != state.step
        if is_measured and is_new:
            self._try_average(last, state)
        is_final = bool(self.final_split) and is_new
        if is_final or not is_measured:
            network = kept_network(self._run.model_path, self._plan, self._resources.device, self._processes)
            model = self.model(network, state)
            if kept := self._processes.broadcast(self.evaluation):
                model = self._task.settled(model, kept)
            evaluation = self._evaluate(model, self.final_split or self._source.validation_split)
            if is_final:
                self._journal.evaluated(state.step, evaluation)
            self.keep(model, evaluation, state)

    def _try_average(self, last: nn.Module, state: TrainingState) -> None:
        """Average the kept weights with the first ones; keep that if the recipe says so, or its loss does."""
        recipe = self._plan.recipe
        averages = recipe.keep_model in ("best-loss", "average")
        if not averages or not state.step or is_average(self._run, self._processes):
            return
        network = averaged_network(self._run, last, self._resources.device, self._processes)
        name, model = "average", self.model(network, state)
        how = f"{recipe.average_share:g} of what was learned"
        if recipe.keep_model == "average" and recipe.classifier_init == "probe":
            first = self._first(state)
            if reason := self._why_no_better(model, first):
                warn(f"what was learned is not kept, since {reason}; more --minutes may help")
                name, model, how = "probe", first, f"none: {reason}"
        model.provenance = {**model.provenance, "average": how}
        evaluation = self.measure(model)
        self._journal.candidate(state.step, name, evaluation)
        if recipe.keep_model == "average" or evaluation.summary()["loss"] < state.measured.best_error:
            self.keep(model, evaluation, state)

    def _first(self, state: TrainingState) -> Model:
        path, device = self._run.first_model_path, self._resources.device
        return self.model(kept_network(path, self._plan, device, self._processes), state)

    def _why_no_better(self, model: Model, first: Model) -> str:
        """Return why what was learned is no better than the probe; empty: it may be.

        There are no images to choose by. But a network that fits its training images no better than the probe
        did has not learned from them: there were too few updates, or it collapsed.
        """
        train = self._source.split("train")
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(train))
        some = Subset(train, np.sort(order[:MOST_SEEN]))
        loss, before = (
            self._evaluate_split(each, some, "train").summary()["loss"] for each in (model, first)
        )
        if loss < before:
            return ""
        return f"it fits the training images no better than the probe: loss {loss:.3f}, and {before:.3f}"

    def _evaluate(self, model: Model, split: str) -> Result:
        return self._evaluate_split(model, self._source.split(split), split)

    def _evaluate_split(self, model: Model, samples: Split, split: str) -> Result:
        with self._guard():
            return self._task.evaluate(
                model,
                samples,
                split,
                num_workers=self._resources.num_workers,
                processes=self._processes,
                skip_bad=self._plan.bad_samples == "skip",
                stop=self._resources.stop,
            )
