"""Draw the figures of experiments: in one style, readable in gray and without colour vision, as SVG and PNG.

What is plotted together differs in colour, in marker and in line style. The same numbers give the same bytes
on every machine with the same matplotlib.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepresidual.analysis.experiments.experiment import Results
from deepresidual.analysis.pictures import figure_bytes
from deepresidual.reporting.palette import GRAY, INK
from deepresidual.runtime.files import write_bytes
from deepresidual.zoo.published import Published

# Numbers in an SVG are text, ids do not hang on the run, and no date is written.
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "residual",
    "font.family": "sans-serif",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Style:
    """Line style of one thing in a figure; colour, marker and dashes each tell it from the others."""

    color: str
    marker: str
    linestyle: Any
    width: float = 1.5

    @property
    def line(self) -> dict[str, Any]:
        """The keywords of matplotlib for it, without the width."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}


# From dark to light, with hues that stay apart for readers who do not see red and green apart.
STYLES = (
    Style("#14365f", "o", "-"),
    Style("#c8501e", "s", "--"),
    Style("#2a8f7a", "^", "-."),
    Style("#7a4fb0", "D", ":"),
    Style("#b8860b", "v", (0, (6, 1, 1, 1, 1, 1))),
    Style("#5b6670", "P", (0, (3, 2))),
    Style("#d06a9c", "X", (0, (1, 1))),
    Style("#3f88c5", "<", (0, (8, 2))),
    Style("#8c9a3b", ">", (0, (4, 1, 1, 1))),
)


def new_figure(columns: int, *, width: float = 4.4, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many panels side by side, each ``width`` × ``height`` inches."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(columns * width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def finish(axes: Axes, *, x: str, y: str, title: str = "", legend: bool = True) -> None:
    """Label both axes, with units, and add title and legend."""
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def plot_band(
    axes: Axes,
    x: Sequence[float],
    curves: Sequence[Sequence[float]],
    style: Style,
    label: str = "",
    *,
    scale: float = 1.0,
) -> None:
    """Plot the mean of curves over their seeds, and a band from the lowest to the highest.

    Args:
        axes: The panel.
        x: Abscissa, as long as the shortest curve or longer.
        curves: One a seed.
        style: Colour, marker and line style.
        label: Its entry in the legend. Default: none.
        scale: Factor of the ordinates, 100 for per cent.
    """
    length = min(len(x), *(len(curve) for curve in curves))
    if all(float(place).is_integer() for place in x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # units, layers, whole epochs
    columns = [[scale * curve[index] for curve in curves] for index in range(length)]
    axes.plot(
        list(x[:length]),
        [statistics.fmean(column) for column in columns],
        **style.line,
        markersize=4,
        markevery=max(1, length // 12),
        linewidth=style.width,
        label=label or None,
    )
    if len(curves) > 1:
        axes.fill_between(
            list(x[:length]),
            [min(column) for column in columns],
            [max(column) for column in columns],
            color=style.color,
            alpha=0.15,
            linewidth=0,
        )


def plot_errors(
    axes: Axes, results: Results, arm: str, tested: Style, trained: Style, labels: tuple[str, str]
) -> list[list[float]]:
    """Plot test and training error of an arm over the epochs, in per cent, and return the curves.

    Args:
        axes: The panel.
        results: The measurements; an arm without curves plots nothing.
        arm: Name of the arm.
        tested: Style of the test error.
        trained: Style of the training error.
        labels: Their entries in the legend.
    """
    result = results.arms.get(arm)
    if result is None or not result.series("epoch"):
        return []
    pairs = [result.series("test_error"), result.series("training_error")]
    for curves, style, label in zip(pairs, (tested, trained), labels, strict=True):
        plot_band(axes, result.series("epoch")[0], curves, style, label, scale=100)
    return pairs[0] + pairs[1]


def plot_summaries(
    axes: Axes,
    x: Sequence[float],
    results: Results,
    arms: Sequence[str],
    metric: str,
    style: Style,
    label: str,
) -> None:
    """Plot an error of arms over ``x``, in per cent, with 95 % intervals over the seeds."""
    rows = [
        (place, summary)
        for place, name in zip(x, arms, strict=True)
        if name in results.arms and (summary := results.arms[name].summary(metric)) is not None
    ]
    if not rows:
        return
    means = [100 * summary.mean for _, summary in rows]
    halves = [0.0 if summary.high is None else 100 * (summary.high - summary.mean) for _, summary in rows]
    axes.errorbar(
        [place for place, _ in rows],
        means,
        yerr=halves,
        **style.line,
        markersize=5,
        linewidth=1.4,
        capsize=3,
        label=label,
    )


def draw_arms(results: Results, published_of: str, metric: str = "test_error") -> Figure:
    """Draw an error of every arm as a row with its seeds, mean and interval; beside it what is published.

    Args:
        results: The measurements.
        published_of: Networks and data of the published results, for the title of their panel.
        metric: The error.
    """
    rows = [result for result in results.arms.values() if result.values(metric)]
    has_published = any(result.arm.published for result in rows)
    height = 1.4 + 0.36 * len(rows)
    drawn, panels = new_figure(2 if has_published else 1, width=4.6, height=height)
    places = range(len(rows), 0, -1)
    for place, result in zip(places, rows, strict=True):
        values = [100 * value for value in result.values(metric)]
        panels[0].plot(values, [place] * len(values), color=GRAY, marker="|", markersize=9, linestyle="")
        summary = result.summary(metric)
        if summary is not None:
            half = 0.0 if summary.high is None else 100 * (summary.high - summary.mean)
            panels[0].errorbar(
                100 * summary.mean,
                place,
                xerr=half,
                color=STYLES[0].color,
                marker="o",
                markersize=6,
                capsize=3,
            )
        for published in result.arm.published:
            _plot_published(panels[-1], published, place)
    panels[0].set_yticks(list(places), [result.arm.label for result in rows])
    panels[0].set_ylim(0.3, len(rows) + 0.7)
    name = metric.replace("_", " ")
    finish(panels[0], x=f"{name} (%)", y="", title=f"measured, {results.scale}; 95 % intervals")
    if has_published:
        panels[1].set_yticks(list(places), [""] * len(rows))
        panels[1].set_ylim(0.3, len(rows) + 0.7)
        finish(panels[1], x="test error (%)", y="", title=f"published: {published_of}")
    return drawn


def _plot_published(axes: Axes, published: Published, place: float) -> None:
    error = published.top1_error
    if published.is_lower_bound:
        axes.plot(error, place, color=INK, marker=">", markersize=6, linestyle="", markerfacecolor="white")
        axes.annotate(f"> {error:g}", (error, place), xytext=(6, -3), textcoords="offset points", fontsize=7)
        return
    axes.errorbar(
        error,
        place,
        xerr=published.std,
        color=INK,
        marker="D",
        markersize=5,
        markerfacecolor="white",
        capsize=3,
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as ``path.svg`` and ``path.png``.

    Raises:
        RunError: A file cannot be written.
    """
    with mpl.rc_context(_SETTINGS):
        for kind in ("svg", "png"):
            # Tight: a legend beside the axes is not cut off.
            write_bytes(path.with_name(f"{path.name}.{kind}"), figure_bytes(figure, kind, tight=True))
