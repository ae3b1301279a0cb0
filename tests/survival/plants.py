"""What a test plants in the child that trains: a kill, a signal, a step left out, a loss that is NaN."""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deepresidual.training import loop
from deepresidual.training.loop import RunResult, Trainer
from deepresidual.training.non_finite import Decision, LeaveOut, decide
from deepresidual.training.updater import Updater

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from deepresidual.data.loader import Batch
    from deepresidual.recipe import Recipe
    from deepresidual.tasks import BatchSums

__all__ = ["plant"]

_LOGIT_BIASES = ("fc.bias", "roi_heads.box_predictor.cls_score.bias")
_FILE_EVENTS = ("open", "os.", "shutil.", "ctypes.dlsym")


def plant(wishes: dict[str, Any], out: Path) -> None:
    """Arrange for everything that is wished for.

    Args:
        wishes: ``kill_at_operation``: SIGKILL at that operation on a file of the run, counted from 1;
            ``kill_at_step``: before that update; ``signal_at_step``: ``[step, number]``, after that update;
            ``leave_out_steps``: updates not applied; ``not_finite``: steps whose loss is not a number;
            ``file_bytes``: no file may become larger; ``step_seconds``: how long each update takes more;
            ``leave_a_child_seconds``: how long a child lives on; ``long_step``: ``[step, FILE]``: that step's
            gradients take a minute from when FILE is there.
        out: The run folder.
    """
    for name, wish in wishes.items():
        _PLANTS[name](wish, out)


def kill() -> None:
    """End this process as an out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_at_operation(number: int, out: Path) -> None:
    """Kill at an operation on a file of the run; 0 only counts them, into ``OUT.count``."""
    count = 0
    folder = os.fsencode(out)
    total = out.with_name(f"{out.name}.count")

    def one_more() -> None:
        nonlocal count
        count += 1
        if count == number:
            kill()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith(_FILE_EVENTS):
            return
        if event == "ctypes.dlsym" or any(_is_below(folder, argument) for argument in arguments[:2]):
            one_more()

    sys.addaudithook(hook)
    # Flushing tells no hook, and is where a kill leaves the most behind.
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        one_more()
        fsync(descriptor)

    setattr(os, "fsync", flush)  # noqa: B010  # mypy wants its type of descriptors
    if not number:
        run_to_end = Trainer.run_to_end

        def run_and_tell(
            self: Trainer, checkpoint: Path | None = None, until: int | None = None
        ) -> RunResult | None:
            result = run_to_end(self, checkpoint, until)
            total.write_text(str(count))
            return result

        Trainer.run_to_end = run_and_tell  # type: ignore[method-assign]


def _is_below(folder: bytes, argument: object) -> bool:
    return isinstance(argument, str | bytes | os.PathLike) and os.fsencode(argument).startswith(folder)


def _before_update(act: Callable[[int], None]) -> None:
    """Call ``act(step)`` before the gradients of every step."""
    gradients = Updater.gradients

    def with_act(self: Updater, batch: Batch, step: int) -> list[BatchSums] | None:
        act(step)
        return gradients(self, batch, step)

    Updater.gradients = with_act  # type: ignore[method-assign]


def _after_update(act: Callable[[int], None]) -> None:
    """Call ``act(step)`` after the update of every step."""
    apply = Updater.apply

    def with_act(self: Updater, step: int, learning_rate: float) -> None:
        apply(self, step, learning_rate)
        act(step)

    Updater.apply = with_act  # type: ignore[method-assign]


def _kill_at_step(wanted: int, _out: Path) -> None:
    _before_update(lambda step: kill() if step == wanted else None)


def _signal_at_step(wish: list[int], _out: Path) -> None:
    wanted, number = wish
    _after_update(lambda step: signal.raise_signal(number) if step + 1 == wanted else None)


def _step_seconds(seconds: float, _out: Path) -> None:
    _after_update(lambda _step: time.sleep(seconds))


def _long_step(wish: list[Any], _out: Path) -> None:
    long_step, marker = wish
    gradients = Updater.gradients

    def long_gradients(self: Updater, batch: Batch, step: int) -> list[BatchSums] | None:
        sums = gradients(self, batch, step)  # so BN's statistics are no longer those before the step
        if step == long_step:
            Path(marker).touch()
            time.sleep(60)
        return sums

    Updater.gradients = long_gradients  # type: ignore[method-assign]


def _leave_a_child_seconds(seconds: float, _out: Path) -> None:
    """Fork a child at the first step, as a loader of processes does, that lives on after a kill."""

    def leave(step: int) -> None:
        if step == 0 and not os.fork():
            time.sleep(seconds)
            os._exit(0)

    _before_update(leave)


def _leave_out_steps(steps: list[int], _out: Path) -> None:
    def most(recipe: Recipe, bad: Collection[int], step: int, *, finite: bool = True) -> Decision:
        return LeaveOut() if step in steps else decide(recipe, bad, step, finite=finite)

    setattr(loop, "decide", most)  # noqa: B010  # mypy takes it for another function


def _not_finite(steps: list[int], _out: Path) -> None:
    gradients = Updater.gradients

    def poisoned(self: Updater, batch: Batch, step: int) -> list[BatchSums] | None:
        if step not in steps:
            return gradients(self, batch, step)
        (bias,) = (weight for name, weight in self.network.named_parameters() if name in _LOGIT_BIASES)
        before = bias.detach().clone()
        torch.nn.init.constant_(bias, math.nan)
        sums = gradients(self, batch, step)
        with torch.no_grad():
            bias.copy_(before)
        return sums

    Updater.gradients = poisoned  # type: ignore[method-assign]


def _file_bytes(most: int, _out: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


_PLANTS: dict[str, Callable[[Any, Path], None]] = {
    "kill_at_operation": _kill_at_operation,
    "kill_at_step": _kill_at_step,
    "signal_at_step": _signal_at_step,
    "leave_out_steps": _leave_out_steps,
    "not_finite": _not_finite,
    "file_bytes": _file_bytes,
    "step_seconds": _step_seconds,
    "long_step": _long_step,
    "leave_a_child_seconds": _leave_a_child_seconds,
}
