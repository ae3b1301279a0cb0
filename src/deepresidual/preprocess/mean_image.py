"""``MeanImage``: the mean of every pixel of a training set, as a value that JSON can hold."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from deepresidual.errors import ConfigurationError, kind_of
from deepresidual.fields import is_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MeanImage"]

_MAX_MEAN_IMAGE_PX = 1_024  # 17 MB of JSON in three channels


@dataclass(frozen=True)
class MeanImage:
    """The mean of every pixel of a training set, which AlexNet and the first ResNets subtract.

    Attributes:
        side_px: Side of the square image, in pixels.
        channels: Number of channels.
        values: ``(side_px, side_px, channels)`` float32, little endian, on the scale 0 to 1.

    Raises:
        ConfigurationError: A field is out of range, naming the field.
    """

    side_px: int
    channels: int
    values: bytes = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        num_bytes = _mean_image_bytes(self.side_px, self.channels)
        if len(self.values) != num_bytes:
            raise ConfigurationError(
                f"mean_image has {len(self.values):,} bytes",
                expected=f"{num_bytes:,} for {self.side_px}×{self.side_px} px of {self.channels} channels",
            )
        import numpy as np

        if not np.isfinite(self.to_array()).all():
            raise ConfigurationError("mean_image has values that are not finite", expected="finite numbers")

    @classmethod
    def from_array(cls, pixels: NDArray[np.floating[Any]]) -> MeanImage:
        """Build an image from ``(S, S, C)`` numbers on the scale 0 to 1.

        Raises:
            ConfigurationError: The array has another shape, or values that are not finite.
        """
        if pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1]:
            raise ConfigurationError(
                f"mean_image has the shape {pixels.shape}", expected="(S, S, C), as high as wide"
            )
        return cls(pixels.shape[0], pixels.shape[2], pixels.astype("<f4").tobytes())

    def to_array(self) -> NDArray[np.float32]:
        """Return a copy, ``(S, S, C)`` float32 on the scale 0 to 1."""
        import numpy as np

        flat = np.frombuffer(self.values, dtype="<f4").astype(np.float32)
        return flat.reshape(self.side_px, self.side_px, self.channels)

    def average(self) -> tuple[float, ...]:
        """Return the mean of each channel, which stands in for the image where it does not fit."""
        return tuple(float(value) for value in self.to_array().mean(axis=(0, 1), dtype="float64"))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        return {
            "side_px": self.side_px,
            "channels": self.channels,
            "float32_base64": base64.b64encode(self.values).decode("ascii"),
        }

    @classmethod
    def from_dict(cls, fields: object) -> MeanImage:
        """Build an image from JSON types; nothing is decoded before its size is known to be right.

        Raises:
            ConfigurationError: A field is unknown, missing, of the wrong type or out of range.
        """
        names = {"side_px", "channels", "float32_base64"}
        if not isinstance(fields, dict) or set(fields) != names:
            found = ", ".join(sorted(map(str, fields)))[:80] if isinstance(fields, dict) else str(fields)[:80]
            raise ConfigurationError(
                f"mean_image holds {found or 'nothing'}", expected="side_px, channels and float32_base64"
            )
        side_px, channels, text = (fields[name] for name in ("side_px", "channels", "float32_base64"))
        # Base64 has four characters for every three bytes begun.
        count = -(-_mean_image_bytes(side_px, channels) // 3) * 4
        if not isinstance(text, str) or len(text) != count:
            found = f"{len(text):,} characters" if isinstance(text, str) else kind_of(text)
            raise ConfigurationError(
                f"float32_base64 of mean_image holds {found}", expected=f"{count:,} characters"
            )
        try:
            values = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ConfigurationError(
                "float32_base64 of mean_image is not in base64", expected="letters, digits, + and /"
            ) from error
        return cls(side_px, channels, values)


def _mean_image_bytes(side_px: object, channels: object) -> int:
    """Return the size of a mean image, whose sides are checked first."""
    for field, value, high in (("side_px", side_px, _MAX_MEAN_IMAGE_PX), ("channels", channels, 3)):
        if not is_whole(value, 1, high):
            raise ConfigurationError(
                f"{field} of mean_image is {str(value)[:80]}", expected=f"a whole number from 1 to {high}"
            )
    return cast(int, side_px) ** 2 * cast(int, channels) * 4
