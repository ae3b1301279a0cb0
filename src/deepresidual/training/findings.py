"""Find out what a run's images tell beside its model: labels likely to be wrong, and what more would give.

Both need features of a network that has not seen the labels. The network that the run began with is one where
it began with learned weights, and its features of the training images are often in the cache already. So it
costs a pass over the held-out images, about as long as their evaluation, and less than the probe's fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepresidual.data.contents import contents_of
from deepresidual.data.near_copies import near_pairs, picture_hashes
from deepresidual.data.source import SampleSource
from deepresidual.errors import ResidualError
from deepresidual.models import TorchClassifier, load_torch
from deepresidual.nn import body_of
from deepresidual.runs.folder import Run
from deepresidual.runs.read import LABEL_ERRORS, LEARNING_CURVE
from deepresidual.runtime.console import note, warn
from deepresidual.runtime.signals import StopRequested
from deepresidual.tasks import task_of
from deepresidual.tasks.pictures import photo
from deepresidual.training.feature_cache import FeatureCache
from deepresidual.training.features import Features, View, extract_features
from deepresidual.training.label_errors import (
    LabelErrors,
    cross_validate,
    find_label_errors,
    self_confidence,
    to_document,
)
from deepresidual.training.learning_curve import learning_curve
from deepresidual.training.networks import first_network
from deepresidual.training.resources import Resources

if TYPE_CHECKING:
    from numpy.typing import NDArray

# More would take longer than a run's end may: images that are not in the cache, and work of the folds
# (images · features · classes), which is bounded as the probe's is.
_MOST_HELD_OUT, _MOST_WORK = 10_000, 1_000_000_000
_MOST_PHOTOS = 24
# Below, strangers pass for near-copies.
_LEAST_PX = 64


def record_findings(run: Run, source: SampleSource, resources: Resources, weights: Path | None) -> None:
    """On the main process, write ``label-errors.json`` and ``learning-curve.json`` where they mean something.

    Nothing is written of a run that began from nothing, of another task, or of very many images. A signal or
    an image that cannot be read any more leaves them out; the run is not lost for them.

    Args:
        run: The run, finished but for its report.
        source: Its data.
        resources: Device, threads and signals.
        weights: The model folder that it began with; ``None``: it began from nothing.
    """
    if weights is None:
        return
    try:
        _record_findings(run, source, resources, weights)
    except StopRequested:
        warn("labels were not looked at, since the run was asked to stop; everything else is there")
    except ResidualError as error:
        warn(f"labels were not looked at ({error})")


def _record_findings(run: Run, source: SampleSource, resources: Resources, weights: Path) -> None:
    plan = run.plan
    if plan.task != "classification" or len(plan.classes) < 2:
        return
    names = list(source.splits)
    counts = {name: len(source.split(name)) for name in names}
    held_out = sum(count for name, count in counts.items() if name != "train")
    network = body_of(first_network(plan, task_of(plan), weights)).to(resources.device)
    work = sum(counts.values()) * network.num_features * len(plan.classes)
    if held_out > _MOST_HELD_OUT or work > _MOST_WORK:
        note("labels     not looked at: there are too many images to do it at the end of a run")
        return
    model = TorchClassifier(network, plan.classes, plan.preprocess)
    views: tuple[View, ...] = ("center", "mirrored") if plan.recipe.augment.flip else ("center",)
    features = {
        name: extract_features(
            model,
            source.split(name),
            views=views,
            cache=FeatureCache(),
            num_workers=resources.num_workers,
            stop=resources.stop,
            bad_samples=plan.bad_samples,
        )
        for name in names
    }
    with resources.stop.at_once():
        _record(run, source, features, weights)


def _record(run: Run, source: SampleSource, features: dict[str, Features], weights: Path) -> None:
    from threadpoolctl import threadpool_limits

    classes, train = run.plan.classes, features["train"]
    values = np.concatenate([part.values for part in features.values()])
    labels = np.concatenate([part.labels for part in features.values()])
    chosen = run.record.get("probe", {}).get("c")  # by the training images, with the same features
    with threadpool_limits(1):
        crossed = cross_validate(values, labels, len(classes), chosen)
        curve = learning_curve(train.values, train.labels, crossed.c or 0.01)
    found = find_label_errors(crossed, labels)
    scores = self_confidence(crossed.probabilities, labels)
    conflicts = _conflicts(run, source, features, labels, scores)
    if load_torch(weights).label_names == classes:
        found = LabelErrors(
            top1=crossed.top1,
            reason="None are listed: the run began with weights that know these classes, and may have "
            "learned these labels by heart.",
        )
    places = [
        (name, int(index), key)
        for name, part in features.items()
        for index, key in zip(part.indices, part.keys, strict=True)
    ]
    named = [(key, name, classes[label]) for (name, _, key), label in zip(places, labels, strict=True)]
    document = to_document(found, named, classes) | {"num_folds": crossed.num_folds}
    document["conflicts"] = [
        {
            "path": named[place][0],
            "split": named[place][1],
            "label": named[place][2],
            "twin": named[twin][0],
            "twin_label": named[twin][2],
        }
        for place, twin in conflicts
    ]
    photos = dict(_photos(source, run, [places[place] for place in found.places[:_MOST_PHOTOS]]))
    doubled = [places[place] for place, _ in conflicts[:_MOST_PHOTOS]]
    photos |= {f"conflict-{name}": picture for name, picture in _photos(source, run, doubled)}
    run.record_findings({LABEL_ERRORS: document, LEARNING_CURVE: curve.to_dict()}, photos)


def _conflicts(
    run: Run,
    source: SampleSource,
    features: dict[str, Features],
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> list[tuple[int, int]]:
    """Return the near-copies of different labels, of each pair the one first whose label is less probable."""
    if run.plan.preprocess.crop_px < _LEAST_PX:
        return []
    hashes = np.concatenate(
        [
            picture_hashes(split := source.split(name), contents_of(split))[part.indices]
            for name, part in features.items()
        ]
    )
    pairs = [
        (first, second) for first, second in near_pairs(hashes).tolist() if labels[first] != labels[second]
    ]
    known = np.nan_to_num(scores, nan=1.0)
    return [(second, first) if known[second] < known[first] else (first, second) for first, second in pairs]


def _photos(
    source: SampleSource, run: Run, places: list[tuple[str, int, str]]
) -> Iterator[tuple[str, bytes]]:
    for number, (name, index, _) in enumerate(places):
        yield f"{number:02d}", photo(source.split(name).read(index).content, run.plan.preprocess)
