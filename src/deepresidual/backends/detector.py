"""``TorchDetector``: a detector as a PyTorch module, with everything that it takes to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from deepresidual.backends.classifier import SettledPrecision
from deepresidual.backends.object_detector import FoundInView, ObjectDetector, in_images
from deepresidual.backends.torch_model import TorchModel
from deepresidual.errors import ConfigurationError, listed
from deepresidual.runtime.compute import Precision
from deepresidual.runtime.device import autocast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.data.augment import Window
    from deepresidual.data.masks import Crop
    from deepresidual.data.objects import Objects
    from deepresidual.nn.detection import Detector, Found, Taught, TaughtMask
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import PrecisionChoice
    from deepresidual.spec import DetectorSpec

__all__ = ["TorchDetector"]

# Of the input of a GPU: eight images of 800 × 1,333.
_PIXELS_TOGETHER = 8 * 832 * 1344


@dataclass(repr=False)
class TorchDetector(TorchModel, ObjectDetector):
    """A detector with class names and preprocessing; what :func:`deepresidual.load` returns of its folder.

    Attributes:
        network: The module.
        label_names: Name of every class of objects; the background is none.
        preprocess: How a decoded image becomes the network's input: whole.
        metrics: What was measured, by split: ``{"test": {"ap": …, "count": …}}``.
        provenance: Where the weights come from: data, recipe, versions.
        precision: Precision of the forward pass; weights are float32.
        task: What it has learned.
    """

    network: Detector
    label_names: tuple[str, ...]
    preprocess: Preprocess
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    precision: Precision = "fp32"
    task: str = "detection"
    backend: ClassVar[str] = "PyTorch"

    def __post_init__(self) -> None:
        self._check("detector")
        if self.preprocess.fit != "whole":
            raise ConfigurationError(
                f"the preprocessing shows the network a {self.preprocess.fit} of the image", expected="whole"
            )

    def __repr__(self) -> str:
        return (
            f"TorchDetector({self.spec.neck}, {len(self.label_names):,} classes "
            f"({listed(self.label_names, 3)}), {self.spec.num_parameters:,} parameters, "
            f"{self.preprocess.crop_px} px, on {self.device})"
        )

    @property
    def spec(self) -> DetectorSpec:
        """The architecture."""
        return self.network.spec

    @property
    def has_masks(self) -> bool:
        """Whether it finds which pixels are an object's."""
        return self.spec.masks is not None

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change what is found."""
        return ("torch", "torchvision")

    def settle_precision(self, choice: PrecisionChoice) -> SettledPrecision:
        """Choose the precision; ``auto`` is the faster one for the backbone, measured on a CPU."""
        from deepresidual.backends.precision import settle_precision

        side = self.preprocess.crop_px
        return settle_precision(choice, self.spec.backbone, self.device, image_px=side, training=False)

    # -- what is found ---------------------------------------------------------------------------------------

    def find(self, pixels: NDArray[np.uint8], windows: Sequence[Window]) -> list[FoundInView | None]:
        """Find the objects of some views, in evaluation mode.

        What is found in an image does not depend on the others: only those that fill views of one size go
        through the network together.
        """
        return self._found(pixels, windows)[0]

    def detections_and_losses(
        self, pixels: NDArray[np.uint8], objects: Sequence[Objects], names: Sequence[str] = ()
    ) -> tuple[list[Objects], dict[str, float]]:
        """Detect the objects of some images, and compute the losses of training, in evaluation mode.

        Args:
            pixels: As for :meth:`detections`.
            objects: The objects of each view (:meth:`Objects.seen`).
            names: What messages call the images. Default: their places, from 1.

        Returns:
            What :meth:`detections` returns, and the sums over the images of each loss.

        Raises:
            ModelFileError: The network gives NaN or infinity; the message names the image.
        """
        windows = [window_of_view(each) for each in objects]
        found, losses = self._found(pixels, windows, objects)
        return in_images(found, windows, names), losses

    def _found(
        self, pixels: NDArray[np.uint8], windows: Sequence[Window], objects: Sequence[Objects] | None = None
    ) -> tuple[list[FoundInView | None], dict[str, float]]:
        """Return the objects of each view, and the sums of the losses where objects are given.

        ``None`` stands where the network gives NaN or infinity.
        """
        found: list[FoundInView | None] = [None] * len(windows)
        sums: dict[str, float] = {}
        network, spec = self.network.eval(), self.spec
        for size, rows in by_size([spec.padded_size(window.filled) for window in windows]).items():
            for part in self._parts(rows, size):
                sizes = [windows[row].filled for row in part]
                with torch.inference_mode(), autocast(self.device, self.precision):
                    images = self._images(pixels[part], size)
                    losses: dict[str, torch.Tensor] = {}
                    if objects is None:
                        results = network(images, sizes)
                    else:
                        targets = [taught(objects[row], self.device) for row in part]
                        results, losses = network.found_and_losses(images, sizes, targets)
                for row, result in zip(part, results, strict=True):
                    found[row] = _in_view(result) if result.is_finite else None
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
        return found, sums

    def _parts(self, rows: Sequence[int], size: tuple[int, int]) -> Iterator[list[int]]:
        """Yield the rows that go through the network together.

        On a CPU each image goes alone: together they take four fifths of the time at 64 px and as long at
        the size of photos, and the last digits would depend on their number.
        """
        most = 1 if self.device.type == "cpu" else max(1, _PIXELS_TOGETHER // (size[0] * size[1]))
        for first in range(0, len(rows), most):
            yield list(rows[first : first + most])

    def _images(self, pixels: NDArray[np.uint8], size: tuple[int, int]) -> torch.Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device, non_blocking=True)
        return padded(self.preprocess.normalize(batch), size)


def _in_view(found: Found) -> FoundInView:
    """Return what was found as arrays."""
    return FoundInView(
        found.boxes.float().cpu().numpy(),
        found.labels.cpu().numpy(),
        found.scores.float().cpu().numpy(),
        None if found.masks is None else found.masks.float().cpu().numpy(),
    )


def in_image(found: Found, window: Window) -> Objects:
    """Return what was found in a view in pixels of its image."""
    return _in_view(found).in_image(window)


def window_of_view(objects: Objects) -> Window:
    """Return the view that objects are in.

    Raises:
        ConfigurationError: They are in none.
    """
    if objects.window is None:
        raise ConfigurationError("the objects are in no view", expected="what Objects.seen returns")
    return objects.window


def taught(objects: Objects, device: torch.device) -> Taught:
    """Return the objects of a view as the network learns from them."""
    from deepresidual.nn.detection import Taught

    return Taught(
        torch.from_numpy(objects.boxes).to(device),
        torch.from_numpy(objects.labels).to(device),
        torch.from_numpy(objects.crowd | objects.difficult).to(device),
        objects.seed,
        () if objects.crops is None else tuple(map(_taught_mask(objects), objects.crops)),
    )


def _taught_mask(objects: Objects) -> Callable[[Crop | None], TaughtMask | None]:
    """Return what makes of the pixels of a mask in a view what the network learns from."""
    from deepresidual.nn.detection import TaughtMask

    left, top, right, bottom = window_of_view(objects).inside

    def with_margin(crop: Crop | None) -> TaughtMask | None:
        if crop is None or not crop.pixels.size:
            return None
        rows, columns = crop.pixels.shape
        pixels = np.pad(crop.pixels, 1)
        # At the edges of the image its last pixels come again, as operators read beyond an edge.
        if crop.top == top:
            pixels[0] = pixels[1]
        if crop.top + rows == bottom:
            pixels[-1] = pixels[-2]
        if crop.left == left:
            pixels[:, 0] = pixels[:, 1]
        if crop.left + columns == right:
            pixels[:, -1] = pixels[:, -2]
        return TaughtMask(torch.from_numpy(pixels), crop.left - 1, crop.top - 1)

    return with_margin


def padded(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return ``(N, C, S, S)`` images cut or padded with zeros to ``size``, from the upper left corner."""
    height, width = size
    images = images[:, :, :height, :width]
    missing = (0, width - images.shape[3], 0, height - images.shape[2])
    return torch.nn.functional.pad(images, missing) if any(missing) else images


def by_size(sizes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
    """Return the rows of each size, in order."""
    rows: dict[tuple[int, int], list[int]] = {}
    for row, size in enumerate(sizes):
        rows.setdefault(size, []).append(row)
    return rows
