"""The files of a checkpoint: written whole and durably, read without trust.

``checkpoints/step-N/`` holds ``network.safetensors``, ``optimizer.safetensors``, ``average.safetensors``
where weights are averaged, ``state.json``, and ``manifest.json`` with the size and SHA-256 of each. There is
no pickle in it, and no random state: order and augmentation are functions of the step.

A folder is filled under a hidden name, flushed to the disk and renamed, and only then are older ones
removed, so a kill at any moment leaves a whole one. What is damaged nevertheless is found by its manifest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from deepresidual.errors import ModelFileError
from deepresidual.runtime.console import warn
from deepresidual.runtime.files import atomic_folder, put_back, remove, sha256_of, write_json, write_tensors
from deepresidual.runtime.strict_json import Between, Kind, check, parse
from deepresidual.training.state import Checkpoint, TrainingState

_KEEP = 2  # the newest, and one more in case that one turns out damaged
_MANIFEST, _STATE = "manifest.json", "state.json"
_FORMAT_VERSION = 1

_COUNT = Between(0, whole=True)
_SUMS: Kind = {"loss": float, "right?": _COUNT, "count": _COUNT, "digest": _COUNT, "seconds": float}
_KIND: Kind = {
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


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, steps_back: int = 0) -> Path:
    """Write a checkpoint below ``folder`` and remove all but the newest two.

    Args:
        folder: The checkpoints of the run.
        checkpoint: What to write.
        steps_back: Largest rollback distance in steps; the checkpoint it needs is kept as well.

    Raises:
        RunError: It cannot be written; the older ones are still there.
    """
    _remove_leftovers(folder)
    path = folder / f"step-{checkpoint.state.step}"
    files = {"network": checkpoint.network, "optimizer": checkpoint.optimizer, "average": checkpoint.average}
    state = checkpoint.state.to_dict()
    num_bytes = sum(tensor.nbytes for tensors in files.values() for tensor in tensors.values())
    with atomic_folder(path, num_bytes=num_bytes + len(json.dumps(state))) as temporary:
        for name, tensors in files.items():
            if tensors or name != "average":
                write_tensors(temporary / f"{name}.safetensors", tensors)
        write_json(temporary / _STATE, state)
        manifest = {file.name: _digest(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / _MANIFEST, {"format_version": _FORMAT_VERSION, "files": manifest})
    saved = _by_step(folder)
    kept = set(list(saved)[-_KEEP:])
    if steps_back:
        far_enough = [step for step in saved if step <= checkpoint.state.step - steps_back]
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
    _remove_leftovers(folder)
    for step, path in reversed(_by_step(folder).items()):
        if at_most is not None and step > at_most:
            continue
        try:
            return path, load_checkpoint(path)
        except ModelFileError as error:
            warn(f"{error}; the one before it is used")
    return None


def _remove_leftovers(folder: Path) -> None:
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
        for name, expected in manifest["files"].items():
            if _digest(path / name) != expected:
                raise ValueError(f"{name} is not what was written")
        tensors = {
            name: load_file(path / f"{name}.safetensors")
            if f"{name}.safetensors" in manifest["files"]
            else {}
            for name in ("network", "optimizer", "average")
        }
        document = parse((path / _STATE).read_bytes())
        check(document, _KIND)
        state = TrainingState.from_dict(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelFileError(
            f"checkpoint {path} cannot be used ({' '.join(reason.split())[:200]})"
        ) from error
    return Checkpoint(state, **tensors)


def _digest(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _by_step(folder: Path) -> dict[int, Path]:
    """Return the checkpoints by their steps, earliest first."""
    steps = {
        int(number): path
        for path in folder.glob("step-*")
        if (number := path.name.removeprefix("step-")).isdigit()
    }
    return dict(sorted(steps.items()))
