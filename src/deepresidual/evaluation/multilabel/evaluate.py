"""Evaluation of several labels an image on a split: scores of all images in order, then the figures.

Average precision is no sum over images, so scores travel between processes, each image's once, and every
process measures the whole: the figures are the same to the bit on any number of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.loader import Readable, require_none_bad
from deepresidual.errors import DataError, DivergedError
from deepresidual.evaluation.multilabel.metrics import (
    Decisions,
    average_precision,
    decisions,
    mean_average_precision,
    micro_average_precision,
)
from deepresidual.evaluation.multilabel.result import (
    Interval,
    LabelMetrics,
    LabelMistake,
    MultilabelEvaluation,
)
from deepresidual.evaluation.multilabel.thresholds import choose_thresholds, decide_crosswise
from deepresidual.evaluation.scoring import ScoredBatch, scored_batches, until_stopped
from deepresidual.evaluation.views import Views
from deepresidual.models import Classifier
from deepresidual.runtime.compute import ComputeOptions
from deepresidual.runtime.distributed import SINGLE, Processes
from deepresidual.runtime.signals import StopRequest

_NUM_DRAWS = 300
_DRAWS_TOGETHER = 20_000_000  # numbers of a block of draws
_NUM_MISTAKES, _NUM_BEST = 24, 12


@dataclass(frozen=True)
class LabelScores:
    """Scores and labels of the images of a split, in its order.

    Attributes:
        logits: ``(N, K)`` float32.
        targets: ``(N, K)``, which labels each image has.
        indices: ``(N,)`` int64, indices into the split.
        keys: Names of the images.
    """

    logits: NDArray[np.float32]
    targets: NDArray[np.bool_]
    indices: NDArray[np.int64]
    keys: list[str]

    @classmethod
    def of(cls, batch: ScoredBatch) -> LabelScores:
        """Return the scores of a batch of one model."""
        logits = batch.scores[0].float().numpy()
        targets = batch.labels.numpy().reshape(logits.shape) > 0.5
        return cls(logits, targets, batch.indices.numpy(), batch.keys)

    @classmethod
    def together(cls, parts: Sequence[LabelScores]) -> LabelScores:
        """Return the scores of all ``parts`` in the order of the split."""
        indices = np.concatenate([part.indices for part in parts])
        order = np.argsort(indices, kind="stable")
        keys = [key for part in parts for key in part.keys]
        return cls(
            np.concatenate([part.logits for part in parts])[order],
            np.concatenate([part.targets for part in parts])[order],
            indices[order],
            [keys[place] for place in order.tolist()],
        )


def evaluate_labels(
    model: Classifier,
    split: Readable,
    name: str,
    *,
    fingerprint: str = "",
    num_workers: int = 0,
    processes: Processes = SINGLE,
    skip_bad: bool = False,
    stop: StopRequest | None = None,
) -> MultilabelEvaluation:
    """Evaluate a model of several labels an image in float32, as training does.

    Args:
        model: The model, with the thresholds that it has; one without them chooses some.
        split: The split; targets are vectors of zeros and ones in the order of the model's labels.
        name: Its name.
        fingerprint: Its fingerprint, by which the split is known that thresholds were chosen on.
        num_workers: Threads that load images.
        processes: Processes among which the batches are dealt out.
        skip_bad: Whether unreadable samples are left out of the count instead of being an error.
        stop: Request to stop; checked between batches, and at once while waiting for data.

    Raises:
        DataError: A sample cannot be used, or there is none.
        DivergedError: The loss is not finite.
        StopRequested: A stop was requested on any rank.
    """
    batches = scored_batches(
        [model],
        split,
        Views(),
        batch_size=ComputeOptions.batch_size,
        num_workers=num_workers,
        precision="fp32",
        processes=processes,
    )
    parts: list[LabelScores] = []
    for batch in until_stopped(batches, stop, processes):
        if not skip_bad:
            require_none_bad(batch.bad)
        parts.append(LabelScores.of(batch))
    gathered = [part for of_rank in processes.all_gather(parts) for part in of_rank]
    return measure(LabelScores.together(gathered), model, name, fingerprint)


def measure(scores: LabelScores, model: Classifier, name: str, fingerprint: str = "") -> MultilabelEvaluation:
    """Return the figures of the scores of a split.

    Args:
        scores: Of all images.
        model: Names of the labels, and thresholds, which are chosen where it has none.
        name: Name of the split.
        fingerprint: Its fingerprint; figures of the split that thresholds were chosen on are taken crosswise.

    Raises:
        DataError: There is no image.
        DivergedError: A score is not finite.
    """
    targets = scores.targets
    if not len(targets):
        raise DataError(f"{name} has no sample that can be used", remedy="see 'residual check'")
    if not np.isfinite(scores.logits).all():
        raise DivergedError(
            f"outputs on {name} are not finite", remedy="train again with a lower learning rate"
        )
    losses = _losses(scores)
    probabilities = model.probabilities(scores.logits)
    known = model.thresholds
    if known is None:
        thresholds, chosen_on = choose_thresholds(probabilities, targets), name
    else:
        thresholds, chosen_on = list(known.values), known.chosen_on
    if known is None or (fingerprint and known.fingerprint == fingerprint):
        given = decide_crosswise(probabilities, targets)
    else:
        given = model.given_labels(probabilities)
    counted = decisions(given, targets)
    measured = MultilabelEvaluation(
        split=name,
        loss=float(losses.mean()),
        count=len(targets),
        micro_ap=_known(micro_average_precision(scores.logits, targets)[0]),
        exact_match=float((given == targets).all(axis=1).mean()),
        num_without=int((~given.any(axis=1)).sum()),
        per_class=_per_class(scores, model.label_names, thresholds, counted),
        thresholds_from=chosen_on,
        intervals={},
        **_shown(scores, probabilities, given, losses, model.label_names),
    )
    return dataclasses.replace(measured, intervals=_intervals(scores, given, measured.summary()))


def _losses(scores: LabelScores) -> NDArray[np.float64]:
    """Return the binary cross-entropy of each image and label, ``(N, K)``."""
    logits = scores.logits.astype(np.float64)
    losses: NDArray[np.float64] = np.logaddexp(0, logits) - logits * scores.targets
    return losses


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else float(value)


def _per_class(
    scores: LabelScores, names: Sequence[str], thresholds: Sequence[float], counted: Decisions
) -> tuple[LabelMetrics, ...]:
    rows = []
    for row, name in enumerate(names):
        right, given, support = (int(part[0, row]) for part in counted)
        precision = average_precision(scores.logits[:, row], scores.targets[:, row])[0]
        measured = float(precision) if support else None
        rows.append(LabelMetrics(name, thresholds[row], support, given, right, measured))
    return tuple(rows)


def _intervals(
    scores: LabelScores, given: NDArray[np.bool_], figures: Mapping[str, float]
) -> dict[str, Interval]:
    """Return 95 % intervals by the percentiles of a bootstrap over images, the same draws every time.

    In a draw that has lost all positive images of a class this class is left out of the means. Images that
    come twice in a draw raise average precisions; by as much as they do on average it is moved back.
    """
    count, num_labels = scores.targets.shape
    random = np.random.Generator(np.random.PCG64(0))
    block = max(1, _DRAWS_TOGETHER // (count * num_labels))
    is_right = (given == scores.targets).all(axis=1)
    found: dict[str, list[NDArray[np.float64]]] = {}
    for first in range(0, _NUM_DRAWS, block):
        shape = (min(block, _NUM_DRAWS - first), count)
        weights = random.multinomial(count, np.full(count, 1 / count), size=shape[0]).astype(np.float64)
        counted = decisions(given, scores.targets, weights)
        for name, values in {
            "map": mean_average_precision(scores.logits, scores.targets, weights),
            "micro_ap": micro_average_precision(scores.logits, scores.targets, weights),
            "macro_f1": counted.macro_f1,
            "micro_f1": counted.micro_f1,
            "exact_match": weights @ is_right / count,
        }.items():
            found.setdefault(name, []).append(values)
    return {name: _percentiles(np.concatenate(values), figures[name]) for name, values in found.items()}


def _percentiles(values: NDArray[np.float64], figure: float) -> Interval:
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known, [2.5, 97.5]) - (known.mean() - figure)
    return float(max(low, 0.0)), float(min(high, 1.0))


def _shown(
    scores: LabelScores,
    probabilities: NDArray[np.float32],
    given: NDArray[np.bool_],
    losses: NDArray[np.float64],
    names: Sequence[str],
) -> dict[str, tuple[LabelMistake, ...]]:
    """Return the images with the worst mistakes, and the surest of those whose labels are all right."""
    means, is_right = losses.mean(axis=1), (given == scores.targets).all(axis=1)
    order = np.argsort(means, kind="stable")

    def shown(place: int) -> LabelMistake:
        worst = int(losses[place].argmax())
        return LabelMistake(
            index=int(scores.indices[place]),
            key=scores.keys[place],
            labels=tuple(names[row] for row in np.flatnonzero(scores.targets[place]).tolist()),
            predicted=tuple(names[row] for row in np.flatnonzero(given[place]).tolist()),
            doubtful=names[worst],
            probability=float(probabilities[place, worst]),
            loss=float(means[place]),
        )

    wrong, right = order[~is_right[order]][::-1], order[is_right[order]]
    return {
        "mistakes": tuple(shown(place) for place in wrong[:_NUM_MISTAKES].tolist()),
        "best": tuple(shown(place) for place in right[:_NUM_BEST].tolist()),
    }
