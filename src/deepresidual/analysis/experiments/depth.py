"""``depth``: the error of residual nets falls with depth, up to where the images no longer suffice.

He et al. 2015, Table 6 and figure 6: 20 to 110 layers on CIFAR-10, and 1202, which trains well and errs more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from matplotlib.figure import Figure

from deepresidual.analysis.experiments.errors import measure_errors
from deepresidual.analysis.experiments.experiment import (
    TEST_ERROR,
    TRAINING_ERROR,
    Arm,
    Experiment,
    Results,
    Scale,
    Verdict,
)
from deepresidual.analysis.experiments.figures import STYLES, finish, new_figure, plot_errors, plot_summaries
from deepresidual.analysis.experiments.settings import DATA, arm, network
from deepresidual.analysis.experiments.verdicts import compared_with_published, gap, not_measured
from deepresidual.reporting.palette import INK
from deepresidual.zoo.published import published

_TABLE_6 = "He et al. 2015, Table 6"
_LAYERS: Mapping[Scale, tuple[int, ...]] = {
    "smoke": (8, 14),
    "laptop": (8, 20, 56),
    "paper": (20, 32, 44, 56, 110, 1202),
}
_SEEDS: Mapping[Scale, int] = {"smoke": 1, "laptop": 3, "paper": 5}
_PRINTED = (20, 32, 44, 56, 110, 1202)


def _arms(scale: Scale) -> tuple[Arm, ...]:
    return tuple(
        arm(
            scale,
            f"resnet-{layers}",
            f"ResNet-{layers}",
            network(scale, layers),
            # The paper ran the longest once.
            num_seeds=1 if layers == 1202 else _SEEDS[scale],
            twin=f"resnet{layers}",
            source=_TABLE_6,
        )
        for layers in _LAYERS[scale]
    )


def _draw(results: Results) -> dict[str, Figure]:
    figure, (left, middle, right) = new_figure(3, width=4.0)
    layers = _LAYERS[results.scale]
    for depth, style in zip(layers, STYLES, strict=False):
        trained = replace(style, marker="", linestyle=":", width=0.9)
        plot_errors(left, results, f"resnet-{depth}", style, trained, (f"{depth} layers", ""))
    left.set_ylim(bottom=0)
    finish(left, x="epoch", y="error (%)", title="test, and training dotted")
    names = [f"resnet-{depth}" for depth in layers]
    plot_summaries(middle, layers, results, names, "test_error", STYLES[0], "test")
    plot_summaries(middle, layers, results, names, "training_error", STYLES[1], "training")
    finish(middle, x="layers", y="error (%)", title=f"measured, {results.scale}; 95 % intervals")
    rows = [
        (depth, row) for depth in _PRINTED for row in published(f"resnet{depth}") if row.source == _TABLE_6
    ]
    right.errorbar(
        [depth for depth, _ in rows],
        [row.top1_error for _, row in rows],
        yerr=[row.std or 0.0 for _, row in rows],
        color=INK,
        marker="D",
        markerfacecolor="white",
        linestyle="",
        capsize=3,
        label="test; 110 layers: best, and mean ± std of 5",
    )
    right.set_xscale("log")
    right.set_xticks(_PRINTED, [str(depth) if depth != 32 else "" for depth in _PRINTED])
    right.minorticks_off()
    finish(right, x="layers (logarithmic)", y="error (%)", title="published, 32 px, 64,000 updates (Table 6)")
    return {"depth": figure}


def _judge(results: Results) -> list[Verdict]:
    layers = [depth for depth in _LAYERS[results.scale] if depth <= 110]
    deep = layers[-1]
    # The paper's comparison begins at 20 layers, and a shallower net is one of ours.
    shallow = dict.fromkeys([*(depth for depth in layers if depth in _PRINTED), layers[0]])
    rows = []
    for depth in shallow:
        if depth == deep:
            continue
        names = f"resnet-{depth}", f"resnet-{deep}"
        ours = "" if depth in _PRINTED else f"ours: the paper has no net of {depth} layers"
        rows += [
            gap(results, TEST_ERROR, *names, source=ours or _TABLE_6),
            gap(
                results,
                TRAINING_ERROR,
                *names,
                published="not printed" if ours else "a curve, without numbers",
                source=ours or "He et al. 2015, figure 6 middle",
            ),
        ]
    if results.scale == "paper":
        rows += [_longest_trains(results), _longest_errs_more(results)]
    return [*rows, *compared_with_published(results, tolerance=0.5)]


def _longest_trains(results: Results) -> Verdict:
    claim = "1202 layers can be optimized"
    # The paper's figure is of the training curve, on augmented images, which are harder.
    tolerance = "error below 0.1 % on the training images as they are; the paper's is of augmented ones"
    source = "He et al. 2015, section 4.2"
    result = results.arms.get("resnet-1202")
    summary = result.summary("training_error") if result is not None else None
    if summary is None:
        return not_measured(claim, source, published="< 0.1 %", tolerance=tolerance)
    measured = f"{100 * summary.mean:.3f} %"
    return Verdict(claim, measured, "< 0.1 %", tolerance, summary.mean < 0.001, source)


def _longest_errs_more(results: Results) -> Verdict:
    claim = "test error of ResNet-1202 above that of ResNet-110"
    text = "7.93 − 6.43 = 1.50 points"
    longest, other = (results.arms.get(f"resnet-{depth}") for depth in (1202, 110))
    if longest is None or other is None or not (longest.values("test_error") and other.values("test_error")):
        return not_measured(claim, _TABLE_6, published=text)
    value, others = longest.values("test_error")[0], other.values("test_error")
    measured = f"{100 * value:.2f} % against {100 * min(others):.2f} to {100 * max(others):.2f} %"
    # Of one run there is no interval: it has to lie above every run of the other.
    return Verdict(claim, measured, text, "above every run", value > max(others), _TABLE_6)


DEPTH = Experiment(
    name="depth",
    claim="Residual nets gain from depth, from 20 to 110 layers; 1202 layers still train, and overfit.",
    source="He et al. 2015, Table 6 and figure 6",
    arms=_arms,
    data=DATA,
    measure=measure_errors,
    draw=_draw,
    judge=_judge,
)
