"""Ranks: the processes that torchrun starts, and the few things that they tell each other.

Without torchrun there is one rank, and nothing here does anything. Messages of control travel over gloo on
the CPU, gradients over NCCL where there are GPUs.

Example:
    >>> with Ranks.join(torch.device("cpu")) as ranks:
    ...     if ranks.is_first:
    ...         print(ranks.size)
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
import torch.distributed as dist

from residual.errors import ConfigurationError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

__all__ = ["ALONE", "Ranks", "launched_by_torchrun"]

T = TypeVar("T")

# A rank that evaluates or decodes for long must not be taken for dead; one that is dead closes its
# connection, which the others notice at once.
_TIMEOUT = timedelta(hours=2)
_MEETING = timedelta(minutes=15)


@dataclass(frozen=True)
class Ranks:
    """One of ``size`` processes that train together.

    Attributes:
        rank: Which of them this is, from 0.
        size: How many there are, over all machines.
        local_rank: Which of those on this machine.
        num_restarts: How often torchrun has started them again.
        leaves: Whether they part at the end of the ``with`` block, because they met for it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    num_restarts: int = 0
    leaves: bool = False

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Meet the other processes that torchrun started; alone where it started none.

        Where they have met already, in a block around this one, they go on together.

        Raises:
            ConfigurationError: The environment that torchrun sets is incomplete.
        """
        if not launched_by_torchrun():
            return ALONE
        try:
            rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        except (KeyError, ValueError) as error:
            raise ConfigurationError(
                f"the environment of torchrun is incomplete ({error})", remedy="start with torchrun"
            ) from error
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        meets = not dist.is_initialized()
        if meets:
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(
                backend, store=_store_of_this_attempt(restarts), rank=rank, world_size=size, timeout=_TIMEOUT
            )
        return cls(rank, size, local_rank, restarts, leaves=meets)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error the others may be anywhere; saying good-bye would wait for them.
        if self.leaves and error is None and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def most(self, *values: int) -> list[int]:
        """Return the largest of each value over all ranks; every rank must call it at the same point."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.int64)
        with self._together():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [int(value) for value in tensor]

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, in the order of ranks, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(values, value)
        return values

    def from_first(self, value: T) -> T:
        """Return the first rank's value on every rank."""
        if self.size == 1:
            return value
        values = [value]
        with self._together():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            with self._together():
                dist.barrier()

    def average_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace floating-point tensors by their mean over all ranks, in one message."""
        floats = [tensor for tensor in tensors if tensor.is_floating_point()]
        if self.size == 1 or not floats:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in floats])
        with self._together():
            dist.all_reduce(flat)
        flat /= self.size
        offset = 0
        with torch.no_grad():
            for tensor in floats:
                tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
                offset += tensor.numel()

    def lost(self, error: RuntimeError) -> RunError:
        """Return what to tell of an error of torch's that says that another process is gone."""
        return RunError(
            f"rank {self.rank} has lost the others ({' '.join(str(error).split())[:160]})",
            remedy="start again with --resume; torchrun --max-restarts does it by itself",
        )

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise self.lost(error) from error


ALONE = Ranks()
"""The one rank of a process that torchrun did not start."""


def _store_of_this_attempt(restarts: int) -> Any:
    """Return the store by which the processes find each other.

    On one machine torchrun keeps one store for all its attempts, in which the addresses of dead processes
    still stand; over several machines each attempt has a new one, and not all count the same attempts.
    """
    torch_distributed: Any = dist  # whose types leave the stores out
    store, _, size = next(iter(torch_distributed.rendezvous("env://", timeout=_MEETING)))
    if os.environ.get("LOCAL_WORLD_SIZE") == str(size):
        return torch_distributed.PrefixStore(f"attempt-{restarts}", store)
    return store


def launched_by_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE"} <= os.environ.keys()
