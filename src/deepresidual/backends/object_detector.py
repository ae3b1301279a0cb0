"""``ObjectDetector``: what finds objects in images, whatever computes it; PyTorch, or an exported file.

A subclass finds objects in views; reading, decoding, views, and boxes and masks in pixels of the image are
told here, once for all. No torch is imported.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from deepresidual.backends.classifier import NOT_FINITE, NOT_FINITE_REMEDY, SettledPrecision
from deepresidual.backends.detected import DETECT_BATCH_SIZE, MIN_SCORE, Detected, require_score
from deepresidual.backends.images import image_batches, one_or_several
from deepresidual.backends.outcomes import all_good
from deepresidual.data.augment import center_choice, window_of
from deepresidual.data.objects import Objects
from deepresidual.data.pasted_masks import pasted_masks
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.backends.images import ImageBatch, ImageLike
    from deepresidual.data.augment import Window
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import Precision, PrecisionChoice

__all__ = ["FoundInView", "ObjectDetector"]


@dataclass(frozen=True, eq=False)
class FoundInView:
    """What was found in one view, the surest first.

    Attributes:
        boxes: ``(n, 4)`` float32: left, top, right, bottom, in pixels of the view.
        labels: ``(n,)`` int64: classes from 0.
        scores: ``(n,)`` float32 from 0 to 1.
        masks: ``(n, m, m)`` float32 from 0 to 1: how likely each cell of a box is the object's; ``None`` of a
            detector of boxes.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def in_image(self, window: Window) -> Objects:
        """Return it in pixels of the image that the view shows."""
        objects = Objects(self.boxes, self.labels, scores=self.scores, window=window).unseen()
        if self.masks is None:
            return objects
        cells = self.masks[:, :, ::-1] if window.scale[0] < 0 else self.masks
        return dataclasses.replace(objects, masks=pasted_masks(cells, objects.boxes, window.image))


class ObjectDetector(ABC):
    """What finds objects in images, with class names and preprocessing; see the module.

    Attributes:
        label_names: Name of every class of objects; the background is none.
        preprocess: How a decoded image becomes the input: whole.
        precision: Precision of the computation.
        task: What it has learned.
    """

    if TYPE_CHECKING:
        label_names: tuple[str, ...]
        preprocess: Preprocess
        precision: Precision
        task: str

    @abstractmethod
    def find(self, pixels: NDArray[np.uint8], windows: Sequence[Window]) -> list[FoundInView | None]:
        """Find the objects of some views; what is found in one does not depend on the others.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.
            windows: Where each view shows its image (:func:`deepresidual.data.augment.window_of`).

        Returns:
            What was found in each view; ``None`` where the network gives NaN or infinity.
        """

    @property
    @abstractmethod
    def backend(self) -> str:
        """Name of what computes, for messages."""

    @property
    @abstractmethod
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change what is found."""

    @property
    @abstractmethod
    def has_masks(self) -> bool:
        """Whether it finds which pixels are an object's."""

    @property
    def device_type(self) -> str:
        """Kind of device that computes: ``cpu``, ``cuda``, ``mps``."""
        return "cpu"

    def computed_by(self, backend: str) -> Self:
        """Return this detector, computed by an engine, where that is one to choose from."""
        del backend
        return self

    def expect(self, num_images: int) -> Self:
        """Prepare for so many images, where there is a choice of how to compute, and return the detector."""
        del num_images
        return self

    @abstractmethod
    def settle_precision(self, choice: PrecisionChoice) -> SettledPrecision:
        """Choose the precision; ``auto`` is the faster one."""

    @abstractmethod
    def in_precision(self, precision: Precision) -> Self:
        """Return this detector, computing in another precision."""

    @abstractmethod
    def to(self, device: str) -> Self:
        """Move to a device and return the detector itself."""

    @abstractmethod
    def with_preprocess(self, preprocess: Preprocess) -> Self:
        """Return this detector for views that another record makes, of any size."""

    @abstractmethod
    def weights_sha256(self) -> str:
        """Return the SHA-256 of weights and architecture, by which two models are told apart."""

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
        several, count = one_or_several(images)
        return list(all_good(self.expect(count).outcomes(several, min_score, batch_size=batch_size)))

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
        record = self.preprocess
        windows = [
            window_of(center_choice(record, *size), *size, record, record.crop_px) for size in batch.sizes
        ]
        results = iter(zip(windows, self.find(batch.pixels, windows), strict=True))
        for name, error in zip(batch.names, batch.errors, strict=True):
            if error is not None:
                yield name, error
                continue
            window, found = next(results)
            if found is None:
                yield name, ModelFileError(NOT_FINITE, remedy=NOT_FINITE_REMEDY)
            else:
                objects = found.in_image(window)
                yield name, Detected(objects, self.label_names, *window.image).above(min_score)

    def detections(
        self, pixels: NDArray[np.uint8], windows: Sequence[Window], names: Sequence[str] = ()
    ) -> list[Objects]:
        """Detect the objects of some images, in evaluation mode.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.
            windows: Where each view shows its image (:func:`deepresidual.data.augment.window_of`).
            names: What messages call the images. Default: their places, from 1.

        Returns:
            The objects of each image with their scores, the surest first, in pixels of the upright image.

        Raises:
            ModelFileError: The network gives NaN or infinity; the message names the image.
        """
        return in_images(self.find(pixels, windows), windows, names)


def in_images(
    found: Sequence[FoundInView | None], windows: Sequence[Window], names: Sequence[str] = ()
) -> list[Objects]:
    """Return what was found in pixels of the images.

    Raises:
        ModelFileError: The network gave NaN or infinity; the message names the image.
    """
    objects = []
    for place, (each, window) in enumerate(zip(found, windows, strict=True)):
        if each is None:
            name = names[place] if names else f"image {place + 1}"
            raise ModelFileError(f"{name}: {NOT_FINITE}", remedy=NOT_FINITE_REMEDY)
        objects.append(each.in_image(window))
    return objects
