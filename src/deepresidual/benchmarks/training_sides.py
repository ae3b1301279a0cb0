"""Run the two sides of a training benchmark: our update, and the same in plain torch."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepresidual.backends.precision import settle_precision
from deepresidual.data.loader import Batch
from deepresidual.data.source.base import Targets
from deepresidual.models import create
from deepresidual.recipe import Recipe
from deepresidual.runs.plan import Plan
from deepresidual.runtime.compute import Precision
from deepresidual.runtime.device import autocast
from deepresidual.runtime.distributed import SINGLE
from deepresidual.runtime.memory import allocator_policy
from deepresidual.runtime.processes import usable_cores
from deepresidual.spec import ResNetSpec
from deepresidual.tasks import task_of
from deepresidual.training.compiling import resolve_compile
from deepresidual.training.memory import allocator_policy_of
from deepresidual.training.meter import Meter
from deepresidual.training.updater import Updater
from deepresidual.zoo import default_preprocess, entry

Layout: TypeAlias = Literal["NCHW", "channels-last"]

_LEARNING_RATE = 0.01
_MOMENTUM = 0.9
_WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class Problem:
    """The training of both sides: a network of the zoo on one batch of random images.

    Attributes:
        model: Name in the zoo.
        batch_size: Images an update.
        image_px: Side of the images.
        total_steps: Updates of the run that this would be the middle of; rules look at it.
        device: Device of the training.
    """

    model: str
    batch_size: int
    image_px: int
    total_steps: int
    device: torch.device

    def plan(self, *, activation_checkpointing: bool = False) -> Plan:
        """Return the plan of such a run, with what the rules choose on this machine."""
        spec = entry(self.model).spec
        if activation_checkpointing:
            spec = replace(spec, activation_checkpointing=True)
        settled = settle_precision("auto", spec, self.device, image_px=self.image_px)
        return replace(self.plan_of(spec, settled.precision), precision_reason=settled.reason)

    def plan_of(self, spec: ResNetSpec, precision: Precision) -> Plan:
        """Return the plan of a run in a precision."""
        recipe = Recipe(
            name="benchmark",
            steps=self.total_steps,
            batch_size=self.batch_size,
            learning_rate=_LEARNING_RATE,
            momentum=_MOMENTUM,
            weight_decay=_WEIGHT_DECAY,
        )
        return Plan(
            model=self.model,
            spec=spec,
            preprocess=default_preprocess(spec).at_size(self.image_px),
            recipe=recipe,
            seed=0,
            precision=precision,
            precision_reason="",
            compiled=resolve_compile(
                "auto",
                self.device,
                spec,
                image_px=self.image_px,
                num_sizes=1,
                batch_size=self.batch_size,
                total_steps=self.total_steps,
                num_cores=usable_cores(),
            ),
            weights="",
            data="random",
            classes=tuple(str(number) for number in range(spec.num_classes)),
            num_samples=self.batch_size,
            num_held_out=0,
            validation=0.0,
            bad_samples="stop",
            fingerprint={},
        )

    def pixels(self) -> Tensor:
        """Return the images ``(N, S, S, 3)`` uint8."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch_size, self.image_px, self.image_px, 3)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def labels(self) -> Tensor:
        """Return the labels ``(N,)``."""
        return torch.arange(self.batch_size) % entry(self.model).spec.num_classes

    def targets(self) -> Targets:
        """Return what the loader gives beside the images."""
        return self.labels()


class TrainingSide:
    """One side: a step that can be repeated, what surrounds it, and how it is set up.

    Attributes:
        setup: Layout, precision and the like, as JSON types.
    """

    setup: dict[str, Any]

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def step(self) -> None:
        """Do one update."""
        raise NotImplementedError

    def loss(self) -> float:
        """Do one update and return the mean loss before it."""
        raise NotImplementedError

    def surroundings(self) -> AbstractContextManager[object]:
        """Return the context that steps run in."""
        return contextlib.nullcontext()

    def turn(self, num_steps: int, num_before: int = 1) -> Callable[[], float]:
        """Return a function that does some steps and returns the seconds that one takes.

        Args:
            num_steps: Steps that count.
            num_before: Steps before them, in which memory that the other side gave back is fetched again.
        """

        def measure() -> float:
            with self.surroundings():
                for _ in range(num_before):
                    self.step()
                self._wait()
                started = time.perf_counter()
                for _ in range(num_steps):
                    self.step()
                self._wait()
                return (time.perf_counter() - started) / num_steps

        return measure

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class OurTraining(TrainingSide):
    """:class:`Updater` on a fixed batch: uint8 images to the device, normalized there, metrics counted.

    Args:
        problem: The training.
        activation_checkpointing: Whether memory counts for more than speed.
    """

    def __init__(self, problem: Problem, *, activation_checkpointing: bool = False) -> None:
        super().__init__(problem.device)
        self.plan = problem.plan(activation_checkpointing=activation_checkpointing)
        network = create(self.plan.spec, seed=0).to(problem.device).to(memory_format=torch.channels_last)
        self.network = network
        self._meter = Meter(problem.device)
        self._updater = Updater(network, self.plan, SINGLE, task_of(self.plan))
        self._step = 0
        count = problem.batch_size
        places = torch.arange(count)
        pixels = problem.pixels()
        self._batch = Batch(
            pixels=pixels.pin_memory() if problem.device.type == "cuda" else pixels,
            targets=problem.targets(),
            positions=torch.stack([torch.zeros_like(places), places, torch.zeros_like(places)], dim=1),
            places=places,
            keys=[""] * count,
            bad=[],
        )
        self._allocator_policy = allocator_policy_of(self.plan, problem.device)
        self.setup = {
            "layout": "channels-last",
            "precision": self.plan.precision,
            "compiled": self.plan.compiled,
            "freed_memory": self._allocator_policy,
        }

    def step(self) -> None:
        """Do one update."""
        sums = self._updater.gradients(self._batch, self._step)
        if sums is not None:
            self._updater.apply(self._step, _LEARNING_RATE)
            self._meter.add(sums)
        self._step += 1

    def loss(self) -> float:
        """Do one update and return the mean loss before it."""
        self._meter.take()
        self.step()
        return self._meter.take().loss / len(self._batch)

    def surroundings(self) -> AbstractContextManager[object]:
        """Return what surrounds a training run."""
        return allocator_policy(self._allocator_policy)


class PlainTraining(TrainingSide):
    """The usual loop: zero, forward, backward, step; images normalized beforehand, nothing counted.

    Args:
        network: The network, on the CPU; it is moved.
        problem: The training.
        layout: Memory layout of weights and images.
        precision: fp32, or bf16 by autocast.
        compiled: Whether torch compiles the network.
    """

    def __init__(
        self,
        network: nn.Module,
        problem: Problem,
        *,
        layout: Layout = "NCHW",
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        super().__init__(problem.device)
        images = problem.plan().preprocess.normalize(problem.pixels()).contiguous()
        order = torch.channels_last if layout == "channels-last" else torch.contiguous_format
        self.network = network.to(problem.device).to(memory_format=order).train()
        self._images = images.to(problem.device).to(memory_format=order)
        self._labels = problem.labels().to(problem.device)
        self._precision: Precision = precision
        self._module = cast("nn.Module", torch.compile(self.network)) if compiled else self.network
        self._optimizer = torch.optim.SGD(
            self.network.parameters(), lr=_LEARNING_RATE, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY
        )
        self._last = torch.tensor(math.nan)
        self.setup = {"layout": layout, "precision": precision, "compiled": compiled}

    def step(self) -> None:
        """Do one update."""
        self._optimizer.zero_grad()
        with autocast(self._device, self._precision):
            logits = self._module(self._images)
            loss = functional.cross_entropy(logits, self._labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._optimizer.step()
        self._last = loss.detach()

    def loss(self) -> float:
        """Do one update and return the mean loss before it."""
        self.step()
        return float(self._last)
