"""The networks of a run: the one it begins with, the one that is evaluated, the one that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepresidual.models import create, load_network
from deepresidual.nn import BODY
from deepresidual.runs.folder import Run
from deepresidual.runs.plan import Plan
from deepresidual.runtime.distributed import Processes
from deepresidual.runtime.provenance import now, versions
from deepresidual.runtime.strict_json import read_object
from deepresidual.spec import DetectorSpec, NetworkSpec, ResNetSpec
from deepresidual.tasks import Task
from deepresidual.training.averages import precise_statistics
from deepresidual.training.beginning import Beginning
from deepresidual.training.feed import Feed
from deepresidual.training.head_rows import with_kept_rows
from deepresidual.training.state import Tensors
from deepresidual.training.updater import Updater, learning_norms
from deepresidual.zoo.released import commercial_use


def first_network(plan: Plan, task: Task, weights: Path | None) -> nn.Module:
    """Return the network that a run begins with: drawn, or another's, with its classifier for its classes."""
    network = create(plan.spec, seed=plan.seed)
    if weights is not None:
        start = load_network(weights)
        given: Tensors = start.network.state_dict()
        if isinstance(plan.spec, DetectorSpec) and isinstance(start.spec, ResNetSpec):
            given = {f"{BODY}{name}": tensor for name, tensor in given.items()}
        keeps = start.label_names == plan.classes and _heads_are_alike(plan.spec, start.spec)
        drawn = network.state_dict()
        # A backbone has no classifier to keep, and a classifier nothing of a detector but the network.
        first = {
            name: given[name] if _is_kept(name, tensor, given, task.head, keeps=keeps) else tensor
            for name, tensor in drawn.items()
        }
        if isinstance(plan.spec, DetectorSpec) and isinstance(start.spec, DetectorSpec) and not keeps:
            specs, names = (plan.spec, start.spec), (plan.classes, start.label_names)
            first.update(with_kept_rows(drawn, given, specs, names))
        network.load_state_dict(first)
    return network


def _heads_are_alike(spec: NetworkSpec, start: NetworkSpec) -> bool:
    """Return whether the classifiers of two networks read the same."""
    if isinstance(spec, ResNetSpec) and isinstance(start, ResNetSpec):
        return spec.head == start.head
    return spec == start


def _is_kept(name: str, drawn: Tensor, given: Tensors, head: tuple[str, ...], *, keeps: bool) -> bool:
    if name.startswith(head):
        return keeps
    is_there = name in given and given[name].shape == drawn.shape
    return is_there or not name.startswith(_BEHIND)  # the residual network has to be the same


_BEHIND = ("backbone.fpn.", "rpn.", "roi_heads.")
"""Prefixes of what stands behind the residual network of a detector."""


def network_to_evaluate(updater: Updater, plan: Plan, feed: Feed, processes: Processes) -> nn.Module:
    """Return the average of the weights if there is one, with exact BN statistics if the recipe says so."""
    network = updater.average.network if updater.average is not None else updater.network
    if not plan.recipe.precise_bn:
        return network
    precise = create(plan.spec).to(updater.device).to(memory_format=torch.channels_last)
    precise.load_state_dict(network.state_dict())
    images = feed.images(plan.recipe.precise_bn)
    precise_statistics(precise, learning_norms(precise, plan.recipe), images, processes)
    return precise


def kept_network(path: Path, plan: Plan, device: torch.device, processes: Processes) -> nn.Module:
    """Return the network of a model folder, which only the main process need be able to read."""
    weights: Tensors = {}
    with processes.failing_together():
        if processes.is_main:
            weights = load_network(path).network.state_dict()
    network = create(plan.spec)
    network.load_state_dict(processes.broadcast(weights))
    return network.to(device).to(memory_format=torch.channels_last)


def averaged_network(run: Run, last: nn.Module, device: torch.device, processes: Processes) -> nn.Module:
    """Return the average of a run's first and kept weights, BN's statistics among them.

    Args:
        run: The run.
        last: The network after the last update, which takes the place of kept weights that are the first.
        device: Where to put the average.
        processes: The processes that train together.
    """
    first = kept_network(run.first_model_path, run.plan, device, processes).state_dict()
    network = kept_network(run.model_path, run.plan, device, processes)
    if all(torch.equal(tensor, first[name]) for name, tensor in network.state_dict().items()):
        network.load_state_dict(last.state_dict())
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(first[name], 1 - run.plan.recipe.average_share)
    return network


def is_average(run: Run, processes: Processes) -> bool:
    """Return whether the kept model of a run is an average already."""
    found = False
    with processes.failing_together():
        if processes.is_main:
            config = read_object(run.model_path / "config.json")
            found = "average" in config["residual"]["provenance"]
    return processes.broadcast(found)


def provenance(plan: Plan, beginning: Beginning | None = None) -> dict[str, Any]:
    """Return what a model folder remembers of its run, and of the weights that this began with."""
    name, licence = (beginning.name, beginning.licence) if beginning is not None else ("", "")
    return {
        "data": plan.data,
        "fingerprint": plan.fingerprint.get("train", ""),
        "recipe": plan.recipe.name,
        "recipe_fingerprint": plan.recipe.fingerprint(),
        "seed": plan.seed,
        "precision": plan.precision,
        **({"weights": plan.weights} if plan.weights else {}),
        **({"began with": name} if name else {}),
        **({"licence of the weights": licence} if licence else {}),
        **({"commercial use": use} if (use := commercial_use(licence)) != "yes" else {}),
        "residual": versions()["residual"],
        "torch": versions()["torch"],
        "date": now(),
    }
