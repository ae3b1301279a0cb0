"""Measure how fast images become the input of a network in training.

- *one thread*: from the bytes of a file to what is sent to the device, which is uint8 (what the device does
  with uint8 costs it nothing to speak of).
- *loader*: from a folder to batches of normalized float32 in this process. Counted from the first batch on:
  the start of threads is left out.

Every image gets a random resized crop (area 0.08 to 1), mirrored half of the time. In a checkout of the
repository, ``benchmarks/data.py`` measures torchvision and timm beside it.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from deepresidual.benchmarks.measurement import (
    Result,
    Row,
    alone,
    check_repetitions,
    chosen_rows,
    make_result,
)
from deepresidual.data.decode import read_file
from deepresidual.data.formats import EXPECTED
from deepresidual.data.loader import training_batches, training_view
from deepresidual.data.sampler import TrainingOrder
from deepresidual.data.source import EncodedSample
from deepresidual.data.source.folder import list_images
from deepresidual.errors import DataError
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.random import SampleRandom, sample_uniforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH_SIZE = 32

_AUGMENT = Augment("random-resized", flip=True)
_MOST_IMAGES = 1_000

DECODE = Row("decode", "decode and random resized crop, one thread", unit="images/s")
LOADER = Row("loader", "a folder to batches", unit="images/s")

View: TypeAlias = "Callable[[int, int], torch.Tensor]"
"""Makes a view of the image of a number, differently in every repetition."""


def benchmark_data(
    folder: str | Path, *, rows: Sequence[str] = (), repetitions: int = 5, image_px: int = 224
) -> Result:
    """Measure decoding and loading of the images of a folder, without peers.

    Args:
        folder: A folder with images, at any depth; the first 1,000 count.
        rows: Names of rows. Default: all.
        repetitions: Measurements of each row, 1 to 1,000.
        image_px: Side of the network's input in pixels.

    Raises:
        ConfigurationError: The number of repetitions or the name of a row is not allowed.
        DataError: The folder has no images, or one that cannot be used.
    """
    check_repetitions(repetitions)
    chosen = chosen_rows([DECODE.name, LOADER.name], rows)
    data = OurData(Path(folder), image_px, repetitions)
    rounds = {name: itertools.count() for name in chosen}
    measured = []
    with one_setting(threads=1):
        if DECODE.name in chosen:
            speed = speed_of(data.view, len(data.contents))
            measured.append(alone(DECODE, lambda: speed(next(rounds[DECODE.name])), repetitions, {}))
        if LOADER.name in chosen:
            paths = repeated(data.paths, _MOST_IMAGES)

            def speed_of_batches() -> float:
                return images_per_second(data.batches(paths, next(rounds[LOADER.name]), 2))

            measured.append(alone(LOADER, speed_of_batches, repetitions, {"workers": 2}))
        return make_result("data", measured, repetitions, torch.device("cpu"))


@contextlib.contextmanager
def one_setting(threads: int) -> Iterator[None]:
    """Compute with ``threads`` of torch and seed 0, and leave the global state as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # Peers draw from torch's global random state, and say that parts of theirs will go.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Files:
    """Image files as our loader reads them; there are no labels."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> EncodedSample:
        return EncodedSample(self.paths[index].name, read_file(self.paths[index]), target=0)


class OurData:
    """Views and batches of the images of a folder as a training run makes them.

    Args:
        folder: A folder with images, at any depth; the first 1,000 count.
        image_px: Side of the network's input in pixels.
        repetitions: Repetitions that views are made for, beside a first that does not count.

    Raises:
        DataError: The folder has no images, or one that cannot be used.
    """

    def __init__(self, folder: Path, image_px: int, repetitions: int) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder", expected="a folder with images")
        names = itertools.islice(list_images(folder, [], folder), _MOST_IMAGES)
        self.paths = [folder / name for name in names]
        if not self.paths:
            raise DataError(f"{folder} has no images", expected=f"{EXPECTED} files")
        self.preprocess = Preprocess(image_px, round(image_px * 256 / 224), MEAN, STD)
        self.contents = [read_file(path) for path in self.paths]
        every, first = np.arange(len(self.paths)), np.zeros(len(self.paths), dtype=np.int64)
        # In training the uniforms come with the order of the samples, drawn for a whole batch at once.
        self._uniforms = [
            sample_uniforms(0, epoch, every, first).tolist() for epoch in range(repetitions + 1)
        ]

    def view(self, index: int, repetition: int) -> torch.Tensor:
        """Return a random view of an image ``(S, S, 3)`` uint8."""
        random = SampleRandom(0, repetition, index, uniforms=self._uniforms[repetition][index])
        side_px = self.preprocess.crop_px
        return torch.from_numpy(
            training_view(self.contents[index], _AUGMENT, random, self.preprocess, side_px)
        )

    def batches(self, paths: Sequence[Path], repetition: int, num_workers: int) -> Iterator[torch.Tensor]:
        """Yield the normalized batches of a pass over ``paths``, loaded by ``num_workers`` threads."""
        num_batches = len(paths) // BATCH_SIZE
        first = repetition * num_batches
        order = TrainingOrder(0, len(paths), BATCH_SIZE, first, first + num_batches)
        split = _Files(paths)
        for batch in training_batches(split, self.preprocess, _AUGMENT, order, num_workers=num_workers):
            batch.require_all_good()
            yield self.preprocess.normalize(batch.pixels)


def repeated(paths: Sequence[Path], least_images: int) -> list[Path]:
    """Return ``paths`` as often as it takes to have ``least_images`` and two batches."""
    return list(paths) * -(-max(least_images, 2 * BATCH_SIZE) // len(paths))


def speed_of(view: View, count: int) -> Callable[[int], float]:
    """Return a function that makes ``count`` views and returns images a second."""

    def measure(repetition: int) -> float:
        started = time.perf_counter()
        for index in range(count):
            view(index, repetition)
        return count / (time.perf_counter() - started)

    return measure


def images_per_second(batches: Iterable[torch.Tensor]) -> float:
    """Return the speed of a loader from its first batch on."""
    iterator = iter(batches)
    next(iterator)
    started = time.perf_counter()
    count = sum(len(batch) for batch in iterator)
    return count / (time.perf_counter() - started)
