"""Ink and colours of drawings: after Okabe and Ito, for readers without colour vision, on white and black."""

INK = "#1c2430"
GRAY, LIGHT_GRAY = "#6b7680", "#8a8f98"
BLUE, ORANGE = "#3b7dc4", "#d2622a"
COLORS = (BLUE, ORANGE, "#1a9b77", "#b96ba0", "#b8860b", "#5aa9d6", LIGHT_GRAY, "#d64550")
"""Colours of curves in one chart, in order."""
