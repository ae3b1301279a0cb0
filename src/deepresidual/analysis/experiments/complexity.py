"""``complexity``: what depth costs, and what it buys on ImageNet; needs no training.

He et al. 2015, Table 1 (the article's table 1) and figure 3 (its figure 5): parameters and multiply-adds,
counted from the specs; the published errors over both; and the article's figure 2, the winners of ILSVRC by
year.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from deepresidual import zoo
from deepresidual.analysis.experiments.experiment import (
    Arm,
    DataUse,
    Experiment,
    FinishedRun,
    Measurement,
    Results,
    Scale,
    Verdict,
)
from deepresidual.analysis.experiments.figures import STYLES, finish, new_figure
from deepresidual.reporting.palette import INK
from deepresidual.zoo.published import published
from deepresidual.zoo.table import stages

_TABLE_1, _TABLE_6 = "He et al. 2015, Table 1", "He et al. 2015, Table 6"
_PX = 224

# 10⁹ multiply-adds, as Table 1 prints them. It does not say whether projections and the classifier count.
_PRINTED_GMACS = {
    "resnet18.a": 1.8,
    "resnet34.a": 3.6,
    "resnet50.v1": 3.8,
    "resnet101.v1": 7.6,
    "resnet152.v1": 11.3,
}
_MACS_TOLERANCE = 0.02

# Millions of parameters, as Table 6 prints them.
_PRINTED_PARAMETERS = {
    "resnet20": "0.27",
    "resnet32": "0.46",
    "resnet44": "0.66",
    "resnet56": "0.85",
    "resnet110": "1.7",
    "resnet1202": "19.4",
}

# 10⁹ multiply-adds (2015, section 3.3: "VGG-16/19 nets (15.3/19.6 billion FLOPs)").
_VGG16_GMACS, _VGG19_GMACS = 15.3, 19.6

_LINES = (
    ("plain", ("plain18", "plain34")),
    ("residual, option A", ("resnet18.a", "resnet34.a")),
    ("residual, option B", ("resnet34", "resnet50.v1", "resnet101.v1", "resnet152.v1")),
)


# Offsets of labels from their marks in points. Default: above.
_LABEL_PLACES = {
    "resnet18.a": (-12, -4),
    "resnet34.a": (12, -3),
    "resnet34": (12, -3),
    "resnet50.v1": (10, 6),
}


@dataclass(frozen=True)
class Winner:
    """A classification entry of ILSVRC in the article's figure 2: top-5 error on the test set in per cent."""

    year: int
    name: str
    top5_error: float
    layers: int | None


# K. He, "Deep Residual Networks", tutorial at ICML 2016, "Revolution of Depth"; entries without a number of
# layers are shallow classifiers on hand-made features.
WINNERS = (
    Winner(2010, "ILSVRC'10", 28.2, None),
    Winner(2011, "ILSVRC'11", 25.8, None),
    Winner(2012, "AlexNet", 16.4, 8),
    Winner(2013, "ILSVRC'13", 11.7, 8),
    Winner(2014, "VGG", 7.3, 19),
    Winner(2014, "GoogLeNet", 6.7, 22),
    Winner(2015, "ResNet", 3.57, 152),
)


def _arms(_scale: Scale) -> tuple[Arm, ...]:
    return ()


def _measure(_run: FinishedRun) -> Measurement:
    return Measurement()


def _macs(name: str) -> int:
    return zoo.entry(name).spec.num_macs(_PX)


def _ten_crop_error(name: str) -> float:
    """Return the published top-1 error with ten crops, of the 2015 paper (Tables 2 and 3), in per cent."""
    return next(
        result.top1_error
        for result in published(name)
        if result.protocol == "10-crop" and result.source.startswith("He et al. 2015")
    )


# -- figures ---------------------------------------------------------------------------------------------


def _draw(_results: Results) -> dict[str, Figure]:
    return {"errors-over-cost": _errors_over_cost(), "stages": _stages(), "winners": _winners()}


def _errors_over_cost() -> Figure:
    figure, (left, right) = new_figure(2, width=4.8)
    for (label, names), style in zip(_LINES, (STYLES[1], STYLES[2], STYLES[0]), strict=True):
        errors = [_ten_crop_error(name) for name in names]
        macs = [_macs(name) / 1e9 for name in names]
        parameters = [zoo.entry(name).spec.num_parameters / 1e6 for name in names]
        for axes, x in ((left, macs), (right, parameters)):
            axes.plot(x, errors, **style.line, markersize=6, label=label)
            for name, place, error in zip(names, x, errors, strict=True):
                layers = str(zoo.entry(name).spec.num_layers)
                offset = _LABEL_PLACES.get(name, (0, 7))
                _label(axes, layers, (place, error), offset, style.color)
    for axes in (left, right):
        axes.margins(0.08, 0.12)
    title = "ImageNet validation, 10 crops, published"
    finish(left, x="multiply-adds for 224 px (10⁹)", y="top-1 error (%)", title=title)
    finish(right, x="parameters (10⁶)", y="top-1 error (%)", title="numbers: weighted layers", legend=False)
    return figure


def _stages() -> Figure:
    """Draw where the multiply-adds of the networks of Table 1 are: stage by stage, stacked."""
    figure, (axes,) = new_figure(1, width=7.2, height=3.8)
    names = list(_PRINTED_GMACS)
    hatches = {"conv1": "", "layer1": "///", "layer2": "...", "layer3": "\\\\\\", "layer4": "xx", "fc": ""}
    papers = {"layer1": "conv2_x", "layer2": "conv3_x", "layer3": "conv4_x", "layer4": "conv5_x"}
    bottoms = [0.0] * len(names)
    for (stage, hatch), style in zip(hatches.items(), (*STYLES[:5], STYLES[5]), strict=True):
        heights = [
            sum(row.num_macs for row in stages(zoo.entry(name).spec, _PX) if row.name == stage) / 1e9
            for name in names
        ]
        axes.bar(
            range(len(names)),
            heights,
            bottom=bottoms,
            width=0.6,
            color=style.color,
            alpha=0.85,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.6,
            label=papers.get(stage, stage),
        )
        bottoms = [below + height for below, height in zip(bottoms, heights, strict=True)]
    for place, (total, printed) in enumerate(zip(bottoms, _PRINTED_GMACS.values(), strict=True)):
        _label(axes, f"{total:.2f}\n(paper {printed:g})", (place, total), (0, 4))
    for label, value in (("VGG-16", _VGG16_GMACS), ("VGG-19", _VGG19_GMACS)):
        axes.axhline(value, color=INK, linestyle=":", linewidth=1)
        axes.annotate(
            f"{label}: {value}", (-0.4, value), xytext=(0, 3), textcoords="offset points", fontsize=8
        )
    axes.set_xticks(range(len(names)), [f"{zoo.entry(name).spec.num_layers} layers" for name in names])
    axes.set_ylim(0, 22)
    finish(
        axes,
        x="",
        y="multiply-adds for 224 px (10⁹)",
        title="where the work is (2015, Table 1)",
        legend=False,
    )
    # The legend reads from the top of the stack.
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    axes.grid(visible=False, axis="x")
    return figure


def _winners() -> Figure:
    """Draw the article's figure 2: error and number of layers by year."""
    figure, (axes,) = new_figure(1, width=7.2, height=3.6)
    places = range(len(WINNERS))
    axes.bar(
        places,
        [winner.top5_error for winner in WINNERS],
        width=0.6,
        color="#b9c6d6",
        edgecolor=INK,
        linewidth=0.7,
        label="top-5 error",
    )
    for place, winner in zip(places, WINNERS, strict=True):
        _label(axes, f"{winner.top5_error:g}", (place, winner.top5_error), (0, 3))
    axes.set_xticks(list(places), [f"{winner.name}\n{winner.year}" for winner in WINNERS])
    axes.set_ylim(0, 32)
    finish(axes, x="", y="top-5 error on ILSVRC's test images (%)", legend=False)
    _draw_layers(axes)
    axes.grid(visible=False, axis="x")
    return figure


def _draw_layers(axes: Axes) -> None:
    right = axes.twinx()
    rows = [(place, winner.layers) for place, winner in enumerate(WINNERS) if winner.layers is not None]
    right.plot(
        [place for place, _ in rows],
        [layers for _, layers in rows],
        color=STYLES[1].color,
        marker="s",
        linestyle="--",
        label="layers",
    )
    for place, layers in rows:
        label = _label(right, f"{layers} layers", (place, layers), (0, 7), STYLES[1].color)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8})
    right.set_ylim(0, 175)
    right.tick_params(labelsize=8)
    right.set_ylabel("weighted layers", fontsize=9, color=STYLES[1].color)
    right.spines[["top"]].set_visible(False)
    handles: list[Any] = [axes.containers[0], right.lines[0]]
    right.legend(
        handles, ["top-5 error (left)", "layers (right)"], frameon=False, fontsize=8, loc="upper center"
    )


def _label(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], color: str | None = None
) -> Annotation:
    """Write a text ``offset`` points from a place in the panel."""
    return axes.annotate(
        text, at, xytext=offset, textcoords="offset points", fontsize=8, ha="center", color=color
    )


# -- verdicts --------------------------------------------------------------------------------------------


def _judge(_results: Results) -> list[Verdict]:
    share = _macs("resnet34.a") / 1e9 / _VGG19_GMACS
    rows = [
        Verdict(
            f"multiply-adds of {name} at {_PX} px",
            f"{_macs(name) / 1e9:.3f} × 10⁹",
            f"{printed:g} × 10⁹",
            f"± {_MACS_TOLERANCE:.0%}",
            abs(_macs(name) / 1e9 / printed - 1) <= _MACS_TOLERANCE,
            _TABLE_1,
        )
        for name, printed in _PRINTED_GMACS.items()
    ]
    for name, printed_text in _PRINTED_PARAMETERS.items():
        parameters = zoo.entry(name).spec.num_parameters
        decimals = len(printed_text.split(".")[1])
        rows.append(
            Verdict(
                f"parameters of {name}",
                f"{parameters:,}",
                f"{printed_text} M",
                "rounds to it",
                f"{parameters / 1e6:.{decimals}f}" == printed_text,
                _TABLE_6,
            )
        )
    plain, residual = (zoo.entry(name).spec.num_parameters for name in ("plain34", "resnet34.a"))
    rows += [
        Verdict(
            "a plain net and its residual twin of option A have the same parameters",
            f"{plain:,} and {residual:,}",
            "no extra parameter",
            "equal",
            plain == residual,
            "He et al. 2015, section 4.1",
        ),
        Verdict(
            "ResNet-34 as a share of VGG-19's multiply-adds",
            f"{share:.1%}",
            "18 %",
            "± 1 point",
            abs(share - 0.18) <= 0.01,
            "He et al. 2015, section 3.3",
        ),
        Verdict(
            "ResNet-152 costs less than VGG-16",
            f"{_macs('resnet152.v1') / 1e9:.2f} × 10⁹ against {_VGG16_GMACS} × 10⁹",
            "11.3 against 15.3",
            "less",
            _macs("resnet152.v1") / 1e9 < _VGG16_GMACS,
            "He et al. 2015, section 4.1",
        ),
    ]
    return rows


def _tables(_results: Results) -> str:
    """Return Table 1: stage by stage, sizes, layers and multiply-adds of the five networks."""
    specs = {name: zoo.entry(name).spec for name in _PRINTED_GMACS}
    lines = [
        "## Stages (2015, Table 1)",
        "",
        f"| stage | output | {' | '.join(f'{spec.num_layers} layers' for spec in specs.values())} |",
        f"|---|---|{'---|' * len(specs)}",
    ]
    columns = [stages(spec, _PX) for spec in specs.values()]
    for rows in zip(*columns, strict=True):
        first = rows[0]
        cells = [
            ", ".join(row.layers) + (f" (× {row.num_units})" if row.num_units > 1 else "") for row in rows
        ]
        name = first.paper_name or first.name
        lines.append(f"| {name} | {first.output_px} × {first.output_px} | {' | '.join(cells)} |")
    macs = " | ".join(f"{spec.num_macs(_PX) / 1e9:.3f}" for spec in specs.values())
    parameters = " | ".join(f"{spec.num_parameters:,}" for spec in specs.values())
    lines += [f"| multiply-adds (10⁹) | | {macs} |", f"| parameters | | {parameters} |"]
    return "\n".join(lines)


COMPLEXITY = Experiment(
    name="complexity",
    claim="Depth costs little: ResNet-152 has fewer multiply-adds than VGG-16 and errs the least.",
    source="He et al. 2015, Tables 1, 3 and 6, figure 3; the article's figures 2 and 5, table 1",
    arms=_arms,
    data={"smoke": DataUse(), "laptop": DataUse(), "paper": DataUse()},
    measure=_measure,
    draw=_draw,
    judge=_judge,
    columns=(),
    needs="no data",
    tables=_tables,
)
