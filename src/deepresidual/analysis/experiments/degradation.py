"""``degradation``: deeper plain nets get worse, in training already; deeper residual nets get better.

He et al. 2015, figures 1 and 6 (the article's figure 3) on CIFAR-10; figure 4 (the article's figure 7) is the
same on ImageNet and belongs to :mod:`.imagenet`. A residual net and its plain twin have the same parameters:
option A adds none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepresidual.analysis.experiments.errors import measure_errors
from deepresidual.analysis.experiments.experiment import (
    TEST_ERROR,
    TRAINING_ERROR,
    Arm,
    Experiment,
    Metric,
    Results,
    Scale,
    Verdict,
)
from deepresidual.analysis.experiments.figures import STYLES, finish, new_figure, plot_errors, plot_summaries
from deepresidual.analysis.experiments.settings import DATA, twin
from deepresidual.analysis.experiments.verdicts import compared_with_published, failing, gap

_SOURCE = "He et al. 2015, figure 6"
_CURVE = "a curve, without numbers"  # Table 6 has test errors of residual nets alone
_LAYERS: Mapping[Scale, tuple[int, ...]] = {
    "smoke": (8, 14),
    "laptop": (20, 56),
    "paper": (20, 32, 44, 56, 110),
}
_SEEDS: Mapping[Scale, int] = {"smoke": 2, "laptop": 3, "paper": 5}
_KINDS = ("plain", "resnet")
_WORDS = {"plain": "plain nets", "resnet": "residual nets"}


def _arms(scale: Scale) -> tuple[Arm, ...]:
    return tuple(
        twin(scale, kind, layers, num_seeds=_SEEDS[scale], twin=f"{kind}{layers}", source="He et al. 2015")
        for layers in _LAYERS[scale]
        for kind in _KINDS
    )


def _draw(results: Results) -> dict[str, Figure]:
    figure, panels = new_figure(3, width=4.0)
    layers = _LAYERS[results.scale]
    highest = 0.0
    for kind, axes in zip(_KINDS, panels[:2], strict=True):
        for depth, style in zip(layers, STYLES, strict=False):
            tested = replace(style, linestyle="-", width=2.0)
            trained = replace(style, linestyle="--", width=1.0)
            labels = (f"{depth} layers", "")
            drawn = plot_errors(axes, results, f"{kind}-{depth}", tested, trained, labels)
            highest = max(highest, *map(max, drawn)) if drawn else highest
        finish(axes, x="epoch", y="error (%)", title=f"{_WORDS[kind]}; test solid, training dashed")
    for axes in panels[:2]:
        axes.set_ylim(0, 105 * highest if highest else None)
    _draw_over_depth(results, panels[2])
    return {"degradation": figure}


def _draw_over_depth(results: Results, axes: Axes) -> None:
    layers = _LAYERS[results.scale]
    for kind, style in zip(_KINDS, (STYLES[1], STYLES[0]), strict=True):
        names = [f"{kind}-{depth}" for depth in layers]
        plot_summaries(axes, layers, results, names, "training_error", style, f"{_WORDS[kind]}, training")
        if results.comparable:
            plot_summaries(axes, layers, results, names, "test_error", style, f"{_WORDS[kind]}, test")
        rows = [
            (depth, published.top1_error)
            for depth, name in zip(layers, names, strict=True)
            if name in results.arms
            for published in results.arms[name].arm.published
            if not published.is_lower_bound
        ]
        if rows:
            whole = "" if results.comparable else " at full scale"
            label = f"{_WORDS[kind]}, test, published{whole}"
            axes.plot(
                *zip(*rows, strict=True), color="black", marker="D", mfc="white", linestyle="", label=label
            )
    axes.set_xticks(list(layers))
    axes.set_ylim(bottom=0)
    finish(axes, x="layers", y="error (%)", title="at the end; 95 % intervals over seeds")


def _judge(results: Results) -> list[Verdict]:
    shallow, *_, deep = [depth for depth in _LAYERS[results.scale] if depth <= 56]
    claims: list[tuple[Metric, str, str, str, str]] = [
        (TRAINING_ERROR, f"plain-{deep}", f"plain-{shallow}", _CURVE, f"{_SOURCE} left, and figure 1"),
        (TRAINING_ERROR, f"resnet-{shallow}", f"resnet-{deep}", _CURVE, f"{_SOURCE} middle"),
        (TRAINING_ERROR, f"plain-{deep}", f"resnet-{deep}", _CURVE, _SOURCE),
        (TEST_ERROR, f"plain-{deep}", f"plain-{shallow}", _CURVE, f"{_SOURCE} left"),
        (TEST_ERROR, f"resnet-{shallow}", f"resnet-{deep}", "", "He et al. 2015, Table 6"),
    ]
    rows = [
        gap(results, metric, higher, lower, published=published, source=source)
        for metric, higher, lower, published, source in claims
    ]
    if results.scale == "paper":
        rows.append(failing(results, "plain-110", published="> 60 %", source="He et al. 2015, section 4.2"))
    return [*rows, *compared_with_published(results, tolerance=0.5)]


DEGRADATION = Experiment(
    name="degradation",
    claim="Deeper plain nets have a higher training error than shallower ones; deeper residual nets a lower.",
    source="He et al. 2015, figures 1 and 6; the article's figure 3",
    arms=_arms,
    data=DATA,
    measure=measure_errors,
    draw=_draw,
    judge=_judge,
)
