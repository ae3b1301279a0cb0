"""``shortcuts``: the identity is the best shortcut.

He et al. 2016, Table 1: scaling, gating, 1×1 convolutions and dropout on the shortcut of ResNet-110 all err
more on CIFAR-10. He et al. 2015, Table 3, compares zero-padding (A), projections where shapes change (B) and
everywhere (C) on ImageNet: the differences there are small.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from deepresidual.analysis.experiments.errors import measure_errors
from deepresidual.analysis.experiments.experiment import TEST_ERROR, Arm, Experiment, Results, Scale, Verdict
from deepresidual.analysis.experiments.figures import draw_arms
from deepresidual.analysis.experiments.settings import DATA, arm, network
from deepresidual.analysis.experiments.verdicts import compared_with_published, failing, gap
from deepresidual.spec import Shortcut
from deepresidual.zoo.published import Published

_TABLE_1 = "He et al. 2016, Table 1"
_LAYERS: Mapping[Scale, int] = {"smoke": 8, "laptop": 20, "paper": 110}
_SEEDS: Mapping[Scale, int] = {"smoke": 1, "laptop": 3, "paper": 5}

# name → label, kind of shortcut, other fields of the spec, its like in the zoo
_KINDS: dict[str, tuple[str, Shortcut, dict[str, Any], str]] = {
    "identity": ("identity (A)", "A", {}, "resnet110"),
    "projection": ("projection where shapes change (B)", "B", {}, ""),
    "convolution": ("1×1 convolution everywhere (C)", "C", {}, "resnet110.c"),
    "scaled": (
        "scaled, 0.5 and 0.5",
        "scaled",
        {"shortcut_scale": 0.5, "residual_scale": 0.5},
        "resnet110.scaled",
    ),
    "exclusive-gate": (
        "exclusive gate, b = −6",
        "exclusive-gating",
        {"gate_bias": -6.0},
        "resnet110.exclusive-gating",
    ),
    "shortcut-gate": (
        "shortcut-only gate, b = −6",
        "shortcut-only-gating",
        {"gate_bias": -6.0},
        "resnet110.shortcut-only-gating",
    ),
    "shortcut-gate-0": ("shortcut-only gate, b = 0", "shortcut-only-gating", {}, ""),
    "dropout": ("dropout 0.5", "dropout", {}, "resnet110.dropout"),
    "none": ("none (plain)", "none", {}, ""),
}
_AT_SMOKE = ("identity", "convolution", "scaled")
_WORSE = ("convolution", "scaled", "exclusive-gate", "shortcut-gate", "shortcut-gate-0", "dropout", "none")

# Not in the zoo, whose gates begin at −6.
_GATE_0 = Published("resnet110, gate b = 0", "cifar10", 12.86, None, "median of 5 runs", _TABLE_1)


def _names(scale: Scale) -> tuple[str, ...]:
    return _AT_SMOKE if scale == "smoke" else tuple(_KINDS)


def _arms(scale: Scale) -> tuple[Arm, ...]:
    arms = [
        arm(
            scale,
            name,
            label,
            dataclasses.replace(network(scale, _LAYERS[scale], kind), **fields),
            num_seeds=_SEEDS[scale],
            paper="cifar2016",
            twin=twin,
            source=_TABLE_1,
        )
        for name, (label, kind, fields, twin) in _KINDS.items()
        if name in _names(scale)
    ]
    return tuple(
        dataclasses.replace(one, published=(_GATE_0,)) if one.name == "shortcut-gate-0" else one
        for one in arms
    )


def _draw(results: Results) -> dict[str, Figure]:
    return {"shortcuts": draw_arms(results, "ResNet-110, CIFAR-10")}


def _judge(results: Results) -> list[Verdict]:
    rows = [
        gap(results, TEST_ERROR, name, "identity", source=_TABLE_1)
        for name in _WORSE
        if name in _names(results.scale)
    ]
    if results.scale != "smoke":
        rows.append(
            gap(
                results,
                TEST_ERROR,
                "identity",
                "projection",
                published="25.03 − 24.52 = 0.51 points (ResNet-34, ImageNet)",
                source="He et al. 2015, Table 3",
                margin=0.01,
            )
        )
    if results.scale == "paper":
        rows += [failing(results, name, published="> 20 %", source=_TABLE_1) for name in ("dropout", "none")]
    return [*rows, *compared_with_published(results, tolerance=1.0)]


SHORTCUTS = Experiment(
    name="shortcuts",
    claim="The identity is the best shortcut: scaled, gated, convolved or dropped out, nets err more.",
    source="He et al. 2016, Table 1; He et al. 2015, Table 3",
    arms=_arms,
    data=DATA,
    measure=measure_errors,
    draw=_draw,
    judge=_judge,
)
