"""Views of the held-out images that judge: decoded once, and kept while they fit into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.backends.classifier import NOT_FINITE_REMEDY
from deepresidual.data.loader import evaluation_batches
from deepresidual.errors import ModelFileError
from deepresidual.runtime.console import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from deepresidual.backends.classifier import Classifier
    from deepresidual.data.loader import Batch
    from deepresidual.evaluation import EvaluationSetup

_KEPT_BYTES = 1 << 30
"""Bytes of views that are kept: 7,000 of 224 px. More are decoded again for every engine and attempt."""


class HeldOutViews:
    """The images of a split as one crop each, with what would be right.

    Args:
        setup: The model in PyTorch and the data, opened as ``residual evaluate`` opens them.
    """

    def __init__(self, setup: EvaluationSetup) -> None:
        self._setup = setup
        self._samples = setup.samples(setup.split)
        record = setup.members[0].preprocess
        num_bytes = len(self._samples) * record.crop_px**2 * record.num_channels
        self._kept: list[Batch] | None = [] if num_bytes <= _KEPT_BYTES else None

    def logits(self, model: Classifier, name: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return the logits ``(N, K)`` of all views, and what would be right.

        Args:
            model: Computes.
            name: What the progress calls it.

        Returns:
            The logits, and classes ``(N,)``, or labels ``(N, K)`` where an image has several.

        Raises:
            DataError: An image cannot be used.
            ModelFileError: Logits are not finite.
        """
        logits, targets, done = [], [], 0
        with ProgressBar(len(self._samples), label=f"{name} on {self._setup.split}") as bar:
            for batch in self._batches():
                found = model.logits(batch.pixels.numpy())
                if not np.isfinite(found).all():
                    key = batch.keys[int(np.argmin(np.isfinite(found).all(axis=1)))]
                    raise ModelFileError(
                        f"{name}: its outputs are not finite for {key}", remedy=NOT_FINITE_REMEDY
                    )
                logits.append(found)
                targets.append(batch.targets.numpy())
                done += len(batch)
                bar.update(done, "")
        return np.concatenate(logits), np.concatenate(targets)

    def _batches(self) -> Iterator[Batch]:
        """Yield the batches, those that are kept where all of them are."""
        if self._kept:
            yield from self._kept
            return
        batches = []
        for batch in evaluation_batches(
            self._samples,
            self._setup.members[0].preprocess,
            batch_size=self._setup.options.batch_size,
            num_workers=self._setup.num_workers,
        ):
            batch.require_all_good()
            if self._kept is not None:
                batches.append(batch)
            yield batch
        if self._kept is not None:
            self._kept = batches
