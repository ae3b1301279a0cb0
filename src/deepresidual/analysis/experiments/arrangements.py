"""``arrangements``: where BN and ReLU stand in a unit matters; before everything else is best.

He et al. 2016, figure 4 (the article's figure 8) and Table 2, on ResNet-110 and on bottleneck nets of 164
layers.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from deepresidual.analysis.experiments.errors import measure_errors
from deepresidual.analysis.experiments.experiment import TEST_ERROR, Arm, Experiment, Results, Scale, Verdict
from deepresidual.analysis.experiments.figures import draw_arms
from deepresidual.analysis.experiments.settings import DATA, arm, network
from deepresidual.analysis.experiments.verdicts import compared_with_published, gap
from deepresidual.spec import Arrangement, Unit

_TABLE_2 = "He et al. 2016, Table 2"
_LAYERS: Mapping[Scale, tuple[tuple[int, Unit], ...]] = {
    "smoke": ((8, "basic"),),
    "laptop": ((56, "basic"),),
    "paper": ((110, "basic"), (164, "bottleneck")),
}
_SEEDS: Mapping[Scale, int] = {"smoke": 1, "laptop": 3, "paper": 5}

# name → label, arrangement, what the zoo calls it behind the depth
_KINDS: dict[str, tuple[str, Arrangement, str]] = {
    "original": ("original", "original", ""),
    "bn-after": ("BN after addition", "bn-after-addition", ".bnadd"),
    "relu-before": ("ReLU before addition", "relu-before-addition", ".relubefore"),
    "relu-only": ("ReLU-only pre-activation", "relu-only-preactivation", ".reluonly"),
    "full": ("full pre-activation", "full-preactivation", ".preact"),
}


def _arms(scale: Scale) -> tuple[Arm, ...]:
    several = len(_LAYERS[scale]) > 1
    return tuple(
        arm(
            scale,
            f"{name}-{layers}",
            f"{label}, {layers} layers" if several else label,
            network(scale, layers, unit=unit, arrangement=arrangement),
            num_seeds=_SEEDS[scale],
            paper="cifar2016",
            twin=f"resnet{layers if scale == 'paper' else 110}{suffix}",
            source=_TABLE_2 if suffix else "He et al. 2016, Table 1" if unit == "basic" else _TABLE_2,
        )
        for layers, unit in _LAYERS[scale]
        for name, (label, arrangement, suffix) in _KINDS.items()
    )


def _draw(results: Results) -> dict[str, Figure]:
    nets = "110 and 164 layers" if results.scale == "paper" else "110 layers"
    return {"arrangements": draw_arms(results, f"{nets}, CIFAR-10")}


def _judge(results: Results) -> list[Verdict]:
    rows = [
        gap(results, TEST_ERROR, f"{higher}-{layers}", f"{lower}-{layers}", source=_TABLE_2)
        for layers, _ in _LAYERS[results.scale]
        for higher, lower in (("bn-after", "original"), ("relu-before", "original"), ("original", "full"))
    ]
    return [*rows, *compared_with_published(results, tolerance=0.6)]


ARRANGEMENTS = Experiment(
    name="arrangements",
    claim="Of five places for BN and ReLU, before the convolutions is best and BN behind the addition worst.",
    source="He et al. 2016, figure 4 and Table 2; the article's figure 8",
    arms=_arms,
    data=DATA,
    measure=measure_errors,
    draw=_draw,
    judge=_judge,
)
