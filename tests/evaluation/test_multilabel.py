"""Several labels an image: figures against scikit-learn, thresholds, intervals, and several processes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from deepresidual.backends.classifier import Classifier
from deepresidual.backends.thresholds import Thresholds
from deepresidual.errors import ConfigurationError, DataError, DivergedError
from deepresidual.evaluation.multilabel import LabelScores, MultilabelEvaluation, measure
from deepresidual.evaluation.multilabel.metrics import (
    average_precision,
    decisions,
    mean_average_precision,
    micro_average_precision,
)
from deepresidual.evaluation.multilabel.thresholds import choose_thresholds, decide_crosswise
from deepresidual.preprocess import Preprocess

NAMES = ("bird", "cat", "dog")


class Scored(Classifier):
    """A model of three labels that is only asked for names, probabilities and thresholds."""

    backend = "test"
    label_names = NAMES
    preprocess = Preprocess(8, 8, (0.5,) * 3, (0.25,) * 3)
    task = "multilabel"

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self.thresholds = thresholds

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return nothing."""
        return np.zeros((len(pixels), 3), np.float32)


def scores_of(count: int, seed: int = 0, strength: float = 2.0) -> LabelScores:
    random = np.random.default_rng(seed)
    targets = random.random((count, 3)) < np.array([0.2, 0.5, 0.9])
    logits = (strength * (targets - 0.5) + random.normal(size=(count, 3))).astype(np.float32)
    return LabelScores(logits, targets, np.arange(count), [f"{number}.png" for number in range(count)])


# -- figures -----------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_average_precision_is_that_of_scikit_learn(seed: int, count: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels + 1, count) / levels  # with many ties
    targets = random.random(count) < 0.4
    targets[0] = True
    weights = random.integers(0, 3, (2, count)).astype(float)
    weights[:, 0] = 1
    expected = [
        reference.average_precision_score(targets, scores, sample_weight=row)
        for row in (np.ones(count), *weights)
    ]
    found = [average_precision(scores, targets)[0], *average_precision(scores, targets, weights)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_means_are_those_of_scikit_learn() -> None:
    scores = scores_of(200)
    given_labels = scores.logits > 0
    expected = {
        "map": reference.average_precision_score(scores.targets, scores.logits, average="macro"),
        "micro_ap": reference.average_precision_score(scores.targets, scores.logits, average="micro"),
        "macro_f1": reference.f1_score(scores.targets, given_labels, average="macro"),
        "micro_f1": reference.f1_score(scores.targets, given_labels, average="micro"),
    }
    counted = decisions(given_labels, scores.targets)
    found = {
        "map": mean_average_precision(scores.logits, scores.targets)[0],
        "micro_ap": micro_average_precision(scores.logits, scores.targets)[0],
        "macro_f1": counted.macro_f1[0],
        "micro_f1": counted.micro_f1[0],
    }
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_class_without_positives_is_left_out_of_means() -> None:
    scores = scores_of(100)
    scores.targets[:, 0] = False
    measured = measure(scores, Scored(), "test")
    rest = [
        reference.average_precision_score(scores.targets[:, row], scores.logits[:, row]) for row in (1, 2)
    ]
    assert measured.map == pytest.approx(np.mean(rest))
    assert measured.per_class[0].average_precision is None
    assert "mean over 2 of 3 labels" in measured.in_words()


def test_without_any_label_there_is_nothing_to_average() -> None:
    scores = scores_of(20)
    scores.targets[:] = False
    measured = measure(scores, Scored(), "test")
    assert (measured.map, measured.macro_f1, measured.micro_ap) == (0, 0, 0)
    json.dumps(measured.to_dict(), allow_nan=False)


def test_the_document_is_read_back() -> None:
    measured = measure(scores_of(60), Scored(), "test")
    document = json.loads(json.dumps(measured.to_dict()))
    assert document["task"] == "multilabel"
    assert MultilabelEvaluation.from_dict(document) == measured


def test_the_baseline_gives_every_label_to_all() -> None:
    scores = scores_of(100)
    measured = measure(scores, Scored(), "test")
    everything = np.ones_like(scores.targets)
    assert measured.always_macro_f1 == pytest.approx(
        reference.f1_score(scores.targets, everything, average="macro")
    )


def test_the_sentence_judges_macro_f1_by_its_interval() -> None:
    blind = measure(scores_of(100, strength=0.0), Scored(), "test")
    assert "not shown to be better than giving every label to every image (" in blind.in_words()
    seeing = measure(scores_of(100, strength=9.0), Scored(), "test")
    assert "), better than giving every label to every image (" in seeing.in_words()


def test_labels_whose_f1_is_not_above_always_yes_are_told() -> None:
    blind = measure(scores_of(100, strength=0.0), Scored(), "test")
    assert any(row.loses_to_always_yes(100) for row in blind.per_class)
    seeing = measure(scores_of(100, strength=9.0), Scored(), "test")
    assert not any(row.loses_to_always_yes(100) for row in seeing.per_class)


def test_intervals_hold_the_figure_and_shrink_with_more_images() -> None:
    widths = []
    for count in (60, 600):
        measured = measure(scores_of(count), Scored(), "test")
        for name, (low, high) in measured.intervals.items():
            assert low <= measured.summary()[name] <= high, name
        low, high = measured.intervals["map"]
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_intervals_cover_the_truth() -> None:
    truth = mean_average_precision(scores_of(20_000, 1).logits, scores_of(20_000, 1).targets)[0]
    covered = 0
    for seed in range(2, 42):
        low, high = measure(scores_of(80, seed), Scored(), "test").intervals["map"]
        covered += bool(low <= truth <= high)
    assert covered >= 34  # of 40; 38 are expected


def test_scores_that_are_not_finite_or_not_there_are_refused() -> None:
    scores = scores_of(10)
    scores.logits[3, 1] = np.nan
    with pytest.raises(DivergedError, match="outputs on test are not finite"):
        measure(scores, Scored(), "test")
    with pytest.raises(DataError, match="test has no sample that can be used"):
        measure(LabelScores.together([scores_of(0)]), Scored(), "test")


def test_shares_of_any_ranks_are_measured_as_one() -> None:
    whole = scores_of(50)

    def share(rows: slice) -> LabelScores:
        return LabelScores(whole.logits[rows], whole.targets[rows], whole.indices[rows], whole.keys[rows])

    shares = [share(slice(1, None, 3)), share(slice(2, None, 3)), share(slice(0, None, 3))]
    assert measure(LabelScores.together(shares), Scored(), "test") == measure(whole, Scored(), "test")


# -- thresholds --------------------------------------------------------------------------------------------


def test_thresholds_of_common_labels_are_their_own() -> None:
    scores = scores_of(400)
    shares = Scored().probabilities(scores.logits)
    chosen = choose_thresholds(shares, scores.targets)
    for row in range(3):
        grid = [
            reference.f1_score(scores.targets[:, row], shares[:, row] >= place / 20) for place in range(1, 20)
        ]
        assert grid[round(chosen[row] * 20) - 1] == pytest.approx(max(grid))


def test_rare_labels_share_one_threshold() -> None:
    scores = scores_of(30)
    assert scores.targets.sum(axis=0).tolist()[0] < 20
    chosen = choose_thresholds(Scored().probabilities(scores.logits), scores.targets)
    few = [value for value, count in zip(chosen, scores.targets.sum(axis=0), strict=True) if count < 20]
    assert len(few) >= 2
    assert len(set(few)) == 1


def test_ties_go_to_the_threshold_nearest_a_half() -> None:
    targets = np.array([[True, False]] * 30 + [[False, True]] * 30)
    assert choose_thresholds(np.where(targets, 0.97, 0.02), targets) == [0.5, 0.5]
    assert choose_thresholds(np.where(targets, 0.97, 0.62), targets) == [0.65, 0.65]
    assert choose_thresholds(np.zeros((4, 2)), np.zeros((4, 2), dtype=bool)) == [0.5, 0.5]


def test_figures_of_the_images_that_thresholds_were_chosen_on_do_not_flatter() -> None:
    """On labels that nothing can be known of, F1 at thresholds chosen on them is higher than elsewhere."""
    flattered, crosswise, elsewhere = [], [], []
    for seed in range(12):
        scores, other = scores_of(40, seed, strength=0.3), scores_of(400, seed + 100, strength=0.3)
        model = Scored()
        shares = model.probabilities(scores.logits)
        chosen = np.array(choose_thresholds(shares, scores.targets))
        flattered.append(decisions(shares >= chosen, scores.targets).macro_f1[0])
        crosswise.append(decisions(decide_crosswise(shares, scores.targets), scores.targets).macro_f1[0])
        there = model.probabilities(other.logits) >= chosen
        elsewhere.append(decisions(there, other.targets).macro_f1[0])
    assert np.mean(flattered) > np.mean(elsewhere) + 0.02
    assert np.mean(crosswise) < np.mean(elsewhere) + 0.01


def test_given_thresholds_are_used_except_on_the_images_they_were_chosen_on() -> None:
    scores = scores_of(100)
    first = measure(scores, Scored(), "val", "f1")
    known = Scored(Thresholds(first.thresholds, "val", "f1"))
    assert measure(scores, known, "val", "f1") == first
    other = measure(scores_of(100, 1), known, "test", "f2")
    assert other.thresholds == first.thresholds
    assert other.thresholds_in_words() == "thresholds were chosen on val"
    assert "each half of it is judged by those of the other half" in first.thresholds_in_words()


def test_labels_are_given_by_their_thresholds() -> None:
    model = Scored(Thresholds((0.9, 0.5, 0.1), "val"))
    logits = np.array([[1.0, 1.0, 1.0], [-5.0, -5.0, -5.0], [3.0, -1.0, -2.0]], np.float32)
    assert [row.classes for row in model.rank(logits)] == [("cat", "dog"), (), ("bird", "dog")]
    assert model.rank(logits)[0].probabilities == pytest.approx([0.731, 0.731], abs=1e-3)
    with pytest.raises(
        ConfigurationError, match="top_k is 2 for a model of several labels an image; expected 1"
    ):
        model.rank(logits, 2)
