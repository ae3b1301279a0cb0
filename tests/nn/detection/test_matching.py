"""What anchors and regions are taught, and which of them are drawn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torchvision.models.detection._utils import Matcher

from deepresidual.errors import ConfigurationError
from deepresidual.nn.detection import Taught
from deepresidual.nn.detection.boxes import iou
from deepresidual.nn.detection.matching import Matches, match
from deepresidual.nn.detection.sampling import draw_samples
from tests.nn.detection.networks import taught
from tests.nn.detection.test_boxes import random_boxes

ALL = torch.ones(400, dtype=torch.bool)


def rpn_match(boxes: torch.Tensor, objects: Taught, usable: torch.Tensor | None = None) -> Matches:
    return match(boxes, objects, positive_iou=0.7, negative_iou=(0.0, 0.3), best_of_each=True, usable=usable)


@pytest.mark.parametrize("best_of_each", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
def test_matches_are_torchvisions(best_of_each: bool, seed: int) -> None:
    boxes, objects = random_boxes(seed, 200), random_boxes(seed + 1, 4)
    # To torchvision all boxes are the best of an object that none overlaps; here it is nobody's (below).
    assume(bool((iou(objects, boxes).amax(dim=1) > 0).all()))
    ours = match(
        boxes,
        Taught(objects, torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.bool)),
        positive_iou=0.5,
        negative_iou=(0.0, 0.3),
        best_of_each=best_of_each,
    )
    theirs = Matcher(0.5, 0.3, best_of_each)(iou(objects, boxes))
    assert torch.equal(ours.positive, theirs >= 0)
    assert torch.equal(ours.negative, theirs == Matcher.BELOW_LOW_THRESHOLD)
    assert torch.equal(ours.objects[ours.positive], theirs[ours.positive])


def test_background_has_a_lower_bound_too() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [8, 0, 18, 10], [50, 50, 60, 60]])
    found = match(boxes, taught((0, 0, 10, 10, 0)), positive_iou=0.5, negative_iou=(0.1, 0.5))
    assert found.positive.tolist() == [True, False, False]
    assert found.negative.tolist() == [False, True, False]


def test_what_lies_in_an_ignored_box_is_neither_object_nor_background() -> None:
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [21, 21, 29, 29], [20, 20, 30, 60], [25, 20, 35, 30], [60, 60, 70, 70]]
    )
    found = rpn_match(boxes, taught((0, 0, 10, 10, 1), (20, 20, 30, 30, 0), ignored=1))
    # A quarter of the third box lies in the ignored one, and half of the fourth.
    assert found.positive.tolist() == [True, False, False, False, False]
    assert found.negative.tolist() == [False, False, True, False, True]


def test_an_object_in_a_crowd_is_an_object() -> None:
    found = rpn_match(
        torch.tensor([[20.0, 20, 30, 30]]), taught((20, 20, 30, 30, 1), (0, 0, 90, 90, 1), ignored=1)
    )
    assert found.positive.tolist() == [True]


def test_an_image_without_objects_is_all_background() -> None:
    for objects in (taught(), taught((200, 200, 210, 210, 0), ignored=1)):
        found = rpn_match(random_boxes(0, 50), objects)
        assert bool(found.negative.all())
        assert not bool(found.positive.any())


def test_an_object_that_no_anchor_overlaps_is_nobodys() -> None:
    found = rpn_match(random_boxes(0, 50), taught((500, 500, 510, 510, 0)))
    assert not bool(found.positive.any())


def test_anchors_over_the_border_are_left_out_and_so_is_their_claim_to_be_the_best() -> None:
    boxes = torch.tensor([[-2.0, 0, 10, 10], [0, 0, 10, 5], [30, 30, 40, 40]])
    usable = torch.tensor([False, True, True])
    found = rpn_match(boxes, taught((0, 0, 10, 10, 0)), usable)
    assert found.positive.tolist() == [False, True, False]
    assert found.negative.tolist() == [False, False, True]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 300), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_samples_are_as_many_as_wanted_or_all_and_a_function_of_the_seed(
    positive: int, negative: int, samples: int, share: float
) -> None:
    places = torch.arange(600)
    matches = Matches(places, places < positive, places >= 600 - negative)
    first = draw_samples(matches, samples, share, 7, "anchors")
    assert [part.tolist() for part in draw_samples(matches, samples, share, 7, "anchors")] == [
        part.tolist() for part in first
    ]
    assert len(first[0]) == min(positive, int(samples * share))
    assert len(first[1]) == min(negative, samples - len(first[0]))
    for part, mask in zip(first, (matches.positive, matches.negative), strict=True):
        assert bool(mask[part].all())
        assert bool((part.diff() > 0).all())


def test_other_seeds_and_uses_draw_other_samples_each_as_often() -> None:
    matches = Matches(torch.zeros(400), ALL, ~ALL)
    draws = [draw_samples(matches, 40, 1.0, seed, "anchors")[0] for seed in range(500)]
    counts = torch.stack([torch.bincount(places, minlength=400) for places in draws]).sum(0)
    # Each place is drawn 50 times of 500; the deviation of a binomial is 6.7.
    assert 50 - 5 * 6.7 < int(counts.min()) <= int(counts.max()) < 50 + 5 * 6.7
    other = draw_samples(matches, 40, 1.0, 0, "regions")[0]
    assert other.tolist() != draws[0].tolist() != draws[1].tolist()


def test_objects_of_other_shapes_are_refused() -> None:
    none = torch.zeros(0, dtype=torch.bool)
    with pytest.raises(
        ConfigurationError, match=r"have the shapes \(3, 4\), \(2,\), \(0,\).*\(n, 4\), \(n,\) and"
    ):
        Taught(torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64), none)
    with pytest.raises(ConfigurationError, match="seed is -1"):
        Taught(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), none, seed=-1)
