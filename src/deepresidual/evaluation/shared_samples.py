"""Find the images that two models may both be judged on, and say how many these are.

Two runs on the same data may have divided it differently, and each may have been trained on images that the
other holds out. What both hold out, and neither was trained on, is what their accuracies can be compared on.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.source import Split
from deepresidual.data.source.base import TRAIN
from deepresidual.data.source.validation import Subset
from deepresidual.errors import DataError
from deepresidual.runs.samples import Trained
from deepresidual.runtime.console import note


@dataclass(frozen=True)
class Side:
    """What one of two models is measured on when it is alone.

    Attributes:
        model: Name of the model.
        run: The run that it is of; ``None``: of none.
        split: Name of the split.
        samples: Its samples.
    """

    model: str
    run: Path | None
    split: str
    samples: Split


def shared_samples(
    sides: tuple[Side, Side], data: str, *, keep_training_images: bool = False
) -> tuple[tuple[Subset, Subset], int]:
    """Return the samples of each side that both models may be judged on, and how many others there are.

    Args:
        sides: What each model is measured on when it is alone; samples are matched by key.
        data: Name of the data, for messages.
        keep_training_images: Count the images that a run has trained on, too.

    Raises:
        DataError: There are none.
    """
    keys = [_keys(side.samples) for side in sides]
    shared = set(keys[0]) & set(keys[1])
    alone = [sum(key not in shared for key in of_side) for of_side in keys]
    if not shared:
        raise DataError(
            f"{sides[0].model} and {sides[1].model} hold out different images of {data} "
            f"({alone[0]:,} and {alone[1]:,}), none of which is held out by both",
            expected="images that neither was trained on",
            remedy=_other_data(sides),
        )
    both = _restricted(sides[0].samples, keys[0], shared)
    mask, how = _trained(sides, both)
    trained = int(mask.sum())
    keeps = keep_training_images or TRAIN in {side.split for side in sides}
    if trained == len(both) and not keeps:
        raise DataError(
            f"all {trained:,} images of {data} that {sides[0].model} and {sides[1].model} hold out were used "
            f"for training one of them ({how})",
            expected="images that neither was trained on",
            remedy=f"{_other_data(sides)}; --keep-training-images measures on them all the same",
        )
    if not keeps:
        shared -= {both.key(index) for index in np.flatnonzero(mask).tolist()}
    first, second = (_restricted(side.samples, of, shared) for side, of in zip(sides, keys, strict=True))
    num_left_out = sum(alone) + (0 if keeps else trained)
    reasons = [
        f"{count:,} only in the {side.split} split of {side.model}"
        for side, count in zip(sides, alone, strict=True)
        if count
    ]
    if trained and not keeps:
        reasons.append(f"{trained:,} used for training ({how}; --keep-training-images counts them)")
    counted = f", {trained:,} used for training and counted ({how})" if trained and keeps else ""
    left_out = f"; {num_left_out:,} left out: {', '.join(reasons)}" if reasons else ""
    if counted or left_out:
        is_clean = not counted and all(side.run is not None and side.split != TRAIN for side in sides)
        what = "that neither was trained on" if is_clean else f"that {_both_have(sides)}"
        note(f"compared on {_images(len(first))} {what}{counted}{left_out}")
    return (first, second), num_left_out


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _both_have(sides: tuple[Side, Side]) -> str:
    names = dict.fromkeys(side.split for side in sides)
    return f"both have in {' and '.join(names)}"


def _keys(samples: Split) -> list[str]:
    return [samples.key(index) for index in range(len(samples))]


def _restricted(samples: Split, keys: list[str], chosen: set[str]) -> Subset:
    return Subset(samples, [index for index, key in enumerate(keys) if key in chosen])


def _trained(sides: tuple[Side, Side], samples: Split) -> tuple[NDArray[np.bool_], str]:
    """Return a mask of the samples that a run has trained on, and how they are known."""
    mask, how = np.zeros(len(samples), dtype=bool), ""
    for run in {side.run for side in sides if side.run is not None}:
        # One by one: what one held out, the other may have trained on.
        trained = Trained.read([run])
        seen = trained.seen(samples)
        if seen.any():
            mask |= seen
            how = max(how, trained.how, key=len)
    return mask, how


def _other_data(sides: tuple[Side, Side]) -> str:
    models = " ".join(shlex.quote(side.model) for side in sides)
    where = "put new ones into OTHER/test, a folder for each class, and compare there"
    return f"{where}: residual compare {models} OTHER"
