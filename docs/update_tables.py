"""Write the tables of the documentation that follow from the code: python docs/update_tables.py.

A test compares the pages with what this program would write.
"""

from __future__ import annotations

from pathlib import Path

from residual import zoo
from residual.zoo.published import published
from residual.zoo.verified import Comparison, verified

DOCS = Path(__file__).parent


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


def parity_table() -> str:
    """Return the largest difference of logits by library and direction as Markdown."""
    rows = ["| compared with | direction | networks | largest difference of a logit |", "|---|---|---:|---:|"]
    by_library: dict[tuple[str, str], list[Comparison]] = {}
    for entry in zoo.ENTRIES:
        for row in verified(entry.name):
            by_library.setdefault((str(row), row.direction), []).append(row)
    for (library, direction), compared in sorted(by_library.items()):
        largest = max(compared, key=lambda row: row.largest_difference)
        rows.append(
            f"| {library} | {direction} | {len(compared)} | "
            f"{largest.largest_difference:.1e} (`{largest.network}`) |"
        )
    return "\n".join(rows) + "\n"


# page → the mark in it, and the table that stands there
TABLES = {"networks.md": ("zoo", zoo_table), "converting.md": ("parity", parity_table)}


def updated(name: str, page: str) -> str:
    """Return the page called ``name`` with the table between its two marks written anew."""
    mark, table = TABLES[name]
    begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->\n"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{table()}\n{end}{after}"


if __name__ == "__main__":
    for name in TABLES:
        path = DOCS / name
        path.write_text(updated(name, path.read_text("utf-8")), "utf-8")
