"""``preactivation``: full pre-activation helps, and the more the deeper the net.

He et al. 2016, Table 3 and figures 1 and 6: ResNet-110, 164 and 1001, original and pre-activated. At 1001
layers the original unit errs more than at 164; the proposed one less.

On training images the paper finds two things (section 4.2). At 1001 layers the original unit is harder to
optimize, and its training loss is the highest (figure 1). At 110 and 164 layers both train well, and the
proposed unit ends at a slightly *higher* training loss and a lower test error: BN regularizes there (figure 6
right). So a higher training error of the original unit is claimed at 1001 layers alone.
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
    Metric,
    Results,
    Scale,
    Verdict,
)
from deepresidual.analysis.experiments.figures import STYLES, finish, new_figure, plot_errors, plot_summaries
from deepresidual.analysis.experiments.settings import DATA, arm, network
from deepresidual.analysis.experiments.verdicts import compared_with_published, gap
from deepresidual.spec import Arrangement, Unit
from deepresidual.zoo.published import published

_TABLE_3 = "He et al. 2016, Table 3"
_LAYERS: Mapping[Scale, tuple[tuple[int, Unit], ...]] = {
    "smoke": ((8, "basic"), (14, "basic")),
    "laptop": ((20, "basic"), (56, "basic")),
    "paper": ((110, "basic"), (164, "bottleneck"), (1001, "bottleneck")),
}
_SEEDS: Mapping[Scale, int] = {"smoke": 1, "laptop": 3, "paper": 5}
_KINDS: dict[str, tuple[str, Arrangement, str]] = {
    "original": ("original", "original", ""),
    "full": ("pre-activation", "full-preactivation", ".preact"),
}
_PRINTED = (110, 164, 1001)
_CURVE = "a curve, without numbers"
_TRAINING_LOSS = Metric("training_loss", "training loss at the end", is_error=False)


def _arms(scale: Scale) -> tuple[Arm, ...]:
    return tuple(
        arm(
            scale,
            f"{name}-{layers}",
            f"{label}, {layers} layers",
            network(scale, layers, unit=unit, arrangement=arrangement),
            num_seeds=_SEEDS[scale],
            paper="cifar2016",
            twin=f"resnet{layers}{suffix}",
            source="He et al. 2016",
        )
        for layers, unit in _LAYERS[scale]
        for name, (label, arrangement, suffix) in _KINDS.items()
    )


def _draw(results: Results) -> dict[str, Figure]:
    figure, (left, middle, right) = new_figure(3, width=4.0)
    layers = [depth for depth, _ in _LAYERS[results.scale]]
    styles = {"original": STYLES[1], "full": STYLES[0]}
    for name, (label, _, _) in _KINDS.items():
        tested = replace(styles[name], linestyle="-")
        trained = replace(styles[name], linestyle=":", width=1.0)
        labels = (f"{label}, test", f"{label}, training")
        plot_errors(left, results, f"{name}-{layers[-1]}", tested, trained, labels)
        names = [f"{name}-{depth}" for depth in layers]
        plot_summaries(middle, layers, results, names, "test_error", styles[name], label)
    left.set_ylim(bottom=0)
    finish(left, x="epoch", y="error (%)", title=f"{layers[-1]} layers")
    middle.set_xticks(layers)
    finish(middle, x="layers", y="test error (%)", title=f"measured, {results.scale}; 95 % intervals")
    for name, (label, _, suffix) in _KINDS.items():
        errors = [
            next(row.top1_error for row in published(f"resnet{depth}{suffix}") if "median" in row.protocol)
            for depth in _PRINTED
        ]
        right.plot(_PRINTED, errors, **styles[name].line, markerfacecolor="white", label=label)
    right.set_xscale("log")
    right.set_xticks(_PRINTED, [str(depth) for depth in _PRINTED])
    right.minorticks_off()
    finish(right, x="layers (logarithmic)", y="test error (%)", title="published, CIFAR-10 (Table 3)")
    return {"preactivation": figure}


def _judge(results: Results) -> list[Verdict]:
    depths = [depth for depth, _ in _LAYERS[results.scale]]
    rows = [
        gap(results, TEST_ERROR, f"original-{depth}", f"full-{depth}", source=_TABLE_3) for depth in depths
    ]
    if results.scale == "paper":
        rows += [
            gap(
                results,
                _TRAINING_LOSS,
                f"full-{depth}",
                f"original-{depth}",
                published=_CURVE,
                source="He et al. 2016, section 4.2 and figure 6 right",
            )
            for depth in (110, 164)
        ]
        source = "He et al. 2016, figure 1"
        rows.append(
            gap(results, TRAINING_ERROR, "original-1001", "full-1001", published=_CURVE, source=source)
        )
    return [*rows, *compared_with_published(results, tolerance=0.6)]


PREACTIVATION = Experiment(
    name="preactivation",
    claim="Full pre-activation errs less than the original unit, the more so the deeper the net.",
    source="He et al. 2016, Table 3, figures 1 and 6",
    arms=_arms,
    data=DATA,
    measure=measure_errors,
    draw=_draw,
    judge=_judge,
)
