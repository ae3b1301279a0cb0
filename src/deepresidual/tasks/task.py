"""``Task``, the protocol that the training loop trains, and the table of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from deepresidual.data.source import Split
from deepresidual.data.source.base import Targets
from deepresidual.errors import UnknownNameError
from deepresidual.runs.plan import Plan
from deepresidual.runtime.distributed import Processes
from deepresidual.runtime.signals import StopRequest


@dataclass(frozen=True)
class BatchSums:
    """Sums over some images of a step, on the device.

    Attributes:
        loss: Sum of the losses.
        parts: What the task counts beside the loss, by name.
    """

    loss: Tensor
    parts: dict[str, Tensor]


class Result(Protocol):
    """Result of an evaluation."""

    @property
    def split(self) -> str:
        """Name of the split."""
        ...

    def summary(self) -> dict[str, Any]:
        """Return ``split`` and the figures that ``metrics.jsonl`` and the model folder get.

        ``loss`` is one of them. What training counts too has the name that it has in :meth:`Task.figures`.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types, for ``evaluation.json``."""
        ...


class Task(Protocol):
    """One kind of thing to learn.

    Attributes:
        head: Prefixes of the parameters that belong to the classes; drawn anew for other classes, and learned
            at the full rate.
        parts: Names of what :meth:`loss` counts beside the loss; keys of a checkpoint.
        charts: The figures whose curves a report shows, with the label of the axis.
    """

    head: tuple[str, ...]
    parts: tuple[str, ...]
    charts: Mapping[str, str]

    def blank_targets(self, count: int) -> Targets:
        """Return targets of ``count`` blank images, for an update that is only tried or timed."""
        ...

    def loss(self, network: Callable[..., Any], images: Tensor, targets: Any, step: int) -> BatchSums:
        """Return the sums of a micro-batch, with the graph of the loss.

        Args:
            network: Calls the network: ``(N, C, H, W)``, and whatever else it takes → its outputs, in the
                precision of the plan.
            images: ``(N, C, H, W)``, normalized, on the device; may be changed in place.
            targets: The targets of the images (:attr:`Batch.targets`); ``(0,)`` int64 if there are none.
            step: The update, for random choices.
        """
        ...

    def figures(self, loss: float, parts: Mapping[str, float], count: int) -> dict[str, float]:
        """Return means for ``metrics.jsonl``, from sums over ``count`` images; ``loss`` comes first."""
        ...

    def training_error(self, parts: Mapping[str, float], count: int) -> float:
        """Return the error between 0 and 1 that ends a warm-up; 1 where the task has no such error."""
        ...

    def headline(self, figures: Mapping[str, Any], digits: int) -> str:
        """Return the figures beside the loss that a line of the log shows.

        Args:
            figures: Those of :meth:`figures` while it trains, those of :meth:`Result.summary` after.
            digits: Digits behind the point.
        """
        ...

    def evaluate(
        self,
        model: Any,
        split: Split,
        name: str,
        *,
        num_workers: int,
        processes: Processes,
        skip_bad: bool,
        stop: StopRequest,
    ) -> Result:
        """Return the result of a split.

        Args:
            model: The network, in evaluation mode, with its preprocessing.
            split: The samples.
            name: What the split is called.
            num_workers: Threads that read and decode.
            processes: Each measures its share; sums are gathered.
            skip_bad: Leave samples out that cannot be used (:attr:`Batch.bad`), and count them.
            stop: Checked after each batch.

        Raises:
            DataError: A sample cannot be used, unless they are skipped (:meth:`Batch.require_all_good`).
            StopRequested: A signal came.
        """
        ...

    def settled(self, model: Any, result: Any) -> Any:
        """Return the model with what an evaluation has settled for its use; most tasks settle nothing."""
        ...

    def error(self, result: Any) -> float:
        """Return what schedule, early stopping and the choice of the model follow; lower is better."""
        ...

    def read(self, document: Mapping[str, Any]) -> Any:
        """Build a :class:`Result` from what its ``to_dict`` returned."""
        ...

    def photos(self, split: Split, result: Any) -> dict[str, bytes]:
        """Return PNG files that show the result, by name."""
        ...

    def heat_maps(self, model: Any, split: Split, result: Any) -> dict[str, bytes]:
        """Return PNG files that explain the result, by name."""
        ...


TASKS: dict[str, Callable[[Plan], Task]] = {}
"""Builders of a plan's task by name; each file of a task adds its own."""


def task_of(plan: Plan) -> Task:
    """Return the task of a plan.

    Raises:
        UnknownNameError: There is no task of that name.
    """
    if plan.task not in TASKS:
        raise UnknownNameError("task", plan.task, TASKS)
    return TASKS[plan.task](plan)
