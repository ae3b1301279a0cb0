"""Leave out of an evaluation what its models were trained on: a model is always right about that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepresidual.data.source import SampleSource
from deepresidual.data.source.base import TRAIN
from deepresidual.data.source.validation import Subset
from deepresidual.errors import DataError
from deepresidual.evaluation.options import EvaluationOptions
from deepresidual.runs.samples import Trained
from deepresidual.runtime.console import note


def without_trained(
    source: SampleSource, split: str, runs: Sequence[Path], options: EvaluationOptions
) -> tuple[SampleSource, int]:
    """Return the data without the images of a split that runs have trained on, and the number of these.

    Raises:
        DataError: That leaves none.
    """
    trained = Trained.read(runs)
    if not (trained.contents or trained.files):
        return source, 0
    samples = source.split(split)
    seen = trained.seen(samples)
    count, total = int(seen.sum()), len(samples)
    if not count:
        return source, 0
    was, is_ = ("was", "is") if count == 1 else ("were", "are")
    known = f"{count:,} of {total:,} images {was} used for training"
    if options.keep_training_images or split == TRAIN:
        note(f"{known} and counted ({trained.how})")
        return source, 0
    if count == total:
        raise DataError(
            f"all {total:,} images of {source.name} ({split}) were used for training ({trained.how})",
            expected="images that the model has not seen",
            remedy="--keep-training-images measures on them all the same",
        )
    note(f"{known} and {is_} left out ({trained.how}); --keep-training-images counts them")
    rest = Subset(samples, np.flatnonzero(~seen))
    return replace(source, splits={**source.splits, split: rest}), count
