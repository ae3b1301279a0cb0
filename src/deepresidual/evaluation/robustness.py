"""Robustness: how accuracy falls when images come compressed, small or out of focus.

A corruption changes the decoded image, before resizing and cropping, and nothing in it is random. Every level
of it is one evaluation of the whole split, as exact as any other.

``jpeg=Q``
    The image goes through JPEG of quality Q, 1 to 100 (libjpeg's scale, colour at half the resolution).
``size=N``
    The image is resized to N pixels on its shorter side and back, with the filter of the model's
    preprocessing; an image that is no larger stays as it is.
``blur=S``
    Gaussian blur with a standard deviation of S pixels, edges continued, cut at four deviations.

Example:
    >>> setup = EvaluationSetup.open(["runs/photos"], "photos")
    >>> setup.robustness([Corruption("jpeg", 10), Corruption("blur", 1.5)])
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, assert_never, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepresidual.data.decode import decode
from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.evaluation.result import Evaluation
from deepresidual.preprocess import Preprocess

CorruptionKind: TypeAlias = Literal["jpeg", "size", "blur"]

# kind → lowest level, highest, and whether only whole numbers make sense.
_RANGES: dict[CorruptionKind, tuple[float, float, bool]] = {
    "jpeg": (1, 100, True),
    "size": (1, 4096, True),
    "blur": (0.1, 64, False),
}
_DEVIATIONS = 4.0


@dataclass(frozen=True)
class Corruption:
    """One way to spoil images.

    Attributes:
        kind: ``jpeg``, ``size`` or ``blur``; see the module.
        level: Quality, pixels of the shorter side, or pixels of standard deviation.

    Raises:
        ConfigurationError: The kind is unknown or the level out of range.
    """

    kind: CorruptionKind
    level: float

    def __post_init__(self) -> None:
        if self.kind not in _RANGES:
            raise UnknownNameError("kind of corruption", self.kind, get_args(CorruptionKind))
        low, high, is_whole = _RANGES[self.kind]
        if not low <= self.level <= high or (is_whole and self.level != int(self.level)):
            raise ConfigurationError(
                f"the level of {self.kind} is {self.level:g}",
                expected=f"a {'whole ' if is_whole else ''}number from {low:g} to {high:g}",
            )

    def __str__(self) -> str:
        return f"{self.kind}={self.level:g}"

    def apply(self, pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
        """Return the spoiled image: ``(H, W, 3)`` uint8 RGB → the same.

        Args:
            pixels: The decoded image.
            preprocess: The record whose filter resizes it.
        """
        match self.kind:
            case "jpeg":
                file = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(pixels)).save(
                    file, "JPEG", quality=int(self.level), subsampling="4:2:0"
                )
                return decode(file.getvalue())
            case "size":
                return _resized_and_back(pixels, int(self.level), preprocess)
            case "blur":
                return _blurred(pixels, self.level)
            case _:
                assert_never(self.kind)


@dataclass(frozen=True)
class RobustnessRow:
    """Result on images that were corrupted in one way.

    Attributes:
        corruption: The corruption.
        evaluation: The metrics.
    """

    corruption: Corruption
    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Return the corruption and the metrics of the whole split as JSON types."""
        measured = self.evaluation
        return {
            "kind": self.corruption.kind,
            "level": self.corruption.level,
            **measured.summary(),
            "top1_count": measured.top1_count,
            "top1_interval": list(measured.top1_interval),
            "ece": measured.ece,
        }


@dataclass(frozen=True)
class RobustnessEvaluation:
    """Result of evaluating a model on clean images, and again for every corruption.

    Attributes:
        evaluation: The metrics on clean images.
        rows: The metrics for each corruption, in order.
    """

    evaluation: Evaluation
    rows: tuple[RobustnessRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {**self.evaluation.to_dict(), "corruptions": [row.to_dict() for row in self.rows]}


def parse_corruptions(texts: Sequence[str]) -> tuple[Corruption, ...]:
    """Return what words such as ``jpeg=10,30`` and ``blur=1`` say, in their order, each once.

    Raises:
        ConfigurationError: A word is not of that form, a kind is unknown or a level out of range.
    """
    found: list[Corruption] = []
    for text in texts:
        matched = re.fullmatch(r"(\w+)=([\d.,]+)", text)
        try:
            kind, levels = matched.groups() if matched else ("", "")
            numbers = [float(level) for level in levels.split(",")]
        except ValueError as error:
            raise ConfigurationError(
                f"the corruption is {text!r}", expected="a kind and its levels, such as jpeg=10,30,50"
            ) from error
        found += [Corruption(kind, number) for number in numbers]  # type: ignore[arg-type]  # checked there
    return tuple(dict.fromkeys(found))


def _resized_and_back(pixels: NDArray[np.uint8], side_px: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    if shorter <= side_px:
        return pixels
    small_height, small_width = (max(1, round(side_px * side / shorter)) for side in (height, width))
    whole = (0.0, 0.0, float(width), float(height))
    small = preprocess.resize(np.ascontiguousarray(pixels), whole, small_width, small_height)
    return preprocess.resize(small, (0.0, 0.0, float(small_width), float(small_height)), width, height)


def _blurred(pixels: NDArray[np.uint8], deviation: float) -> NDArray[np.uint8]:
    """Convolve rows and columns with a Gaussian; Pillow's own blur is boxes in its place."""
    from scipy.ndimage import gaussian_filter

    sharp = pixels.astype(np.float32)
    blurred = gaussian_filter(sharp, (deviation, deviation, 0), mode="nearest", truncate=_DEVIATIONS)
    rounded: NDArray[np.uint8] = (blurred + 0.5).clip(0, 255).astype(np.uint8)
    return rounded
