"""Fit the classifier that a run begins with to the features that its network has of the training images."""

from __future__ import annotations

import dataclasses
import time

from deepresidual.data.source import SampleSource
from deepresidual.data.source.multilabel import MULTILABEL
from deepresidual.models import TorchClassifier
from deepresidual.nn import ResNet, body_of
from deepresidual.runs.folder import Run
from deepresidual.runtime.console import note
from deepresidual.runtime.signals import StopRequested
from deepresidual.training.feature_cache import FeatureCache
from deepresidual.training.features import View, extract_features
from deepresidual.training.journal import Journal
from deepresidual.training.label_probe import fit_label_probe
from deepresidual.training.probe import LinearProbe, fit_probe, with_probe
from deepresidual.training.resources import Resources
from deepresidual.training.updater import Updater

_SAID_FROM = 20_000


def fit_classifier(
    updater: Updater, run: Run, source: SampleSource, resources: Resources, journal: Journal
) -> dict[str, str]:
    """Fit the classifier of a run's network by a probe; the main process does, the others are told.

    Args:
        updater: Network and average of the run.
        run: The run; ``run.json`` gets what was fitted and how well.
        source: The data.
        resources: Device, threads and processes.
        journal: Shows how many images are done.

    Returns:
        Samples that could not be used, by name, with the reason.

    Raises:
        StopRequested: Any process received a signal.
    """
    processes, network, exit_code = resources.processes, body_of(updater.network), 0
    fitted: tuple[LinearProbe, dict[str, str]] | None = None
    with processes.failing_together():
        if processes.is_main:
            try:
                fitted = _fitted(network, run, source, resources, journal)
            except StopRequested as request:
                exit_code = request.exit_code
    (exit_code,) = processes.all_max(exit_code or resources.stop.exit_code)
    if exit_code:
        raise StopRequested(exit_code)
    fitted = processes.broadcast(fitted)
    assert fitted is not None  # noqa: S101  # the main process has fitted it
    probe, bad = fitted
    with_probe(network, probe)
    if updater.average is not None:
        updater.average.network.load_state_dict(network.state_dict())
    return bad


def _fitted(
    network: ResNet, run: Run, source: SampleSource, resources: Resources, journal: Journal
) -> tuple[LinearProbe, dict[str, str]]:
    plan, started = run.plan, time.monotonic()
    split = source.split("train")
    views: tuple[View, ...] = ("center", "mirrored") if plan.recipe.augment.flip else ("center",)
    if len(split) > _SAID_FROM:
        note(f"probe      {len(split):,} images go through the network first; --minutes does not bound that")
    features = extract_features(
        TorchClassifier(network, plan.classes, plan.preprocess),
        split,
        views=views,
        cache=FeatureCache(),
        num_workers=resources.num_workers,
        stop=resources.stop,
        bad_samples=plan.bad_samples,
        progress=lambda done, total: journal.before("features", done, total),
    )
    # By sampling or by weights is the same to a fit of all images.
    seen, balanced = time.monotonic(), plan.recipe.balance != "none"
    with resources.stop.at_once():
        if plan.task == MULTILABEL:
            probe = fit_label_probe(features.values, features.labels > 0, balanced=balanced)
        else:
            probe = fit_probe(
                features.values,
                features.labels,
                len(plan.classes),
                balanced=balanced,
                class_prior=plan.recipe.class_prior,
            )
    facts = {
        name: value for name, value in dataclasses.asdict(probe).items() if name not in ("weight", "bias")
    }
    facts |= {"num_images": len(features.labels), "num_features": features.values.shape[2]}
    facts |= {"seconds": {"features": seen - started, "fit": time.monotonic() - seen}}
    run.set_status("running", 0, facts={"probe": facts})
    return probe, {sample.key: sample.reason for sample in features.bad}
