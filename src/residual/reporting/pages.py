"""Pages of HTML: self-contained, without scripts, and everything that comes from a data set escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["GENERATOR", "percent", "rendered", "settings_of"]

GENERATOR = '<meta name="generator" content="residual report">'
"""Stands in every page, so that a page can be told from somebody's own file."""


def rendered(template: str, **context: Any) -> str:
    """Return a page.

    Args:
        template: A file of ``templates/``.
        context: What it shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("residual.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["percent_interval"] = percent_interval
    return environment.get_template(template).render(generator=GENERATOR, **context)


def percent(share: float, digits: int = 2) -> str:
    """Return a share, 0 to 1, in percent."""
    return f"{100 * share:.{digits}f} %"


def percent_interval(bounds: Sequence[float]) -> str:
    """Return an interval of shares, 0 to 1, in percent."""
    low, high = bounds
    return f"{100 * low:.2f} – {100 * high:.2f} %"


def settings_of(fields: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested fields as one level of readable values: ``{"augment.crop": "pad", …}``."""
    settings: dict[str, str] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            settings |= settings_of(value, f"{prefix}{name}.")
        else:
            settings[f"{prefix}{name}"] = _shown(value)
    return settings


def _shown(value: Any) -> str:
    match value:
        case None | "":
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list():
            return ", ".join(map(_shown, value))
        case _:
            return str(value)
