"""``gradients``: the shortcut carries the gradient; what it looks like by depth, before and in training.

He et al. 2016, equation 5, and the article's derivation: with h the identity and nothing behind the addition,
x_L = x_l + Σ F, so

    ∂loss/∂x_l = ∂loss/∂x_L · (1 + ∂/∂x_l Σ F) = identity term + residual term.

The identity term, the gradient at the end of the stage, reaches every unit of the stage whole. It is measured
here beside the residual term, which is what remains of the gradient. The equation is exact in pre-activation
nets within a stage; in the original unit the ReLU behind the addition stops some of it.

The networks are in training mode, as the updates see them, on one fixed batch of training images. Norms are
of the gradient of the mean loss over the batch: relative to each other they mean something, not by
themselves.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional

from deepresidual.analysis.experiments.errors import measure_errors
from deepresidual.analysis.experiments.experiment import (
    TRAINING_ERROR,
    Arm,
    ArmResult,
    Experiment,
    FinishedRun,
    Measurement,
    Metric,
    Results,
    Scale,
    Verdict,
)
from deepresidual.analysis.experiments.figures import STYLES, Style, finish, new_figure, plot_band
from deepresidual.analysis.experiments.images import Images, read_images
from deepresidual.analysis.experiments.settings import DATA, arm, network
from deepresidual.analysis.experiments.verdicts import gap, not_measured
from deepresidual.models import create
from deepresidual.nn import ResNet
from deepresidual.nn.probe import Probe, convolution_names, unit_names
from deepresidual.preprocess import Preprocess
from deepresidual.spec import Arrangement, ResNetSpec, Shortcut

_SOURCE = "He et al. 2016, equation 5; the article's derivation"
_YANG = "Yang et al. 2019 (arXiv 1902.08129)"
_LAYERS: Mapping[Scale, tuple[int, ...]] = {"smoke": (14,), "laptop": (20, 56), "paper": (20, 56, 110)}
_SEEDS: Mapping[Scale, int] = {"smoke": 1, "laptop": 3, "paper": 3}
_EPOCHS: Mapping[Scale, float] = {"smoke": 1, "laptop": 2, "paper": 2}
_KINDS: dict[str, tuple[str, Shortcut, Arrangement]] = {
    "plain": ("plain", "none", "original"),
    "resnet": ("residual", "A", "original"),
    "preact": ("pre-activation", "A", "full-preactivation"),
}
_WHEN = {"first": "at initialization", "trained": "in training"}
_BATCH_SIZE = 64
_LEAST_RATIO = 0.5


def _arms(scale: Scale) -> tuple[Arm, ...]:
    arms = []
    for layers in _LAYERS[scale]:
        for kind, (label, shortcut, arrangement) in _KINDS.items():
            spec = network(scale, layers, shortcut, arrangement=arrangement)
            made = arm(scale, f"{kind}-{layers}", f"{label}, {layers} layers", spec, num_seeds=_SEEDS[scale])
            # "In training" is before the rate falls for the first time. At ``laptop`` that is early: all 79
            # updates are of the warm-up, and a plain net of 56 layers still guesses.
            changes = {"epochs": _EPOCHS[scale], "schedule": "constant", "evaluate_every": _EPOCHS[scale]}
            arms.append(dataclasses.replace(made, recipe=made.recipe.changed(changes)))
    return tuple(arms)


# -- measurement -----------------------------------------------------------------------------------------


def _measure(run: FinishedRun) -> Measurement:
    """Return norms by unit and by layer, at initialization and after the updates of the run."""
    images = read_images(run.source.split("train"), run.model, _BATCH_SIZE)
    # The very weights that the run began with: they are a function of the seed.
    first = create(run.model.spec, seed=run.seed).to(run.device).to(memory_format=torch.channels_last)
    series: dict[str, list[float]] = {}
    metrics: dict[str, float] = {}
    for when, net in (("first", first), ("trained", run.model.network)):
        norms = gradient_norms(net, run.model.preprocess, images)
        series |= {f"{name}_{when}": values for name, values in norms.items()}
        metrics[f"spread_{when}"] = math.log10(max(norms["unit"]) / min(norms["unit"]))
        if "identity" in norms:
            metrics[f"least_ratio_{when}"] = least_ratio(net.spec, norms)
    errors = measure_errors(run)
    return Measurement(metrics | {"training_error": errors.metrics["training_error"]}, series)


def least_ratio(spec: ResNetSpec, norms: Mapping[str, Sequence[float]]) -> float:
    """Return the smallest gradient of a unit's output as a multiple of that at the end of its stage.

    The last unit of a stage does not count: its ratio is 1 whatever the network.

    Args:
        spec: A network with two units or more in some stage.
        norms: Result of :func:`gradient_norms`, with ``unit`` and ``identity``.
    """
    last = {unit.stage: unit.name for unit in spec.units()}
    return min(
        total / identity
        for unit, total, identity in zip(spec.units(), norms["unit"], norms["identity"], strict=True)
        if unit.name != last[unit.stage]
    )


def gradient_norms(network: ResNet, preprocess: Preprocess, images: Images) -> dict[str, list[float]]:
    """Return norms of the gradient of the mean loss over the images, with the network in training mode.

    The network is left as it was: its mode, its statistics and its gradients.

    Returns:
        ``unit``: of what every unit puts out, in order; ``weight``: of the weights of every convolution of
        the main path, in order; and of networks with shortcuts, for every unit, ``identity``: of the output
        of the last unit of its stage, which is the identity term, and ``residual``: of what remains.
    """
    device = network.fc.weight.device
    names = unit_names(network.spec)
    weights = [
        cast("nn.Conv2d", network.get_submodule(name)).weight for name in convolution_names(network.spec)
    ]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    was_training = network.training
    network.train()
    try:
        with Probe(network, names) as probe:
            logits = network(preprocess.normalize(images.pixels.to(device)))
            loss = functional.cross_entropy(logits, images.labels.to(device))
            # Of the weights by value, so that no parameter is left with a gradient.
            found = torch.autograd.grad(loss, weights)
    finally:
        network.train(was_training)
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
    norms = {
        "unit": [float(probe.gradients[name].norm()) for name in names],
        "weight": [float(gradient.norm()) for gradient in found],
    }
    if network.spec.shortcut != "none":
        last = {unit.stage: unit.name for unit in network.spec.units()}
        ends = [probe.gradients[last[unit.stage]] for unit in network.spec.units()]
        norms["identity"] = [float(end.norm()) for end in ends]
        norms["residual"] = [
            float((probe.gradients[name] - end).norm()) for name, end in zip(names, ends, strict=True)
        ]
    return norms


# -- figures ---------------------------------------------------------------------------------------------


def _draw(results: Results) -> dict[str, Figure]:
    return {"gradients": _by_depth(results), "identity-term": _identity_term(results)}


def _by_depth(results: Results) -> Figure:
    figure, panels = new_figure(2, width=5.0)
    deep = _LAYERS[results.scale][-1]
    for axes, (when, title) in zip(panels, _WHEN.items(), strict=True):
        for kind, style in zip(_KINDS, (STYLES[1], STYLES[0], STYLES[2]), strict=True):
            if result := results.arms.get(f"{kind}-{deep}"):
                _plot(axes, result, f"unit_{when}", style, result.arm.label)
        axes.set_yscale("log")
        finish(axes, x="unit, from the input", y="norm of the gradient of its output", title=title)
    return figure


def _identity_term(results: Results) -> Figure:
    figure, panels = new_figure(2, width=5.0)
    deep = _LAYERS[results.scale][-1]
    for axes, (when, title) in zip(panels, _WHEN.items(), strict=True):
        if result := results.arms.get(f"preact-{deep}"):
            _plot(axes, result, f"unit_{when}", STYLES[0], "gradient")
            _plot(axes, result, f"identity_{when}", STYLES[2], "identity term")
            _plot(axes, result, f"residual_{when}", STYLES[1], "residual term")
        axes.set_yscale("log")
        finish(axes, x="unit, from the input", y="norm", title=f"pre-activation, {deep} layers, {title}")
    return figure


def _plot(axes: Axes, result: ArmResult, series: str, style: Style, label: str) -> None:
    """Plot a series by unit; a log scale has no place for the last residual term of a stage, which is 0."""
    if curves := result.series(series):
        shown = [[value if value > 0 else math.nan for value in curve] for curve in curves]
        plot_band(axes, list(range(1, len(shown[0]) + 1)), shown, style, label)


# -- verdicts --------------------------------------------------------------------------------------------


def _judge(results: Results) -> list[Verdict]:
    shallow, deep = _LAYERS[results.scale][0], _LAYERS[results.scale][-1]
    trained = f"after {_EPOCHS[results.scale]:g} epochs"
    rows = []
    if shallow != deep:
        rows.append(
            _spreads_more(
                results,
                "first",
                f"plain-{shallow}",
                published="no number: exponential in depth",
                source=_YANG,
                words="at initialization",
            )
        )
    # Equation 5 says nothing of plain nets.
    rows += [
        _spreads_more(
            results, when, f"{kind}-{deep}", published="not claimed by the papers", source=source, words=words
        )
        for when, words, source in (
            ("first", "at initialization", f"ours, after {_YANG}"),
            ("trained", trained, "ours"),
        )
        for kind in ("resnet", "preact")
    ]
    return rows + [
        _does_not_vanish(results, f"preact-{layers}", when, words)
        for layers in _LAYERS[results.scale]
        for when, words in (("first", "at initialization"), ("trained", trained))
    ]


def _spreads_more(
    results: Results, when: str, other: str, *, published: str, source: str, words: str
) -> Verdict:
    """Judge whether the gradients of the deepest plain net spread over more decades than those of another."""
    label = f"decades between the units' largest and smallest gradient, {words},"
    metric = Metric(f"spread_{when}", label, is_error=False)
    deepest = f"plain-{_LAYERS[results.scale][-1]}"
    return gap(results, metric, deepest, other, published=published, source=source)


def _does_not_vanish(results: Results, name: str, when: str, words: str) -> Verdict:
    result = results.arms.get(name)
    label = result.arm.label if result is not None else name
    claim = (
        f"in no unit of {label} before the last of its stage is the gradient much smaller than there, {words}"
    )
    published = 'no number: "unlikely to be canceled out"'
    tolerance = f"at least {_LEAST_RATIO:g} of it, in every seed"
    values = result.values(f"least_ratio_{when}") if result is not None else []
    if not values:
        return not_measured(claim, _SOURCE, published=published, tolerance=tolerance)
    measured = f"smallest ratio {min(values):.2f}, mean of seeds {statistics.fmean(values):.2f}"
    return Verdict(claim, measured, published, tolerance, min(values) >= _LEAST_RATIO, _SOURCE)


GRADIENTS = Experiment(
    name="gradients",
    claim="The identity term carries the gradient to every unit, so that it neither vanishes nor explodes.",
    source="He et al. 2016, equation 5; the article's derivation; He et al. 2015, section 4.1",
    arms=_arms,
    data=DATA,
    measure=_measure,
    draw=_draw,
    judge=_judge,
    columns=(
        Metric("spread_first", "decades of gradient at initialization", is_error=False),
        Metric("spread_trained", "decades in training", is_error=False),
        TRAINING_ERROR,
    ),
)
