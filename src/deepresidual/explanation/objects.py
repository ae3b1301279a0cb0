"""Explain objects that a detector finds in files: one of each photo, by how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deepresidual.backends.classifier import NOT_FINITE, NOT_FINITE_REMEDY
from deepresidual.backends.detected import Detected
from deepresidual.backends.detector import TorchDetector, in_image
from deepresidual.backends.files import loading_threads
from deepresidual.backends.images import ImageLike, decoded
from deepresidual.data.augment import Window, center_choice, window_of
from deepresidual.data.threads import in_order
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.explanation.files import class_row
from deepresidual.explanation.layers import LAST_MAP
from deepresidual.explanation.object_maps import (
    ObjectMethod,
    object_maps,
    require_object_layer,
    require_object_method,
)

if TYPE_CHECKING:
    from deepresidual.nn.detection import Stages

_FILES_AHEAD = 4


@dataclass(frozen=True, eq=False, repr=False)
class ObjectExplanation:
    """Why one object of an image was found, and how all were.

    Attributes:
        photo: ``(H, W, 3)`` uint8 RGB, the upright image.
        detected: All objects that the detector gives out, the surest first, in pixels of the photo.
        row: Which of them is explained.
        values: ``(h, w)`` float32, 0 or more: the evidence for its class, over the whole photo, at the
            resolution of the network's input.
        mask_values: The evidence for its mask; ``None`` of a detector of boxes.
        stages: What each stage of the detector made of the photo, in pixels of the network's input.
        window: Where in the input each place of the photo lies.
        method: Method of the maps.
        layer: Layer of the maps.
    """

    photo: NDArray[np.uint8]
    detected: Detected
    row: int
    values: Tensor
    mask_values: Tensor | None
    stages: Stages
    window: Window
    method: ObjectMethod
    layer: str

    @property
    def label(self) -> str:
        """The class of the object."""
        return self.detected.label_names[int(self.detected.objects.labels[self.row])]

    @property
    def score(self) -> float:
        """Its score, 0 to 1."""
        scores = self.detected.objects.scores
        assert scores is not None  # noqa: S101  # what was found has scores
        return float(scores[self.row])

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Its left, top, right and bottom in pixels of the photo."""
        left, top, right, bottom = self.detected.objects.boxes[self.row].tolist()
        return left, top, right, bottom

    def __repr__(self) -> str:
        return (
            f"ObjectExplanation({self.label!r} at {self.score:.2f}, object {self.row + 1} of "
            f"{len(self.detected)}, {self.method} of {self.layer})"
        )

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows: the picture of :func:`draw_object`."""
        from deepresidual.explanation.object_drawing import draw_object

        return draw_object(self)


@dataclass(frozen=True)
class FileObjectExplanation:
    """Result of one file: an explanation, or the reason why there is none.

    Attributes:
        path: The file, as it was given.
        explanation: The explanation; ``None`` where the file could not be used, or no such object is found.
        error: The reason; empty where there is an explanation.
    """

    path: str
    explanation: ObjectExplanation | None
    error: str = ""


def explain_object(
    detector: TorchDetector,
    image: ImageLike,
    *,
    number: int = 1,
    class_name: str | None = None,
    method: ObjectMethod = "hires-cam",
    layer: str = LAST_MAP,
) -> ObjectExplanation:
    """Explain one object that a detector finds in an image.

    Args:
        detector: What :func:`deepresidual.load_detector` returned, on the device to use.
        image: A path, a Pillow image, an array ``(H, W, 3)`` uint8 RGB, or the bytes of a file.
        number: Which of the objects, counted from 1, the surest first.
        class_name: Count only objects of this class, given by name or by number from 0.
        method: ``hires-cam`` or ``grad-cam``.
        layer: A name of :func:`deepresidual.explanation.object_maps.object_layer_names`.

    Raises:
        DataError: The image cannot be read, or no such object is found in it; the message tells the highest
            score there was.
        ModelFileError: The network gives NaN or infinity.
        UnknownNameError: There is no such method or class.
        ConfigurationError: There is no such layer, or ``number`` is below 1.
    """
    label = _checked(detector, number, class_name, method, layer)
    return _explained(detector, decoded(image), number, label, method, layer)


def explain_object_files(
    detector: TorchDetector,
    files: Sequence[str],
    *,
    number: int = 1,
    class_name: str | None = None,
    method: ObjectMethod = "hires-cam",
    layer: str = LAST_MAP,
    num_workers: int | None = None,
) -> Iterator[FileObjectExplanation]:
    """Explain one object of each file, in order; photos are in memory a few at a time.

    A file that cannot be used, in which there is no such object, or for which the network gives NaN or
    infinity, yields its error and does not stop the others.

    Args:
        detector: As for :func:`explain_object`, like the arguments that are not here.
        files: Paths of image files.
        number: Which of the objects of each file.
        class_name: Count only objects of this class.
        method: ``hires-cam`` or ``grad-cam``.
        layer: The layer of the maps.
        num_workers: Threads that read and decode. Default: chosen for the machine.

    Raises:
        UnknownNameError: There is no such method or class.
        ConfigurationError: There is no such layer, or a number is out of range.
    """
    label = _checked(detector, number, class_name, method, layer)
    workers = loading_threads(num_workers, len(files), 1, detector)

    def results() -> Iterator[FileObjectExplanation]:
        photos = in_order(_photo, ([file] for file in files), num_threads=workers, groups_ahead=_FILES_AHEAD)
        for path, (photo,) in zip(files, photos, strict=True):
            try:
                if isinstance(photo, DataError):
                    raise photo
                explanation = _explained(detector, photo, number, label, method, layer)
            except DataError as error:
                yield FileObjectExplanation(path, None, str(error))
            except ModelFileError:
                yield FileObjectExplanation(path, None, NOT_FINITE)
            else:
                yield FileObjectExplanation(path, explanation)

    return results()


def _checked(
    detector: TorchDetector, number: int, class_name: str | None, method: str, layer: str
) -> int | None:
    """Refuse what does not fit the detector, before the first image is read; return the label."""
    if number < 1:
        raise ConfigurationError(
            f"the number of the object is {number}", expected="1 for the surest, or more"
        )
    require_object_method(method)
    require_object_layer(detector.network, layer)
    return None if class_name is None else class_row(detector.label_names, class_name)


def _photo(file: str) -> NDArray[np.uint8] | DataError:
    try:
        return decoded(file)
    except DataError as error:
        return error


def _explained(
    detector: TorchDetector,
    photo: NDArray[np.uint8],
    number: int,
    label: int | None,
    method: ObjectMethod,
    layer: str,
) -> ObjectExplanation:
    record, size = detector.preprocess, (photo.shape[0], photo.shape[1])
    window = window_of(center_choice(record, *size), *size, record, record.crop_px)
    view = record.center_view(record.to_channels(photo))

    def choose(stages: Stages) -> int:
        if not stages.found.is_finite:
            raise ModelFileError(NOT_FINITE, remedy=NOT_FINITE_REMEDY)
        return _chosen(stages, number, label, detector)

    maps = object_maps(detector, view, window, choose, method=method, layer=layer)
    detected = Detected(in_image(maps.stages.found, window), detector.label_names, *size)
    return ObjectExplanation(
        photo, detected, maps.row, maps.values, maps.mask_values, maps.stages, window, method, layer
    )


def _chosen(stages: Stages, number: int, label: int | None, detector: TorchDetector) -> int:
    """Return the row of the ``number``-th surest object, of a class where one is given.

    Raises:
        DataError: There are not so many; the message tells how many there are, or the highest score.
    """
    labels = stages.found.labels.tolist()
    rows = [row for row, each in enumerate(labels) if label is None or each == label]
    if number <= len(rows):
        return rows[number - 1]
    names, least = detector.label_names, detector.spec.detections.min_score
    kind = "object" if label is None else f"object of class {names[label]!r}"
    if rows:
        is_one = len(rows) == 1
        raise DataError(
            f"object {number} is asked for, and {len(rows)} {'is' if is_one else 'are'} found"
            + ("" if label is None else f" of class {names[label]!r}"),
            expected=f"{'1' if is_one else f'1 to {len(rows)}'}, the surest first",
        )
    best = int(stages.top_scores.argmax()) if label is None else label
    raise DataError(
        f"no {kind} is found: the highest score there was is {float(stages.top_scores[best]):.3f}"
        + (f", of {names[best]!r}" if label is None else "")
        + f", and the model gives out objects above {least:g}"
    )
