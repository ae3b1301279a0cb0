"""Intervals of average precision: the same every time, paired, and as wide as they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from deepresidual.data.objects import Objects
from deepresidual.errors import ConfigurationError
from deepresidual.evaluation.objects import Rules, bootstrap
from deepresidual.evaluation.objects.bootstrap import Draws, interval, paired_difference
from deepresidual.evaluation.objects.measure import matched
from deepresidual.evaluation.objects.precision import average_precisions
from tests.evaluation.objects.scenes import Images, scenes

NUM_CLASSES = 3


def draws(found: Images, truth: Images) -> Draws:
    return Draws.of(matched(found, truth, NUM_CLASSES, Rules()), "coco")


def test_the_interval_is_the_same_every_time_and_holds_the_figure() -> None:
    found, truth = scenes(0, 40, NUM_CLASSES)
    first, again = draws(found, truth), draws(found, truth)
    assert np.array_equal(first.drawn, again.drawn, equal_nan=True)
    figure, drawn = first.ap
    within = interval(figure, drawn)
    assert within is not None
    low, high = within
    assert low < figure < high
    assert first.of_class(NUM_CLASSES - 1) is None  # the class that no image has


def test_more_images_make_it_narrower() -> None:
    def width(count: int) -> float:
        found, truth = scenes(0, count, NUM_CLASSES)
        low, high = interval(*draws(found, truth).ap) or (0, 0)
        return high - low

    assert 1.5 < width(40) / width(160) < 3


def test_no_object_has_no_interval() -> None:
    assert interval(*draws([Objects.none()], [Objects.none()]).ap) is None
    none = draws([Objects.none()], [Objects.none()]).ap
    with pytest.raises(ConfigurationError, match="there is no object to find"):
        paired_difference(none, none)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    found, truth = scenes(0, 60, NUM_CLASSES, skill=0.8)
    worse = [
        objects[: max(0, len(objects) - 1)] if place % 3 else objects for place, objects in enumerate(found)
    ]
    first, second = draws(worse, truth).ap, draws(found, truth).ap
    compared = paired_difference(first, second)
    low, high = compared.interval
    assert compared.difference == pytest.approx(second[0] - first[0])
    assert 0 < low < compared.difference < high
    assert compared.share > 0.97
    own_low, own_high = interval(*second) or (0, 0)
    assert high - low < (own_high - own_low) / 2
    same = paired_difference(first, first)
    assert (same.difference, same.interval, same.share) == (0, (0, 0), 0.5)


def detections_with_scores_that_tell(count: int) -> tuple[Images, Images]:
    """Return scenes whose scores are the higher the better a box fits, as a detector's are."""
    found, truth = scenes(1, count, NUM_CLASSES, skill=0.75, density=3, levels=100_000)
    matches = matched(found, truth, NUM_CLASSES, Rules())
    own = matches.same_class
    iou = np.zeros(len(matches.found))
    np.maximum.at(iou, matches.pairs.found[own], matches.pairs.iou[own])
    noise = np.random.default_rng(7).normal(0, 1, len(iou))
    scores = 1 / (1 + np.exp(-(4 * iou - 2.2 + noise)))
    bounds = np.cumsum([0, *map(len, found)])
    parts = [scores[bounds[place] : bounds[place + 1]] for place in range(count)]
    return [
        dataclasses.replace(each, scores=part.astype(np.float32))
        for each, part in zip(found, parts, strict=True)
    ], truth


@pytest.mark.test_all
@pytest.mark.parametrize("count", [30, 100])
def test_intervals_cover_what_as_many_other_images_give(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 150 samples of a population 95 % of the intervals should hold the mean AP of such samples."""
    monkeypatch.setattr(bootstrap, "NUM_DRAWS", 200)
    found, truth = detections_with_scores_that_tell(6000)
    random = np.random.default_rng(0)
    figures, intervals = [], []
    for _ in range(150):
        chosen = random.choice(len(found), count, replace=False).tolist()
        figure, drawn = draws([found[each] for each in chosen], [truth[each] for each in chosen]).ap
        figures.append(figure)
        intervals.append(interval(figure, drawn) or (0, 0))
    covered = np.mean([low <= np.mean(figures) <= high for low, high in intervals])
    assert 0.89 <= covered <= 0.99
    # The figure of all images is lower: an average precision of few images is too high.
    everything = average_precisions(matched(found, truth, NUM_CLASSES, Rules()), "coco")
    assert 0 < np.mean(figures) - np.nanmean(everything) < 0.03
    assert np.mean([low <= np.nanmean(everything) <= high for low, high in intervals]) > 0.8
