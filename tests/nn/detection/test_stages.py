"""The stages of an image are those that its detections have passed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from deepresidual.nn.detection import boxes, detect_in_stages
from deepresidual.spec import MaskHead, Neck
from tests.nn.detection.networks import detector, images, spec_of


@pytest.mark.parametrize("neck", ["c4", "fpn"])
def test_what_is_found_is_what_the_detector_finds(neck: Neck) -> None:
    spec = dataclasses.replace(spec_of(neck), masks=MaskHead(bins=4, convs=1, channels=8))
    network, batch, size = detector(spec).eval(), images(1, 3, 64, 96), (50, 90)
    with torch.no_grad():
        (expected,) = network(batch, [size])
    stages = detect_in_stages(network, batch, size)
    assert len(expected.boxes) > 3
    for name in ("boxes", "labels", "scores", "masks", "is_finite"):
        assert torch.equal(getattr(stages.found, name), getattr(expected, name)), name
    assert float(stages.top_scores.max()) == float(expected.scores.max())


@pytest.mark.parametrize("neck", ["c4", "fpn"])
def test_each_stage_is_made_of_the_one_before_it(neck: Neck) -> None:
    spec, size = spec_of(neck), (64, 96)
    network, batch = detector(spec).eval(), images(1, 3, *size)
    stages = detect_in_stages(network, batch, size)
    with torch.no_grad():
        maps = network.backbone(batch)
        logits, codes = (torch.cat(values, dim=1)[0] for values in network.rpn.head(maps))
        read = maps[: len(spec.read_stages)]
        of_class, of_box = network.roi_heads.predict(read, [stages.proposals], network.backbone.last_stage)
    assert [len(level) for level in stages.anchors] == [
        rows * columns * spec.num_anchors for rows, columns in stages.places
    ]
    origin = stages.proposal_anchors
    decoded = boxes.decode(codes[origin], torch.cat(stages.anchors)[origin], (1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(stages.proposals, boxes.clip(decoded, size))
    torch.testing.assert_close(stages.objectness, logits[origin].sigmoid())
    candidates = stages.candidates
    row, label = candidates.regions, candidates.labels
    torch.testing.assert_close(candidates.scores, of_class.softmax(dim=1)[row, 1 + label])
    regressed = boxes.decode(of_box[row, 1 + label], stages.proposals[row], spec.regions.box_weights)
    torch.testing.assert_close(candidates.boxes, boxes.clip(regressed, size))
    assert torch.equal(stages.regions, candidates.regions[stages.kept])
    assert torch.equal(stages.found.boxes, candidates.boxes[stages.kept])


def test_nothing_is_found_where_nothing_is_sure_enough_and_the_highest_score_is_known() -> None:
    spec = spec_of("fpn")
    spec = dataclasses.replace(spec, detections=dataclasses.replace(spec.detections, min_score=0.99))
    stages = detect_in_stages(detector(spec).eval(), images(1, 3, 64, 64), (64, 64))
    assert len(stages.found.boxes) == len(stages.regions) == 0
    assert 0 < float(stages.top_scores.max()) <= 0.99
