"""What a report advises first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from deepresidual.reporting.advice import advice_of


def advised(classes: list[str], confusions: list[tuple[int, int, int]]) -> list[str]:
    files: Any = SimpleNamespace(evaluation={"classes": classes, "confusions": confusions})
    verdict: Any = SimpleNamespace(right=5, count=5)
    return [one.what for one in advice_of(files, verdict)]


def test_a_class_that_was_never_tested_is_named_even_where_all_is_right() -> None:
    confusions = [(0, 0, 3), (1, 1, 2)]
    assert advised(["ants", "bees"], confusions) == []
    assert advised(["ants", "bees", "wasps"], confusions) == ["Add images of wasps."]
    several = advised(["ants", "bees", "a", "b", "c", "d"], confusions)
    assert several == ["Add images of a, b, c and 1 more."]
