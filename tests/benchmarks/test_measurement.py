"""The arithmetic of a comparison, and what a result says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from deepresidual.benchmarks.measurement import (
    Ratio,
    Row,
    check_repetitions,
    chosen_rows,
    in_turn,
    make_result,
    ratio,
    require_alike,
    seconds_of,
    unmeasured,
)
from deepresidual.errors import ConfigurationError, RunError, UnknownNameError
from deepresidual.runtime.cpu import telling_flags

ROW = Row("speed", "training", "the others", 2.0)


def test_a_ratio_is_the_median_of_the_pairs_with_their_range() -> None:
    found = ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert found == Ratio(median=2.0, lowest=1.0, highest=3.0, count=3)
    assert str(found) == "2.00 (1.00 – 3.00, n = 3)"


def test_sides_are_measured_in_turn_and_warm_up_does_not_count() -> None:
    calls: list[str] = []

    def side(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = in_turn({"a": lambda: side("a"), "b": lambda: side("b")}, repetitions=2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert found == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_seconds_are_those_of_the_call() -> None:
    done: list[int] = []
    assert seconds_of(lambda: done.append(1))() >= 0
    assert done == [1]


@pytest.mark.parametrize(
    ("at_most", "median", "is_met"),
    [(False, 2.0, True), (False, 1.9, False), (True, 1.9, True), (True, 2.1, False)],
)
def test_a_target_is_a_floor_or_a_ceiling(at_most: bool, median: float, is_met: bool) -> None:
    row = Row("speed", "training", "the others", 2.0, at_most, Ratio(median, median, median, 5))
    assert row.is_met is is_met


def test_a_row_without_figures_is_neither_met_nor_missed() -> None:
    row = unmeasured(ROW, "no GPU here")
    assert row.is_met is None
    assert row.reason == "unmeasured: no GPU here"


def test_sides_that_do_not_compute_the_same_are_not_timed() -> None:
    require_alike("the loss", 1.0, 1.00005, 1e-4)
    with pytest.raises(
        RunError, match=r"the loss is 1 here and 1\.1 there; expected a difference of at most 0\.0%"
    ):
        require_alike("the loss", 1.0, 1.1, 1e-4)
    with pytest.raises(RunError, match="the loss is nan here and 1 there"):
        require_alike("the loss", float("nan"), 1.0, 1e-4)


def test_rows_are_chosen_by_name_in_their_own_order() -> None:
    assert chosen_rows(["a", "b", "c"], []) == ["a", "b", "c"]
    assert chosen_rows(["a", "b", "c"], ["c", "a"]) == ["a", "c"]
    with pytest.raises(UnknownNameError, match="unknown row 'memry' \\(nearest: memory\\)"):
        chosen_rows(["memory"], ["memry"])


@pytest.mark.parametrize("repetitions", [0, 1001, 1.5])
def test_repetitions_have_a_range(repetitions: int) -> None:
    with pytest.raises(ConfigurationError, match="expected 1 to 1,000"):
        check_repetitions(repetitions)


def test_a_result_says_how_to_have_it_again(tmp_path: Path) -> None:
    rows = [
        unmeasured(ROW, "no GPU here"),
        Row("size", "memory", "the others", 0.6, True, Ratio(0.5, 0.4, 0.6, 5)),
    ]
    path = tmp_path / "results" / "train.json"
    make_result("train", rows, 5, torch.device("cpu"), ["torch", "no-such-package"]).save(path)
    document = json.loads(path.read_text())
    assert list(document) == [
        "schema_version", "benchmark", "command", "commit", "hardware", "threads", "versions", "date",
        "repetitions", "rows",
    ]  # fmt: skip
    assert document["threads"] == document["hardware"]["threads"] == torch.get_num_threads()
    assert document["versions"]["no-such-package"] is None
    assert [row["is_met"] for row in document["rows"]] == [None, True]
    assert document["rows"][1]["ratio"] == {"median": 0.5, "lowest": 0.4, "highest": 0.6, "count": 5}
    assert len(document["commit"]) >= 7


def test_a_result_names_no_place_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["residual", "benchmark", "folder", "/a/b/photos", "--out", "results/x.json"]
    )
    result = make_result("folder", [], 5, torch.device("cpu"))
    assert result.command == ["residual", "benchmark", "folder", "photos", "--out", "results/x.json"]
    assert result.hardware["flags"] == list(telling_flags())
