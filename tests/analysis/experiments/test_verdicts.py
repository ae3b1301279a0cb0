"""A verdict passes, fails, or stays open, and says on what figures."""

from __future__ import annotations

import pytest

from deepresidual.analysis.experiments.experiment import Metric, Verdict
from deepresidual.analysis.experiments.verdicts import compared_with_published, failing, gap
from tests.analysis.experiments.parts import a_published, some_results

ERROR = Metric("test_error", "error")
HIGH, LOW, NEAR = (0.31, 0.33, 0.32), (0.21, 0.22, 0.20), (0.30, 0.36, 0.25)


def judged(higher: tuple[float, ...], lower: tuple[float, ...], margin: float = 0.0) -> Verdict:
    results = some_results({"deep": higher, "shallow": lower})
    return gap(results, ERROR, "deep", "shallow", source="a paper", margin=margin)


def test_a_gap_passes_where_its_interval_is_above_nought() -> None:
    row = judged(HIGH, LOW)
    assert row.word == "PASS"
    assert row.claim == "error of net deep above that of net shallow"
    assert row.measured == "+11.00 points [+8.73, +13.27]"
    assert judged(LOW, HIGH).word == "FAIL"


def test_an_interval_that_holds_nought_shows_neither_and_says_what_would_show() -> None:
    row = judged(HIGH, NEAR)  # the right order, and too uncertain
    assert row.word == "open"
    assert row.measured == "+1.67 points [−11.45, +14.78]; a difference under 13.11 points does not show"
    assert judged(NEAR, HIGH).word == "open"
    results = some_results({"deep": HIGH, "shallow": NEAR}, metric="decades")
    decades = Metric("decades", "spread", is_error=False)
    row = gap(results, decades, "deep", "shallow", source="", published="none")
    assert row.measured == "+0.02 [−0.11, +0.15]; a difference under 0.13 does not show"


def test_a_margin_asks_only_that_it_is_not_lower() -> None:
    assert judged(HIGH, HIGH, margin=0.05).word == "PASS"
    assert judged(HIGH, HIGH, margin=0.001).word == "open"
    assert judged(LOW, HIGH, margin=0.05).word == "FAIL"
    assert "not below that of net shallow" in judged(HIGH, HIGH, margin=0.05).claim


def test_one_seed_or_a_missing_arm_leaves_a_claim_open() -> None:
    assert judged((0.3,), (0.2,)).word == "open"
    assert judged((0.3,), (0.2,)).measured == "+10.00 points; one seed gives no interval"
    missing = gap(some_results({"deep": HIGH}), ERROR, "deep", "shallow", source="")
    assert (missing.word, missing.measured) == ("open", "not measured")
    diverged = gap(some_results({"a": HIGH, "b": ()}), ERROR, "a", "b", source="")
    assert diverged.word == "open"


def test_the_published_gap_stands_beside() -> None:
    published = {"deep": [a_published(12.22)], "shallow": [a_published(6.61)]}
    results = some_results({"deep": HIGH, "shallow": LOW}, published)
    row = gap(results, ERROR, "deep", "shallow", source="a paper")
    assert row.published == "12.22 − 6.61 = 5.61 points (resnet20, resnet20)"
    published["deep"] = [a_published(20, is_lower_bound=True)]
    results = some_results({"deep": HIGH, "shallow": LOW}, published)
    row = gap(results, ERROR, "deep", "shallow", source="a paper")
    assert row.published == "> 20 % against 6.61 %"


@pytest.mark.parametrize("name", ["training_error", "training_loss", "median_response"])
def test_a_published_test_error_never_stands_beside_another_metric(name: str) -> None:
    published = {"deep": [a_published(8.75)], "shallow": [a_published(6.97)]}
    results = some_results({"deep": HIGH, "shallow": LOW}, published, metric=name)
    with pytest.raises(ValueError, match=f"published results are no {name}: say what the source prints"):
        gap(results, Metric(name, name), "deep", "shallow", source="a paper")
    row = gap(results, Metric(name, name), "deep", "shallow", source="a paper", published="a curve")
    assert (row.word, row.published) == ("PASS", "a curve")


@pytest.mark.parametrize(
    ("values", "word", "measured"),
    [
        ((0.9, 0.5), "PASS", "70.00 ± 28.28 % (n = 2)"),
        ((0.9, 0.1), "FAIL", "50.00 ± 56.57 % (n = 2)"),
        ((), "PASS", "1 diverged"),
    ],
)
def test_a_net_fails_above_a_fifth_or_by_diverging(
    values: tuple[float, ...], word: str, measured: str
) -> None:
    row = failing(some_results({"deep": values}), "deep", source="a paper", published="> 20 %")
    assert (row.word, row.measured) == (word, measured)
    assert failing(some_results({}), "deep", source="", published="").word == "open"


def test_absolute_figures_are_judged_by_the_statistic_that_was_published() -> None:
    values = (0.060, 0.070, 0.086)
    for protocol, error in (("1 view", 7.2), ("median of 5 runs", 7.0), ("best of 5 runs", 6.0)):
        results = some_results({"a": values}, {"a": [a_published(error, protocol)]}, comparable=True)
        (row,) = compared_with_published(results, tolerance=0.05)
        assert row.word == "PASS", protocol
        assert f"({protocol})" in row.published
        (row,) = compared_with_published(
            some_results({"a": values}, {"a": [a_published(error + 0.5, protocol)]}, comparable=True), 0.05
        )
        assert row.word == "FAIL", protocol


def test_absolute_figures_are_judged_only_where_they_compare() -> None:
    published = {"a": [a_published(7.0), a_published(20, is_lower_bound=True)]}
    assert not list(compared_with_published(some_results({"a": HIGH}, published), 0.5))
    assert len(list(compared_with_published(some_results({"a": HIGH}, published, comparable=True), 0.5))) == 1
