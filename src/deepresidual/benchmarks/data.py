"""How fast images become the input of a network in training, against torchvision and timm.

All sides make a random resized crop (area 0.08 to 1), mirrored half of the time, of every image of a folder:

- *one thread*: from the bytes of a file to what is sent to the device, which is uint8 here and normalized
  float32 there (what the device does with uint8 costs it nothing to speak of).
- *loader*: from a folder to batches of normalized float32 in this process, with ``num_workers`` threads here
  and as many processes there. Counted from the first batch on, so that the start of processes is left out.

Before anything is timed, the sides are compared: the same number of images, and the same mean pixel to within
what random crops differ.

Example:
    >>> for row in benchmark_data("photos", repetitions=5).rows:
    ...     print(row.name, row.ratio)
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from deepresidual.benchmarks.measurement import (
    Row,
    check_repetitions,
    chosen_rows,
    in_turn,
    make_result,
    ratio,
    unmeasured,
)
from deepresidual.data.decode import read_file
from deepresidual.data.loader import training_batches, training_view
from deepresidual.data.sampler import TrainingOrder
from deepresidual.data.source import EncodedSample
from deepresidual.data.source.folder import list_images
from deepresidual.errors import DataError, RunError
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.random import SampleRandom, sample_uniforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from deepresidual.benchmarks.measurement import Result

__all__ = ["ROWS", "benchmark_data"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_AUGMENT = Augment("random-resized", flip=True)
_BATCH_SIZE = 32
_MOST_IMAGES = 1_000
# In standard deviations of a pixel. By the choice of crops alone the mean of one image moves by some tenths,
# that of hundreds by hundredths; swapped channels or a forgotten mean move it by one or more.
_TOLERANCE = 0.1


ROWS = {
    row.name: row
    for row in (
        Row("decode", "decode and random resized crop, one thread", "torchvision with Pillow", 1.6),
        Row("decode-tensors", "decode and random resized crop, one thread", "torchvision on tensors", 1.0),
        Row("loader", "a folder to batches", "torchvision's ImageFolder and torch's DataLoader", 1.0),
        Row("loader-timm", "a folder to batches", "timm's create_loader", 1.0),
    )
}
"""What is measured; the first has the target."""


def benchmark_data(
    folder: str | Path,
    *,
    rows: Sequence[str] = (),
    repetitions: int = 5,
    threads: int = 1,
    num_workers: int = 2,
    image_px: int = 224,
    least_images: int = 1_000,
) -> Result:
    """Measure decoding and loading of the images of a folder.

    Args:
        folder: A folder with images, at any depth; the first 1,000 count.
        rows: Names of rows; all where left out.
        repetitions: How often each side is measured; published figures have 5 or more.
        threads: Threads of torch in this process while it measures.
        num_workers: Threads of our loader, processes of theirs.
        image_px: Side of the network's input in pixels.
        least_images: Images of a pass of a loader; a smaller folder comes several times.

    Returns:
        A row for each peer; those that are not installed are named as missing.

    Raises:
        ConfigurationError: The number of repetitions or the name of a row is not allowed.
        DataError: The folder has no images, or one that cannot be used.
        RunError: The sides do not make the same of the images.
    """
    check_repetitions(repetitions)
    chosen = chosen_rows(list(ROWS), rows)
    paths = _images_of(Path(folder))
    preprocess = Preprocess(image_px, round(image_px * 256 / 224), _MEAN, _STD)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # The peers draw from torch's global random state, and say that parts of theirs will go.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.manual_seed(0)
            measured = [
                *_one_thread([read_file(path) for path in paths], preprocess, repetitions, chosen),
                *_loaders(paths, preprocess, repetitions, num_workers, least_images, chosen),
            ]
            return make_result("data", measured, repetitions, torch.device("cpu"), ("torchvision", "timm"))
    finally:
        torch.set_num_threads(before)


def _images_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", expected="a folder with images")
    paths = [folder / name for name in itertools.islice(list_images(folder, [], folder), _MOST_IMAGES)]
    if not paths:
        raise DataError(f"{folder} has no images", expected="JPEG, PNG, WebP or BMP files")
    return paths


def _compared(
    row: Row, ours: Callable[[int], float], theirs: Callable[[int], float], repetitions: int
) -> Row:
    """Measure both sides, whose functions take the number of the repetition and return images a second."""
    rounds = (itertools.count(), itertools.count())
    speeds = in_turn(
        {"ours": lambda: ours(next(rounds[0])), "theirs": lambda: theirs(next(rounds[1]))}, repetitions
    )
    return replace(
        row,
        ratio=ratio(speeds["ours"], speeds["theirs"]),
        unit="images/s",
        ours=statistics.median(speeds["ours"]),
        theirs=statistics.median(speeds["theirs"]),
    )


def _check_agreement(name: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Hold the mean of each normalized channel on our side against the peer's."""
    if max(abs(our - their) for our, their in zip(ours, theirs, strict=True)) > _TOLERANCE:
        means = [", ".join(f"{value:.2f}" for value in side) for side in (ours, theirs)]
        raise RunError(
            f"{name}: the sides do not make the same of the images",
            expected=f"the same mean pixel, not {means[0]} here and {means[1]} there",
        )


# -- one thread ------------------------------------------------------------------------------------------

_View: TypeAlias = "Callable[[int, int], torch.Tensor]"
"""Makes a view of the image of a number, differently in every repetition."""


def _one_thread(
    contents: Sequence[bytes], preprocess: Preprocess, repetitions: int, chosen: Sequence[str]
) -> Iterator[Row]:
    def ours(index: int, repetition: int) -> torch.Tensor:
        # In training the uniforms come with the order of the samples, drawn for a whole batch at once.
        random = SampleRandom(0, repetition, index, uniforms=uniforms[repetition][index])
        return torch.from_numpy(training_view(contents[index], _AUGMENT, random, preprocess, side_px))

    side_px = preprocess.crop_px
    every, first = np.arange(len(contents)), np.zeros(len(contents), dtype=np.int64)
    uniforms = [sample_uniforms(0, epoch, every, first).tolist() for epoch in range(repetitions + 1)]
    for name, make in (("decode", _pillow_view), ("decode-tensors", _tensor_view)):
        if name not in chosen:
            continue
        if not _is_installed("torchvision"):
            yield unmeasured(ROWS[name], "torchvision is not installed")
            continue
        theirs = make(contents, side_px)
        try:
            batch = torch.stack([theirs(index, 0) for index in range(len(contents))])
        except _CannotReadError as error:
            yield unmeasured(ROWS[name], str(error))
            continue
        our_batch = preprocess.normalize(torch.stack([ours(index, 0) for index in range(len(contents))]))
        _check_agreement(name, _channel_means(our_batch), _channel_means(batch))
        speeds = _speed_of(ours, len(contents)), _speed_of(theirs, len(contents))
        yield _compared(ROWS[name], *speeds, repetitions)


def _channel_means(batch: torch.Tensor) -> list[float]:
    means: list[float] = batch.double().mean(dim=(0, 2, 3)).tolist()
    return means


def _speed_of(view: _View, count: int) -> Callable[[int], float]:
    def measure(repetition: int) -> float:
        started = time.perf_counter()
        for index in range(count):
            view(index, repetition)
        return count / (time.perf_counter() - started)

    return measure


class _CannotReadError(Exception):
    """A peer cannot read some image."""


def _pillow_view(contents: Sequence[bytes], side_px: int) -> _View:
    """Return torchvision's usual way: Pillow, transforms, ToTensor, Normalize."""
    from PIL import Image
    from torchvision import transforms

    transform = transforms.Compose(_usual_transforms(side_px))

    def view(index: int, _repetition: int) -> torch.Tensor:
        with Image.open(io.BytesIO(contents[index])) as image:
            result: torch.Tensor = transform(image.convert("RGB"))
        return result

    return view


def _usual_transforms(side_px: int) -> list[Any]:
    from torchvision import transforms

    return [
        transforms.RandomResizedCrop(side_px),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(_MEAN, _STD),
    ]


def _tensor_view(contents: Sequence[bytes], side_px: int) -> _View:
    """Return torchvision's fastest way: its own decoder, and transforms v2 on tensors."""
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(side_px, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(_MEAN, _STD),
        ]
    )
    files = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]

    def view(index: int, _repetition: int) -> torch.Tensor:
        try:
            pixels = decode_image(files[index], mode=ImageReadMode.RGB)
        except RuntimeError as error:
            raise _CannotReadError(f"torchvision cannot decode one of the images ({error})") from error
        result: torch.Tensor = transform(pixels)
        return result

    return view


# -- loaders ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """Image files as our loader reads them; there are no labels."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> EncodedSample:
        return EncodedSample(self.paths[index].name, read_file(self.paths[index]), label=0)


def _loaders(
    paths: Sequence[Path],
    preprocess: Preprocess,
    repetitions: int,
    num_workers: int,
    least_images: int,
    chosen: Sequence[str],
) -> Iterator[Row]:
    repeated = list(paths) * -(-max(least_images, 2 * _BATCH_SIZE) // len(paths))
    num_batches = len(repeated) // _BATCH_SIZE

    def ours(repetition: int) -> Iterator[torch.Tensor]:
        first = repetition * num_batches
        order = TrainingOrder(0, len(repeated), _BATCH_SIZE, first, first + num_batches)
        split = _Files(repeated)
        for batch in training_batches(split, preprocess, _AUGMENT, order, num_workers=num_workers):
            batch.require_all_good()
            yield preprocess.normalize(batch.pixels)

    with tempfile.TemporaryDirectory() as folder:
        # ImageFolder and timm read folders of classes; this one holds links to the same files.
        Path(folder, "images").mkdir()
        for number, path in enumerate(repeated):
            Path(folder, "images", f"{number:06d}{path.suffix}").symlink_to(path.resolve())
        for name, package, make in (
            ("loader", "torchvision", _image_folder),
            ("loader-timm", "timm", _timm_loader),
        ):
            if name not in chosen:
                continue
            if not _is_installed(package):
                yield unmeasured(ROWS[name], f"{package} is not installed")
                continue
            theirs = make(Path(folder), preprocess.crop_px, num_workers)
            our_means, their_means = (
                _means_of(batches, num_batches, name) for batches in (ours(0), theirs())
            )
            _check_agreement(name, our_means, their_means)
            row = _compared(
                ROWS[name],
                lambda repetition: _images_per_second(ours(repetition)),
                lambda _repetition, theirs=theirs: _images_per_second(theirs()),  # type: ignore[misc]
                repetitions,
            )
            yield replace(row, details={"workers": num_workers})


def _image_folder(folder: Path, side_px: int, num_workers: int) -> Callable[[], Iterable[torch.Tensor]]:
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    data = ImageFolder(str(folder), transforms.Compose(_usual_transforms(side_px)))
    loader: Any = DataLoader(data, _BATCH_SIZE, shuffle=True, num_workers=num_workers, drop_last=True)
    return lambda: (images for images, _ in loader)


def _timm_loader(folder: Path, side_px: int, num_workers: int) -> Callable[[], Iterable[torch.Tensor]]:
    from timm.data import ImageDataset, create_loader

    loader: Any = create_loader(
        ImageDataset(str(folder)),
        (3, side_px, side_px),
        _BATCH_SIZE,
        is_training=True,
        color_jitter=None,
        interpolation="bilinear",
        mean=_MEAN,
        std=_STD,
        num_workers=num_workers,
        use_prefetcher=False,
        persistent_workers=False,
    )
    return lambda: (images for images, _ in loader)


def _means_of(batches: Iterable[torch.Tensor], num_batches: int, name: str) -> list[float]:
    means = [_channel_means(batch) for batch in batches]
    if len(means) != num_batches:
        raise RunError(f"{name}: {len(means)} batches of {_BATCH_SIZE} came", expected=str(num_batches))
    averages: list[float] = np.mean(means, axis=0).tolist()
    return averages


def _images_per_second(batches: Iterable[torch.Tensor]) -> float:
    iterator = iter(batches)
    next(iterator)
    started = time.perf_counter()
    count = sum(len(batch) for batch in iterator)
    return count / (time.perf_counter() - started)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
