"""Photos that an exported detector is checked with, each in the size in which the detector sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepresidual.data.decode import decode
from deepresidual.errors import DataError, ResidualError
from deepresidual.evaluation.objects import DetectionSetup
from deepresidual.exporting.views import BUNDLED, NUM_VIEWS, bundled_parts, own_location
from deepresidual.runtime.console import note

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.detector import TorchDetector
    from deepresidual.data.source import SampleSource
    from deepresidual.data.source.dataset import Dataset
    from deepresidual.preprocess import Preprocess

_MOST_MACS = 1e12  # of all photos together: half a minute of a core
_FEWEST = 4


@dataclass(frozen=True, eq=False)
class DetectorViews:
    """Photos as a detector sees them.

    Attributes:
        pixels: ``(height, width, C)`` uint8 of each.
        names: What each is called.
        source: Where they come from, in words.
    """

    pixels: tuple[NDArray[np.uint8], ...]
    names: tuple[str, ...]
    source: str


def whole_view(photo: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return what a detector sees of a photo ``(H, W, 3)`` uint8 RGB, ``(height, width, C)`` uint8."""
    rows, columns = preprocess.whole_size(*photo.shape[:2])
    return np.ascontiguousarray(preprocess.center_view(preprocess.to_channels(photo))[:rows, :columns])


def num_views(model: TorchDetector) -> int:
    """Return how many photos a detector is checked with: fewer of a large one."""
    macs = model.spec.num_macs(model.preprocess.crop_px)
    return int(max(_FEWEST, min(NUM_VIEWS, _MOST_MACS / max(1, macs))))


def check_views(
    model: TorchDetector,
    given: str,
    data: SampleSource | Dataset | str | Path | None,
    split: str | None,
) -> DetectorViews:
    """Return photos of the data; by default of a run's own, or parts of two that come with scikit-learn.

    Args:
        model: The detector.
        given: What the user calls it; empty for an object of Python.
        data: The data.
        split: The split of it.

    Raises:
        DataError: The data cannot be used.
    """
    if data is not None:
        return _held_out(model, given, data, split)
    try:
        if location := own_location(given):
            return _held_out(model, given, location, None)
    except ResidualError as error:
        note(f"note: checked on photos that come with scikit-learn, since of the run's own: {error}")
    parts = list(bundled_parts())
    return _views(model, [parts[place] for place in _spread(len(parts), num_views(model))], BUNDLED)


def _held_out(
    model: TorchDetector, given: str, data: SampleSource | Dataset | str | Path, split: str | None
) -> DetectorViews:
    # A certificate compares two computations of an image; whether the model has seen it does not matter.
    setup = DetectionSetup.open(given or model, data, split=split, device="cpu", keep_training_images=True)
    return views_of_split(model, setup)


def views_of_split(model: TorchDetector, setup: DetectionSetup) -> DetectorViews:
    """Return photos of the split that a setup measures, spread evenly over it.

    Raises:
        DataError: None of those that were tried can be used.
    """
    samples = setup.source.split(setup.split)
    photos = []
    for index in _spread(len(samples), num_views(model)):
        sample = samples.read(index)
        try:
            photos.append((sample.key, decode(sample.content)))
        except DataError:
            continue
    if not photos:
        raise DataError(f"none of the images of {setup.source.name} that were tried can be used")
    return _views(model, photos, f"{setup.source.name}, {setup.split}")


def _spread(length: int, count: int) -> list[int]:
    """Return ``count`` places spread evenly over so many; all where there are fewer."""
    return list(dict.fromkeys(np.linspace(0, length - 1, count).round().astype(int).tolist()))


def _views(
    model: TorchDetector, photos: Iterable[tuple[str, NDArray[np.uint8]]], source: str
) -> DetectorViews:
    named = [(name, whole_view(photo, model.preprocess)) for name, photo in photos]
    return DetectorViews(tuple(pixels for _, pixels in named), tuple(name for name, _ in named), source)
