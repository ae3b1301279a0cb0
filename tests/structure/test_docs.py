"""Tables of the documentation say what the code and its recorded comparisons say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "row", "at_least"),
    [
        ("networks.md", "| `resnet", 60),
        ("converting.md", "| timm 1", 2),
        ("reproducing.md", "layers, ", 18),
        ("training.md", "| `", 70),
    ],
)
def test_the_tables_are_up_to_date(name: str, row: str, at_least: int) -> None:
    page = (DOCS / name).read_text("utf-8")
    program = runpy.run_path(str(DOCS / "update_tables.py"))
    assert program["updated"](name, page) == page, "run: python docs/update_tables.py"
    assert page.count(row) >= at_least
