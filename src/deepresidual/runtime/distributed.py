"""Processes: the processes that torchrun starts, and the few things that they tell each other.

Without torchrun there is one rank, and nothing here does anything. Messages of control travel over gloo on
the CPU, gradients over NCCL where there are GPUs.

Example:
    >>> with Processes.join(torch.device("cpu")) as processes:
    ...     if processes.is_main:
    ...         print(processes.size)
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist

from deepresidual.errors import MachineError, ResidualError, RunError
from deepresidual.runtime.torchrun import Place, launched_by_torchrun, place

T = TypeVar("T")

# A rank that evaluates or decodes for long must not be taken for dead; one that is dead closes its
# connection, which the others notice at once.
_TIMEOUT = timedelta(hours=2)
_MEETING = timedelta(minutes=10)
_SAID_AFTER_S = 10.0


@dataclass(frozen=True)
class Processes:
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
    def join(cls, device: torch.device) -> Processes:
        """Meet the other processes that torchrun started; alone where it started none.

        Where they have met already, in a block around this one, they go on together.

        Raises:
            ConfigurationError: The environment that torchrun sets is incomplete or wrong.
            MachineError: The others cannot be met: the address is unknown, the port taken, nobody answers.
        """
        if not launched_by_torchrun():
            return SINGLE
        here = place()
        meets = not dist.is_initialized()
        if meets:
            _meet(here, device)
        return cls(here.rank, here.size, here.local_rank, here.num_restarts, leaves=meets)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error the others may be anywhere; saying good-bye would wait for them.
        if self.leaves and error is None and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def all_max(self, *values: int) -> list[int]:
        """Return the largest of each value over all ranks; every rank must call it at the same point."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.int64)
        with self._together():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [int(value) for value in tensor]

    def all_gather(self, value: T) -> list[T]:
        """Return every rank's value, in the order of ranks, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """Return the first rank's value on every rank."""
        if self.size == 1:
            return value
        values = [value]
        with self._together():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            with self._together():
                dist.barrier()

    @contextlib.contextmanager
    def failing_together(self) -> Iterator[None]:
        """End every rank with the error that one of them meets in the block.

        Within the block no rank may wait for another. Of several errors that of the first rank counts; the
        others raise it as an echo, which the command line does not print again.
        """
        if self.size == 1:
            yield
            return
        own: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001  # raised again below
            own = error
        try:
            met = self.all_gather(None if own is None else _as_told(own, self.rank))
        except RunError:
            if own is not None:
                raise own from None  # that the others are gone as well is not what to tell
            raise
        rank, told = next(((rank, error) for rank, error in enumerate(met) if error), (0, None))
        if told is None:
            return
        if rank == self.rank and own is not None:
            raise own
        told.is_echo = True
        raise told from own

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


SINGLE = Processes()
"""The one rank of a process that torchrun did not start."""


def _as_told(error: Exception, rank: int) -> ResidualError:
    """Return what the other ranks raise for an error of rank ``rank``."""
    if isinstance(error, ResidualError):
        return error
    reason = " ".join(str(error).split())[:300]
    return RunError(f"rank {rank} failed ({type(error).__name__}: {reason})")


# -- meeting ---------------------------------------------------------------------------------------------


def _meet(here: Place, device: torch.device) -> None:
    """Meet the other processes."""
    where = f"{here.address}:{here.port}"
    try:
        socket.getaddrinfo(here.address, here.port)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MachineError(
            f"the processes cannot meet at {where}: MASTER_ADDR has no address here ({reason})",
            remedy="name a machine that every machine of the run can reach",
        ) from error
    try:
        with _said_after_a_while(f"rank {here.rank} waits for {here.size} processes to meet at {where}"):
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=_store_of_this_attempt(here),
                rank=here.rank,
                world_size=here.size,
                timeout=_TIMEOUT,
            )
    except (RuntimeError, ValueError, OSError) as error:  # torch has errors of its own for each of them
        raise MachineError(
            f"the {here.size} processes cannot meet at {where} ({_reason(error)})",
            remedy="see that all of them run, that the port is free, and that no firewall is between them",
        ) from error


def _reason(error: Exception) -> str:
    """Return the first sentence of one of torch's errors, which go on with a trace of C++."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[0].split())[:200] if lines else type(error).__name__


@contextlib.contextmanager
def _said_after_a_while(message: str) -> Iterator[None]:
    """Say on stderr what is waited for, where the block takes long; every rank may be the one that waits."""

    def say() -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"{message}, for {_MEETING.seconds // 60} minutes at most\n")
            sys.stderr.flush()

    timer = threading.Timer(_SAID_AFTER_S, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _store_of_this_attempt(here: Place) -> Any:
    """Return the store by which the processes find each other.

    On one machine torchrun keeps one store for all its attempts, in which the addresses of dead processes
    still stand; over several machines each attempt has a new one, and not all count the same attempts.
    """
    torch_distributed: Any = dist  # whose types leave the stores out
    store, _, size = next(iter(torch_distributed.rendezvous("env://", timeout=_MEETING)))
    if os.environ.get("LOCAL_WORLD_SIZE") == str(size):
        return torch_distributed.PrefixStore(f"attempt-{here.num_restarts}", store)
    return store
