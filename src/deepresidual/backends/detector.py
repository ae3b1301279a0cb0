"""``TorchDetector``: a detector as a PyTorch module, with everything that it takes to use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from deepresidual.backends.classifier import NOT_FINITE, NOT_FINITE_REMEDY, SettledPrecision
from deepresidual.backends.detected import DETECT_BATCH_SIZE, MIN_SCORE, Detected, require_score
from deepresidual.backends.images import image_batches, one_or_several
from deepresidual.backends.outcomes import all_good
from deepresidual.backends.torch_model import TorchModel
from deepresidual.data.objects import Objects
from deepresidual.data.pasted_masks import pasted_masks
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError, listed
from deepresidual.runtime.compute import Precision
from deepresidual.runtime.device import autocast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.backends.images import ImageBatch, ImageLike
    from deepresidual.data.augment import Window
    from deepresidual.data.masks import Crop
    from deepresidual.nn.detection import Detector, Found, Taught, TaughtMask
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import PrecisionChoice
    from deepresidual.spec import DetectorSpec

__all__ = ["TorchDetector"]

# Of the input of a GPU: eight images of 800 × 1,333.
_PIXELS_TOGETHER = 8 * 832 * 1344


@dataclass(repr=False)
class TorchDetector(TorchModel):
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
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change what is found."""
        return ("torch", "torchvision")

    def settle_precision(self, choice: PrecisionChoice) -> SettledPrecision:
        """Choose the precision; ``auto`` is the faster one for the backbone, measured on a CPU."""
        from deepresidual.backends.precision import settle_precision

        side = self.preprocess.crop_px
        return settle_precision(choice, self.spec.backbone, self.device, image_px=side, training=False)

    # -- prediction ------------------------------------------------------------------------------------------

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        min_score: float = MIN_SCORE,
        *,
        batch_size: int = DETECT_BATCH_SIZE,
    ) -> list[Detected]:
        """Find the objects of one or several images, one batch in memory at a time.

        Args:
            images: As for :meth:`deepresidual.Classifier.predict`: paths, Pillow images, arrays
                ``(H, W, 3)`` uint8 RGB, or the bytes of image files; one or several.
            min_score: Score from which on an object is found, 0 to 1.
            batch_size: Images at a time. Another one may change the last digits.

        Returns:
            One :class:`Detected` an image; :meth:`Detected.to_dict` is its JSON document.

        Raises:
            DataError: A file cannot be decoded; the message names it.
            ModelFileError: The network gives NaN or infinity; the message names the image.
            ConfigurationError: ``min_score`` is not between 0 and 1, or an array is no uint8.
        """
        several, _ = one_or_several(images)
        return list(all_good(self.outcomes(several, min_score, batch_size=batch_size)))

    def outcomes(
        self,
        images: Iterable[ImageLike],
        min_score: float = MIN_SCORE,
        *,
        batch_size: int = DETECT_BATCH_SIZE,
        num_workers: int = 0,
    ) -> Iterator[tuple[str, Detected | ResidualError]]:
        """Find the objects of images of which some may be unusable: yield name and result or error, in order.

        Images are read while the results before them are taken. An error does not stop the others.

        Args:
            images: Paths, Pillow images or arrays; read only as far ahead as needed.
            min_score: Score from which on an object is found, 0 to 1.
            batch_size: Images at a time.
            num_workers: Threads that read and decode.

        Yields:
            Each image's path (empty for one in memory), and what was found in it, or the
            :class:`DataError` or :class:`ModelFileError` that says why nothing could be looked for.

        Raises:
            ConfigurationError: A number is out of range, or something is no image.
        """
        require_score(min_score)
        if batch_size < 1:
            raise ConfigurationError(f"batch_size is {batch_size}", expected="1 or more")
        batches = image_batches(images, self.preprocess, batch_size=batch_size, num_workers=num_workers)
        return (outcome for batch in batches for outcome in self._judged(batch, min_score))

    def _judged(self, batch: ImageBatch, min_score: float) -> Iterator[tuple[str, Detected | ResidualError]]:
        """Yield what became of each image of a batch."""
        from deepresidual.data.augment import center_choice, window_of

        record = self.preprocess
        windows = [
            window_of(center_choice(record, *size), *size, record, record.crop_px) for size in batch.sizes
        ]
        found, _ = self._found(batch.pixels, windows)
        results = iter(zip(batch.sizes, found, strict=True))
        for name, error in zip(batch.names, batch.errors, strict=True):
            if error is not None:
                yield name, error
                continue
            (height, width), objects = next(results)
            if objects is None:
                yield name, ModelFileError(NOT_FINITE, remedy=NOT_FINITE_REMEDY)
            else:
                yield name, Detected(objects, self.label_names, height, width).above(min_score)

    def detections(
        self, pixels: NDArray[np.uint8], windows: Sequence[Window], names: Sequence[str] = ()
    ) -> list[Objects]:
        """Detect the objects of some images, in evaluation mode.

        What is found in an image does not depend on the others: only those that fill views of one size go
        through the network together.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.
            windows: Where each view shows its image (:func:`deepresidual.data.augment.window_of`).
            names: What messages call the images. Default: their places, from 1.

        Returns:
            The objects of each image with their scores, the surest first, in pixels of the upright image.

        Raises:
            ModelFileError: The network gives NaN or infinity; the message names the image.
        """
        found, _ = self._found(pixels, windows)
        return _finite(found, names)

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
        found, losses = self._found(pixels, [window_of_view(each) for each in objects], objects)
        return _finite(found, names), losses

    def _found(
        self, pixels: NDArray[np.uint8], windows: Sequence[Window], objects: Sequence[Objects] | None = None
    ) -> tuple[list[Objects | None], dict[str, float]]:
        """Return the objects of each image, and the sums of the losses where objects are given.

        ``None`` stands where the network gives NaN or infinity.
        """
        found: list[Objects | None] = [None] * len(windows)
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
                    found[row] = in_image(result, windows[row]) if result.is_finite else None
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


def in_image(found: Found, window: Window) -> Objects:
    """Return what was found in a view in pixels of its image."""
    in_view = Objects(
        found.boxes.float().cpu().numpy(),
        found.labels.cpu().numpy(),
        scores=found.scores.float().cpu().numpy(),
        window=window,
    )
    objects = in_view.unseen()
    if found.masks is None:
        return objects
    cells = found.masks.float().cpu().numpy()
    if window.scale[0] < 0:
        cells = cells[:, :, ::-1]
    return dataclasses.replace(objects, masks=pasted_masks(cells, objects.boxes, window.image))


def _finite(found: Sequence[Objects | None], names: Sequence[str]) -> list[Objects]:
    """Return what was found; refuse an image for which the network gave NaN or infinity."""
    for place, objects in enumerate(found):
        if objects is None:
            name = names[place] if names else f"image {place + 1}"
            raise ModelFileError(f"{name}: {NOT_FINITE}", remedy=NOT_FINITE_REMEDY)
    return [objects for objects in found if objects is not None]


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
