"""``responses``: residual functions are small: layers of residual nets respond less than those of plain nets.

He et al. 2015, figure 7: the standard deviation of the response of every 3×3 layer on CIFAR-10, where a
response is what the layer puts out after BN and before ReLU and addition. Here over the held-out images, all
channels and positions, with the network in evaluation mode; the paper does not say which images and mode it
took.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping

import torch
from matplotlib.figure import Figure

from deepresidual.analysis.experiments.errors import measure_errors
from deepresidual.analysis.experiments.experiment import (
    TEST_ERROR,
    TRAINING_ERROR,
    Arm,
    Experiment,
    FinishedRun,
    Measurement,
    Metric,
    Results,
    Scale,
    Verdict,
)
from deepresidual.analysis.experiments.figures import STYLES, finish, new_figure, plot_band
from deepresidual.analysis.experiments.images import Images, read_images
from deepresidual.analysis.experiments.settings import DATA, twin
from deepresidual.analysis.experiments.verdicts import gap
from deepresidual.models import TorchClassifier
from deepresidual.nn.probe import Probe, response_names

_SOURCE = "He et al. 2015, figure 7"
_NETS: Mapping[Scale, tuple[tuple[str, int], ...]] = {
    "smoke": (("plain", 8), ("resnet", 8)),
    "laptop": (("plain", 20), ("plain", 56), ("resnet", 20), ("resnet", 56)),
    "paper": (("plain", 20), ("plain", 56), ("resnet", 20), ("resnet", 56), ("resnet", 110)),
}
_SEEDS: Mapping[Scale, int] = {"smoke": 1, "laptop": 3, "paper": 3}
_MOST_IMAGES = 1_000
_MEDIAN_RESPONSE = Metric(
    "median_response", "median response", title="median deviation of responses", is_error=False
)


def _arms(scale: Scale) -> tuple[Arm, ...]:
    return tuple(twin(scale, kind, layers, num_seeds=_SEEDS[scale]) for kind, layers in _NETS[scale])


def _measure(run: FinishedRun) -> Measurement:
    """Return the errors and the deviation of every layer's response, in order and by size."""
    errors = measure_errors(run)
    split = run.source.split(run.source.evaluation_split)
    deviations = response_deviations(run.model, read_images(split, run.model, _MOST_IMAGES))
    return Measurement(
        metrics={
            "median_response": statistics.median(deviations),
            "training_error": errors.metrics["training_error"],
            "test_error": errors.metrics["test_error"],
        },
        series={"deviation": deviations, "ranked": sorted(deviations, reverse=True)},
    )


def response_deviations(model: TorchClassifier, images: Images, batch_size: int = 100) -> list[float]:
    """Return the standard deviation of every response of the main path, in order, conv1's first.

    Over images, channels and positions together. Sums are taken in float64, so that batches do not show.
    """
    names = response_names(model.spec)
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in names}
    with Probe(model.network, names, reduce=_moments) as probe:
        for pixels, _ in images.batches(batch_size):
            model.logits(pixels.numpy())
            for name in names:
                sums[name] += probe.activations[name].cpu()
    found = []
    for name in names:
        count, total, squares = sums[name].tolist()
        found.append(math.sqrt(max(0.0, squares / count - (total / count) ** 2)))
    return found


def _moments(output: torch.Tensor) -> torch.Tensor:
    """Return number, sum and sum of squares of all elements."""
    values = output.double()
    return torch.stack([values.new_tensor(values.numel()), values.sum(), values.square().sum()])


def _draw(results: Results) -> dict[str, Figure]:
    figure, (left, right) = new_figure(2, width=5.2)
    for axes, series, label, title in (
        (left, "deviation", "layer, in order", "in the order of the layers"),
        (right, "ranked", "layer, by size", "ranked by size"),
    ):
        for result, style in zip(results.arms.values(), STYLES, strict=False):
            curves = result.series(series)
            if curves:
                layers = list(range(1, len(curves[0]) + 1))
                plot_band(axes, layers, curves, dataclasses.replace(style, width=1.2), result.arm.label)
        axes.set_ylim(bottom=0)
        finish(axes, x=label, y="standard deviation of the response", title=title)
    return {"responses": figure}


def _judge(results: Results) -> list[Verdict]:
    nets = _NETS[results.scale]
    plain = [layers for kind, layers in nets if kind == "plain"]
    deep = [layers for kind, layers in nets if kind == "resnet"]
    pairs = [(f"plain-{layers}", f"resnet-{layers}") for layers in plain]
    pairs += [(f"resnet-{shallow}", f"resnet-{deeper}") for shallow, deeper in itertools.pairwise(deep)]
    return [
        gap(results, _MEDIAN_RESPONSE, higher, lower, published="a curve, without numbers", source=_SOURCE)
        for higher, lower in pairs
    ]


RESPONSES = Experiment(
    name="responses",
    claim="Layers of residual nets respond less than those of plain nets, and the less the deeper the net.",
    source="He et al. 2015, figure 7",
    arms=_arms,
    data=DATA,
    measure=_measure,
    draw=_draw,
    judge=_judge,
    columns=(_MEDIAN_RESPONSE, TRAINING_ERROR, TEST_ERROR),
)
