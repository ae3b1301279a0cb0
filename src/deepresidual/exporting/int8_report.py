"""How an int8 model was made and judged, as values that the signature and the command line show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.data.source.base import TRAIN
from deepresidual.exporting.calibration import RULE
from deepresidual.exporting.gate import ENOUGH_IMAGES, LEAST_AGREEMENT, MOST_LOSS
from deepresidual.exporting.int8_options import RIGHT_ON
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
        failure: Why it did.
        speed: How many times as fast as the float file in the same engine, in CPU seconds of one thread;
            ``None``: not measured.
    """

    engine: str
    loss: Loss | None
    failure: str = ""
    speed: float | None = None

    @property
    def passes(self) -> bool:
        """Whether what was measured may be written."""
        return self.loss is not None and self.loss.is_allowed

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        measured = {"failure": self.failure} if self.loss is None else self.loss.to_dict()
        return {"engine": self.engine, **measured, "speed": self.speed}

    def __str__(self) -> str:
        speed = "" if self.speed is None else f", {self.speed:.1f}× the speed of float"
        return f"{self.engine}: {self.failure or self.loss}{speed}"


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
    def failure(self) -> str:
        """What the first engine measured that does not pass; empty where all do."""
        return next((str(verdict) for verdict in self.verdicts if not verdict.passes), "")


@dataclass(frozen=True)
class Int8Report:
    """How a model was made int8 and judged.

    Attributes:
        data: Name of the data.
        split: The split that judged.
        num_left_out: Images of it that the model was trained on, and that were left out.
        calibration: Names of the training images that calibrated.
        weight_bits: 7 or 8.
        attempts: All that were judged; the last one passes.
    """

    data: str
    split: str
    num_left_out: int
    calibration: tuple[str, ...]
    weight_bits: WeightBits
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
        most = f"{100 * MOST_LOSS:g} point"
        losses = [verdict.loss for verdict in self.verdicts if verdict.loss is not None]
        if all(loss.is_shown for loss in losses):
            return f"shown within {most}: the interval of every engine ends below it"
        if losses[0].count < ENOUGH_IMAGES:
            return f"not shown within {most}: {losses[0].count:,} images are fewer than {ENOUGH_IMAGES:,}"
        return f"not shown within {most}: an interval goes beyond it"

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
            "most_loss": MOST_LOSS,
            "least_agreement": LEAST_AGREEMENT,
            "statement": self.statement,
            "cpu": cpu_name(),
            "cpu_flags": list(telling_flags()),
            "engines": [verdict.to_dict() for verdict in self.verdicts],
            "attempts": [
                {"in_float": list(attempt.in_float), "engines": [each.to_dict() for each in attempt.verdicts]}
                for attempt in self.attempts[:-1]
            ],
        }
