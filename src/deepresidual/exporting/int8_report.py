"""How an int8 model was made and judged, as values that the signature and the command line show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.data.source.base import TRAIN
from deepresidual.exporting.calibration import RULE
from deepresidual.exporting.gate import ENOUGH_IMAGES, Limits
from deepresidual.exporting.int8_options import MAX_LOSS, RIGHT_ON
from deepresidual.runtime.cpu import cpu_name, telling_flags

if TYPE_CHECKING:
    from deepresidual.exporting.gate import Loss
    from deepresidual.exporting.int8_options import WeightBits


@dataclass(frozen=True)
class EngineVerdict:
    """What one engine makes of an int8 file on this machine.

    Attributes:
        engine: The engine with its version.
        loss: What is lost; ``None``: the engine failed in its self-test.
        failure: Why it does not pass; empty: it does.
        excess: By how much it does not, to tell whether another layer in float has helped.
        speed: How many times as fast as the float file in the same engine, in CPU seconds of one thread;
            ``None``: not measured.
        mask_loss: What is lost by masks, of a detector that finds them.
    """

    engine: str
    loss: Loss | None
    failure: str = ""
    excess: float = 0.0
    speed: float | None = None
    mask_loss: Loss | None = None

    @property
    def losses(self) -> tuple[Loss, ...]:
        """All that was measured."""
        return tuple(loss for loss in (self.loss, self.mask_loss) if loss is not None)

    @property
    def passes(self) -> bool:
        """Whether what was measured may be written."""
        return not self.failure

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        failure = {"failure": self.failure} if self.failure else {}
        measured = {} if self.loss is None else self.loss.to_dict()
        masks = {} if self.mask_loss is None else {"masks": self.mask_loss.to_dict()}
        return {"engine": self.engine, **failure, **measured, "speed": self.speed, **masks}

    @property
    def lines(self) -> tuple[str, ...]:
        """What was measured, in lines of less than 65 characters; of one that passes."""
        if self.loss is None:
            return (f"{self.engine}: {self.failure}",)
        speed = "" if self.speed is None else f", {self.speed:.1f}× as fast"
        by_masks = () if self.mask_loss is None else (self.mask_loss.figures, self.mask_loss.in_words)
        return f"{self.engine}: {self.loss.figures}{speed}", self.loss.in_words, *by_masks


@dataclass(frozen=True)
class Attempt:
    """An int8 network with some layers in float, and how it was judged.

    Attributes:
        in_float: Names of the layers in float.
        verdicts: One an engine.
    """

    in_float: tuple[str, ...]
    verdicts: tuple[EngineVerdict, ...]

    @property
    def passes(self) -> bool:
        """Whether all engines pass."""
        return all(verdict.passes for verdict in self.verdicts)

    @property
    def refused(self) -> EngineVerdict:
        """The first verdict that does not pass; there has to be one."""
        return next(verdict for verdict in self.verdicts if not verdict.passes)

    @property
    def rank(self) -> tuple[int, int, float]:
        """Grows with what is wrong: engines pass, then self-tests, then less is lost."""
        num_passing = sum(verdict.passes for verdict in self.verdicts)
        worst = self.refused
        return -num_passing, int(worst.loss is None), worst.excess


@dataclass(frozen=True)
class Int8Report:
    """How a model was made int8 and judged.

    Attributes:
        data: Name of the data.
        split: The split that judged.
        num_left_out: Images of it that the model was trained on, and that were left out.
        calibration: Names of the training images that calibrated.
        weight_bits: 7 or 8.
        limits: What might be lost.
        attempts: All that were judged; the last one passes.
    """

    data: str
    split: str
    num_left_out: int
    calibration: tuple[str, ...]
    weight_bits: WeightBits
    limits: Limits
    attempts: tuple[Attempt, ...]

    @property
    def in_float(self) -> tuple[str, ...]:
        """Names of the layers that are left in float."""
        return self.attempts[-1].in_float

    @property
    def verdicts(self) -> tuple[EngineVerdict, ...]:
        """What the engines make of the file."""
        return self.attempts[-1].verdicts

    @property
    def statement(self) -> str:
        """Whether the loss is shown to be within half a point, in words."""
        most = f"{MAX_LOSS:g} point"
        losses = [loss for verdict in self.verdicts for loss in verdict.losses]
        if all(loss.is_shown for loss in losses):
            return f"shown within {most}: the interval of every engine ends below it"
        if losses[0].count < ENOUGH_IMAGES:
            return f"not shown within {most}: {losses[0].count:,} images are fewer than {ENOUGH_IMAGES:,}"
        return f"not shown within {most}: an interval goes beyond it"

    @property
    def accepted(self) -> tuple[str, ...]:
        """What exceeds the usual limits and was accepted by other ones, a sentence an engine."""
        if self.limits == Limits():
            return ()
        given = f"a loss of {100 * self.limits.loss:g} points, {100 * self.limits.agreement:g}% agreement"
        judged = [(verdict.engine, loss) for verdict in self.verdicts for loss in verdict.losses]
        found = [(engine, Limits().failure(loss)) for engine, loss in judged]
        return tuple(f"{engine}: {said} (accepted: {given})" for engine, said in found if said)

    def quantization(self) -> dict[str, Any]:
        """Return how the file was made, as JSON types."""
        limit = 2 ** (self.weight_bits - 1)
        return {
            "format": "QDQ",
            "activations": "uint8, a scale a tensor",
            "weights": f"int8, a scale an output channel, {self.weight_bits} bits (−{limit} to {limit})",
            "right_on": RIGHT_ON[self.weight_bits],
            "in_float": list(self.in_float),
            "biases": "corrected by the mean error of their outputs",
            "calibration": {
                "method": "smallest and largest value of each tensor",
                "data": self.data,
                "split": TRAIN,
                "rule": RULE,
                "count": len(self.calibration),
                "keys": list(self.calibration),
            },
        }

    def gate(self) -> dict[str, Any]:
        """Return how it was judged, as JSON types."""
        return {
            "data": self.data,
            "split": self.split,
            "num_left_out": self.num_left_out,
            "most_loss": self.limits.loss,
            "least_agreement": self.limits.agreement,
            "accepted": list(self.accepted),
            "statement": self.statement,
            "cpu": cpu_name(),
            "cpu_flags": list(telling_flags()),
            "engines": [verdict.to_dict() for verdict in self.verdicts],
            "attempts": [
                {"in_float": list(attempt.in_float), "engines": [each.to_dict() for each in attempt.verdicts]}
                for attempt in self.attempts[:-1]
            ],
        }
