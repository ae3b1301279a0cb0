"""What the tests of the parts of training share: a plan, a batch and an updater of a tiny network."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepresidual.data.loader import BadSample, Batch
from deepresidual.models import TorchClassifier, create, load, save
from deepresidual.nn import ResNet
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Recipe
from deepresidual.runs.plan import Plan
from deepresidual.runtime.distributed import SINGLE
from deepresidual.spec import ResNetSpec
from deepresidual.tasks import task_of
from deepresidual.training.journal import Journal
from deepresidual.training.launch import train
from deepresidual.training.loop import RunResult
from deepresidual.training.updater import Updater
from tests.conftest import COLORS, SMALL_INPUT, TINY

CPU = torch.device("cpu")


class SilentJournal(Journal):
    """A journal that leaves the report empty."""

    def end(self) -> None:
        (self.run.path / "report.html").write_bytes(b"")


def observing(act: Callable[[Plan, int], None]) -> type[SilentJournal]:
    """Return a silent journal that calls ``act(plan, step)`` after every update."""

    class Observing(SilentJournal):
        def step(self, step: int, status: str = "") -> None:
            super().step(step, status)
            if not status:
                act(self.plan, step)

    return Observing


def stop_after(
    patch: pytest.MonkeyPatch, step: int, number: signal.Signals = signal.SIGINT, *, seed: int = 0
) -> None:
    """Send this process a signal after update ``step`` of a run with that seed."""

    def act(plan: Plan, done: int) -> None:
        if done == step and plan.seed == seed:
            signal.raise_signal(number)

    patch.setattr("deepresidual.training.launch.Journal", observing(act))


def a_plan(spec: ResNetSpec = TINY, preprocess: Preprocess = SMALL_INPUT, **fields: Any) -> Plan:
    """Return a plan; ``fields`` are its own or those of its recipe."""
    own = {field.name for field in dataclasses.fields(Plan)}
    recipe = Recipe(name="tiny").changed(
        {
            "batch_size": 12,
            "learning_rate": 0.1,
            "schedule": "constant",
            **{name: value for name, value in fields.items() if name not in own},
        }
    )
    usual: dict[str, Any] = {
        "model": "tiny",
        "spec": dataclasses.replace(spec, stochastic_depth=recipe.stochastic_depth or spec.stochastic_depth),
        "preprocess": preprocess,
        "recipe": recipe,
        "seed": 0,
        "precision": "fp32",
        "precision_reason": "asked for",
        "compiled": False,
        "weights": "",
        "data": "noise",
        "classes": ("blue", "green", "red"),
        "num_samples": 48,
        "num_held_out": 15,
        "validation": 0.0,
        "bad_samples": "stop",
        "fingerprint": {"train": "0", "test": "1"},
    }
    return Plan(**{**usual, **{name: value for name, value in fields.items() if name in own}})


def a_batch(plan: Plan, seed: int = 0, *, missing: tuple[int, ...] = ()) -> Batch:
    """Return a whole batch of noise; ``missing`` are places whose samples could not be read."""
    size, side = plan.recipe.batch_size, plan.train_px
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (size, side, side, plan.preprocess.num_channels), dtype=np.uint8)
    places = torch.tensor([place for place in range(size) if place not in missing], dtype=torch.int64)
    positions = torch.stack([torch.zeros_like(places), places, torch.zeros_like(places)], dim=1)
    return Batch(
        pixels=torch.from_numpy(pixels)[places],
        targets=(torch.arange(size) % plan.spec.num_classes)[places],
        positions=positions,
        places=places,
        keys=[f"sample {place}" for place in places.tolist()],
        bad=[BadSample(place, f"sample {place}", "damaged") for place in missing],
    )


def an_updater(plan: Plan, network: ResNet | None = None) -> Updater:
    """Return the updater of a network, which is drawn from the plan's seed where none is given."""
    network = create(plan.backbone, seed=plan.seed) if network is None else network
    return Updater(network.to(memory_format=torch.channels_last), plan, SINGLE, task_of(plan))


def an_update(updater: Updater, plan: Plan, step: int = 0, *, batch: Batch | None = None) -> bool:
    """Do one update on noise and return whether its loss was finite."""
    sums = updater.gradients(a_batch(plan, seed=step) if batch is None else batch, step)
    if sums is not None:
        updater.apply(step, plan.recipe.learning_rate)
    return sums is not None


def gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of every gradient that there is."""
    return {
        name: parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of weights and statistics."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of the tensors that differ by as much as a bit."""
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def a_start(folder: Path, spec: ResNetSpec = TINY, labels: tuple[str, ...] = tuple(COLORS)) -> Path:
    """Write a model folder for runs to start from, which makes them as quick as the network is small."""
    spec = dataclasses.replace(spec, num_classes=len(labels))
    save(TorchClassifier(create(spec, seed=11), labels, SMALL_INPUT), folder)
    return folder


def a_run(photos: Path, out: Path, changes: dict[str, Any] | None = None, **options: Any) -> RunResult:
    """Train the tiny network for two epochs of five steps, on 48 pictures of 8 px."""
    usual = {"epochs": 2.0, "batch_size": 10, "learning_rate": 0.05, "warmup_epochs": 0.0}
    start = photos.parent / "start"
    if "weights" not in options and not start.exists():
        a_start(start)
    options = {"weights": start, "recipe": "cifar", "num_workers": 0, "precision": "fp32", **options}
    return train(photos, out=out, changes={**usual, **(changes or {})}, **options)


def rows(out: Path, event: str | None = None) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics, of one kind or of all."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [line for line in lines if event is None or line["event"] == event]


def record_of(out: Path) -> dict[str, Any]:
    """Return a run's ``run.json``."""
    record: dict[str, Any] = json.loads((out / "run.json").read_text("utf-8"))
    return record


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    """Return the weights and statistics of a run's model."""
    return state(load(out).network)
