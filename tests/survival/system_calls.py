"""A save, and the replacement of a folder, killed before every one of their system calls on a file.

Runs in the runner's child, which writes what it found as JSON: how many calls there were, and every fault.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deepresidual.errors import ResidualError
from deepresidual.runtime import files
from deepresidual.runtime.files import atomic_folder, write_bytes
from deepresidual.training.checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from deepresidual.training.meter import Sums
from deepresidual.training.state import Checkpoint, TrainingState
from tests.survival.tracing import can_trace, run_until

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["a_checkpoint", "kill_replacements", "kill_saves", "said_by"]

_OLD = {"weights.bin": b"old" * 100, "config.json": b"{}", "inner/deep.txt": b"old, too"}
_NEW = {"weights.bin": b"new" * 100, "config.json": b"[]", "card.md": b"new"}


def a_checkpoint(step: int, value: float) -> Checkpoint:
    """Return a small checkpoint of which every part says ``value``."""
    tensors = {"weight": torch.full((5,), value), "bias": torch.full((2,), value)}
    state = TrainingState(step, step, [Sums(loss=value)], Sums(loss=value))
    return Checkpoint(state, tensors, tensors, tensors)


def said_by(checkpoint: Checkpoint) -> tuple[int, float]:
    """Return step and value of a checkpoint whose parts agree."""
    values = {float(tensor) for part in _parts(checkpoint) for whole in part.values() for tensor in whole}
    values |= {sums.loss for sums in (*checkpoint.state.windows, checkpoint.state.epoch)}
    (value,) = values
    return checkpoint.state.step, value


def _parts(checkpoint: Checkpoint) -> tuple[dict[str, torch.Tensor], ...]:
    return checkpoint.network, checkpoint.optimizer, checkpoint.average


def _trials(
    job: dict[str, Any],
    prepare: Callable[[Path], None],
    act: Callable[[Path], None],
    faults: Callable[[Path], list[str]],
) -> int:
    """Kill ``act`` before its first call, its second, and so on until it comes to its end."""
    if not job["exchange"]:
        setattr(files, "_exchange", lambda _first, _second: False)  # noqa: B010  # as on a system that cannot swap two names
    work, template = Path(job["work"]), Path(job["work"]) / "template"
    template.mkdir(parents=True)
    prepare(template)
    trace = job["trace"] and can_trace()
    found: list[str] = []
    calls: list[str] = []
    seen: set[str] = set()
    number, killed = job["first"], True
    while killed:
        folder = work / "trial"
        shutil.copytree(template, folder)
        name, killed = run_until(lambda where=folder: act(where), number, folder, trace=trace)  # type: ignore[misc]
        calls.append(name)
        what = "after its end" if not killed else f"killed before call {number} ({name})"
        state = _digest(folder)
        if state not in seen:  # many a call leaves all as it was
            found += [f"{what}: {fault}" for fault in faults(folder)]
        seen.add(state)
        shutil.rmtree(folder)
        number += job["every"]
    shutil.rmtree(template)
    Path(job["result"]).write_text(
        json.dumps({"traced": trace, "calls": calls, "num_states": len(seen), "faults": found})
    )
    return 0


def kill_saves(job: dict[str, Any]) -> int:
    """Kill the save of ``job["step"]`` over checkpoints of steps 1 and 2."""
    step = job["step"]

    def prepare(folder: Path) -> None:
        for before in (1, 2):
            save_checkpoint(folder, a_checkpoint(before, before))

    def faults(folder: Path) -> list[str]:
        found: list[str] = []
        again = folder.with_name("again")
        shutil.copytree(folder, again)
        newest = newest_checkpoint(folder)
        if newest is None or said_by(newest[1]) not in ((2, 2.0), (step, 7.0)):
            found.append(f"the newest checkpoint is {newest and newest[0].name}")
        for path in folder.iterdir():
            try:
                said_by(load_checkpoint(path))
            except (ResidualError, ValueError) as error:
                found.append(str(error))
        # Who goes on from a checkpoint that he names does not look for the newest.
        for which in (folder, again):
            save_checkpoint(which, a_checkpoint(9, 9.0))
            left = sorted(path.name for path in which.iterdir())
            if left not in (["step-2", "step-9"], [f"step-{step}", "step-9"]):
                found.append(f"the next save leaves {left}")
        shutil.rmtree(again)
        return found

    save = _save_carelessly if job.get("careless") else _save
    return _trials(job, prepare, lambda folder: save(folder, step), faults)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _save(folder: Path, step: int) -> None:
    save_checkpoint(folder, a_checkpoint(step, 7.0))


def _save_carelessly(folder: Path, step: int) -> None:
    """Save as one would who had never been killed: over the old checkpoint, file by file."""
    beside = folder.with_name("beside")
    save_checkpoint(beside, a_checkpoint(step, 7.0))
    for file in sorted((beside / f"step-{step}").iterdir()):
        shutil.copyfile(file, folder / f"step-{step}" / file.name)


def _fill(folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def kill_replacements(job: dict[str, Any]) -> int:
    """Kill the replacement of a folder, and of a file, that exist."""

    def prepare(folder: Path) -> None:
        _replace(folder, _OLD)

    def faults(folder: Path) -> list[str]:
        found: list[str] = []
        seen = _contents(folder / "model")
        if not job["exchange"] and not (folder / "model").exists():
            # Two renames take the place of one: between them the old folder stands beside, whole.
            seen = _contents(folder / ".model.old")
        if seen not in (_OLD, _NEW):
            found.append(f"the folder holds {sorted(seen)}")
        if (folder / "record.json").read_bytes() not in (_OLD["config.json"], _NEW["config.json"]):
            found.append("the file is neither the old nor the new one")
        _replace(folder, _NEW)
        left = sorted(path.name for path in folder.iterdir())
        if left != ["model", "record.json"] or _contents(folder / "model") != _NEW:
            found.append(f"the next replacement leaves {left}")
        return found

    return _trials(job, prepare, lambda folder: _replace(folder, _NEW), faults)


def _replace(folder: Path, contents: dict[str, bytes]) -> None:
    with atomic_folder(folder / "model") as temporary:
        _fill(temporary, contents)
    write_bytes(folder / "record.json", contents["config.json"])
