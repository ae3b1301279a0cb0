"""Ink and colours of drawings: after Okabe and Ito, for readers without colour vision, on white and black."""

INK = "#1c2430"
GRAY, LIGHT_GRAY = "#6b7680", "#8a8f98"
BLUE, ORANGE = "#3b7dc4", "#d2622a"
COLORS = (BLUE, ORANGE, "#1a9b77", "#b96ba0", "#b8860b", "#5aa9d6", LIGHT_GRAY, "#d64550")
"""Colours of curves in one chart, in order."""

PAPER, NIGHT_PAPER = "#ffffff", "#1b1f24"
RIGHT, NIGHT_RIGHT = "#0b468c", "#8fc0ff"
WRONG, NIGHT_WRONG = "#9e3600", "#ffab7a"
"""Full strength of what is right and wrong in a confusion matrix, on white and on dark paper."""


def mixed(paper: str, color: str, strength: float) -> str:
    """Return ``color`` laid over ``paper`` with an opacity from 0 to 1."""
    parts = zip(_channels(paper), _channels(color), strict=True)
    return "#" + "".join(f"{round(below + (above - below) * strength):02x}" for below, above in parts)


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours as WCAG 2 defines it, 1 to 21."""
    low, high = sorted(map(_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def ink_on(background: str) -> str:
    """Return black or white, whichever contrasts more; the contrast is never below 4.58."""
    return max("#000000", "#ffffff", key=lambda ink: contrast(ink, background))


def _luminance(color: str) -> float:
    """Return the relative luminance of a colour, 0 to 1."""
    shares = [value / 255 for value in _channels(color)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))
