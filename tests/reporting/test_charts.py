"""Charts: what they show of hostile names and values that stand out, and that they are the same each time."""

from __future__ import annotations

import re

import pytest

from deepresidual.reporting.charts import Curve, _top, draw_curves, draw_reliability, held_out_style
from tests.reporting.page import Page

BINS = [
    {"low": 0.4, "high": 0.6, "count": 10, "confidence": 0.5, "accuracy": 0.3},
    {"low": 0.8, "high": 1.0, "count": 30, "confidence": 0.9, "accuracy": 1.0},
]


def page(svg: str) -> Page:
    return Page(f"<!doctype html><html><head><title>chart</title></head><body>{svg}</body></html>")


def texts(svg: str) -> list[str]:
    return page(svg).texts("text")


def title(svg: str) -> str | None:
    (chart,) = page(svg).all("svg")
    return chart.get("aria-label")


def test_axes_and_curves_are_named() -> None:
    svg = draw_curves([Curve([0, 1], [3, 2], "training"), Curve([1], [4], "test")], "loss (nats)", "loss")
    assert {"epoch", "loss (nats)", "training", "test"} <= set(texts(svg))
    assert title(svg) == "loss"


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x_1^2$ & $", '"><b>', "蚂蚁"])
def test_names_are_text_and_nothing_else(name: str) -> None:
    svg = draw_curves([Curve([0, 1], [3, 2], name)], "loss (nats)", name)
    assert title(svg) == name
    assert name in texts(svg)
    assert page(svg).scripts() == []
    assert page(svg).all("b") == []


def test_the_ink_is_that_of_the_page() -> None:
    svg = draw_reliability(BINS)
    assert "#1c2430" not in svg
    assert svg.count("currentColor") > 10
    assert "#000000" not in re.sub(r"<defs>.*?</defs>", "", svg, flags=re.DOTALL)


def test_charts_of_a_page_share_no_names_and_are_the_same_each_time() -> None:
    first, again = (draw_curves([Curve([0, 1], [3, 2], "a")], "loss", "first") for _ in range(2))
    assert first == again
    second = draw_curves([Curve([0, 1], [3, 2], "a")], "loss", "second")
    names = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (first, second)]
    assert names[0]
    assert not names[0] & names[1]
    used = set(re.findall(r"url\\(#([^)]+)\\)", first)) | set(re.findall(r'href="#([^"]+)"', first))
    assert used <= names[0]


def test_held_out_splits_differ_in_colour_dash_and_mark() -> None:
    first, second = held_out_style(0), held_out_style(1)
    assert [one == other for one, other in zip(first, second, strict=True)] == [False] * 3


def test_values_that_stand_out_are_cut_off_and_said() -> None:
    epochs = [step / 10 for step in range(100)]
    training = Curve(epochs, [3 / (1 + epoch) for epoch in epochs], "training")
    words = texts(draw_curves([training, Curve([1, 2], [21.8, 1], "test")], "loss", "chart"))
    assert "test (up to 21.8)" in words
    assert "training" in words
    ticks = [float(word) for word in words[: words.index("loss")] if re.fullmatch(r"[0-9.]+", word)]
    values = ticks[ticks.index(0.0, 1) :]  # behind those of the epochs
    assert 3 <= max(values) < 10


def test_the_top_holds_all_where_nothing_stands_out() -> None:
    assert _top([1.0, 2.0, 3.0]) == 3
    assert _top([0.0, 0.0]) == 1
    assert _top([]) == 1
    assert _top([1.0] * 99 + [50.0]) == 2
    assert _top([1.0] * 99 + [4.0]) == 4
    assert _top([0.0] * 99 + [50.0]) == 50
    assert _top([1.0] * 20 + [50.0]) == 50  # one of few is no accident


def test_bins_are_drawn_where_they_lie() -> None:
    svg = draw_reliability(BINS)
    words = set(texts(svg))
    assert {"right (%)", "images (%)", "perfectly calibrated"} <= words
    assert "confidence: probability of the predicted class (%)" in words
