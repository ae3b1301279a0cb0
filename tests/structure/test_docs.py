"""Tables of the documentation say what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_networks_is_up_to_date() -> None:
    page = (DOCS / "networks.md").read_text("utf-8")
    program = runpy.run_path(str(DOCS / "update_tables.py"))
    assert program["updated"](page) == page, "run: python docs/update_tables.py"
    assert page.count("| `resnet") > 30
