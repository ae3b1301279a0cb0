"""Train an epoch over a folder of photos, from files to updated weights."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from deepresidual.data.loader import training_batches
from deepresidual.data.sampler import TrainingOrder
from deepresidual.data.source import open_source
from deepresidual.models import create
from deepresidual.runtime.distributed import SINGLE
from deepresidual.runtime.memory import allocator_policy
from deepresidual.runtime.processes import resolve_num_workers
from deepresidual.tasks import task_of
from deepresidual.training.memory import allocator_policy_of
from deepresidual.training.meter import Meter
from deepresidual.training.options import TrainOptions
from deepresidual.training.plan import make_plan
from deepresidual.training.updater import Updater

LEARNING_RATE = 0.0125


class OurEpoch:
    """Loader and update of ``residual train DATA``, with what its rules choose.

    Args:
        data: A folder of photos by class.
        model: The network.
        batch_size: Images an update.
        image_px: Side of the images.
    """

    def __init__(self, data: Path, model: str, batch_size: int, image_px: int) -> None:
        device = torch.device("cpu")
        options = TrainOptions(recipe="photos", changes={"batch_size": batch_size}, image_px=image_px)
        self._source = open_source(data)
        self._plan = plan = make_plan(self._source, model, options, device)
        network = create(plan.spec, seed=0).to(device).to(memory_format=torch.channels_last)
        self._meter = Meter(device)
        self._updater = Updater(network, plan, SINGLE, task_of(plan))
        self._epoch = 0
        self._num_workers = resolve_num_workers(None, device.type, image_px)
        self.num_samples = plan.num_samples
        self.num_parameters = sum(parameter.numel() for parameter in network.parameters())
        self._allocator_policy = allocator_policy_of(plan, device)
        self.setup: dict[str, Any] = {
            "precision": plan.precision,
            "compiled": plan.compiled,
            "freed_memory": self._allocator_policy,
            "workers": self._num_workers,
            "augmentation": "random resized crop, mirroring",
        }

    def seconds_an_image(self) -> float:
        """Train one epoch and return the seconds that an image took."""
        plan = self._plan
        with allocator_policy(self._allocator_policy):
            started = time.perf_counter()
            first, last = (plan.first_step_of_epoch(self._epoch + more) for more in (0, 1))
            order = TrainingOrder(plan.seed, plan.num_samples, plan.recipe.batch_size, first, last)
            batches = training_batches(
                self._source.split("train"),
                plan.preprocess,
                plan.recipe.augment,
                order,
                num_workers=self._num_workers,
            )
            for step, batch in enumerate(batches, start=first):
                batch.require_all_good()
                sums = self._updater.gradients(batch, step)
                if sums is not None:
                    self._updater.apply(step, LEARNING_RATE)
                    self._meter.add(sums)
                self._meter.count(step, batch)
            count = self._meter.take().count
            self._epoch += 1
            return (time.perf_counter() - started) / count
