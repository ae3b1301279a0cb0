"""Curves of precision over recall of the classes of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from deepresidual.reporting.charts import as_svg, new_figure, run_style, tidy
from deepresidual.reporting.palette import INK

MOST_CURVES = 8
"""Classes in a chart: as many as there are colours."""

_LONG = 14  # characters of a name


def shortened(name: str, most: int) -> str:
    """Return a name, cut to so many characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def draw_precision(classes: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Draw precision over recall at an IoU of .5; a circle is where the threshold lies.

    Args:
        classes: Name, curve and threshold of each class, :data:`MOST_CURVES` at most.

    Returns:
        The chart; ``None`` where no class has a curve.
    """
    drawn = [row for row in classes if (row.get("curve") or {}).get("recall")]
    if not drawn:
        return None
    columns = 2 if max(len(row["name"]) for row in drawn) > _LONG // 2 else 4
    num_lines = -(-len(drawn) // columns)
    figure = new_figure(height=3.3 + 0.2 * num_lines)
    axes = figure.subplots()
    for number, row in enumerate(drawn):
        color, dash = run_style(number)
        recall, precision = row["curve"]["recall"], row["curve"]["precision"]
        # Beyond the last recall nothing is found, however unsure.
        axes.plot(
            [*(100 * value for value in recall), 100 * recall[-1]],
            [*(100 * value for value in precision), 0],
            color=color,
            linestyle=dash,
            linewidth=1.6,
            label=shortened(row["name"], _LONG),
        )
        if threshold := row.get("threshold"):
            axes.plot(
                [100 * threshold["recall"]],
                [100 * threshold["precision"]],
                color=color,
                marker="o",
                markersize=6,
                markeredgecolor=INK,
                markeredgewidth=0.8,
            )
    axes.set_xlabel("recall: objects that are found (%)")
    axes.set_ylabel("precision: detections that are right (%)")
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 103)
    tidy(axes)
    # Curves may go anywhere, so the names stand above them.
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)
    return as_svg(figure, "precision over recall of each class")
