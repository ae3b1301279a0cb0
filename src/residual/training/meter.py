"""Training loss, accuracy and speed, as sums that stay on the device until someone looks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

__all__ = ["Meter", "Sums"]


@dataclass(frozen=True)
class Sums:
    """Sums over training samples; means come out by dividing once.

    Attributes:
        loss: Sum of the samples' losses in nats.
        right: Samples whose most probable class was right.
        count: Samples.
        seconds: Time that they took, waiting for data included, evaluation not.
    """

    loss: float = 0.0
    right: int = 0
    count: int = 0
    seconds: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.loss + other.loss,
            self.right + other.right,
            self.count + other.count,
            self.seconds + other.seconds,
        )

    def means(self) -> dict[str, float]:
        """Return mean loss, top-1 as a fraction, and images per second."""
        return {
            "loss": self.loss / self.count,
            "top1": self.right / self.count,
            "images_per_second": round(self.count / max(self.seconds, 1e-9), 1),
        }


class Meter:
    """Adds up batches on the device; :meth:`take` brings the sums to the host and starts anew."""

    def __init__(self, device: torch.device) -> None:
        # MPS has no float64; there the few batches between two looks are summed in float32.
        kind = torch.float32 if device.type == "mps" else torch.float64
        self._loss = torch.zeros((), dtype=kind, device=device)
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._count = 0
        self._seconds = 0.0
        self._started = time.monotonic()

    def add(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count one batch by its mean loss, logits ``(N, classes)`` and labels ``(N,)``."""
        self._loss += loss * len(labels)
        self._right += (logits.argmax(dim=1) == labels).sum()
        self._count += len(labels)

    def peek(self) -> Sums:
        """Return the sums so far."""
        seconds = self._seconds + time.monotonic() - self._started
        return Sums(float(self._loss), int(self._right), self._count, seconds)

    def take(self) -> Sums:
        """Return the sums so far and start from nothing."""
        sums = self.peek()
        self.restore(Sums())
        return sums

    def restore(self, sums: Sums) -> None:
        """Go on from sums that :meth:`peek` returned."""
        self._loss.fill_(sums.loss)
        self._right.fill_(sums.right)
        self._count = sums.count
        self._seconds = sums.seconds
        self._started = time.monotonic()

    def skip_time(self) -> None:
        """Leave the time since the last :meth:`take` out, because something else was done in it."""
        self._started = time.monotonic()
