"""Training loss, accuracy and speed, as sums that stay on the device until someone looks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from deepresidual.data.loader import Batch
from deepresidual.runtime.random import samples_digest
from deepresidual.tasks import BatchSums

_DIGEST_SIZE = 2**64
_FIELDS = ("count", "digest", "seconds", "waiting")


@dataclass(frozen=True)
class Sums:
    """Sums over training samples; means come out by dividing once.

    Attributes:
        loss: Sum of the samples' losses in nats.
        count: Samples.
        digest: Sum of hashes of (step, sample), modulo 2^64: two runs that agree in it saw the same samples.
        seconds: Time that they took, waiting for data included, evaluation not.
        waiting: Time of that in which the network waited for data.
        parts: What the task counts beside the loss, by name; see :attr:`Task.parts`.
    """

    loss: float = 0.0
    count: int = 0
    digest: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.loss + other.loss,
            self.count + other.count,
            (self.digest + other.digest) % _DIGEST_SIZE,
            self.seconds + other.seconds,
            self.waiting + other.waiting,
            {
                name: self.parts.get(name, 0) + other.parts.get(name, 0)
                for name in {**self.parts, **other.parts}
            },
        )

    @classmethod
    def of_ranks(cls, parts: list[Sums]) -> Sums:
        """Return the sums over all ranks, which worked at the same time."""
        total = sum(parts, start=cls())
        return replace(
            total,
            seconds=max(part.seconds for part in parts),
            waiting=max(part.waiting for part in parts),
        )

    def speed(self) -> dict[str, float | str]:
        """Return the digest, images a second, and the share of time waiting."""
        seconds = max(self.seconds, 1e-9)
        return {
            "samples": f"{self.digest:016x}",
            "images_per_second": round(self.count / seconds, 1),
            "waiting": round(min(1.0, self.waiting / seconds), 4),
        }

    def to_dict(self) -> dict[str, float]:
        """Return the fields, the parts among them; :meth:`from_dict` reads them back."""
        rest = {name: getattr(self, name) for name in _FIELDS}
        return {"loss": self.loss, **self.parts, **rest}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Sums:
        """Build it from what :meth:`to_dict` returned."""
        own = {name: fields[name] for name in ("loss", *_FIELDS) if name in fields}
        return cls(**own, parts={name: value for name, value in fields.items() if name not in own})


class Meter:
    """Adds up batches on the device; :meth:`take` brings the sums to the host and starts anew."""

    def __init__(self, device: torch.device) -> None:
        # MPS has no float64; there the few batches between two looks are summed in float32.
        self._kind = torch.float32 if device.type == "mps" else torch.float64
        self._device = device
        self.restore(Sums())

    def add(self, parts: Sequence[BatchSums]) -> None:
        """Count the images of a step."""
        for part in parts:
            self._loss += part.loss
            for name, value in part.parts.items():
                whole = not value.is_floating_point()
                self._parts[name] = self._parts.get(name, 0) + (value if whole else value.to(self._kind))

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
        parts = {name: value.item() for name, value in self._parts.items()}
        return self._rest + Sums(self._loss.item(), seconds=seconds, parts=parts)

    def take(self) -> Sums:
        """Return the sums so far and start from nothing."""
        sums = self.peek()
        self.restore(Sums())
        return sums

    def restore(self, sums: Sums) -> None:
        """Go on from sums that :meth:`peek` returned."""
        self._loss = torch.tensor(sums.loss, dtype=self._kind, device=self._device)
        self._parts: dict[str, Any] = {}
        self._rest = replace(sums, loss=0.0)
        self._started = time.monotonic()

    def skip_time(self) -> None:
        """Exclude the time since the last :meth:`take` (evaluation, saving)."""
        self._started = time.monotonic()
