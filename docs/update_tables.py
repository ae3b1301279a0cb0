"""Write the tables of the documentation that follow from the code: python docs/update_tables.py.

A test compares the pages with what this program would write.
"""

from __future__ import annotations

from pathlib import Path

from residual import zoo
from residual.zoo.published import published
from residual.zoo.verified import verified

PAGE = Path(__file__).parent / "networks.md"
BEGIN, END = "<!-- zoo: begin -->\n", "<!-- zoo: end -->\n"


def zoo_table() -> str:
    """Return the table of all networks as Markdown."""
    what, how_good = (
        "name | unit | units a stage | shortcut | parameters | MACs",
        "published error | verified against",
    )
    rows = [f"| {what} | {how_good} | source |", "|---|---|---|---|---:|---:|---|---|---|"]
    for entry in zoo.ENTRIES:
        spec = entry.spec
        cells = (
            f"`{entry.name}`",
            spec.unit,
            ", ".join(map(str, spec.depths)),
            spec.shortcut,
            f"{spec.num_parameters:,}",
            f"{entry.num_macs / 1e6:,.1f} M",
            _published_error(entry.name),
            ", ".join(dict.fromkeys(comparison.reference for comparison in verified(entry.name))),
            entry.source,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _published_error(name: str) -> str:
    """Return the first published result, which is the defining paper's, with its protocol."""
    return next((f"{result} ({result.protocol})" for result in published(name)), "")


def updated(page: str) -> str:
    """Return the page with the table between its two marks written anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{zoo_table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")
