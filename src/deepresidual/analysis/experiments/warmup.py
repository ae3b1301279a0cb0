"""``warmup``: at a learning rate of 0.1 from the first update on, deep original nets hardly begin to learn.

He et al. 2015, section 4.2, footnote 5: so trained, ResNet-110 takes several epochs to leave an error of
90 %, which is why its first updates are at 0.01. He et al. 2016, section 4.2 and appendix: with the original
unit the training loss falls very slowly at first, at 1001 layers above all; pre-activated nets need no
warm-up.

Judged is the training loss that the updates count, on images that are seen once, over the last fifth of an
epoch: updates 81 to 100 of 64 images at ``laptop``. It is a claim about a rate of 0.1. At 0.01 the original
unit is as quick, which is what the warm-up makes use of.

The design was tried with seeds 0 to 2; those that are judged are others.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping

from matplotlib.figure import Figure

from deepresidual.analysis.experiments.errors import sound_rows
from deepresidual.analysis.experiments.experiment import (
    Arm,
    DataUse,
    Experiment,
    FinishedRun,
    Measurement,
    Metric,
    Results,
    Scale,
    Verdict,
)
from deepresidual.analysis.experiments.figures import STYLES, finish, new_figure, plot_band, plot_summaries
from deepresidual.analysis.experiments.settings import arm, network
from deepresidual.analysis.experiments.verdicts import gap
from deepresidual.recipe import Augment, Recipe
from deepresidual.reporting.palette import INK
from deepresidual.spec import Arrangement, Unit

_LAYERS: Mapping[Scale, tuple[tuple[int, Unit], ...]] = {
    "smoke": ((8, "basic"), (14, "basic")),
    "laptop": ((20, "basic"), (56, "basic"), (110, "basic")),
    "paper": ((110, "basic"), (1001, "bottleneck")),
}
_SEEDS: Mapping[Scale, int] = {"smoke": 1, "laptop": 3, "paper": 5}
_FIRST_SEED = 10
_KINDS: dict[str, tuple[str, Arrangement]] = {
    "original": ("original", "original"),
    "full": ("pre-activation", "full-preactivation"),
}
_BATCH_SIZE: Mapping[Scale, int] = {"smoke": 10, "laptop": 64, "paper": 128}
_PAD_PX: Mapping[Scale, int] = {"smoke": 1, "laptop": 2, "paper": 4}
_LAST_FIFTH = 0.8
_EARLY_LOSS = Metric(
    "early_loss",
    "training loss of the first updates",
    title="training loss, last fifth of the updates (nats)",
    is_error=False,
)
_FROM_110 = "He et al. 2015, footnote 5; He et al. 2016, section 4.2 and appendix"
_SHALLOWER = "ours: the papers warm up from 110 layers on"


def _arms(scale: Scale) -> tuple[Arm, ...]:
    return tuple(
        dataclasses.replace(
            arm(
                scale,
                f"{name}-{layers}",
                f"{label}, {layers} layers",
                network(scale, layers, unit=unit, arrangement=arrangement),
                num_seeds=_SEEDS[scale],
            ),
            recipe=_recipe(scale),
            first_seed=_FIRST_SEED,
        )
        for layers, unit in _LAYERS[scale]
        for name, (label, arrangement) in _KINDS.items()
    )


def _recipe(scale: Scale) -> Recipe:
    return Recipe(
        name="no warm-up",
        epochs=1.0,
        batch_size=_BATCH_SIZE[scale],
        learning_rate=0.1,
        schedule="constant",
        augment=Augment(crop="pad", flip=True, pad_px=_PAD_PX[scale]),
    )


def _measure(run: FinishedRun) -> Measurement:
    """Return loss and error of the last fifth of the updates, as these counted them, and their curves."""
    windows = [row for row in sound_rows(run) if row["event"] == "train"]
    # Windows are of equal length, except the last one where the updates do not divide.
    begins = [0, *(window["step"] for window in windows[:-1])]
    last = windows[-1]["step"]
    early = [
        (window, window["step"] - begin)
        for window, begin in zip(windows, begins, strict=True)
        if begin >= _LAST_FIFTH * last or window is windows[-1]
    ]
    weights = [count for _, count in early]
    return Measurement(
        metrics={
            "early_loss": statistics.fmean([window["loss"] for window, _ in early], weights),
            "early_error": 1 - statistics.fmean([window["top1"] for window, _ in early], weights),
        },
        series={
            "update": [float(window["step"]) for window in windows],
            "loss": [window["loss"] for window in windows],
        },
    )


def _draw(results: Results) -> dict[str, Figure]:
    figure, (left, middle, right) = new_figure(3, width=4.0)
    layers = [depth for depth, _ in _LAYERS[results.scale]]
    for (name, (label, _)), axes in zip(_KINDS.items(), (left, middle), strict=True):
        for depth, style in zip(layers, STYLES, strict=False):
            result = results.arms.get(f"{name}-{depth}")
            if result is not None and result.series("loss"):
                updates = result.series("update")[0]
                plot_band(axes, updates, result.series("loss"), style, f"{depth} layers")
        axes.axhline(math.log(10), color=INK, linewidth=0.6, linestyle=":")
        finish(axes, x="update", y="training loss (nats); guessing dotted", title=label)
    low, high = zip(left.get_ylim(), middle.get_ylim(), strict=True)
    for axes in (left, middle):
        axes.set_ylim(min(low), max(high))
    for (name, (label, _)), style in zip(_KINDS.items(), (STYLES[1], STYLES[0]), strict=True):
        names = [f"{name}-{depth}" for depth in layers]
        plot_summaries(right, layers, results, names, "early_error", style, label)
    right.set_xticks(layers)
    finish(right, x="layers", y="error of the last fifth (%)", title=f"{results.scale}; 95 % intervals")
    return {"warmup": figure}


def _judge(results: Results) -> list[Verdict]:
    return [
        gap(
            results,
            _EARLY_LOSS,
            f"original-{layers}",
            f"full-{layers}",
            published="a curve, without numbers" if layers >= 110 else "not claimed by the papers",
            source=_FROM_110 if layers >= 110 else _SHALLOWER,
        )
        for layers, _ in _LAYERS[results.scale]
    ]


WARMUP = Experiment(
    name="warmup",
    claim="Deep original nets need a warm-up to begin to learn at a rate of 0.1; pre-activated ones do not.",
    source="He et al. 2015, footnote 5; He et al. 2016, section 4.2, figure 1 and appendix",
    arms=_arms,
    data={
        "smoke": DataUse(num_train=100, num_test=50, default="digits"),
        # Every image once in the 100 updates
        "laptop": DataUse(num_train=6_400, num_test=500),
        "paper": DataUse(),
    },
    measure=_measure,
    draw=_draw,
    judge=_judge,
    columns=(_EARLY_LOSS, Metric("early_error", "training error there")),
)
