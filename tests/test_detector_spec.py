"""The spec of a detector: JSON both ways, ranges, and sizes in closed form."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.errors import ConfigurationError
from deepresidual.spec import (
    Anchors,
    Detections,
    DetectorSpec,
    MaskHead,
    Neck,
    Proposals,
    Regions,
    ResNetSpec,
)

BACKBONE = ResNetSpec(unit="basic", depths=(2, 2, 2, 2), num_classes=0)
SHARE = st.floats(0, 1)
SIDE = st.one_of(st.integers(1, 1000), st.floats(0.5, 1000))


@st.composite
def specs(draw: st.DrawFn) -> DetectorSpec:
    """Draw a detector that is valid."""
    neck: Neck = draw(st.sampled_from(["c4", "fpn"]))
    stages, extra = draw(st.integers(1, 4)), draw(st.booleans())
    levels = stages + extra if neck == "fpn" else 1
    a_level = draw(st.integers(1, 3))
    low, high = sorted(draw(st.tuples(SHARE, SHARE).filter(lambda pair: pair[0] != pair[1])))
    return DetectorSpec(
        backbone=dataclasses.replace(BACKBONE, in_channels=draw(st.sampled_from([1, 3]))),
        num_classes=draw(st.integers(1, 100)),
        neck=neck,
        fpn_stages=stages,
        fpn_extra=extra,
        fpn_norm=draw(st.booleans()),
        rpn_convs=draw(st.integers(1, 3)),
        anchors=Anchors(
            sizes=tuple(tuple(draw(SIDE) for _ in range(a_level)) for _ in range(levels)),
            ratios=tuple(draw(st.lists(st.floats(0.1, 10), min_size=1, max_size=4))),
            inside_only=draw(st.booleans()),
            exact=draw(st.booleans()),
        ),
        proposals=Proposals(samples=draw(st.integers(1, 512)), positive_iou=high, negative_iou=low),
        regions=Regions(
            pooling=draw(st.sampled_from(["pool", "align", "align-v2"])),
            convs=draw(st.integers(0, 2)) if neck == "fpn" else 0,
            negative_iou=(low, high),
            smooth_l1_beta=draw(st.floats(0, 10)),
            box_weights=draw(st.tuples(*[st.floats(0.1, 20)] * 4)),
        ),
        masks=draw(st.sampled_from([None, MaskHead(), MaskHead(norm=True)])),
        detections=Detections(min_score=draw(SHARE), most=draw(st.integers(1, 1000))),
        size_divisor=draw(st.sampled_from([None, 1, 32, 64])),
    )


@given(specs())
def test_json_gives_back_the_same_spec(spec: DetectorSpec) -> None:
    again = DetectorSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.to_dict() == spec.to_dict()


@given(specs())
def test_every_level_has_its_stride_and_the_classes_their_rows(spec: DetectorSpec) -> None:
    assert len(spec.strides) == spec.num_levels == len(spec.anchors.sizes)
    more = dataclasses.replace(spec, num_classes=spec.num_classes + 1)
    features = spec.regions.hidden if spec.neck == "fpn" else 512
    of_masks = 0 if spec.masks is None else spec.masks.channels + 1
    assert more.num_parameters - spec.num_parameters == 5 * (features + 1) + of_masks


def test_an_image_is_padded_to_the_largest_stride_or_as_the_spec_says() -> None:
    spec = DetectorSpec(backbone=BACKBONE, num_classes=3)
    assert spec.padded_size((100, 65)) == (128, 96)
    assert dataclasses.replace(spec, size_divisor=1).padded_size((100, 65)) == (100, 65)
    assert dataclasses.replace(spec, size_divisor=128).padded_size((100, 65)) == (128, 128)


def test_what_came_later_is_written_only_where_it_is_not_usual() -> None:
    usual = DetectorSpec(backbone=BACKBONE, num_classes=3)
    assert {"masks", "size_divisor"}.isdisjoint(usual.to_dict())
    assert set(usual.to_dict()["anchors"]) == {"sizes", "ratios", "inside_only"}
    other = dataclasses.replace(usual, size_divisor=1, anchors=Anchors(exact=True))
    assert other.to_dict()["size_divisor"] == 1
    assert other.to_dict()["anchors"]["exact"] is True


def test_parameters_of_the_default_are_those_that_torchvision_publishes() -> None:
    backbone = ResNetSpec(unit="bottleneck", depths=(3, 4, 6, 3), num_classes=0)
    # Of 91 classes one is the background, and the 53,120 parameters of its frozen BNs are not counted.
    assert DetectorSpec(backbone=backbone, num_classes=90).num_parameters == 41_755_286 + 53_120


@pytest.mark.parametrize(
    ("masks", "parameters", "gmacs"),
    [(None, 43_712_278, 280.371), (MaskHead(norm=True), 46_359_409, 333.577)],
)
def test_sizes_of_the_second_detectors_are_those_that_torchvision_publishes(
    masks: MaskHead | None, parameters: int, gmacs: float
) -> None:
    backbone = ResNetSpec(unit="bottleneck", depths=(3, 4, 6, 3), num_classes=0)
    spec = DetectorSpec(
        backbone, num_classes=90, fpn_norm=True, rpn_convs=2, regions=Regions(convs=4), masks=masks
    )
    assert spec.num_parameters == parameters
    assert round(spec.num_macs(800) / 1e9, 3) == gmacs


def test_what_came_later_is_not_in_the_document_of_a_detector_without_it() -> None:
    fields = DetectorSpec(backbone=BACKBONE, num_classes=3).to_dict()
    assert not {"fpn_norm", "masks"} & set(fields)
    assert "convs" not in fields["regions"]
    masked = DetectorSpec(backbone=BACKBONE, num_classes=3, masks=MaskHead()).to_dict()
    assert set(masked["masks"]) == {"bins", "convs", "channels"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0; expected 1 to 100,000"),
        ({"fpn_stages": 5}, "fpn_stages is 5"),
        ({"size_divisor": 0}, "size_divisor is 0; expected 1 to 16,384, or null"),
        ({"neck": "c5"}, "neck is 'c5'; expected one of c4, fpn"),
        ({"neck": "c4"}, "sizes of the anchors are given for 5 levels; expected 1"),
        ({"anchors": Anchors(sizes=((1,), (2, 3), (4,), (5,), (6,)))}, "as many on each level"),
        ({"anchors": Anchors(ratios=(0.0,))}, "sizes and ratios above 0"),
        ({"regions": Regions(negative_iou=(0.5, 0.1))}, r"negative_iou is \[0.5, 0.1\]; expected two rising"),
        ({"regions": Regions(box_weights=(1.0, 1.0, 0.0, 1.0))}, "box_weights"),
        ({"regions": Regions(box_weights=(1.0, 1.0))}, "four numbers"),  # type: ignore[arg-type]
        ({"regions": Regions(negative_iou=(0.1, 0.2, 0.3))}, "expected two rising"),  # type: ignore[arg-type]
        (
            {"neck": "c4", "anchors": Anchors(sizes=((32.0,),)), "regions": Regions(convs=4)},
            "convs of the regions is 4 and the neck is c4; expected 0",
        ),
        ({"proposals": Proposals(positive_iou=0.2)}, "negative_iou is 0.3 and positive_iou is 0.2"),
        ({"detections": Detections(most=0)}, "most is 0"),
    ],
)
def test_what_is_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DetectorSpec(**{"backbone": BACKBONE, "num_classes": 3, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neks": "fpn"}, "unknown field 'neks' in the detector; expected neck"),
        ({"regions": {"bin": 7}}, "unknown field 'bin' in regions of the detector; expected bins"),
        ({"anchors": []}, "anchors of the detector is no object"),
        ({"backbone": "resnet18"}, "backbone of the detector is no object"),
        ({"anchors": {"sizes": []}}, "as many on each level"),
        ({"anchors": {"exact": 1}}, "exact of the anchors is 1; expected true or false"),
        ({"size_divisor": "32"}, "size_divisor is '32'"),
        ({"anchors": {"sizes": 3}}, "a list of sizes for each level"),
        ({"regions": {"negative_iou": 0.5}}, "negative_iou is 0.5"),
        ({"regions": {"negative_iou": ["a", "b"]}}, "negative_iou"),
    ],
)
def test_broken_json_is_named(changes: dict[str, Any], message: str) -> None:
    fields = DetectorSpec(backbone=BACKBONE, num_classes=3).to_dict()
    with pytest.raises(ConfigurationError, match=message):
        DetectorSpec.from_dict({**fields, **changes})
