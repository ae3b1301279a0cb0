"""Checkpoints: everything that a run needs to go on, written whole and durably, read without trust.

``checkpoints/step-N/`` holds ``network.safetensors``, ``optimizer.safetensors``, ``average.safetensors``
where weights are averaged, ``state.json``, and ``manifest.json`` with the size and SHA-256 of each. There is
no pickle in it, and no random state: order and augmentation are functions of the step.

A folder is filled under a hidden name, flushed to the disk and renamed, and only then are older ones
removed, so a kill at any moment leaves a whole one. What is damaged nevertheless is found by its manifest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from deepresidual.errors import ModelFileError
from deepresidual.runtime.console import warn
from deepresidual.runtime.files import atomic_folder, put_back, remove, write_json, write_tensors
from deepresidual.runtime.strict_json import Between, check, parse
from deepresidual.training.meter import Sums
from deepresidual.training.schedule import ScheduleState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deepresidual.nn import ResNet
    from deepresidual.runtime.strict_json import Kind

__all__ = ["Checkpoint", "Progress", "Tensors", "load_checkpoint", "newest_checkpoint", "save_checkpoint"]

_KEEP = 2  # the newest, and one more in case that one turns out damaged
_MANIFEST, _STATE = "manifest.json", "state.json"
_FORMAT_VERSION = 1

_COUNT = Between(0, whole=True)
_SUMS: Kind = {"loss": float, "right": _COUNT, "count": _COUNT, "digest": _COUNT, "seconds": float}
_PROGRESS: Kind = {
    "step": _COUNT,
    "evaluated_step": _COUNT,
    "windows": [_SUMS],
    "epoch": _SUMS,
    "measured": {"warmup_ended": (_COUNT, None), "num_drops": _COUNT, "best_error": (float, None)},
    "metrics": {str: {str: float}},
    "not_finite": [_COUNT],
    "bad_samples": {str: str},
    "scaler": {str: float},
    "metric_lines?": (_COUNT, None),
}

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Progress:
    """How far a run is, apart from its weights.

    Attributes:
        step: Updates done.
        evaluated_step: Step of the last evaluation; a run that was stopped while it evaluated does it again.
        windows: Training sums since the last log line, of each rank.
        epoch: Training sums of the log lines since the last evaluation.
        measured: What the schedule has learned from the run.
        metrics: What was measured last, by split.
        not_finite: Steps that were not done because their loss or gradient was not finite.
        bad_samples: Samples that could not be used, by name, with the reason.
        scaler: State of the loss scaler of fp16.
        metric_lines: Lines of ``metrics.jsonl`` up to here; ``None`` in checkpoints of older versions.
    """

    step: int
    evaluated_step: int
    windows: list[Sums]
    epoch: Sums
    measured: ScheduleState = field(default_factory=ScheduleState)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    not_finite: tuple[int, ...] = ()
    bad_samples: dict[str, str] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    metric_lines: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        fields = dataclasses.asdict(self)
        # JSON has no infinity; before the first evaluation there is no best error.
        if not self.measured.best_error < float("inf"):
            fields["measured"]["best_error"] = None
        return {**fields, "not_finite": list(self.not_finite)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Progress:
        """Build it from what :meth:`to_dict` returned."""
        measured = dict(fields["measured"])
        if measured["best_error"] is None:
            measured["best_error"] = float("inf")
        return cls(
            **{
                **fields,
                "windows": [Sums(**sums) for sums in fields["windows"]],
                "epoch": Sums(**fields["epoch"]),
                "measured": ScheduleState(**measured),
                "not_finite": tuple(fields["not_finite"]),
            }
        )


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        progress: How far the run is.
        network: Weights and BN statistics.
        optimizer: ``KEY/PARAMETER`` → the optimizer's tensors.
        average: The averaged weights; empty where there are none.
    """

    progress: Progress
    network: Tensors
    optimizer: Tensors
    average: Tensors


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, steps_back: int = 0) -> Path:
    """Write a checkpoint below ``folder`` and remove all but the newest two.

    Args:
        folder: The checkpoints of the run.
        checkpoint: What to write.
        steps_back: So far a run may have to go back from any step; the checkpoint for that is kept, too.

    Raises:
        RunError: It cannot be written; the older ones are still there.
    """
    _tidy(folder)
    path = folder / f"step-{checkpoint.progress.step}"
    files = {"network": checkpoint.network, "optimizer": checkpoint.optimizer, "average": checkpoint.average}
    state = checkpoint.progress.to_dict()
    num_bytes = sum(tensor.nbytes for tensors in files.values() for tensor in tensors.values())
    with atomic_folder(path, num_bytes=num_bytes + len(json.dumps(state))) as temporary:
        for name, tensors in files.items():
            if tensors or name != "average":
                write_tensors(temporary / f"{name}.safetensors", tensors)
        write_json(temporary / _STATE, state)
        manifest = {file.name: _seal(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / _MANIFEST, {"format_version": _FORMAT_VERSION, "files": manifest})
    saved = _by_step(folder)
    kept = set(list(saved)[-_KEEP:])
    if steps_back:
        far_enough = [step for step in saved if step <= checkpoint.progress.step - steps_back]
        kept.add(max(far_enough, default=min(saved)))
    for step in saved.keys() - kept:
        _retire(saved[step])
    return path


def forget_checkpoints_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps, when a run goes back behind them and will do those steps again.

    Were they left, the run, if it was stopped before it had caught up, would next go on from the latest.
    """
    for later, path in _by_step(folder).items():
        if later > step:
            _retire(path)


def _retire(path: Path) -> None:
    # Renamed first: one that is half removed should not look like one that is damaged.
    retired = path.with_name(f".{path.name}.tmp")
    remove(retired)
    path.rename(retired)
    remove(retired)


def newest_checkpoint(folder: Path, at_most: int | None = None) -> tuple[Path, Checkpoint] | None:
    """Return the newest checkpoint below ``folder`` that is whole; damaged ones are named in a warning.

    What a kill has left of a save that was not finished is removed.

    Args:
        folder: The checkpoints of the run.
        at_most: Of this step or an earlier one.
    """
    _tidy(folder)
    for step, path in reversed(_by_step(folder).items()):
        if at_most is not None and step > at_most:
            continue
        try:
            return path, load_checkpoint(path)
        except ModelFileError as error:
            warn(f"{error}; the one before it is used")
    return None


def _tidy(folder: Path) -> None:
    """Remove what a kill has left of a save, and put back a checkpoint that stood aside for its successor."""
    for leftover in folder.glob(".step-*.old"):
        put_back(folder / leftover.name.removeprefix(".").removesuffix(".old"))
    for leftover in folder.glob(".step-*"):
        remove(leftover)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and hold every file against the manifest.

    Raises:
        ModelFileError: It is not there, or a file is missing, of another size, or of another content.
    """
    try:
        manifest = parse((path / _MANIFEST).read_bytes())
        check(manifest, {"files": {str: dict}})
        for name, sealed in manifest["files"].items():
            if _seal(path / name) != sealed:
                raise ValueError(f"{name} is not what was written")
        tensors = {
            name: load_file(path / f"{name}.safetensors")
            if f"{name}.safetensors" in manifest["files"]
            else {}
            for name in ("network", "optimizer", "average")
        }
        progress = Progress.from_dict(_checked_state(parse((path / _STATE).read_bytes())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelFileError(
            f"checkpoint {path} cannot be used ({' '.join(reason.split())[:200]})"
        ) from error
    return Checkpoint(progress, **tensors)


def _checked_state(state: Any) -> dict[str, Any]:
    check(state, _PROGRESS)
    checked: dict[str, Any] = state
    return checked


def network_tensors(network: ResNet) -> Tensors:
    """Return copies of weights and statistics."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def optimizer_tensors(network: ResNet, optimizer: torch.optim.Optimizer) -> Tensors:
    """Return the optimizer's tensors as ``KEY/PARAMETER``."""
    return {
        f"{key}/{name}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimizer(network: ResNet, optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Fill the optimizer from what :func:`optimizer_tensors` returned."""
    parameters = dict(network.named_parameters())
    for parameter in parameters.values():
        optimizer.state.pop(parameter, None)
    for full_name, value in tensors.items():
        key, _, name = full_name.partition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape:
            # Same device and memory format as the weight, or the update would take another path.
            value = torch.empty_like(parameter).copy_(value)
        elif parameter.device.type == "cuda":
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = value


def _seal(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _by_step(folder: Path) -> dict[int, Path]:
    """Return the checkpoints by their steps, earliest first."""
    steps = {
        int(number): path
        for path in folder.glob("step-*")
        if (number := path.name.removeprefix("step-")).isdigit()
    }
    return dict(sorted(steps.items()))
