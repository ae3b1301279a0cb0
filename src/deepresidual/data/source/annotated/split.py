"""``AnnotatedSplit``: images, each with its objects, whatever format they were written in."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.decode import read_header
from deepresidual.data.objects import Objects
from deepresidual.data.readers import ImageHeader
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.data.source.annotated.upright import upright_objects
from deepresidual.data.source.archive import read_bytes, size_of, stamp_of
from deepresidual.data.source.base import DETECTION, EncodedSample, Row, Split
from deepresidual.data.source.multilabel import rarest_labels
from deepresidual.data.source.validation import Subset
from deepresidual.errors import DataError

__all__ = [
    "DETECTION",
    "AnnotatedSplit",
    "Annotation",
    "Annotations",
    "CategoryId",
    "HasObjects",
    "category_ids_of",
    "checksum",
    "image_id_of",
    "objects_of",
    "size_of_image",
]

CategoryId: TypeAlias = int | str | None
"""What a format calls a class; ``None``: it does not know it."""


@dataclass(frozen=True)
class Annotation:
    """What a format says of one image.

    Attributes:
        key: Path of the image, relative to the data set.
        objects: Its objects, in pixels of the image as the format has it (:attr:`size`), or as fractions of
            its width and height (:attr:`relative`); they may reach over its edges.
        size: Height and width that the format gives the image; ``None``: it gives none, and boxes are of the
            upright image.
        image_id: What the format calls the image, for results in that format.
        relative: Whether boxes are fractions of width and height instead of pixels (YOLO).
    """

    key: str
    objects: Objects
    size: tuple[int, int] | None = None
    image_id: int | str | None = None
    relative: bool = False


@dataclass(frozen=True)
class Annotations:
    """What a format says of the images of a split: :class:`Annotation` in columns.

    Attributes:
        keys: Path of every image, relative to the data set.
        objects: The objects of all images, one image behind the other.
        counts: How many each image has.
        sizes: Height and width of each, where the format gives them.
        image_ids: What the format calls each; empty: nothing.
        relative: Whether boxes are fractions of width and height.
        unused: How many boxes of each are left out, having no area in it; empty: none.
    """

    keys: Sequence[str]
    objects: Objects
    counts: Sequence[int]
    sizes: Sequence[tuple[int, int] | None]
    image_ids: Sequence[int | str] = ()
    relative: bool = False
    unused: Sequence[int] = ()


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

    All of it lies in a few numpy arrays, which worker processes share without copying.

    Args:
        root: The data set, a folder that keys start from.
        annotations: What the format says of them.
        num_classes: How many classes there are.
        category_ids: What the format calls each class, for results in that format; empty: nothing.
        findings: What the reader of the whole data set found in its annotations.
    """

    def __init__(
        self,
        root: Path,
        annotations: Annotations,
        num_classes: int,
        category_ids: Sequence[CategoryId] = (),
        findings: Sequence[Finding] = (),
    ) -> None:
        self._root, self._num_classes = os.fsencode(root), num_classes
        self.category_ids, self.findings = tuple(category_ids), tuple(findings)
        self.unused = np.array(annotations.unused or [0] * len(annotations.keys), np.int64)
        self._keys = np.array([os.fsencode(key) for key in annotations.keys], np.bytes_)
        self._objects, self._relative = annotations.objects, annotations.relative
        self._ends = np.cumsum(annotations.counts, dtype=np.int64)
        self._sizes = np.array([size or (0, 0) for size in annotations.sizes], np.int32)
        self._image_ids = _array_of_ids(annotations.image_ids)
        # Height, width and orientation of every image file; 0 where it has not been read.
        self._headers = np.zeros((len(self._keys), 3), np.int32)

    def annotation(self, index: int) -> Annotation:
        """Return what the format says of image ``index``."""
        height, width = self._sizes[index].tolist()
        start = int(self._ends[index - 1]) if index else 0
        return Annotation(
            self.key(index),
            self._objects[start : int(self._ends[index])],
            (height, width) if height else None,
            None if self._image_ids is None else self._image_ids[index].item(),
            self._relative,
        )

    @property
    def labels(self) -> list[int]:
        """The stratum of every image: the rarest of its classes, the number of classes where it has none."""
        present = np.zeros((len(self), self._num_classes), dtype=np.bool_)
        present[self._image_of_object(), self._objects.labels] = True
        return [int(label) for label in rarest_labels(present)]

    @property
    def num_empty(self) -> int:
        """Number of images without objects."""
        return int((np.diff(self._ends, prepend=0) == 0).sum())

    @property
    def has_masks(self) -> bool:
        """Whether objects have masks that are learned from."""
        objects = self._objects
        return objects.masks is not None and bool((objects.masks.known & ~objects.crowd).any())

    def without_masks(self) -> AnnotatedSplit:
        """Return the same images with the boxes of their objects alone."""
        annotations = Annotations(
            [self.key(index) for index in range(len(self))],
            dataclasses.replace(self._objects, masks=None),
            np.diff(self._ends, prepend=0).tolist(),
            [(height, width) if height else None for height, width in self._sizes.tolist()],
            () if self._image_ids is None else self._image_ids.tolist(),
            self._relative,
            self.unused.tolist(),
        )
        return AnnotatedSplit(
            Path(os.fsdecode(self._root)), annotations, self._num_classes, self.category_ids, self.findings
        )

    def counts(self) -> NDArray[np.int64]:
        """Return the number of objects of each class, ``(K,)``."""
        return np.bincount(self._objects.labels, minlength=self._num_classes)

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """Return the path of image ``index``, relative to the data set."""
        return os.fsdecode(bytes(self._keys[index]))

    def path(self, index: int) -> Path:
        """Return the file of image ``index``."""
        return Path(os.fsdecode(self._root), self.key(index))

    def image_id(self, index: int) -> int | str:
        """Return what the format calls image ``index``; its place where it has no such name."""
        found: int | str = index if self._image_ids is None else self._image_ids[index].item()
        return found

    def header(self, index: int) -> ImageHeader:
        """Return size and orientation of image ``index``; its file is read the first time.

        Raises:
            DataError: It cannot be read; the message names it.
        """
        if not self._headers[index, 0]:
            try:
                self._keep_header(index, self._content(index))
            except DataError as error:
                raise _named(self.key(index), error) from error
        height, width, orientation = self._headers[index].tolist()
        return ImageHeader(height, width, orientation)

    def objects(self, index: int) -> Objects:
        """Return the objects of image ``index`` in pixels of the upright image, cut at its edges.

        Raises:
            DataError: The header of its file cannot be read, or a mask is of an image of another size.
        """
        header = self.header(index)
        try:
            return upright_objects(self.annotation(index), header)
        except DataError as error:
            raise _named(self.key(index), error) from error

    def read(self, index: int) -> EncodedSample:
        """Return image ``index`` with its objects in pixels of the upright image."""
        content = self._content(index)
        try:
            self._keep_header(index, content)
        except DataError:
            # Whoever decodes the image meets the error, and tells it.
            return EncodedSample(self.key(index), content, self.annotation(index).objects)
        return EncodedSample(self.key(index), content, self.objects(index))

    def _content(self, index: int) -> bytes:
        key = self.key(index)
        try:
            return read_bytes(Path(os.fsdecode(self._root), key))
        except OSError as error:
            raise DataError(f"{key} cannot be read ({error.strerror})") from error

    def _keep_header(self, index: int, content: bytes) -> None:
        if not self._headers[index, 0]:
            header = read_header(content)
            turn = next((turn for turn in range(2, 9) if turn == header.orientation), 1)
            self._headers[index] = header.height, header.width, turn

    def stamps(self) -> list[bytes] | None:
        """Return for every image what changes when its file does; ``None`` where one cannot be had."""
        try:
            return [stamp_of(self.path(index)) for index in range(len(self))]
        except OSError:
            return None

    def rows(self) -> Iterator[Row]:
        """Yield key, checksum of the objects, and size of the file of every image."""
        for index in range(len(self)):
            try:
                size = size_of(self.path(index))
            except OSError as error:
                raise DataError(f"{self.key(index)} cannot be read ({error.strerror})") from error
            yield self.key(index), checksum(self.annotation(index).objects), size

    def _image_of_object(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self)), np.diff(self._ends, prepend=0))


def _named(key: str, error: DataError) -> DataError:
    """Return an error that names the image."""
    found = f"{key}: {error.found}"
    return DataError(found, expected=error.expected, remedy=error.remedy, kind=error.kind)


def _array_of_ids(ids: Sequence[int | str]) -> NDArray[Any] | None:
    """Return names of images as an array; ``None``: there are none, or some are numbers and some text."""
    if not ids or len({type(one) for one in ids}) > 1:
        return None
    return np.array(ids, np.int64 if isinstance(ids[0], int) else np.str_)


def checksum(objects: Objects) -> int:
    """Return a checksum of annotated objects, which changes when one is added, moved or renamed."""
    content = [objects.boxes, objects.labels, objects.crowd, objects.difficult, objects.areas]
    found = zlib.crc32(b"".join(np.ascontiguousarray(array).tobytes() for array in content))
    return found if objects.masks is None else zlib.crc32(objects.masks.tobytes(), found)


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


def size_of_image(split: Split, index: int) -> tuple[int, int]:
    """Return height and width of an upright image of a split, which may be a part of another.

    Raises:
        DataError: The header of its file cannot be read.
    """
    if isinstance(split, Subset):
        return size_of_image(split.split, int(split.indices[index]))
    header = (
        split.header(index) if isinstance(split, AnnotatedSplit) else read_header(split.read(index).content)
    )
    return header.upright


def category_ids_of(split: Split) -> tuple[CategoryId, ...]:
    """Return what the format calls each class of a split, which may be a part of another; empty: nothing."""
    if isinstance(split, Subset):
        return category_ids_of(split.split)
    return split.category_ids if isinstance(split, AnnotatedSplit) else ()
