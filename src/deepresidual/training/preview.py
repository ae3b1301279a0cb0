"""A run before it is started: its schedule as a picture, its steps, and an estimate of time and memory."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from deepresidual.data.source import SampleSource, as_source
from deepresidual.data.source.dataset import Dataset
from deepresidual.runs.plan import Plan
from deepresidual.runtime.device import resolve_device
from deepresidual.runtime.duration import duration
from deepresidual.runtime.memory import allocator_policy
from deepresidual.spec import NetworkSpec
from deepresidual.training.beginning import begun, settle_beginning, with_held_out
from deepresidual.training.introduction import introduce, particulars
from deepresidual.training.length import minutes_of, plan_length
from deepresidual.training.memory import allocator_policy_of
from deepresidual.training.options import TrainKeywords, TrainOptions, with_keywords
from deepresidual.training.plan import settle_computing, settle_learning
from deepresidual.training.schedule import learning_rate
from deepresidual.training.timing import cost_of_a_step

_COLUMNS, _ROWS = 64, 8
_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Preview:
    """Plan and cost of a run that was not started.

    Attributes:
        plan: Its plan.
        learning_rates: The learning rate at equal distances over the run, as far as it is known beforehand.
        seconds_a_step: Time of one update on blank images, data not counted.
        memory_bytes: Most memory of the process so far, or of the GPU.
    """

    plan: Plan
    learning_rates: tuple[float, ...]
    seconds_a_step: float
    memory_bytes: int

    @property
    def seconds(self) -> float:
        """Time of the whole run: its updates, and an image evaluated for a third of one trained on.

        Of smaller images, where they grow, an update takes as much less as they have fewer pixels.
        """
        recipe, plan = self.plan.recipe, self.plan
        steps = range(0, plan.total_steps, max(1, plan.total_steps // 1000))
        if not steps:
            return self._evaluated_images() * self.seconds_a_step / recipe.batch_size / 3
        pixels = statistics.fmean(plan.side_px(step) ** 2 for step in steps) / plan.train_px**2
        trained = self.seconds_a_step * plan.total_steps * pixels
        evaluated = self._evaluated_images() * self.seconds_a_step / recipe.batch_size / 3
        return trained + evaluated

    def _evaluated_images(self) -> int:
        return len(self.plan.evaluation_steps()) * self.plan.num_held_out

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {
            "plan": self.plan.to_dict(),
            "recipe_fingerprint": self.plan.recipe.fingerprint(),
            "total_steps": self.plan.total_steps,
            "warmup_steps": self.plan.warmup_steps,
            "evaluations": len(self.plan.evaluation_steps()),
            "learning_rates": list(self.learning_rates),
            "seconds_a_step": self.seconds_a_step,
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
        }

    def to_text(self) -> str:
        """Return a picture of the learning rate over the run, and the figures."""
        plan, recipe = self.plan, self.plan.recipe
        top = max(self.learning_rates)
        lines = [f"learning rate of recipe {recipe.name} ({recipe.schedule})"]
        for row in range(_ROWS, 0, -1):
            label = f"{top:8.3g} ┤" if row == _ROWS else f"{0:8} ┤" if row == 1 else "         │"
            lines.append(label + "".join(_cell(rate / top * _ROWS, row) for rate in self.learning_rates))
        epochs = plan.total_steps * recipe.batch_size / plan.num_samples
        lines.append("         └" + "─" * _COLUMNS)
        lines.append(f"          0{f'{plan.total_steps:,} steps = {epochs:.1f} epochs':>{_COLUMNS - 1}}")
        if recipe.schedule == "plateau" or recipe.warmup_until_error is not None:
            lines.append("          (drops and the end of the warm-up follow from what will be measured)")
        lines += [
            *particulars(plan),
            f"images      {plan.num_samples:,} of {plan.data}, {plan.side_px(0)} px"
            + (f" growing to {plan.train_px} px" if plan.side_px(0) != plan.train_px else "")
            + (
                f", evaluated at {plan.preprocess.crop_px} px"
                if plan.train_px != plan.preprocess.crop_px
                else ""
            ),
            f"steps       {plan.total_steps:,} of {recipe.batch_size} images, {plan.warmup_steps:,} warm-up",
            f"evaluated   {len(plan.evaluation_steps())} times",
            f"time        about {duration(self.seconds)}, reading data not counted"
            + (", nor what compiling saves" if plan.compiled else "")
            + f" ({_seconds(self.seconds_a_step)} s a step here)",
            f"memory      about {self.memory_bytes / 1e9:.1f} GB",
        ]
        return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"  # never 1e+03


def preview(
    data: SampleSource | Dataset | str | Path,
    model: str | NetworkSpec | None = None,
    options: TrainOptions | None = None,
    *,
    told: bool = False,
    **keywords: Unpack[TrainKeywords],
) -> Preview:
    """Settle a run's plan, time an update on a few blank images, and write nothing.

    The other arguments are those of :func:`deepresidual.train`.

    Args:
        data: The data set.
        model: The network.
        options: How to train.
        told: Introduce the run on stderr before anything is measured.
        keywords: Fields of the options.

    Raises:
        ConfigurationError: An option is not allowed.
        DataError: The data cannot be used.
    """
    options = with_keywords(options, keywords)
    device = resolve_device(options.device)
    opened = as_source(
        data,
        labels=options.labels,
        group=options.group,
        num_workers=options.num_workers,
        task=options.task,
    )
    beginning = settle_beginning(opened, model, options, device)
    source, options = with_held_out(opened, options, beginning), begun(options, beginning)
    plan = settle_learning(source, beginning.model or model, options)
    minutes = minutes_of(options, plan.recipe, device, 1)
    if told:
        introduce(plan, source, beginning, minutes)
    plan = settle_computing(plan, options, device)
    if minutes:
        plan, _ = plan_length(plan, minutes, device)
    rates = tuple(
        learning_rate(plan.recipe, column * plan.total_steps // _COLUMNS, plan.total_steps, plan.warmup_steps)
        for column in range(_COLUMNS)
    )
    with allocator_policy(allocator_policy_of(plan, device)):
        cost = cost_of_a_step(plan, device)
    return Preview(plan, rates, cost.seconds, cost.memory_bytes)


def _cell(height: float, row: int) -> str:
    part = min(max(height - (row - 1), 0.0), 1.0)
    return _BLOCKS[round(part * (len(_BLOCKS) - 1))]
