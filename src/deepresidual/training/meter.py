"""Training loss, accuracy and speed, as sums that stay on the device until someone looks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deepresidual.data.loader import Batch
from deepresidual.runtime.random import samples_digest

_DIGEST_SIZE = 2**64


@dataclass(frozen=True)
class Sums:
    """Sums over training samples; means come out by dividing once.

    Attributes:
        loss: Sum of the samples' losses in nats.
        right: Samples whose most probable class was right.
        count: Samples.
        digest: Sum of hashes of (step, sample), modulo 2^64: two runs that agree in it saw the same samples.
        seconds: Time that they took, waiting for data included, evaluation not.
        waiting: Time of that in which the network waited for data.
    """

    loss: float = 0.0
    right: int = 0
    count: int = 0
    digest: int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.loss + other.loss,
            self.right + other.right,
            self.count + other.count,
            (self.digest + other.digest) % _DIGEST_SIZE,
            self.seconds + other.seconds,
            self.waiting + other.waiting,
        )

    @classmethod
    def of_ranks(cls, parts: list[Sums]) -> Sums:
        """Return the sums over all ranks, which worked at the same time."""
        total = sum(parts, start=cls())
        return cls(
            total.loss,
            total.right,
            total.count,
            total.digest,
            max(part.seconds for part in parts),
            max(part.waiting for part in parts),
        )

    def means(self) -> dict[str, float | str]:
        """Return mean loss, top-1 as a fraction, images a second, share of time waiting, and the digest."""
        seconds = max(self.seconds, 1e-9)
        return {
            "loss": self.loss / self.count,
            "top1": self.right / self.count,
            "samples": f"{self.digest:016x}",
            "images_per_second": round(self.count / seconds, 1),
            "waiting": round(min(1.0, self.waiting / seconds), 4),
        }


@dataclass(frozen=True)
class BatchSums:
    """Sums over some images of a step, on the device.

    Attributes:
        loss: Sum of the losses.
        right: Images whose most probable class was right.
    """

    loss: torch.Tensor
    right: torch.Tensor


class Meter:
    """Adds up batches on the device; :meth:`take` brings the sums to the host and starts anew."""

    def __init__(self, device: torch.device) -> None:
        # MPS has no float64; there the few batches between two looks are summed in float32.
        kind = torch.float32 if device.type == "mps" else torch.float64
        self._loss = torch.zeros((), dtype=kind, device=device)
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._rest = Sums()
        self._started = time.monotonic()

    def add(self, parts: Sequence[BatchSums]) -> None:
        """Count the images of a step."""
        for part in parts:
            self._loss += part.loss
            self._right += part.right

    def count(self, step: int, batch: Batch) -> None:
        """Count the samples of one rank's part of a step."""
        digest = samples_digest(step, batch.positions.numpy())
        self._rest += Sums(count=len(batch), digest=digest)

    def waited(self, seconds: float) -> None:
        """Count time that passed waiting for data."""
        self._rest += Sums(waiting=seconds)

    def peek(self) -> Sums:
        """Return the sums so far."""
        seconds = time.monotonic() - self._started
        return self._rest + Sums(float(self._loss), int(self._right), seconds=seconds)

    def take(self) -> Sums:
        """Return the sums so far and start from nothing."""
        sums = self.peek()
        self.restore(Sums())
        return sums

    def restore(self, sums: Sums) -> None:
        """Go on from sums that :meth:`peek` returned."""
        self._loss.fill_(sums.loss)
        self._right.fill_(sums.right)
        self._rest = Sums(count=sums.count, digest=sums.digest, seconds=sums.seconds, waiting=sums.waiting)
        self._started = time.monotonic()

    def skip_time(self) -> None:
        """Exclude the time since the last :meth:`take` (evaluation, saving)."""
        self._started = time.monotonic()
