"""Pages of HTML: self-contained, without scripts, and everything that comes from a data set escaped."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from deepresidual.errors import ConfigurationError

# Stands in every page, so that a page can be told from a file of the user's own.
_GENERATOR = '<meta name="generator" content="residual report">'
_HEAD_BYTES = 2_000  # it stands before that


def rendered(template: str, **context: Any) -> str:
    """Return a page.

    Args:
        template: A file of ``templates/``.
        context: Its variables.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deepresidual.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["percent_interval"] = percent_interval
    environment.filters["rounded"] = rounded_percent
    return environment.get_template(template).render(generator=_GENERATOR, **context)


def require_ours(path: Path, option: str = "--out") -> None:
    """Raise if a page would replace a file that is not one of these pages.

    Args:
        path: The file.
        option: The option that names it, for the message.

    Raises:
        ConfigurationError: The path is a folder, or another file.
    """
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder", expected="a file", remedy=f"name one with {option}")
    if path.exists():
        with path.open("rb") as file:
            if _GENERATOR.encode() not in file.read(_HEAD_BYTES):
                raise ConfigurationError(
                    f"{path} is no page of this command and would be overwritten",
                    remedy=f"choose another {option}",
                )


def percent(share: float, digits: int = 2) -> str:
    """Return a share, 0 to 1, in percent."""
    return f"{100 * share:.{digits}f} %"


def rounded_percent(share: float) -> str:
    """Return a share, 0 to 1, in whole percent; one near 0 and 1 is never rounded to none or all."""
    for digits in range(2):
        text = f"{100 * share:.{digits}f}"
        if share in (0, 1) or 0 < float(text) < 100:
            return f"{text}\N{NO-BREAK SPACE}%"
    return f"{'over 99.9' if share > 0.5 else 'under 0.1'}\N{NO-BREAK SPACE}%"


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


def shown_time(moment: str) -> str:
    """Return a time of the run as a reader writes it."""
    try:
        time = dt.datetime.fromisoformat(moment).astimezone(dt.UTC)
    except ValueError:
        return moment
    return f"{time.day} {time:%B %Y, %H:%M} UTC"
