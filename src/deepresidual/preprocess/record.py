"""The one preprocessing record: how a decoded image becomes the input of a network.

Training, evaluation, prediction, export and serving all read this record, and it travels with the
weights, so a mismatch between training and use cannot be written. The way of an image is

    decoded (H, W, 3) uint8 RGB → :meth:`Preprocess.to_channels` → (H, W, C) uint8
      → :meth:`Preprocess.center_view` (evaluation) or an augmentation (training) → (S, S, C) uint8
      → :meth:`Preprocess.normalize` on the device → (N, C, S, S) float32, channels last

Pixels stay uint8 until they are on the device. Resizing is Pillow's, which always filters when it
shrinks, so the same file gives the same pixels in every command (:mod:`.resizing`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from deepresidual.errors import ConfigurationError
from deepresidual.fields import check_names
from deepresidual.preprocess.mean_image import MeanImage
from deepresidual.preprocess.resizing import resized

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Resampling

__all__ = ["Channels", "Fit", "Interpolation", "Preprocess"]

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Channels: TypeAlias = Literal["rgb", "bgr", "gray"]
Fit: TypeAlias = Literal["crop", "whole"]
"""``crop``: the central square. ``whole``: all of the image, in the upper left corner of the square."""

_MAX_PX = 16_384
_LATER = ("mean_image", "fit")  # fields of records that came later
# An average summed in another order or precision; a level of 255 is 4e-3.
_MEAN_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing of a decoded image into the input of a network.

    Attributes:
        crop_px: Side of the square that the network sees, in pixels.
        resize_px: Shorter side after resizing, before the central crop, in pixels.
        mean: Mean of each channel on the scale 0 to 1, in the order of ``channels``.
        std: Standard deviation of each channel on the scale 0 to 1, in the order of ``channels``.
        interpolation: Filter of the resize.
        channels: Channels and their order; ``gray`` is ITU-R 601 luma in one channel.
        mean_image: What is subtracted instead of ``mean``, which is then its average: the mean of every
            pixel of the crop, in the order of ``channels``. ``None``: ``mean`` is subtracted everywhere.
        fit: What of the image the square shows. ``whole``: all of it, its shorter side at most ``resize_px``
            and its longer one at most ``crop_px``, in the upper left corner; the rest has the mean colour.

    Raises:
        ConfigurationError: A field is out of range, naming the field.
    """

    crop_px: int
    resize_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    channels: Channels = "rgb"
    mean_image: MeanImage | None = None
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        for field, allowed in (("interpolation", Interpolation), ("channels", Channels), ("fit", Fit)):
            if getattr(self, field) not in get_args(allowed):
                raise ConfigurationError(
                    f"{field} is {getattr(self, field)!r}", expected=f"one of {', '.join(get_args(allowed))}"
                )
        rising = ("crop_px", "resize_px") if self.fit == "crop" else ("resize_px", "crop_px")
        if not 1 <= getattr(self, rising[0]) <= getattr(self, rising[1]) <= _MAX_PX:
            raise ConfigurationError(
                f"crop_px is {self.crop_px} and resize_px is {self.resize_px}",
                expected=f"1 ≤ {rising[0]} ≤ {rising[1]} ≤ {_MAX_PX}",
            )
        for field, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.num_channels or not all(math.isfinite(value) for value in values):
                raise ConfigurationError(
                    f"{field} is {list(values)}",
                    expected=f"{self.num_channels} finite numbers, one a channel",
                )
        if min(self.std) <= 0:
            raise ConfigurationError(f"std is {list(self.std)}", expected="numbers above 0")
        if self.mean_image is not None:
            if self.fit == "whole":
                raise ConfigurationError(
                    "mean_image is given for whole images", expected="a mean of channels"
                )
            self._check_mean_image(self.mean_image)

    def _check_mean_image(self, image: MeanImage) -> None:
        if (image.side_px, image.channels) != (self.crop_px, self.num_channels):
            raise ConfigurationError(
                f"mean_image has {image.side_px} px and {image.channels} channels, and the network reads "
                f"{self.crop_px} px and {self.num_channels}",
                expected="the same",
            )
        average = image.average()
        if not all(
            math.isclose(mean, value, rel_tol=_MEAN_TOLERANCE, abs_tol=_MEAN_TOLERANCE)
            for mean, value in zip(self.mean, average, strict=True)
        ):
            raise ConfigurationError(
                f"mean is {list(self.mean)}", expected=f"the average of mean_image, {list(average)}"
            )

    @property
    def num_channels(self) -> int:
        """Channels that the network reads."""
        return 1 if self.channels == "gray" else 3

    @property
    def crop_pct(self) -> float:
        """Crop over resize as timm writes it, such that its ``floor(crop / crop_pct)`` is ``resize_px``."""
        ratio = self.crop_px / self.resize_px
        while math.floor(self.crop_px / ratio) < self.resize_px:
            ratio = math.nextafter(ratio, 0)
        return ratio

    def at_size(self, crop_px: int) -> Preprocess:
        """Return the same record for another input side, keeping the ratio of resize to crop.

        A mean image fits one side only; at any other its average, which is ``mean``, takes its place.
        """
        if not 1 <= crop_px <= _MAX_PX:
            raise ConfigurationError(f"the image size is {crop_px} px", expected=f"1 to {_MAX_PX}")
        resize_px = max(1, round(self.resize_px * crop_px / self.crop_px))
        resize_px = max(crop_px, resize_px) if self.fit == "crop" else min(crop_px, resize_px)
        image = self.mean_image if crop_px == self.crop_px else None
        return dataclasses.replace(self, crop_px=crop_px, resize_px=resize_px, mean_image=image)

    def in_gray(self) -> Preprocess:
        """Return the same record for gray images, with the average of the channels' mean and deviation."""
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return dataclasses.replace(self, channels="gray", mean=(mean,), std=(std,), mean_image=None)

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

    def to_rgb(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return ``(H, W, C)`` uint8 in the order of ``channels`` as ``(H, W, 3)`` uint8 RGB, to be shown."""
        match self.channels:
            case "rgb":
                return pixels
            case "bgr":
                return pixels[:, :, ::-1]
            case "gray":
                import numpy as np

                return np.repeat(pixels, 3, axis=2)

    def center_view(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize the shorter side to ``resize_px`` and cut the central ``crop_px`` square.

        Both happen in one step: the filter runs only over the part of the source that the crop shows. Where
        the square is to show the whole image, it is resized to :meth:`whole_size`.

        Args:
            pixels: ``(H, W, C)`` uint8, any size.

        Returns:
            ``(crop_px, crop_px, C)`` uint8.
        """
        if self.fit == "whole":
            return self._whole_view(pixels)
        return self.resize(pixels, self.center_box(*pixels.shape[:2]), self.crop_px, self.crop_px)

    def _whole_view(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import numpy as np

        height, width = pixels.shape[:2]
        rows, columns = self.whole_size(height, width)
        view = np.empty((self.crop_px, self.crop_px, pixels.shape[2]), dtype=np.uint8)
        view[:] = np.clip(np.round(np.array(self.mean) * 255), 0, 255)
        view[:rows, :columns] = self.resize(pixels, (0.0, 0.0, float(width), float(height)), columns, rows)
        return view

    def whole_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of a whole image in the view, in pixels.

        The largest with the image's shape whose shorter side is at most ``resize_px`` and whose longer side
        is at most ``crop_px``; sides are rounded to whole pixels.
        """
        scale = min(self.resize_px / min(height, width), self.crop_px / max(height, width))
        rows, columns = (
            min(self.crop_px, max(1, math.floor(side * scale + 0.5))) for side in (height, width)
        )
        return rows, columns

    def center_box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return the part of an image that the central crop shows: left, top, right, bottom, in pixels.

        It begins at whole pixels of the resized image, where torchvision's Resize and CenterCrop cut. The
        square of a whole image reaches over its right or lower edge.
        """
        if self.fit == "whole":
            rows, columns = self.whole_size(height, width)
            return (0.0, 0.0, self.crop_px * width / columns, self.crop_px * height / rows)
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

        left, top, right, bottom = box
        if (right - left, bottom - top) == (width, height) and left.is_integer() and top.is_integer():
            return pixels[int(top) : int(bottom), int(left) : int(right)]
        gray = pixels.shape[2] == 1
        image = resized(pixels[:, :, 0] if gray else pixels, box, width, height, self._resampling())
        small = np.asarray(image)
        return small[:, :, None] if gray else small

    def normalize(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalize on the batch's own device: the one place where mean and std are applied.

        Args:
            batch: ``(N, S, S, C)`` uint8.

        Returns:
            ``(N, C, S, S)`` float32 in channels-last memory format, ``(x / 255 − mean) / std``, with the
            mean image for the mean where there is one.

        Raises:
            ConfigurationError: There is a mean image, and the batch is of another size.
        """
        import torch

        if self.mean_image is None:
            mean = torch.tensor(self.mean, device=batch.device).mul_(255)
        else:
            if batch.shape[1:3] != (self.crop_px, self.crop_px):
                raise ConfigurationError(
                    f"the images have {batch.shape[1]}×{batch.shape[2]} pixels and mean_image has "
                    f"{self.crop_px}×{self.crop_px}",
                    expected="the same",
                    remedy="take at_size() for another size",
                )
            mean = torch.from_numpy(self.mean_image.to_array()).mul_(255).to(batch.device)
        std = torch.tensor(self.std, device=batch.device).mul_(255)
        # (N, S, S, C) in memory is channels-last (N, C, S, S): the permutation copies nothing.
        return batch.to(torch.float32).sub_(mean).div_(std).permute(0, 3, 1, 2)

    def _resampling(self) -> Resampling:
        from PIL.Image import Resampling

        return Resampling[self.interpolation.upper()]

    # -- JSON ----------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back.

        ``mean_image`` is there only where there is one, and ``fit`` where it is not the usual one.
        """
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _LATER
        }
        if self.fit != "crop":
            fields["fit"] = self.fit
        if self.mean_image is not None:
            fields["mean_image"] = self.mean_image.to_dict()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocess:
        """Build a record from JSON types; unknown, missing and mistyped fields are errors.

        ``mean_image`` and ``fit`` alone may be absent.

        Raises:
            ConfigurationError: A field is unknown, missing, of the wrong type or out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        check_names(fields, known, [name for name in known if name not in _LATER], "preprocess")
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
            mean_image=MeanImage.from_dict(fields["mean_image"]) if "mean_image" in fields else None,
            fit=fields.get("fit", "crop"),
        )
