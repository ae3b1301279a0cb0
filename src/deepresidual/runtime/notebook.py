"""Show progress in a notebook: one output that changes, where every printed line would be one of its own.

Works in what runs IPython's kernel (Jupyter, VS Code, Colab). IPython is not imported where it does not run.
"""

from __future__ import annotations

import html
import sys
import time
from typing import Any

_SECONDS = 0.5  # between two changes, so that a notebook over a slow line keeps up
_MOST_LINES = 200


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


class NotebookProgress:
    """A bar with a status, and below it the lines that stay, the newest last."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._lines: list[str] = []
        self._bar, self._shown = "", 0.0

    def update(self, label: str, done: int, total: int, status: str) -> None:
        """Show that ``done`` of ``total`` steps are done, at most twice a second."""
        text = html.escape(f"{label} {done:,}/{total:,}  {status}".rstrip())
        self._bar = f'<progress value="{done}" max="{max(1, total)}" style="width: 16em"></progress> {text}'
        if time.monotonic() - self._shown >= _SECONDS:
            self._show()

    def line(self, text: str) -> None:
        """Add a line."""
        self._lines = [*self._lines, text][-_MOST_LINES:]
        self._show()

    def end(self) -> None:
        """Take the bar away; the lines stay."""
        self._bar = ""
        if self._handle is not None or self._lines:
            self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        self._shown = time.monotonic()
        rows = "".join(f"<tr><td style='text-align: left'>{_cells(line)}</td></tr>" for line in self._lines)
        page = HTML(f"{self._bar}<table>{rows}</table>" if rows else self._bar)
        if self._handle is None:
            self._handle = display(page, display_id=True)
        else:
            self._handle.update(page)


def _cells(line: str) -> str:
    """Return a line as cells: two spaces or more, and commas, stand between what it tells."""
    parts = [part.strip() for part in line.replace(", ", "  ").split("  ") if part.strip()]
    return "</td><td style='text-align: left'>".join(map(html.escape, parts))
