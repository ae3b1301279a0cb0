"""Log lines, the progress bar, pictures and the report of a run in training."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

from deepresidual.data.source import SampleSource
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.models import Model, load_network
from deepresidual.reporting import write_report
from deepresidual.runs.folder import Run
from deepresidual.runtime.console import ProgressBar, warn
from deepresidual.runtime.duration import duration
from deepresidual.runtime.memory import peak_memory
from deepresidual.tasks import Result, task_of
from deepresidual.training.meter import Sums
from deepresidual.training.resources import Resources


class Journal:
    """Observes a run on every process; the main process writes.

    Args:
        run: The run folder, with the plan of the run.
        source: The data.
        resources: Device and processes.
    """

    def __init__(self, run: Run, source: SampleSource, resources: Resources) -> None:
        self._task = task_of(run.plan)
        self.run, self.plan, self._source = run, run.plan, source
        self._device, self._processes = resources.device, resources.processes
        self._bar: ProgressBar | None = None
        self._status = ""
        self._reports, self._drawings = Pace(), Pace()

    @contextlib.contextmanager
    def progress(self, step: int) -> Iterator[None]:
        """Show a progress bar while the block runs."""
        with ProgressBar(self.plan.total_steps, done=step, label="training") as self._bar:
            yield

    def step(self, step: int, status: str = "") -> None:
        """Show how far the run is and what it is doing: by default what the last log line said."""
        if self._bar is not None:
            self._bar.update(step, status or self._status)

    def before(self, label: str, done: int, total: int) -> None:
        """Show how far something is that comes before the first step."""
        if self._bar is not None:
            self._bar.before(label, done, total)

    def window(self, step: int, sums: Sums, rate: float) -> None:
        """Log a window of training steps.

        Args:
            step: Updates done.
            sums: Over the window, of all processes.
            rate: The learning rate of its last step.
        """
        figures, speed = self._task.figures(sums.loss, sums.parts, sums.count), sums.speed()
        memory, epoch = peak_memory(self._device), self._epoch(step)
        self._status = (
            f"epoch {epoch:.1f}  loss {figures['loss']:.3f}  {self._task.headline(figures, 1)}  "
            f"{speed['images_per_second']:,.0f} images/s  waiting {speed['waiting']:.0%}  "
            f"{memory / 1e9:.1f} GB"
        )
        row = {"event": "train", "step": step, "epoch": epoch, "learning_rate": rate, **figures, **speed}
        self.run.log({**row, "memory_bytes": memory})

    def evaluated(self, step: int, evaluation: Result) -> None:
        """Log an evaluation."""
        row = {"event": "evaluation", "step": step, "epoch": self._epoch(step), **evaluation.summary()}
        self.run.log(row)

    def candidate(self, step: int, name: str, evaluation: Result) -> None:
        """Print and record the evaluation of weights that were not learned by the step itself."""
        figures = evaluation.summary()
        # A process that was killed before the weights were kept has written the line already.
        if not self.run.has_logged("candidate", step):
            self.run.log(
                {"event": "candidate", "step": step, "epoch": self._epoch(step), "candidate": name, **figures}
            )
        self._line(
            f"{name:<10}  {evaluation.split} loss {figures['loss']:.4f} {self._task.headline(figures, 2)}"
        )

    def record(self, step: int, evaluation: Result) -> None:
        """On the main process, record the evaluation of the model that is kept, with photos."""
        split = self._source.split(evaluation.split)
        document = evaluation.to_dict()
        if self.plan.task != "classification":
            document["task"] = self.plan.task
        self.run.record_evaluation(step, document, self._task.photos(split, evaluation))

    def draw(self, model: Model, evaluation: Result) -> None:
        """On the main process, draw heat maps, in at most a twentieth of the time."""
        with self._drawings.turn() as is_turn:
            if is_turn:
                split = self._source.split(evaluation.split)
                self.run.record_heat_maps(self._task.heat_maps(model, split, evaluation))

    def epoch(self, step: int, sums: Sums, evaluation: Result) -> None:
        """Print a line, and write the report, in at most a twentieth of the time.

        Args:
            step: Updates done.
            sums: Over the training steps since the last evaluation.
            evaluation: The evaluation.
        """
        trained = ""
        if sums.count:
            figures = self._task.figures(sums.loss, sums.parts, sums.count)
            trained = f"training {self._task.headline(figures, 1)}, "
        measured, begins = evaluation.summary(), self.plan.recipe.classifier_init == "probe" and not step
        self._line(
            f"{'probe' if begins else f'epoch {self._epoch_reached(step)}/{self._epochs()}':<10}  "
            f"{trained}{evaluation.split} {self._task.headline(measured, 1)}, loss {measured['loss']:.3f}"
            f"{self._time_left()}"
        )
        with self._processes.failing_together():
            if self._processes.is_main:
                with self._reports.turn() as is_turn:
                    if is_turn:
                        self.end()

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.line(text)

    def draw_missing(self, evaluation: Result | None) -> None:
        """On the main process, draw the heat maps that :meth:`draw` left out."""
        if evaluation is None or self.run.has_heat_maps:
            return
        try:
            model = load_network(self.run.model_path).to(self._device)
            split = self._source.split(evaluation.split)
            self.run.record_heat_maps(self._task.heat_maps(model, split, evaluation))
        except DataError as error:
            warn(f"there are no heat maps ({error})")  # training is done, and not to be lost for a picture

    def end(self) -> None:
        """On the main process, write the report of the run as it stands."""
        try:
            write_report(self.run.path)
        except (ModelFileError, ConfigurationError) as error:
            warn(f"there is no new report ({error})")  # training is not to be lost for a page

    def _epoch(self, step: int) -> float:
        return step * self.plan.recipe.batch_size / self.plan.num_samples

    def _epochs(self) -> str:
        recipe = self.plan.recipe
        epochs = recipe.epochs if recipe.steps is None else self._epoch(self.plan.total_steps)
        return f"{round(epochs, 2):g}"

    def _time_left(self) -> str:
        seconds = self._bar.seconds_left() if self._bar is not None else None
        return f"  {duration(seconds)} left" if seconds else ""

    def _epoch_reached(self, step: int) -> str:
        """Return the epoch that an evaluation after ``step`` is of, which the step's batch goes beyond."""
        recipe = self.plan.recipe
        if step == self.plan.total_steps:
            return f"{round(self._epoch(step), 2):g}" if recipe.steps is not None else f"{recipe.epochs:g}"
        reached = math.floor(self._epoch(step) / recipe.evaluate_every + 1e-9) * recipe.evaluate_every
        return f"{round(reached or self._epoch(step), 2):g}"


class Pace:
    """Holds something down to a twentieth of the time."""

    def __init__(self) -> None:
        self._not_before = 0.0

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Yield whether it is its turn; if so, the time that the block takes sets the next one."""
        started = time.monotonic()
        is_turn = started >= self._not_before
        yield is_turn
        if is_turn:
            now = time.monotonic()
            self._not_before = now + 20 * (now - started)
