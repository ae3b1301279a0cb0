"""``Task``: models that know the same classes, a data set whose labels are theirs, and how it is shown."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deepresidual.data.loader import require_none_bad
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.base import canonical_split, listed
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.evaluation.calibration import fit_temperature
from deepresidual.evaluation.measurement import FittedTemperature
from deepresidual.evaluation.scoring import ScoredBatch, scored_batches
from deepresidual.evaluation.views import Views
from deepresidual.models import TorchClassifier, load, require_classifier
from deepresidual.models.model import NOT_FINITE_REMEDY
from deepresidual.models.precision import settle_precision
from deepresidual.runtime.console import ProgressBar, note, warn, warn_each
from deepresidual.runtime.device import (
    Precision,
    PrecisionChoice,
    resolve_device,
    resolve_num_workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.data.loader import Readable
    from deepresidual.data.source import EncodedSample, Split

__all__ = ["EVALUATION_BATCH_SIZE", "Task", "open_task"]

EVALUATION_BATCH_SIZE = 100


@dataclass(frozen=True)
class Task:
    """Models and data, ready to be evaluated.

    Attributes:
        members: The models, on their device; the first one's classes are those of all scores.
        names: How to call each of them.
        source: The data set.
        split: The split that is reported.
        views: What the models see of every image.
        batch_size: Images at a time.
        num_workers: Threads that load.
        precision: Precision of the forward passes.
        rows: The classifier's row of every class of the data set.
    """

    members: tuple[TorchClassifier, ...]
    names: tuple[str, ...]
    source: SampleSource
    split: str
    views: Views
    batch_size: int
    num_workers: int
    precision: Precision
    rows: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of all scores."""
        return self.members[0].label_names

    def samples(self, split: str) -> Readable:
        """Return the samples of a split, labelled by rows of the first member's classifier."""
        return _Relabelled(self.source.split(split), self.rows)

    def scores(
        self,
        split: str,
        label: str = "",
        change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
        status: Callable[[], str] = str,
    ) -> Iterator[ScoredBatch]:
        """Yield the scores of a split under a progress bar; a sample that cannot be used is an error.

        Args:
            split: Name of the split.
            label: What the bar says; the split where left out.
            change: Changes every decoded image before its views are made.
            status: Says how things stand, for the bar.
        """
        samples = self.samples(split)
        done = 0
        with ProgressBar(len(samples), label=label or f"evaluating {split}") as bar:
            for batch in scored_batches(
                self.members,
                samples,
                self.views,
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                precision=self.precision,
                change=change,
            ):
                require_none_bad(batch.bad)
                self._require_finite(batch)
                yield batch
                done += len(batch.keys)
                bar.update(done, status())

    def _require_finite(self, batch: ScoredBatch) -> None:
        for name, scores in zip(self.names, batch.scores, strict=True):
            finite = scores.isfinite().all(dim=1).tolist()
            if False in finite:
                raise ModelFileError(
                    f"{name}: its outputs are not finite for {batch.keys[finite.index(False)]}",
                    remedy=NOT_FINITE_REMEDY,
                )

    def all_scores(self, split: str, label: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of a whole split, ``(M, N, K)`` float32, and its labels, ``(N,)`` int64.

        For what cannot be summed up on the way: the choice of members, and the fit of a temperature. Six
        members on the 50,000 images of ImageNet's validation split take 1.2 GB.
        """
        batches = [(batch.scores.float(), batch.labels) for batch in self.scores(split, label)]
        return (
            torch.cat([scores for scores, _ in batches], dim=1),
            torch.cat([labels for _, labels in batches]),
        )

    def other_split(self, name: str, purpose: str) -> str:
        """Return the split to choose or fit something on, which may not be the one that is reported.

        Raises:
            ConfigurationError: It is the same, or there is none of that name.
        """
        split = canonical_split(name) or name
        self.source.split(split)
        if split == self.split:
            raise ConfigurationError(
                f"{split!r} is the split to report and the one to {purpose}",
                expected="two different splits",
                remedy="hold out some training images with --validation where there is no 'val'",
            )
        return split


def fitted_temperature(scores: torch.Tensor, labels: torch.Tensor, split: str) -> FittedTemperature:
    """Return the temperature of scores ``(N, K)`` on a split."""
    return FittedTemperature(fit_temperature(scores, labels), split, len(labels))


def open_task(
    models: Sequence[TorchClassifier | str | Path],
    data: SampleSource | str | Path,
    *,
    split: str | None,
    views: Views | str,
    validation: float,
    batch_size: int,
    num_workers: int | None,
    device: str,
    precision: PrecisionChoice,
) -> Task:
    """Load models and open data; see :func:`deepresidual.evaluate` for the arguments.

    Raises:
        ConfigurationError: An argument is out of range, or two models know different classes.
        DataError: The data cannot be used, or has a class that the models do not know.
        ModelFileError: A model cannot be loaded, or has no classifier.
    """
    if batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size}", expected="1 or more")
    seen = Views.of(views)
    target = resolve_device(device)
    members = tuple(
        (model if isinstance(model, TorchClassifier) else load(model)).to(target) for model in models
    )
    names = tuple(
        f"model {number}" if isinstance(model, TorchClassifier) else str(model)
        for number, model in enumerate(models, start=1)
    )
    for member, name in zip(members, names, strict=True):
        require_classifier(member, name)
    _require_same_classes(members, names)
    opened = data if isinstance(data, SampleSource) else open_source(data)
    warn_each(opened.ignored)
    source = hold_out(opened, validation)
    chosen = source.evaluation_split if split is None else canonical_split(split) or split
    source.split(chosen)
    sides_px = [seen.preprocess(member.preprocess).crop_px for member in members]
    # The network that takes longest decides for all.
    slowest, slowest_px = max(
        zip(members, sides_px, strict=True), key=lambda pair: pair[0].spec.num_macs(pair[1])
    )
    settled = settle_precision(precision, slowest.spec, target, image_px=slowest_px, training=False)
    if precision == "auto":
        note(f"computing  {settled}")
    return Task(
        members,
        names,
        source,
        chosen,
        seen,
        batch_size,
        resolve_num_workers(num_workers, target, max(sides_px)),
        settled.precision,
        tuple(_rows_of(members[0], source)),
    )


class _Relabelled:
    """A split whose labels are rows of the model's classifier instead of classes of the data set."""

    def __init__(self, split: Split, rows: tuple[int, ...]) -> None:
        self._split, self._rows = split, rows

    def __len__(self) -> int:
        return len(self._split)

    def read(self, index: int) -> EncodedSample:
        sample = self._split.read(index)
        return type(sample)(sample.key, sample.content, self._rows[sample.label])


def _rows_of(model: TorchClassifier, source: SampleSource) -> list[int]:
    """Return the classifier's row of every class of the data set, matched by name and never by position."""
    rows = {name: row for row, name in enumerate(model.label_names)}
    # The data set and the model may come from systems that spell names in different Unicode forms.
    by_form = {unicodedata.normalize("NFC", name): row for name, row in rows.items()}
    for name in source.classes:
        if name not in rows and (form := unicodedata.normalize("NFC", name)) in by_form:
            rows[name] = by_form[form]
    unknown = [name for name in source.classes if name not in rows]
    if unknown:
        known = ", ".join(model.label_names[:8]) + (", …" if len(model.label_names) > 8 else "")
        raise DataError(
            f"{source.name} has {len(unknown)} of {len(source.classes)} classes that the model does not know "
            f"({', '.join(unknown[:8])}{', …' if len(unknown) > 8 else ''})",
            expected=f"classes among {known}",
        )
    absent = len(model.label_names) - len(source.classes)
    if absent:
        warn(f"{source.name} has no samples of {absent} of the model's {len(model.label_names)} classes")
    return [rows[name] for name in source.classes]


def _require_same_classes(members: Sequence[TorchClassifier], names: Sequence[str]) -> None:
    first = set(members[0].label_names)
    for member, name in zip(members, names, strict=True):
        other = set(member.label_names)
        if other != first:
            added, lacking = (listed(part) for part in (other - first, first - other))
            raise ConfigurationError(
                f"{name} and {names[0]} know different classes "
                f"(only the first: {added}; only the second: {lacking})",
                expected="members of an ensemble that know the same classes",
            )
