"""Boxes and anchors: coding, suppression and ranking."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, box_iou

from deepresidual.nn.detection import boxes as boxes_
from deepresidual.nn.detection.anchors import inside, make_anchors
from deepresidual.spec import Anchors

SEEDS = st.integers(0, 2**32 - 1)


def random_boxes(seed: int, count: int) -> torch.Tensor:
    """Return boxes of 1 to 61 pixels a side."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 100
    return torch.cat([low, low + 1 + 60 * torch.rand(count, 2, generator=generator)], dim=1)


@given(SEEDS)
def test_decoding_undoes_encoding(seed: int) -> None:
    boxes, anchors = random_boxes(seed, 8), random_boxes(seed + 1, 8)
    weights = (10.0, 10.0, 5.0, 5.0)
    codes = boxes_.encode(boxes, anchors, weights)
    # Beyond a ratio of 62.5 sides are cut.
    torch.testing.assert_close(boxes_.decode(codes, anchors, weights), boxes, rtol=1e-4, atol=1e-3)


def test_what_a_wild_network_says_stays_finite() -> None:
    decoded = boxes_.decode(torch.full((1, 4), 1e9), torch.tensor([[0.0, 0, 10, 10]]), (1.0, 1.0, 1.0, 1.0))
    assert bool(torch.isfinite(decoded).all())
    assert boxes_.clip(decoded, (30, 40)).tolist() == [[40.0, 30.0, 40.0, 30.0]]


@given(SEEDS)
def test_overlaps_are_torchvisions(seed: int) -> None:
    first, second = random_boxes(seed, 5), random_boxes(seed + 1, 7)
    assert torch.equal(boxes_.iou(first, second), box_iou(first, second))


@given(SEEDS, st.integers(1, 4), st.integers(1, 30))
def test_suppression_is_torchvisions_within_groups(seed: int, num_groups: int, most: int) -> None:
    boxes = random_boxes(seed, 30)
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randint(0, num_groups, (30,), generator=generator)
    scores = torch.randperm(30, generator=generator) / 30
    kept = boxes_.suppress(boxes, scores, groups, 0.5, most)
    assert kept.tolist() == batched_nms(boxes, scores, groups, 0.5)[:most].tolist()


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 40))
def test_equal_scores_come_in_the_order_of_their_places(levels: list[int], most: int) -> None:
    scores = torch.tensor(levels, dtype=torch.float32)
    order = sorted(range(len(levels)), key=lambda place: (-levels[place], place))
    assert boxes_.best(scores, most).tolist() == order[:most]
    # Boxes that lie apart suppress nothing.
    apart = torch.arange(len(levels))[:, None] * 20.0 + torch.tensor([0.0, 0, 10, 10])
    groups = torch.arange(len(levels)) % 2
    assert boxes_.suppress(apart, scores, groups, 0.5, most).tolist() == order[:most]


def test_nothing_suppresses_nothing() -> None:
    none = torch.zeros(0)
    assert len(boxes_.suppress(none.view(0, 4), none, none.long(), 0.5, 10)) == 0
    assert len(boxes_.best(none, 10)) == 0


@pytest.mark.parametrize(("height", "width"), [(64, 96), (70, 93)])
def test_anchors_are_torchvisions(height: int, width: int) -> None:
    sizes = ((10.0, 30.0), (64.0, 100.0))
    shapes = [(-(-height // stride), -(-width // stride)) for stride in (8, 16)]
    theirs = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 2)(
        ImageList(torch.zeros(1, 3, height, width), [(height, width)]),
        [torch.zeros(1, 1, *shape) for shape in shapes],
    )
    ours = make_anchors(Anchors(sizes=sizes), shapes, (height, width), (8, 16), torch.device("cpu"))
    assert torch.equal(torch.cat(ours), theirs[0])


def test_exact_anchors_lie_a_stride_apart_and_are_not_rounded() -> None:
    """Of 100 × 80 pixels at stride 64, torchvision's places lie 50 and 40 apart."""
    anchors = Anchors(sizes=((30.0, 50.0),), ratios=(0.5, 2.0), exact=True)
    found = make_anchors(anchors, [(2, 2)], (100, 80), (64,), torch.device("cpu"))[0].view(2, 2, 4, 4)
    assert torch.equal(found[1, 1], found[0, 0] + 64)
    for place, (ratio, size) in enumerate([(0.5, 30), (0.5, 50), (2.0, 30), (2.0, 50)]):
        width = math.sqrt(size * size / ratio)
        height = ratio * width
        expected = torch.tensor([-width / 2, -height / 2, width / 2, height / 2])
        assert torch.equal(found[0, 0, place], expected)
    rounded = dataclasses.replace(anchors, exact=False)
    theirs = make_anchors(rounded, [(2, 2)], (100, 80), (64,), torch.device("cpu"))[0].view(2, 2, 4, 4)
    assert (theirs[1, 1] - theirs[0, 0]).tolist() == [[40, 50, 40, 50]] * 4


def test_an_anchor_on_the_border_is_inside() -> None:
    rows = torch.tensor([[0.0, 0, 40, 30], [-1, 0, 4, 4], [0, 0, 40.5, 4], [36, 26, 40, 31]])
    assert inside(rows, (30, 40)).tolist() == [True, False, False, False]
