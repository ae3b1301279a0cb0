"""Images on their way to a classifier: read, decoded and cut to the central view, batch by batch.

The same steps as in evaluation, without torch, for images that have no label and may be unusable. Threads
read ahead of the one that computes, or, where a backend computes in several, take their images all the way.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PillowImage

from deepresidual.data.decode import decode, from_pillow, open_image, read_file
from deepresidual.data.source import archive
from deepresidual.data.source.in_memory import channels_last, is_tensor
from deepresidual.data.source.map_style import IMAGE_NAMES
from deepresidual.data.source.shards.tar import COMPRESSED
from deepresidual.data.threads import in_order
from deepresidual.errors import ConfigurationError, DataError, kind_of
from deepresidual.runtime.files import expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deepresidual.data.decode import OpenImage
    from deepresidual.preprocess import Preprocess

T = TypeVar("T")

FAST_DECODE_MARGIN = 2
"""How many times the side of the view a part keeps at least where fast decoding reduces a JPEG."""


@dataclass(frozen=True)
class ImageFile:
    """An image file, with what is known of it and how it may be decoded.

    Attributes:
        path: The file, or a member of an archive.
        num_bytes: Its size when it was listed; another size later is an error. ``None``: any size.
        fast_decode: Whether a JPEG that is much larger than the view may be decoded at a half, a quarter or
            an eighth of its size (libjpeg's scaled inverse DCT). Its view differs a little: see
            :func:`fast_center_view`.
    """

    path: str
    num_bytes: int | None = None
    fast_decode: bool = False


ImageLike: TypeAlias = PillowImage | NDArray[np.uint8] | str | Path | bytes | ImageFile
"""A path, an open image, an array ``(H, W, 3)`` or ``(H, W)`` uint8 RGB, or the bytes of an image file."""

# Handing a task to a thread costs 20 µs, as much as a view of 32 px.
_IMAGES_PER_TASK = 8
_BATCHES_AHEAD = 4
# For every thread that takes images all the way; the next ones go on while one has a large image.
_PARTS_AHEAD = 3


@dataclass(frozen=True)
class ImageBatch:
    """Some images in the order in which they were given.

    Attributes:
        names: The path of each; empty for one that is in memory.
        errors: Why an image cannot be used; ``None`` for one that can.
        pixels: ``(N, S, S, C)`` uint8, the views of those that can.
        sizes: Height and width of the upright image of those that can, in pixels.
    """

    names: list[str]
    errors: list[DataError | None]
    pixels: NDArray[np.uint8]
    sizes: list[tuple[int, int]]


def one_or_several(images: ImageLike | Iterable[ImageLike]) -> tuple[Iterable[ImageLike], int]:
    """Return one image or several as an iterable, and how many they are; 0 where that is not known."""
    is_one = isinstance(images, str | Path | bytes | PillowImage | ImageFile)
    if is_one or getattr(images, "ndim", 4) < 4:
        return [images], 1  # type: ignore[list-item]
    return images_in(images), len(images) if isinstance(images, Sized) else 0


def images_in(images: Any) -> Iterator[ImageLike]:
    """Yield the images of what holds several.

    Args:
        images: An iterable of images, an array ``(N, H, W, 3)``, a split, or a data set of PyTorch or Hugging
            Face. Labels beside the images are left aside.

    Raises:
        ConfigurationError: Nothing can be had from it one by one.
    """
    if hasattr(images, "read") and hasattr(images, "__len__"):
        yield from (images.read(index).content for index in range(len(images)))
        return
    if not isinstance(images, Iterable):
        if not (hasattr(images, "__getitem__") and hasattr(images, "__len__")):
            raise _no_image(images)
        yield from (_without_label(images[index]) for index in range(len(images)))
        return
    yield from map(_without_label, images)


def _without_label(sample: Any) -> ImageLike:
    if isinstance(sample, tuple | list) and len(sample) == 2:
        sample = sample[0]
    elif isinstance(sample, Mapping):
        name = next((name for name in IMAGE_NAMES if name in sample), None)
        if name is None:
            raise ConfigurationError(
                f"a sample has no image ({', '.join(map(str, sample))})",
                expected=f"one called {IMAGE_NAMES[0]}",
            )
        sample = sample[name]
    image: ImageLike = sample
    return image


def image_batches(
    images: Iterable[ImageLike], preprocess: Preprocess, *, batch_size: int, num_workers: int
) -> Iterator[ImageBatch]:
    """Yield batches of central views.

    Args:
        images: The images; read only as far ahead as needed.
        preprocess: Makes the view.
        batch_size: Images at a time; the last batch may be smaller.
        num_workers: Threads that read and decode.

    Raises:
        ConfigurationError: Something is no image.
    """

    def views(part: Sequence[ImageLike]) -> list[_View]:
        return [_view(image, preprocess) for image in part]

    groups = (list(_in_parts(batch, _IMAGES_PER_TASK)) for batch in _in_parts(images, batch_size))
    viewed = in_order(views, groups, num_threads=num_workers, groups_ahead=_BATCHES_AHEAD)
    with contextlib.closing(viewed):
        for parts in viewed:
            yield _batch(list(itertools.chain.from_iterable(parts)), preprocess)


def computed_parts(
    images: Iterable[ImageLike],
    preprocess: Preprocess,
    compute: Callable[[ImageBatch], T],
    *,
    part_size: int,
    num_threads: int,
) -> Iterator[T]:
    """Yield what is computed of images, part after part, each taken all the way by one thread.

    Args:
        images: The images; read only as far ahead as needed.
        preprocess: Makes the views.
        compute: Makes something of a part; called by several threads at once.
        part_size: Images that a thread takes at a time.
        num_threads: Threads that read, decode and compute. A single part is computed in the calling thread.

    Raises:
        ConfigurationError: Something is no image.
    """

    def work(part: Sequence[ImageLike]) -> T:
        return compute(_batch([_view(image, preprocess) for image in part], preprocess))

    parts = _in_parts(images, part_size)
    first = list(itertools.islice(parts, 2))
    groups = ([part] for part in itertools.chain(first, parts))
    computed = in_order(
        work,
        groups,
        num_threads=num_threads if len(first) > 1 else 0,
        groups_ahead=_PARTS_AHEAD * num_threads,
    )
    with contextlib.closing(computed):
        for (result,) in computed:
            yield result


_Sized: TypeAlias = tuple[NDArray[np.uint8], tuple[int, int]]
"""A view, and height and width of its upright image."""

_View: TypeAlias = tuple[str, _Sized | DataError]
"""The path of an image, empty for one in memory, and its view or why there is none."""


def _view(image: ImageLike, preprocess: Preprocess) -> _View:
    try:
        return name_of(image), _sized_view(image, preprocess)
    except DataError as error:
        return name_of(image), error


def _batch(views: Sequence[_View], preprocess: Preprocess) -> ImageBatch:
    good = [result for _, result in views if not isinstance(result, DataError)]
    shape = (0, preprocess.crop_px, preprocess.crop_px, preprocess.num_channels)
    return ImageBatch(
        names=[name for name, _ in views],
        errors=[result if isinstance(result, DataError) else None for _, result in views],
        pixels=np.stack([view for view, _ in good]) if good else np.zeros(shape, np.uint8),
        sizes=[size for _, size in good],
    )


def name_of(image: ImageLike) -> str:
    """Return the path of an image; empty for one in memory."""
    if isinstance(image, ImageFile):
        return image.path
    return str(image) if isinstance(image, str | Path) else ""


def center_view(image: ImageLike, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return what a network sees of any kind of image: the central crop, ``(S, S, C)`` uint8.

    Raises:
        DataError: The image cannot be read or decoded, or has changed since it was listed.
        ConfigurationError: It is no image.
    """
    return _sized_view(image, preprocess)[0]


def _sized_view(image: ImageLike, preprocess: Preprocess) -> _Sized:
    if isinstance(image, ImageFile) and image.fast_decode:
        opened = open_image(_content(image))
        return _fast_view(opened, preprocess), (opened.height, opened.width)
    pixels = decoded(image)
    height, width = pixels.shape[:2]
    return preprocess.center_view(preprocess.to_channels(pixels)), (height, width)


def fast_center_view(content: bytes, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return the central crop of an image file, of a large JPEG from a reduced size.

    A JPEG whose part for the view is at least twice as large as needed is decoded at a half, a quarter or an
    eighth of its size: the part keeps :data:`FAST_DECODE_MARGIN` times the side, and the rest of the way is
    the usual resize. Other formats, and smaller JPEGs, give the bits of :meth:`Preprocess.center_view`.

    Args:
        content: The whole file.
        preprocess: Makes the view.

    Raises:
        DataError: As :func:`deepresidual.data.decode.decode`.
    """
    return _fast_view(open_image(content), preprocess)


def _fast_view(image: OpenImage, preprocess: Preprocess) -> NDArray[np.uint8]:
    side_px = preprocess.crop_px
    box = preprocess.center_box(image.height, image.width)
    pixels, box = image.decode_part(box, FAST_DECODE_MARGIN * side_px)
    return preprocess.resize(preprocess.to_channels(pixels), box, side_px, side_px)


def _no_image(image: object) -> ConfigurationError:
    return ConfigurationError(
        f"an image is {kind_of(image)}",
        expected="a path, a Pillow image, an array or the bytes of a file",
    )


def _in_parts(images: Iterable[ImageLike], size: int) -> Iterator[tuple[ImageLike, ...]]:
    rest = iter(images)
    while part := tuple(itertools.islice(rest, size)):
        yield part


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say of what holds images and is none what it is."""
    try:
        yield
    except DataError as error:
        if path.name.casefold().endswith(COMPRESSED):
            raise DataError(
                "compressed tars are not read",
                remedy="unpack it, or make it a .tar or a .zip",
                kind=error.kind,
            ) from error
        if archive.is_folder(path):
            raise DataError(
                "it is a folder" if path.is_dir() else "it holds files, and is no image",
                expected="an image file",
                remedy="deepresidual.backends.find_images([PATH]).files are its images; 'residual predict' "
                "takes it as it is",
            ) from error
        raise


def decoded(image: ImageLike) -> NDArray[np.uint8]:
    """Return any kind of image as ``(H, W, 3)`` uint8 RGB, upright.

    Raises:
        DataError: The image cannot be read or decoded, or has changed since it was listed.
        ConfigurationError: It is no image.
    """
    if isinstance(image, str | Path):
        image = ImageFile(str(image))
    if isinstance(image, ImageFile):
        content = _content(image)
        with _explained(expanded(image.path)):
            return decode(content)
    if isinstance(image, bytes):
        return decode(image)
    if isinstance(image, PillowImage):
        return from_pillow(image)
    array: object = channels_last(image) if is_tensor(image) else image
    if not isinstance(array, np.ndarray):
        raise _no_image(image)
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not is_image or not array.size:
        raise ConfigurationError(
            f"an image is an array of shape {array.shape} and type {array.dtype}",
            expected="(H, W, 3) or (H, W) of uint8",
        )
    return np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else array


def _content(image: ImageFile) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: It cannot be read, or has changed since it was listed.
    """
    path = expanded(image.path)
    with _explained(path):
        content = read_file(path)
    if image.num_bytes not in (None, len(content)):
        raise DataError(
            f"the file has changed since it was listed ({image.num_bytes:,} bytes then, {len(content):,} now)"
        )
    return content
