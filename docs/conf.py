"""Configuration of the documentation: Sphinx and MyST, in the theme Furo; needs no network."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from deepresidual import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Residual"
author = "The Residual maintainers"
project_copyright = "The Residual maintainers"
version = release = __version__

extensions: list[str] = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns: list[str] = ["_build"]

html_theme = "furo"
html_title = f"Residual {release}"
html_copy_source = False

myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False
# `Attributes:` becomes a list in the class; as separate entries autodoc would document each twice.
napoleon_use_ivar = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_display_short_literal_types = True
# Longer signatures are set with one parameter a line.
maximum_signature_line_length = 88


def setup(app: Sphinx) -> None:
    """Register the two repairs below."""
    app.connect("autodoc-process-signature", _parsable_defaults)
    app.connect("autodoc-process-docstring", _whole_properties, priority=600)  # after napoleon's 500


def _parsable_defaults(
    _app: Sphinx, _what: str, _name: str, _value: object, _options: object, signature: str | None, result: str
) -> tuple[str | None, str]:
    """Write the default factory of a dataclass so that Sphinx can parse the signature and break its lines."""
    return signature.replace("<factory>", "...") if signature else signature, result


def _whole_properties(
    _app: Sphinx, what: str, _name: str, value: object, _options: object, lines: list[str]
) -> None:
    """Undo napoleon's reading of "Depth: the layers …" as the type "Depth" and a description."""
    if what == "property":
        lines[:] = inspect.cleandoc(value.__doc__ or "").splitlines()
