"""``imagenet``: plain and residual nets of 18 to 152 layers on ImageNet, by the recipe of the paper.

He et al. 2015, figure 4 and Table 2 (the article's figure 7): degradation from 18 to 34 layers and its cure;
Table 3: shortcuts A, B and C, and 50 to 152 layers, with ten crops; Table 4: the same at five scales. Table
5, the ensemble, is a matter of evaluating several of the models together.

At ``paper`` this needs ImageNet (1,281,167 photos in ``train/CLASS/``, 50,000 in ``val/CLASS/``) and weeks of
GPU time: 600,000 updates of 256 photos each network. At ``laptop`` the first four networks are a quarter as
wide, on 64 px and a part of the photos.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from matplotlib.figure import Figure

from deepresidual import zoo
from deepresidual.analysis.experiments.errors import measure_errors
from deepresidual.analysis.experiments.experiment import (
    TRAINING_ERROR,
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
from deepresidual.analysis.experiments.figures import STYLES, draw_arms, finish, new_figure, plot_errors
from deepresidual.analysis.experiments.verdicts import compared_with_published, gap
from deepresidual.evaluation import evaluate_split
from deepresidual.recipe import Recipe
from deepresidual.recipe.recipes import named_recipe
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.published import published

_TABLE_2, _TABLE_3 = "He et al. 2015, Table 2", "He et al. 2015, Table 3"
_TEN_CROPS = Metric("ten_crop_error", "10-crop error", title="10 crops")

# name of the arm → label, name in the zoo
_NETS: dict[str, tuple[str, str]] = {
    "plain-18": ("plain-18", "plain18"),
    "resnet-18": ("ResNet-18 A", "resnet18.a"),
    "plain-34": ("plain-34", "plain34"),
    "resnet-34": ("ResNet-34 A", "resnet34.a"),
    "resnet-34-b": ("ResNet-34 B", "resnet34"),
    "resnet-34-c": ("ResNet-34 C", "resnet34.c"),
    "resnet-50": ("ResNet-50 B", "resnet50.v1"),
    "resnet-101": ("ResNet-101 B", "resnet101.v1"),
    "resnet-152": ("ResNet-152 B", "resnet152.v1"),
}
_TWINS = ("plain-18", "resnet-18", "plain-34", "resnet-34")
_NAMES: Mapping[Scale, tuple[str, ...]] = {"smoke": _TWINS, "laptop": _TWINS, "paper": tuple(_NETS)}
_PX: Mapping[Scale, int] = {"smoke": 32, "laptop": 64, "paper": 224}
_WIDTHS: Mapping[Scale, tuple[int, ...] | None] = {
    "smoke": (4, 4, 8, 8),
    "laptop": (16, 32, 64, 128),
    "paper": None,
}
_SEEDS: Mapping[Scale, int] = {"smoke": 1, "laptop": 3, "paper": 1}


def _arms(scale: Scale) -> tuple[Arm, ...]:
    found = []
    for name in _NAMES[scale]:
        label, network = _NETS[name]
        spec = zoo.entry(network).spec
        widths = _WIDTHS[scale]
        if widths is not None:
            spec = dataclasses.replace(spec, widths=widths)
        rows = tuple(row for row in published(network) if row.protocol == "10-crop" and "2015" in row.source)
        found.append(Arm(name, label, spec, _recipe(scale, spec), _SEEDS[scale], _PX[scale], rows))
    return tuple(found)


def _recipe(scale: Scale, spec: ResNetSpec) -> Recipe:
    """Return the recipe of the paper; for less time its augmentation at a smaller size and a cosine."""
    recipe = named_recipe("imagenet2015", spec)
    if scale == "paper":
        return recipe
    px = _PX[scale]
    return dataclasses.replace(
        recipe.changed(
            {
                "epochs": 1 if scale == "smoke" else 10,
                "batch_size": 8 if scale == "smoke" else 128,
                "schedule": "cosine",
                "warmup_epochs": 0 if scale == "smoke" else 1,
                "learning_rate": 0.02 if scale == "smoke" else 0.1,
                "evaluate_every": 1 if scale == "smoke" else 2,
                # Shorter sides of 256 to 480 px for crops of 224
                "min_side_px": round(256 / 224 * px),
                "max_side_px": round(480 / 224 * px),
            }
        ),
        name=f"imagenet2015 at {px} px",
    )


def _measure(run: FinishedRun) -> Measurement:
    """Return errors by one crop, ten crops and whole images at five scales, top-1 and top-5."""
    measured = measure_errors(run)
    name = run.source.evaluation_split
    split = run.source.split(name)
    ten = evaluate_split(run.model, split, name, views="ten-crop")
    whole = evaluate_split(run.model, split, name, views="multi-scale")
    return Measurement(
        metrics=measured.metrics
        | {
            "ten_crop_error": 1 - ten.top1,
            "ten_crop_top5_error": 1 - ten.top5,
            "multi_scale_error": 1 - whole.top1,
            "multi_scale_top5_error": 1 - whole.top5,
        },
        series=measured.series,
    )


def _draw(results: Results) -> dict[str, Figure]:
    curves, panels = new_figure(2, width=4.6)
    for kind, axes in zip(("plain", "resnet"), panels, strict=True):
        for depth, style in zip((18, 34), STYLES, strict=False):
            tested = dataclasses.replace(style, linestyle="-", width=2.0)
            trained = dataclasses.replace(style, linestyle="--", width=1.0)
            plot_errors(axes, results, f"{kind}-{depth}", tested, trained, (f"{depth} layers", ""))
        words = "plain" if kind == "plain" else "residual, option A"
        finish(axes, x="epoch", y="error (%)", title=f"{words}; validation solid, training dashed")
    bars = draw_arms(results, "ImageNet, 10 crops", _TEN_CROPS.name)
    return {"imagenet-curves": curves, "imagenet-errors": bars}


def _judge(results: Results) -> list[Verdict]:
    curve, source = "a curve, without numbers", "He et al. 2015, figure 4"
    rows = [
        gap(results, TRAINING_ERROR, "plain-34", "plain-18", published=curve, source=source),
        gap(results, _TEN_CROPS, "plain-34", "plain-18", source=_TABLE_2),
        gap(results, _TEN_CROPS, "resnet-18", "resnet-34", source=_TABLE_2),
        gap(results, _TEN_CROPS, "plain-34", "resnet-34", source=_TABLE_2),
    ]
    if results.scale == "paper":
        rows += [
            gap(results, _TEN_CROPS, higher, lower, source=_TABLE_3)
            for higher, lower in (
                ("resnet-34", "resnet-34-b"),
                ("resnet-34-b", "resnet-34-c"),
                ("resnet-34-b", "resnet-50"),
                ("resnet-50", "resnet-101"),
                ("resnet-101", "resnet-152"),
            )
        ]
    return [*rows, *compared_with_published(results, tolerance=0.7, metric=_TEN_CROPS)]


IMAGENET = Experiment(
    name="imagenet",
    claim="On ImageNet plain-34 errs more than plain-18; residual nets gain from depth up to 152 layers.",
    source="He et al. 2015, figure 4 and Tables 2 to 4; the article's figure 7",
    arms=_arms,
    data={
        "smoke": DataUse(num_train=64, num_test=24),
        "laptop": DataUse(num_train=10_000, num_test=2_000),
        "paper": DataUse(),
    },
    measure=_measure,
    draw=_draw,
    judge=_judge,
    columns=(
        TRAINING_ERROR,
        Metric("test_error", "1 crop"),
        _TEN_CROPS,
        Metric("ten_crop_top5_error", "10 crops, top-5"),
        Metric("multi_scale_error", "5 scales"),
        Metric("multi_scale_top5_error", "5 scales, top-5"),
    ),
    needs="ImageNet, a folder with train/CLASS/ and val/CLASS/",
)
