"""``Int8Options``: how a model is made int8, and what on; without onnx and torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from deepresidual.data.source.base import TRAIN, canonical_split
from deepresidual.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.data.source import SampleSource
    from deepresidual.data.source.dataset import Dataset

WeightBits: TypeAlias = Literal[7, 8]

RIGHT_ON: dict[WeightBits, str] = {
    7: "every x86 CPU and ARM",
    8: "CPUs with VNNI (flags avx_vnni or avx512_vnni) and ARM; elsewhere sums saturate and accuracy is lost",
}
"""Where files of so many bits compute what they say."""

NUM_IMAGES = 300
"""Images to calibrate with; 1,000 gave no better network than 300."""

MAX_LOSS = 0.5
"""Loss of top-1, or of macro F1 where labels are several, in points, above which nothing is written."""

MIN_AGREEMENT = 0.98
"""Share of the images that have to get the same class; of the pairs of image and label where these are
several."""


@dataclass(frozen=True)
class Int8Options:
    """How a model is made int8, and what on.

    Raises:
        ConfigurationError: An option is out of range.
    """

    data: SampleSource | Dataset | str | Path
    """The data: its training images calibrate, its held-out images judge."""

    split: str | None = None
    """Split that judges. Default: ``test`` if there is one, else ``val``."""

    calibration_images: int = NUM_IMAGES
    """Training images to calibrate with."""

    weight_bits: WeightBits = 7
    """7, which is right on every CPU, or 8 for CPUs with VNNI and ARM."""

    max_loss: float = MAX_LOSS
    """Loss in points that is written at most."""

    min_agreement: float = MIN_AGREEMENT
    """Share of the answers, 0 to 1, that must be the same as in float."""

    def __post_init__(self) -> None:
        if self.weight_bits not in get_args(WeightBits):
            raise ConfigurationError(f"weight_bits is {self.weight_bits}", expected="7 or 8")
        if self.calibration_images < 1:
            raise ConfigurationError(f"calibration_images is {self.calibration_images}", expected="1 or more")
        if not 0 <= self.max_loss <= 100:
            raise ConfigurationError(f"max_loss is {self.max_loss:g}", expected="points, 0 to 100")
        if not 0 <= self.min_agreement <= 1:
            raise ConfigurationError(
                f"min_agreement is {self.min_agreement:g}", expected="a share, 0 to 1, such as 0.97"
            )
        if self.split is not None and canonical_split(self.split) == TRAIN:
            raise ConfigurationError(
                f"split is {self.split!r}, and int8 is calibrated on training images",
                expected="a split that the model has not seen, such as test",
            )
