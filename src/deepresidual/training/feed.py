"""The batches of a run, one update after the other, the same on any number of processes.

Before each batch the processes agree whether to stop, whether a checkpoint is due, and which samples cannot
be used, in one message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from deepresidual.data.loader import Batch, training_batches, unusable
from deepresidual.data.resident import InMemoryImages, can_be_resident
from deepresidual.data.sampler import TrainingOrder
from deepresidual.data.source import SampleSource
from deepresidual.errors import DataError
from deepresidual.runs.plan import Plan
from deepresidual.runtime.console import warn
from deepresidual.runtime.signals import StopRequested
from deepresidual.training.resources import Resources

_MOST_BAD = 0.01  # beyond this share of bad samples the data set is at fault, not a file


@dataclass(frozen=True)
class Fed:
    """A batch, and what the processes agreed on before it.

    Attributes:
        batch: This process's part of the batch.
        waited: Seconds that passed waiting for it.
        save: Whether a checkpoint is due on the main process.
        bad: Samples that turned out unusable with this batch on any process, with the reason.
    """

    batch: Batch
    waited: float
    save: bool
    bad: dict[str, str] = field(default_factory=dict)


class Feed:
    """Yields the batches of a run.

    Args:
        source: The data, with the split that is held out.
        plan: The plan of the run.
        resources: Device, threads and processes.
    """

    def __init__(self, source: SampleSource, plan: Plan, resources: Resources) -> None:
        self._split, self._plan = source.split("train"), plan
        self._processes, self._stop = resources.processes, resources.stop
        self._device, self._num_workers = resources.device, resources.num_workers
        self._resident: InMemoryImages | None = None
        balanced = plan.recipe.balance == "sampling"
        self._labels = np.asarray(self._split.labels, dtype=np.int64) if balanced else None

    def batches(
        self, step: int, bad_samples: Mapping[str, str], is_due: Callable[[], bool]
    ) -> Generator[Fed]:
        """Yield the batches from ``step`` to the end of the run.

        Args:
            step: The first update.
            bad_samples: Samples that are known to be unusable.
            is_due: Tells the main process whether a checkpoint is due.

        Raises:
            StopRequested: Any process received a signal.
            DataError: A sample cannot be used and the plan says to stop, or there are too many of them.
        """
        known = dict(bad_samples)
        last, repeats = self._plan.total_steps, self._plan.recipe.repeated_augmentation
        batches = self._stream(self._order(step, last, repeats, self._plan.side_px))
        try:
            while True:
                started = time.monotonic()
                batch = self._next(batches)
                waited = time.monotonic() - started
                found = batch.bad if batch is not None else []
                unknown = {sample.key: sample.reason for sample in found if sample.key not in known}
                due = self._processes.is_main and is_due()
                nothing_left = batch is not None and not len(batch)
                exit_code, due_anywhere, num_unknown, nothing_left_anywhere = self._processes.all_max(
                    self._stop.exit_code, due, len(unknown), nothing_left
                )
                if exit_code:
                    raise StopRequested(exit_code)
                bad: dict[str, str] = {}
                if num_unknown or nothing_left_anywhere:
                    bad = self._agreed(unknown, known, nothing_left=bool(nothing_left_anywhere))
                    known |= bad
                if batch is None:
                    return
                yield Fed(batch, waited, bool(due_anywhere), bad)
        finally:
            batches.close()

    def images(self, count: int) -> Iterator[torch.Tensor]:
        """Yield normalized images ``(N, C, H, W)`` of the first epoch, about ``count`` on all processes.

        Raises:
            StopRequested: Any process received a signal.
        """
        plan = self._plan
        steps = -(-min(count, plan.num_samples) // plan.recipe.batch_size)
        order = self._order(0, steps, 1, lambda _step: plan.train_px)
        batches = self._loaded(order, pin_memory=False)
        while True:
            batch = self._next(batches)
            (exit_code,) = self._processes.all_max(self._stop.exit_code)
            if exit_code:
                raise StopRequested(exit_code)
            if batch is None:
                return
            if len(batch):
                yield plan.preprocess.normalize(batch.pixels.to(self._device))

    def _order(self, first: int, last: int, repeats: int, side_px: Callable[[int], int]) -> TrainingOrder:
        plan, rank, size = self._plan, self._processes.rank, self._processes.size
        return TrainingOrder(
            plan.seed,
            plan.num_samples,
            plan.recipe.batch_size,
            first,
            last,
            repeats,
            rank,
            size,
            side_px,
            self._labels,
        )

    def _stream(self, order: TrainingOrder) -> Generator[Batch]:
        """Yield the batches of ``order``: from memory if the images are few and small, else loaded.

        They are read into memory with the first batch, so that a run can be stopped while they are.
        """
        preprocess, augment = self._plan.preprocess, self._plan.recipe.augment
        if self._resident is None and can_be_resident(self._split, preprocess, augment):
            self._resident = InMemoryImages.read(self._split, preprocess, augment, self._device)
        if self._resident is not None:
            yield from self._resident.batches(order)
        else:
            yield from self._loaded(order, pin_memory=self._device.type == "cuda")

    def _loaded(self, order: TrainingOrder, *, pin_memory: bool) -> Generator[Batch]:
        preprocess, augment, workers = self._plan.preprocess, self._plan.recipe.augment, self._num_workers
        return training_batches(
            self._split, preprocess, augment, order, num_workers=workers, pin_memory=pin_memory
        )

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        try:
            # While it waits for data a run can stop at once: the last step is whole.
            with self._stop.at_once():
                return next(batches, None)
        except StopRequested:
            return None

    def _agreed(
        self, unknown: dict[str, str], known: Mapping[str, str], *, nothing_left: bool
    ) -> dict[str, str]:
        """Return the new bad samples of all processes, or end the run at them, on every process alike."""
        bad: dict[str, str] = {}
        for found in self._processes.all_gather(unknown):
            for key, reason in found.items():
                if self._plan.bad_samples == "stop":
                    raise unusable({key: reason}, can_skip=True)
                if key not in known and key not in bad:
                    bad[key] = reason
                    warn(f"{key} is skipped: {reason}")
        names, most = [*known, *bad], _MOST_BAD * self._plan.num_samples
        if len(names) > most or nothing_left:
            raise DataError(
                f"{len(names):,} of {self._plan.num_samples:,} training images cannot be used "
                f"({', '.join(names[:3])}, …)",
                expected=f"at most {_MOST_BAD:.0%}",
                remedy="repair or remove them; 'residual check DATA' lists all",
            )
        return bad
