"""The one preprocessing record: how a decoded image becomes the input of a network.

Training, evaluation, prediction, export and serving all read this record, and it travels with the
weights, so a mismatch between training and use cannot be written. The way of an image is

    decoded (H, W, 3) uint8 RGB → :meth:`Preprocess.to_channels` → (H, W, C) uint8
      → :meth:`Preprocess.center_view` (evaluation) or an augmentation (training) → (S, S, C) uint8
      → :meth:`Preprocess.normalize` on the device → (N, C, S, S) float32, channels last

Pixels stay uint8 until they are on the device. Resizing is Pillow's, which always filters when it
shrinks, so the same file gives the same pixels in every command.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from residual.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Resampling

__all__ = ["Channels", "Interpolation", "Preprocess"]

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Channels: TypeAlias = Literal["rgb", "bgr", "gray"]

_MAX_PX = 16_384


@dataclass(frozen=True)
class Preprocess:
    """How a decoded image becomes the input of a network.

    Attributes:
        crop_px: Side of the square that the network sees, in pixels.
        resize_px: Shorter side after resizing, before the central crop, in pixels.
        mean: Mean of each channel on the scale 0 to 1, in the order of ``channels``.
        std: Standard deviation of each channel on the scale 0 to 1, in the order of ``channels``.
        interpolation: Filter of the resize.
        channels: Channels and their order; ``gray`` is ITU-R 601 luma in one channel.

    Raises:
        ConfigurationError: A field is out of range, naming the field.
    """

    crop_px: int
    resize_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    channels: Channels = "rgb"

    def __post_init__(self) -> None:
        for field, allowed in (("interpolation", Interpolation), ("channels", Channels)):
            if getattr(self, field) not in get_args(allowed):
                raise ConfigurationError(
                    f"{field} is {getattr(self, field)!r}", expected=f"one of {', '.join(get_args(allowed))}"
                )
        if not 1 <= self.crop_px <= self.resize_px <= _MAX_PX:
            raise ConfigurationError(
                f"crop_px is {self.crop_px} and resize_px is {self.resize_px}",
                expected=f"1 ≤ crop_px ≤ resize_px ≤ {_MAX_PX}",
            )
        for field, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.num_channels or not all(math.isfinite(value) for value in values):
                raise ConfigurationError(
                    f"{field} is {list(values)}",
                    expected=f"{self.num_channels} finite numbers, one a channel",
                )
        if min(self.std) <= 0:
            raise ConfigurationError(f"std is {list(self.std)}", expected="numbers above 0")

    @property
    def num_channels(self) -> int:
        """Channels that the network reads."""
        return 1 if self.channels == "gray" else 3

    def at_size(self, crop_px: int) -> Preprocess:
        """Return the same record for another input side, keeping the ratio of resize to crop."""
        if not 1 <= crop_px <= _MAX_PX:
            raise ConfigurationError(f"the image size is {crop_px} px", expected=f"1 to {_MAX_PX}")
        resize_px = max(crop_px, round(self.resize_px * crop_px / self.crop_px))
        return dataclasses.replace(self, crop_px=crop_px, resize_px=resize_px)

    # -- pixels --------------------------------------------------------------------------------------

    def to_channels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return ``(H, W, 3)`` uint8 RGB as ``(H, W, C)`` uint8 in the order of ``channels``."""
        match self.channels:
            case "rgb":
                return pixels
            case "bgr":
                return pixels[:, :, ::-1]
            case "gray":
                import numpy as np
                from PIL import Image

                return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]

    def center_view(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize the shorter side to ``resize_px`` and cut the central ``crop_px`` square.

        Both happen in one step: the filter runs only over the part of the source that the crop shows.

        Args:
            pixels: ``(H, W, C)`` uint8, any size.

        Returns:
            ``(crop_px, crop_px, C)`` uint8.
        """
        return self.resize(pixels, self.center_box(*pixels.shape[:2]), self.crop_px, self.crop_px)

    def center_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return the part of an image that the central crop shows: left, top, right, bottom, in pixels.

        It begins at whole pixels of the resized image, where torchvision's Resize and CenterCrop cut.
        """
        shorter = min(height, width)
        resized_height, resized_width = (self.resize_px * side // shorter for side in (height, width))
        top, left = (round((side - self.crop_px) / 2) for side in (resized_height, resized_width))
        pixel_y, pixel_x = height / resized_height, width / resized_width
        bottom, right = top + self.crop_px, left + self.crop_px
        return (left * pixel_x, top * pixel_y, right * pixel_x, bottom * pixel_y)

    def resize(
        self, pixels: NDArray[np.uint8], box: tuple[float, float, float, float], width: int, height: int
    ) -> NDArray[np.uint8]:
        """Resize a part of an image.

        Args:
            pixels: ``(H, W, C)`` uint8.
            box: The part: left, top, right, bottom, in pixels, within the image.
            width: Width of the result in pixels.
            height: Height of the result in pixels.

        Returns:
            ``(height, width, C)`` uint8; a view of ``pixels`` where nothing has to be resized.
        """
        import numpy as np
        from PIL import Image

        left, top, right, bottom = box
        if (right - left, bottom - top) == (width, height) and left.is_integer() and top.is_integer():
            return pixels[int(top) : int(bottom), int(left) : int(right)]
        gray = pixels.shape[2] == 1
        image = Image.fromarray(pixels[:, :, 0] if gray else pixels)
        small = np.asarray(image.resize((width, height), self._resampling(), box=box))
        return small[:, :, None] if gray else small

    def normalize(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalize on the batch's own device: the one place where mean and std are applied.

        Args:
            batch: ``(N, S, S, C)`` uint8.

        Returns:
            ``(N, C, S, S)`` float32 in channels-last memory format, ``(x / 255 − mean) / std``.
        """
        import torch

        mean = torch.tensor(self.mean, device=batch.device).mul_(255)
        std = torch.tensor(self.std, device=batch.device).mul_(255)
        # (N, S, S, C) in memory is channels-last (N, C, S, S): the permutation copies nothing.
        return batch.to(torch.float32).sub_(mean).div_(std).permute(0, 3, 1, 2)

    def _resampling(self) -> Resampling:
        from PIL.Image import Resampling

        return Resampling[self.interpolation.upper()]

    # -- JSON ----------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocess:
        """Build a record from JSON types; unknown, missing and mistyped fields are errors.

        Raises:
            ConfigurationError: A field is unknown, missing, of the wrong type or out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                close = nearest(name, known) or known
                raise ConfigurationError(f"unknown field {name!r} in preprocess", expected=", ".join(close))
        missing = [name for name in known if name not in fields]
        if missing:
            raise ConfigurationError(f"preprocess has no field {missing[0]!r}")
        for name in ("crop_px", "resize_px"):
            if type(fields[name]) is not int:
                raise ConfigurationError(f"{name} is {fields[name]!r}", expected="a whole number")
        for name in ("mean", "std"):
            value = fields[name]
            if not isinstance(value, list | tuple) or not all(type(item) in (int, float) for item in value):
                raise ConfigurationError(f"{name} is {value!r}", expected="a list of numbers")
            if any(type(item) is int and abs(item) > _MAX_PX for item in value):
                # JSON has whole numbers that no float can hold.
                raise ConfigurationError(f"{name} is {str(value)[:80]}", expected="numbers like 0.5")
        return cls(
            crop_px=fields["crop_px"],
            resize_px=fields["resize_px"],
            mean=tuple(float(value) for value in fields["mean"]),
            std=tuple(float(value) for value in fields["std"]),
            interpolation=fields["interpolation"],
            channels=fields["channels"],
        )
