"""Checkpoints: everything that a run needs to go on, written whole, read without trust.

``checkpoints/step-N/`` holds ``network.safetensors``, ``optimizer.safetensors`` and ``state.json``. There
is no pickle in it, and no random state: order and augmentation are functions of the step.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from residual.errors import ModelFileError
from residual.runtime.files import atomic_folder, write_json, write_tensors
from residual.training.meter import Sums

if TYPE_CHECKING:
    from pathlib import Path

    from residual.nn import ResNet

__all__ = ["Progress", "latest_checkpoint", "load_checkpoint", "save_checkpoint"]

_KEEP = 2  # the newest, and one more in case that one turns out damaged


@dataclass(frozen=True)
class Progress:
    """How far a run is, apart from its weights.

    Attributes:
        step: Updates done.
        window: Training sums since the last log line.
        epoch: Training sums of the log lines since the last evaluation.
        metrics: What was measured last, by split.
    """

    step: int
    window: Sums
    epoch: Sums
    metrics: dict[str, dict[str, float]]


def save_checkpoint(folder: Path, progress: Progress, network: ResNet, optimizer: torch.optim.SGD) -> Path:
    """Write a checkpoint below ``folder`` and remove all but the newest two.

    Raises:
        RunError: It cannot be written; the older ones are still there.
    """
    path = folder / f"step-{progress.step}"
    momentum = {
        name: buffer
        for name, parameter in network.named_parameters()
        if (buffer := optimizer.state[parameter].get("momentum_buffer")) is not None
    }
    with atomic_folder(path) as temporary:
        write_tensors(temporary / "network.safetensors", network.state_dict())
        write_tensors(temporary / "optimizer.safetensors", momentum)
        write_json(temporary / "state.json", dataclasses.asdict(progress))
    for old in _by_step(folder)[:-_KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of the highest step below ``folder``, or ``None``."""
    found = _by_step(folder)
    return found[-1] if found else None


def load_checkpoint(path: Path, network: ResNet, optimizer: torch.optim.SGD) -> Progress:
    """Fill ``network`` and ``optimizer`` from a checkpoint and return how far it was.

    Raises:
        ModelFileError: A file is missing, damaged, or belongs to another network.
    """
    try:
        state = json.loads((path / "state.json").read_text("utf-8"))
        progress = Progress(
            int(state["step"]), Sums(**state["window"]), Sums(**state["epoch"]), state["metrics"]
        )
        weights = load_file(path / "network.safetensors")
        momentum = load_file(path / "optimizer.safetensors")
        network.load_state_dict(weights)
        for name, parameter in network.named_parameters():
            if name in momentum:
                # Same device and memory format as the weight, or the update would take another path.
                optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(
                    momentum[name]
                )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(
            f"checkpoint {path} cannot be used ({reason})",
            remedy="remove this folder to resume from the one before",
        ) from error
    return progress


def _by_step(folder: Path) -> list[Path]:
    steps = {
        int(number): path
        for path in folder.glob("step-*")
        if (number := path.name.removeprefix("step-")).isdigit()
    }
    return [steps[step] for step in sorted(steps)]
