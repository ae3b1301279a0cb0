"""Cells that a spreadsheet would run are marked as text, and every cell can be read back."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.runtime.csv_cells import csv_text, marked, original


@pytest.mark.parametrize(
    "cell",
    ['=HYPERLINK("x")', "+cmd|' /C calc'!A0", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x", "=", "-"],
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(cell: str) -> None:
    assert marked(cell) == f"'{cell}"
    assert original(marked(cell)) == cell


@pytest.mark.parametrize(
    "cell", ["", "ant", "a=b", "-1", "+5.25", "-1e-05", "'s-Hertogenbosch", "'", "1-2", "'-1"]
)
def test_what_it_would_not_run_stays(cell: str) -> None:
    assert marked(cell) == cell
    assert original(cell) == cell


def test_numbers_are_not_touched() -> None:
    assert csv_text([["=a", -0.5, 3, ""]]) == "'=a,-0.5,3,\n"


@given(st.text(st.sampled_from("'=+-@\t\r1.e,\"\na"), max_size=6))
def test_every_cell_comes_back_and_none_runs(cell: str) -> None:
    ((read,),) = csv.reader(io.StringIO(csv_text([[cell]]), newline="")) if cell else (("",),)
    assert original(read) == cell
    assert not read.startswith(("=", "@", "\t", "\r"))
