"""``AnnotatedSplit``: images, each with its objects, whatever format they were written in."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.decode import open_image, read_file
from deepresidual.data.objects import Objects
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.data.source.base import EncodedSample, Row, Split
from deepresidual.data.source.multilabel import rarest_labels
from deepresidual.data.source.validation import Subset
from deepresidual.errors import DataError

DETECTION = "detection"
"""Value of :attr:`SampleSource.task` where images have boxes."""


@dataclass(frozen=True)
class Annotation:
    """What a format says of one image.

    Attributes:
        key: Name of the image within its split.
        path: Its file.
        objects: Its objects, in pixels of the image as the format has it (:attr:`size`).
        size: Height and width that the format gives the image; ``None``: it gives none, and boxes are of the
            upright image.
        image_id: What the format calls the image, for results in that format.
        relative: Whether boxes are fractions of width and height instead of pixels (YOLO).
    """

    key: str
    path: Path
    objects: Objects
    size: tuple[int, int] | None = None
    image_id: int | str | None = None
    relative: bool = False


@runtime_checkable
class HasObjects(Protocol):
    """A split that knows the objects of its images without reading them."""

    def objects(self, index: int) -> Objects:
        """Return the objects of image ``index``, in pixels of the upright image."""
        ...

    def image_id(self, index: int) -> int | str:
        """Return what the format calls image ``index``."""
        ...


class AnnotatedSplit:
    """A split of image files with objects.

    Args:
        annotations: One for each image, in order.
        num_classes: How many classes there are.
        category_ids: What the format calls each class, for results in that format; empty: nothing.
        findings: What the reader of the whole data set found in its annotations.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        num_classes: int,
        category_ids: Sequence[int | str] = (),
        findings: Sequence[Finding] = (),
    ) -> None:
        self._annotations = list(annotations)
        self._num_classes = num_classes
        self.category_ids, self.findings = tuple(category_ids), tuple(findings)
        self._upright: dict[int, Objects] = {}

    @property
    def annotations(self) -> list[Annotation]:
        """What the format says of every image."""
        return self._annotations

    @property
    def labels(self) -> list[int]:
        """The stratum of every image: the rarest of its classes, the number of classes where it has none."""
        present = np.zeros((len(self), self._num_classes), dtype=np.bool_)
        for row, annotation in enumerate(self._annotations):
            present[row, annotation.objects.labels] = True
        return [int(label) for label in rarest_labels(present)]

    def __len__(self) -> int:
        return len(self._annotations)

    def key(self, index: int) -> str:
        """Return the name of image ``index``."""
        return self._annotations[index].key

    def image_id(self, index: int) -> int | str:
        """Return what the format calls image ``index``; its place where it has no such name."""
        found = self._annotations[index].image_id
        return index if found is None else found

    def objects(self, index: int) -> Objects:
        """Return the objects of image ``index`` in pixels of the upright image.

        The header of its file is read the first time.

        Raises:
            DataError: The file cannot be read.
        """
        if index not in self._upright:
            annotation = self._annotations[index]
            self._upright[index] = upright_objects(annotation, read_file(annotation.path))
        return self._upright[index]

    def read(self, index: int) -> EncodedSample:
        """Return image ``index`` with its objects in pixels of the upright image."""
        annotation = self._annotations[index]
        content = read_file(annotation.path)
        if index not in self._upright:
            self._upright[index] = upright_objects(annotation, content)
        return EncodedSample(annotation.key, content, self._upright[index])

    def stamps(self) -> list[bytes] | None:
        """Return for every image what changes when its file does."""
        return [_stamp(annotation.path) for annotation in self._annotations]

    def rows(self) -> Iterator[Row]:
        """Yield key, checksum of the objects, and size of the file of every image."""
        for annotation in self._annotations:
            yield annotation.key, checksum(annotation.objects), annotation.path.stat().st_size


def upright_objects(annotation: Annotation, content: bytes) -> Objects:
    """Return the objects of an image in pixels of the upright image, cut at its edges.

    A file may say that it has to be turned (EXIF). Where the format gives the image's size and it is that of
    the upright image, boxes are taken as they are; where it is that of the stored one, and the two differ,
    they are turned with the pixels. A square image, or one without a size, is taken as upright.

    Raises:
        DataError: The file cannot be read.
    """
    image = open_image(content)
    height, width = image.height, image.width
    found = annotation.objects
    boxes: NDArray[Any] = found.boxes
    if annotation.relative:
        boxes = boxes * np.array([width, height, width, height], np.float32)
    elif annotation.size == (width, height) and height != width:
        boxes = _turned(boxes, annotation.size, image.orientation)
    scaled = np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)
    objects = Objects(scaled, found.labels, found.crowd, found.difficult)
    return objects if annotation.relative else dataclasses.replace(objects, areas=found.areas)


def _turned(boxes: NDArray[Any], stored: tuple[int, int], orientation: int) -> NDArray[Any]:
    """Return boxes of a stored image of height and width ``stored`` as they lie in the upright one."""
    height, width = stored
    left, top, right, bottom = boxes.T
    match orientation:
        case 5:
            moved = (top, left, bottom, right)
        case 6:
            moved = (height - bottom, left, height - top, right)
        case 7:
            moved = (height - bottom, width - right, height - top, width - left)
        case 8:
            moved = (top, width - right, bottom, width - left)
        case _:
            return boxes
    return np.stack(moved, axis=1)


def checksum(objects: Objects) -> int:
    """Return a checksum of annotated objects, which changes when one is added, moved or renamed."""
    content = [objects.boxes, objects.labels, objects.crowd, objects.difficult, objects.areas]
    return zlib.crc32(b"".join(np.ascontiguousarray(array).tobytes() for array in content))


def objects_of(split: Split, index: int) -> Objects:
    """Return the objects of an image of a split, which may be a part of another.

    Raises:
        DataError: The split has no objects.
    """
    if isinstance(split, Subset):
        return objects_of(split.split, int(split.indices[index]))
    if not isinstance(split, HasObjects):
        raise DataError(f"{split.key(index)} has no boxes", expected="data with boxes")
    return split.objects(index)


def image_id_of(split: Split, index: int) -> int | str:
    """Return what the format calls an image of a split, which may be a part of another."""
    if isinstance(split, Subset):
        return image_id_of(split.split, int(split.indices[index]))
    return split.image_id(index) if isinstance(split, HasObjects) else index


def _stamp(path: Path) -> bytes:
    status = path.stat()
    return f"{status.st_size}.{status.st_mtime_ns}".encode()
