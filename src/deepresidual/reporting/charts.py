"""Charts as SVG that stands in a page: text in the page's ink, so that they are read by day and by night.

Whatever a colour tells, a dash, a marker or a place tells as well, so a gray print loses nothing. A chart is
narrow: on a phone they stand below each other, and a label keeps the size that it was drawn at.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepresidual.reporting.palette import BLUE, COLORS, INK, LIGHT_GRAY

MARKED_POINTS = 40
"""With as many points or more, their markers would run into each other."""

# Over so much of the steps a curve is averaged; of fewer points nothing is gained by it.
_SMOOTHED_SHARE, _FEWEST_TO_SMOOTH = 0.05, 20
_LARGEST = 1e30  # far below where a chart overflows
_WIDTH, _HEIGHT = 4.7, 3.3  # inches of 72 points
_MARKERS = ("o", "D", "s")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


@dataclass(frozen=True)
class Curve:
    """One curve of a chart.

    Attributes:
        x: Epochs.
        y: Values.
        label: Its entry in the legend.
        color: A colour.
        dash: A line style of matplotlib.
        marker: What marks its points, as matplotlib names it; empty: nothing.
        is_smoothed: Whether its moving mean is drawn over it, and the values themselves pale.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str
    color: str = BLUE
    dash: Any = "-"
    marker: str = ""
    is_smoothed: bool = False


def has_points(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Return whether every line of metrics has the figure, as a number that a chart can hold."""
    return all(type(row.get(name)) in (int, float) and abs(row[name]) <= _LARGEST for row in rows)


def points(rows: Sequence[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Return epochs and values of lines of metrics; of ``top1`` the error in percent."""
    values = [100 * (1 - row[name]) if name == "top1" else row[name] for row in rows]
    return [row["epoch"] for row in rows], values


def run_style(number: int) -> tuple[str, Any]:
    """Return colour and dash of the curves of run ``number`` of several; 32 of them differ."""
    return COLORS[number % len(COLORS)], _DASHES[(number + number // len(COLORS)) % len(_DASHES)]


def held_out_style(number: int) -> tuple[str, Any, str]:
    """Return colour, dash and marker of a held-out split in the charts of a single run."""
    color, dash = run_style(number + 1)  # the first is that of training
    return color, dash, _MARKERS[number % len(_MARKERS)]


def draw_curves(curves: Sequence[Curve], label: str, title: str) -> Markup:
    """Draw values over epochs; the axis begins at 0.

    A few values far above all others, as in the first epochs of a run, would press the rest flat. They are
    cut off, and the legend says how high they are.

    Args:
        curves: What to draw.
        label: Name and unit of the values.
        title: Text for readers who cannot see the chart.
    """
    figure = new_figure()
    axes = figure.subplots()
    top = _top([value for curve in curves for value in curve.y])
    for curve in curves:
        highest = max(curve.y, default=0)
        values = curve.y
        if curve.is_smoothed and len(curve.y) >= _FEWEST_TO_SMOOTH:
            axes.plot(curve.x, curve.y, color=curve.color, linewidth=1, alpha=0.25)
            values = moving_mean(curve.y)
        axes.plot(
            curve.x,
            values,
            color=curve.color,
            linestyle=curve.dash,
            linewidth=1.4,
            marker=curve.marker,
            markersize=3.5,
            label=curve.label if highest <= top else f"{curve.label} (up to {highest:.3g})",
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.04 * top)
    tidy(axes)
    axes.legend(frameon=False, ncols=1 if len(axes.lines) <= 6 else 3)
    return as_svg(figure, title)


def moving_mean(values: Sequence[float]) -> list[float]:
    """Return the exponential moving mean of values over a twentieth of them, without a bias at the start."""
    keep = 1 - 1 / max(1, _SMOOTHED_SHARE * len(values))
    total, weight, means = 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return means


def draw_learning_curve(counts: Sequence[int], errors: Sequence[float], doubled: float | None) -> Markup:
    """Draw the share of wrong answers over the number of training images, each step twice as many.

    Args:
        counts: Numbers of images, each twice the one before.
        errors: Shares wrong, 0 to 1.
        doubled: Share wrong that twice as many would leave if this went on; ``None``: not drawn.
    """
    figure = new_figure(height=2.8)
    axes = figure.subplots()
    places = list(range(len(counts)))
    axes.plot(places, [100 * error for error in errors], color=BLUE, linewidth=1.8, marker="o", markersize=5)
    ticks = [f"{count:,}" for count in counts]
    highest = max([*errors, doubled or 0.0])
    if doubled is not None:
        end = [places[-1], places[-1] + 1]
        axes.plot(
            end,
            [100 * errors[-1], 100 * doubled],
            color=BLUE,
            linestyle=_DASHES[1],
            linewidth=1.4,
            marker="o",
            markerfacecolor="none",
            markersize=5,
        )
        ticks.append(f"{2 * counts[-1]:,}?")
    shown = [f"{100 * error:.0f} %" for error in errors]
    shown += [] if doubled is None else [f"about {100 * doubled:.0f} %?"]
    values = [*errors, *([] if doubled is None else [doubled])]
    for place, (text, value) in enumerate(zip(shown, values, strict=True)):
        axes.annotate(
            text,
            (place, 100 * value),
            (0, 8),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontsize=10,
        )
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel("training images")
    axes.set_ylabel("wrong (%)")
    axes.set_xlim(-0.4, len(ticks) - 0.6)
    axes.set_ylim(0, max(120 * highest, 1))
    tidy(axes)
    return as_svg(figure, "share wrong over the number of training images")


def _top(values: list[float]) -> float:
    """Return the highest value that a chart shows: all, or twice what 97 of 100 do not exceed."""
    highest = max(values, default=0.0)
    usual = sorted(values)[math.ceil(0.97 * len(values)) - 1] if values else 0.0
    # Up to four times as high the rest can still be read.
    return (2 * usual if highest > 4 * usual > 0 else highest) or 1.0


def draw_reliability(bins: Sequence[dict[str, Any]]) -> Markup:
    """Draw how often the model was right over how sure it was (Guo et al. 2017, figure 1), and how often so.

    Args:
        bins: ``low``, ``high``, ``count``, ``confidence`` and ``accuracy`` of every bin that holds images.
    """
    figure = new_figure(height=4.0)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    total = max(1, sum(row["count"] for row in bins))
    middles = [50 * (row["low"] + row["high"]) for row in bins]
    widths = [100 * (row["high"] - row["low"]) for row in bins]
    axes.bar(
        middles,
        [100 * row["accuracy"] for row in bins],
        widths,
        color=BLUE,
        edgecolor=INK,
        linewidth=0.6,
        label="right",
    )
    axes.plot([0, 100], [0, 100], color=INK, linestyle="--", linewidth=0.9, label="perfectly calibrated")
    axes.set_ylabel("right (%)")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    tidy(axes)
    axes.legend(frameon=False, loc="upper left")
    below.bar(middles, [100 * row["count"] / total for row in bins], widths, color=BLUE, linewidth=0)
    below.set_xlabel("confidence: probability of the predicted class (%)")
    below.set_ylabel("images (%)")
    tidy(below)
    return as_svg(figure, "reliability diagram: share of right predictions over their probability")


# -- what charts share -------------------------------------------------------------------------------------


def new_figure(height: float = _HEIGHT) -> Figure:
    """Return a figure as wide as a phone shows it, of a height in inches."""
    with mpl.rc_context({"font.size": 10}):
        return Figure(figsize=(_WIDTH, height), layout="constrained")


def tidy(axes: Axes) -> None:
    """Give axes a pale grid and the page's ink."""
    axes.grid(color=LIGHT_GRAY, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_edgecolor(INK)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def as_svg(figure: Figure, title: str) -> Markup:
    """Return a figure as an ``svg`` element, the same each time for the same figure."""
    # Text stays text, so it can be searched, and the page's font is used. The title is part of the hash, lest
    # two charts of a page have parts of the same name.
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        for axes in figure.axes:
            legend = axes.get_legend()
            for text in legend.get_texts() if legend else ():
                text.set_color(INK)
                text.set_parse_math(False)  # names may hold dollar signs
        with warnings.catch_warnings():
            # What this font lacks is drawn by the reader's own.
            warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font", UserWarning)
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")  # the page's ink
    # Groups are numbered anew in every figure, and nothing refers to them.
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return Markup(svg)  # noqa: S704  # drawn here; matplotlib escapes the names
