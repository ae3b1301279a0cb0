"""Measure how fast images become the input of a network in training, against torchvision and timm.

All sides make a random resized crop (area 0.08 to 1), mirrored half of the time, of every image of a folder,
on one thread and in a loader (:mod:`deepresidual.benchmarks.data`). Theirs is float32, normalized on the
host, and loaded by processes. Before anything is timed, the sides are compared: the same number of images,
and the same mean pixel to within what random crops differ.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepresidual.benchmarks.data import (
    BATCH_SIZE,
    DECODE,
    LOADER,
    MEAN,
    STD,
    OurData,
    View,
    images_per_second,
    one_setting,
    repeated,
    speed_of,
)
from deepresidual.benchmarks.measurement import (
    Result,
    Row,
    check_repetitions,
    chosen_rows,
    in_turn,
    make_result,
    ratio,
    unmeasured,
)
from deepresidual.errors import RunError

# In standard deviations of a pixel. By the choice of crops alone the mean of one image moves by some tenths,
# that of hundreds by hundredths; swapped channels or a forgotten mean move it by one or more.
_TOLERANCE = 0.1


ROWS = {
    row.name: row
    for row in (
        replace(DECODE, against="torchvision with Pillow", target=1.6),
        replace(DECODE, name="decode-tensors", against="torchvision on tensors", target=1.0),
        replace(LOADER, against="torchvision's ImageFolder and torch's DataLoader", target=1.0),
        replace(LOADER, name="loader-timm", against="timm's create_loader", target=1.0),
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
        rows: Names of rows. Default: all.
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
    data = OurData(Path(folder), image_px, repetitions)
    with one_setting(threads):
        measured = [
            *_one_thread(data, repetitions, chosen),
            *_loaders(data, repeated(data.paths, least_images), repetitions, num_workers, chosen),
        ]
        return make_result("data", measured, repetitions, torch.device("cpu"), ("torchvision", "timm"))


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


def _one_thread(data: OurData, repetitions: int, chosen: Sequence[str]) -> Iterator[Row]:
    count = len(data.contents)
    for name, make in (("decode", _pillow_view), ("decode-tensors", _tensor_view)):
        if name not in chosen:
            continue
        if not _is_installed("torchvision"):
            yield unmeasured(ROWS[name], "torchvision is not installed")
            continue
        theirs = make(data.contents, data.preprocess.crop_px)
        try:
            batch = torch.stack([theirs(index, 0) for index in range(count)])
        except _CannotReadError as error:
            yield unmeasured(ROWS[name], str(error))
            continue
        our_batch = data.preprocess.normalize(torch.stack([data.view(index, 0) for index in range(count)]))
        _check_agreement(name, _channel_means(our_batch), _channel_means(batch))
        yield _compared(ROWS[name], speed_of(data.view, count), speed_of(theirs, count), repetitions)


def _channel_means(batch: torch.Tensor) -> list[float]:
    means: list[float] = batch.double().mean(dim=(0, 2, 3)).tolist()
    return means


class _CannotReadError(Exception):
    """A peer cannot read some image."""


def _pillow_view(contents: Sequence[bytes], side_px: int) -> View:
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
        transforms.Normalize(MEAN, STD),
    ]


def _tensor_view(contents: Sequence[bytes], side_px: int) -> View:
    """Return torchvision's fastest way: its own decoder, and transforms v2 on tensors."""
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(side_px, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
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


def _loaders(
    data: OurData, paths: Sequence[Path], repetitions: int, num_workers: int, chosen: Sequence[str]
) -> Iterator[Row]:
    num_batches = len(paths) // BATCH_SIZE
    with tempfile.TemporaryDirectory() as folder:
        # ImageFolder and timm read folders of classes; this one holds links to the same files.
        Path(folder, "images").mkdir()
        for number, path in enumerate(paths):
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
            theirs = make(Path(folder), data.preprocess.crop_px, num_workers)
            our_means, their_means = (
                _means_of(batches, num_batches, name)
                for batches in (data.batches(paths, 0, num_workers), theirs())
            )
            _check_agreement(name, our_means, their_means)
            row = _compared(
                ROWS[name],
                lambda repetition: images_per_second(data.batches(paths, repetition, num_workers)),
                lambda _repetition, theirs=theirs: images_per_second(theirs()),  # type: ignore[misc]
                repetitions,
            )
            yield replace(row, details={"workers": num_workers})


def _image_folder(folder: Path, side_px: int, num_workers: int) -> Callable[[], Iterable[torch.Tensor]]:
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    data = ImageFolder(str(folder), transforms.Compose(_usual_transforms(side_px)))
    loader: Any = DataLoader(data, BATCH_SIZE, shuffle=True, num_workers=num_workers, drop_last=True)
    return lambda: (images for images, _ in loader)


def _timm_loader(folder: Path, side_px: int, num_workers: int) -> Callable[[], Iterable[torch.Tensor]]:
    from timm.data import ImageDataset, create_loader

    loader: Any = create_loader(
        ImageDataset(str(folder)),
        (3, side_px, side_px),
        BATCH_SIZE,
        is_training=True,
        color_jitter=None,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=num_workers,
        use_prefetcher=False,
        persistent_workers=False,
    )
    return lambda: (images for images, _ in loader)


def _means_of(batches: Iterable[torch.Tensor], num_batches: int, name: str) -> list[float]:
    means = [_channel_means(batch) for batch in batches]
    if len(means) != num_batches:
        raise RunError(f"{name}: {len(means)} batches of {BATCH_SIZE} came", expected=str(num_batches))
    averages: list[float] = np.mean(means, axis=0).tolist()
    return averages


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
