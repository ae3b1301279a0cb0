"""``TorchDetector``: a detector as a PyTorch module, with everything that it takes to use it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from deepresidual.backends.classifier import NOT_FINITE, NOT_FINITE_REMEDY, SettledPrecision
from deepresidual.backends.detected import DETECT_BATCH_SIZE, MIN_SCORE, Detected, require_score
from deepresidual.backends.images import image_batches, one_or_several
from deepresidual.backends.outcomes import all_good
from deepresidual.data.objects import Objects
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError, listed
from deepresidual.runtime.compute import Precision
from deepresidual.runtime.device import autocast, resolve_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.backends.images import ImageBatch, ImageLike
    from deepresidual.data.augment import Window
    from deepresidual.nn.detection import Detector, Found, Taught
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import PrecisionChoice
    from deepresidual.spec import DetectorSpec

__all__ = ["TorchDetector"]

# Of the input of a GPU: eight images of 800 × 1,333.
_PIXELS_TOGETHER = 8 * 832 * 1344


@dataclass(repr=False)
class TorchDetector:
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
        spec = self.network.spec
        if len(self.label_names) != spec.num_classes:
            raise ConfigurationError(
                f"there are {len(self.label_names)} label names for a detector of {spec.num_classes} classes",
                expected="as many names as classes",
            )
        if len(set(self.label_names)) != len(self.label_names):
            twice = sorted(name for name in set(self.label_names) if self.label_names.count(name) > 1)
            raise ConfigurationError(f"label name {twice[0]!r} occurs twice", expected="distinct names")
        if self.preprocess.fit != "whole":
            raise ConfigurationError(
                f"the preprocessing shows the network a {self.preprocess.fit} of the image", expected="whole"
            )
        if self.preprocess.num_channels != spec.in_channels:
            raise ConfigurationError(
                f"preprocessing to {self.preprocess.channels} gives {self.preprocess.num_channels} channels "
                f"and the network reads {spec.in_channels}",
                expected="as many",
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
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(iter(self.network.parameters())).device

    @property
    def device_type(self) -> str:
        """Kind of device that computes: ``cpu``, ``cuda``, ``mps``."""
        return self.device.type

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change what is found."""
        return ("torch", "torchvision")

    def to(self, device: torch.device | str) -> Self:
        """Move the weights to ``device``, channels last, and return the model itself."""
        self.network.to(resolve_device(str(device))).to(memory_format=torch.channels_last)
        return self

    def in_precision(self, precision: Precision) -> Self:
        """Return a detector with the same network that computes in ``precision``."""
        return self if precision == self.precision else dataclasses.replace(self, precision=precision)

    def settle_precision(self, choice: PrecisionChoice) -> SettledPrecision:
        """Choose the precision; ``auto`` is the faster one for the backbone, measured on a CPU."""
        from deepresidual.backends.precision import settle_precision

        side = self.preprocess.crop_px
        return settle_precision(choice, self.spec.backbone, self.device, image_px=side, training=False)

    def with_preprocess(self, preprocess: Preprocess) -> Self:
        """Return a detector with the same network for views that another record makes."""
        return dataclasses.replace(self, preprocess=preprocess)

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
        results = iter(zip(batch.sizes, self._found(batch.pixels, windows), strict=True))
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
        found = list[Objects]()
        for place, objects in enumerate(self._found(pixels, windows)):
            if objects is None:
                name = names[place] if names else f"image {place + 1}"
                raise ModelFileError(f"{name}: {NOT_FINITE}", remedy=NOT_FINITE_REMEDY)
            found.append(objects)
        return found

    def _found(self, pixels: NDArray[np.uint8], windows: Sequence[Window]) -> list[Objects | None]:
        """Return the objects of each image; ``None`` where the network gives NaN or infinity."""
        found: list[Objects | None] = [None] * len(windows)
        spec = self.spec
        for size, rows in by_size([spec.padded_size(window.filled) for window in windows]).items():
            for part in self._parts(rows, size):
                sizes = [windows[row].filled for row in part]
                results = self._results(self._images(pixels[part], size), sizes)
                for row, result in zip(part, results, strict=True):
                    found[row] = None if result is None else _in_image(result, windows[row])
        return found

    def _parts(self, rows: Sequence[int], size: tuple[int, int]) -> Iterator[list[int]]:
        """Yield the rows that go through the network together.

        On a CPU each image goes alone: together they take four fifths of the time at 64 px and as long at
        the size of photos, and the last digits would depend on their number.
        """
        most = 1 if self.device.type == "cpu" else max(1, _PIXELS_TOGETHER // (size[0] * size[1]))
        for first in range(0, len(rows), most):
            yield list(rows[first : first + most])

    def _results(self, images: torch.Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found | None]:
        """Return what the network finds in images of one size; ``None`` where it gives NaN or infinity."""
        network = self.network.eval()
        with torch.inference_mode(), autocast(self.device, self.precision):
            results = network(images, sizes)
        return [result if result.is_finite else None for result in results]

    def losses(self, pixels: NDArray[np.uint8], objects: Sequence[Objects]) -> dict[str, float]:
        """Return the sums over some images of the losses of training, in evaluation mode.

        Args:
            pixels: ``(N, S, S, C)`` uint8.
            objects: The objects of each view (:meth:`Objects.seen`).
        """
        sums: dict[str, float] = {}
        network, sizes = self.network.eval(), [filled(each) for each in objects]
        for size, rows in by_size([network.spec.padded_size(each) for each in sizes]).items():
            with torch.inference_mode(), autocast(self.device, self.precision):
                images = self._images(pixels[rows], size)
                parts = network(
                    images, [sizes[row] for row in rows], [taught(objects[row], self.device) for row in rows]
                )
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def _images(self, pixels: NDArray[np.uint8], size: tuple[int, int]) -> torch.Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device, non_blocking=True)
        return padded(self.preprocess.normalize(batch), size)

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the architecture and of every tensor of the state dict, by name."""
        digest = hashlib.sha256(json.dumps(self.spec.to_dict(), sort_keys=True).encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()


def _in_image(found: Found, window: Window) -> Objects:
    """Return what was found in a view in pixels of its image."""
    in_view = Objects(
        found.boxes.float().cpu().numpy(),
        found.labels.cpu().numpy(),
        scores=found.scores.float().cpu().numpy(),
        window=window,
    )
    return in_view.unseen()


def filled(objects: Objects) -> tuple[int, int]:
    """Return height and width of what the view that objects are in shows of its image."""
    if objects.window is None:
        raise ConfigurationError("the objects are in no view", expected="what Objects.seen returns")
    return objects.window.filled


def taught(objects: Objects, device: torch.device) -> Taught:
    """Return the objects of a view as the network learns from them."""
    from deepresidual.nn.detection import Taught

    return Taught(
        torch.from_numpy(objects.boxes).to(device),
        torch.from_numpy(objects.labels).to(device),
        torch.from_numpy(objects.crowd | objects.difficult).to(device),
        objects.seed,
    )


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
