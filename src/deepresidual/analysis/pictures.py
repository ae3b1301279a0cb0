"""Write drawings as SVG and PNG; without torch."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

_PNG_DOTS_PER_INCH = 144  # twice the 72 points of an inch


def figure_bytes(figure: Figure, kind: str, *, title: str = "", tight: bool = False) -> bytes:
    """Return a figure as a file that depends on the drawing alone: no date, no version of matplotlib.

    Args:
        figure: The figure.
        kind: ``svg`` or ``png``.
        title: Title in the file, of SVG.
        tight: Whether the paper ends where the drawing ends.
    """
    metadata: dict[str, str | None] = {"Software": None}
    if kind == "svg":
        metadata = {"Date": None, "Creator": None} | ({"Title": title} if title else {})
    file = io.BytesIO()
    figure.savefig(
        file,
        format=kind,
        dpi=_PNG_DOTS_PER_INCH,
        facecolor="white",
        bbox_inches="tight" if tight else None,
        pad_inches=0.08,
        metadata=metadata,
    )
    return file.getvalue()
