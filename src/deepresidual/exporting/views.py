"""Photos that an exported file is checked with: of the user's data, or two that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepresidual.data.bundled_photos import bundled_photos
from deepresidual.data.decode import decode
from deepresidual.errors import DataError, ResidualError
from deepresidual.evaluation import EvaluationSetup
from deepresidual.runs.read import holds_run, read_plan
from deepresidual.runtime.console import note
from deepresidual.runtime.files import expanded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends import Classifier
    from deepresidual.data.source import SampleSource
    from deepresidual.data.source.dataset import Dataset
    from deepresidual.preprocess import Preprocess

BUNDLED = "two photos that come with scikit-learn"

NUM_VIEWS = 32
"""Views that a certificate is made with."""


@dataclass(frozen=True)
class CheckViews:
    """Views of photos.

    Attributes:
        pixels: ``(N, S, S, C)`` uint8.
        names: What each is a view of.
        source: Where the photos come from, in words.
    """

    pixels: NDArray[np.uint8]
    names: tuple[str, ...]
    source: str


def bundled_parts() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield name and pixels of parts of these photos: sixteen places each, half of its height and width."""
    for file, photo in bundled_photos():
        height, width = photo.shape[:2]
        for row in range(4):
            for column in range(4):
                top, left = height * row // 6, width * column // 6
                part = np.ascontiguousarray(photo[top : top + height // 2, left : left + width // 2])
                yield f"{file}, from column {left} and row {top}, {width // 2}×{height // 2} px", part


def bundled_views(preprocess: Preprocess) -> CheckViews:
    """Return views of parts of the two photos that come with scikit-learn, a Chinese temple and a flower."""
    pixels, names = [], []
    for name, part in bundled_parts():
        pixels.append(preprocess.center_view(preprocess.to_channels(part)))
        names.append(name)
    return CheckViews(np.stack(pixels), tuple(names), BUNDLED)


def views_of(
    source: SampleSource, split: str, preprocess: Preprocess, name: str, count: int = NUM_VIEWS
) -> CheckViews:
    """Return views of images of a split, spread evenly over it.

    Args:
        source: The data.
        split: Name of the split.
        preprocess: Makes the views.
        name: What the user calls the data.
        count: How many images; all where there are fewer.

    Raises:
        DataError: None of the images can be used.
    """
    samples = source.split(split)
    pixels, names = [], []
    for index in dict.fromkeys(np.linspace(0, len(samples) - 1, count).round().astype(int).tolist()):
        sample = samples.read(index)
        try:
            decoded = decode(sample.content)
        except DataError:
            continue
        pixels.append(preprocess.center_view(preprocess.to_channels(decoded)))
        names.append(sample.key)
    if not pixels:
        raise DataError(f"none of the images of {name} that were tried can be used")
    return CheckViews(np.stack(pixels), tuple(names), f"{name}, {split}")


def held_out_views(
    model: Classifier | str | Path, data: SampleSource | Dataset | str | Path, split: str | None
) -> CheckViews:
    """Return views of held-out images, of a run on the sides on which it had them.

    Raises:
        DataError: The data cannot be used.
    """
    # A certificate compares two computations of an image; whether the model has seen it does not matter.
    setup = EvaluationSetup.open([model], data, split=split, device="cpu", keep_training_images=True)
    return views_of(setup.source, setup.split, setup.members[0].preprocess, setup.source.name)


def own_location(model: str) -> str:
    """Return where a run's own data lies; empty: it is no run, or the data is nowhere to be read from.

    Raises:
        ModelFileError: The run is damaged.
    """
    if not model or not holds_run(expanded(model)):
        return ""
    plan, record = read_plan(expanded(model))
    return str(record.get("data_location") or ("digits" if plan.data == "digits" else ""))


def own_views(model: str) -> CheckViews | None:
    """Return views of what a run has held out; ``None``: it is no run, or its data is not there any more."""
    try:
        location = own_location(model)
        return held_out_views(model, location, None) if location else None
    except ResidualError as error:
        note(f"note: checked on photos that come with scikit-learn, since of the run's own: {error}")
        return None
