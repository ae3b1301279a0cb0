"""Released weights: names, and every row of the table held against the libraries that published them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

import pytest

from deepresidual import zoo
from deepresidual.conversion.timm import _read_preprocess
from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.zoo.released import (
    ReleasedWeights,
    default_release,
    find_release,
    list_released,
    num_released,
    release_of_hub_id,
    release_of_url,
    released,
    released_names,
)
from deepresidual.zoo.variants import missing_variant
from tests.on_demand import OnDemand

timm: Any = OnDemand("timm")
torchvision_models: Any = OnDemand("torchvision.models")

ROWS = [released(name) for name in list_released()]
CLASSIFIERS = [row for row in ROWS if not row.detects]
DETECTORS = [row for row in ROWS if row.detects]
OF_TIMM = [row for row in ROWS if row.hub_id.startswith("timm/")]
OF_TORCHVISION = [row for row in ROWS if "IMAGENET1K" in " ".join((row.name, *row.aliases))]
# Of no library's own records: Microsoft's, and those of the self-supervised methods.
OTHERS = [row for row in CLASSIFIERS if row not in OF_TIMM and row not in OF_TORCHVISION]


def test_every_row_is_found_by_each_of_its_names() -> None:
    assert num_released() == len(ROWS) == 103 + 4
    assert len(released_names()) == len(set(released_names()))
    for row in ROWS:
        for name in (row.name, *row.aliases):
            assert find_release(name) is row
        if row.hub_id:
            assert release_of_hub_id(row.hub_id) is row
        assert row.hub_id or row.url


@pytest.mark.parametrize("row", OF_TIMM, ids=str)
def test_a_row_is_as_timm_records_it(row: ReleasedWeights) -> None:
    config = _timm_config(row.name)
    assert row.hub_id == config["hf_hub_id"]
    assert row.licence.lower() == (config["license"] or "")
    assert row.num_classes == config["num_classes"]
    if row.source == "timm":  # torchvision's own files are at torchvision's address
        assert row.url == (config["url"] or "")
    crop_px = config["input_size"][1]
    preprocess = row.preprocess
    assert (preprocess.crop_px, preprocess.resize_px) == (crop_px, math.floor(crop_px / config["crop_pct"]))
    assert preprocess.interpolation == config["interpolation"]
    assert (preprocess.mean, preprocess.std) == (tuple(config["mean"]), tuple(config["std"]))
    if row.paper:
        assert row.paper in config["paper_ids"]


def _timm_config(name: str) -> dict[str, Any]:
    return dataclasses.asdict(timm.models.get_pretrained_cfg(name))


@pytest.mark.parametrize("row", OF_TORCHVISION, ids=str)
def test_a_row_is_as_torchvision_records_it(row: ReleasedWeights) -> None:
    name = row.name if "IMAGENET1K" in row.name else row.aliases[0]
    network, _, version = name.partition(".")
    weights = torchvision_models.get_model_weights(network)[version]
    assert row.url == weights.url
    figures = weights.meta["_metrics"]["ImageNet-1K"]
    assert (row.top1, row.top5) == (figures["acc@1"], figures["acc@5"])
    assert row.num_parameters == weights.meta["num_params"]
    transform = weights.transforms()
    preprocess = row.preprocess
    assert ([preprocess.crop_px], [preprocess.resize_px]) == (transform.crop_size, transform.resize_size)
    assert preprocess.interpolation == transform.interpolation.value
    assert (list(preprocess.mean), list(preprocess.std)) == (transform.mean, transform.std)


@pytest.mark.parametrize("row", OF_TIMM, ids=str)
def test_convert_takes_the_preprocessing_of_the_row(row: ReleasedWeights) -> None:
    """What ``convert`` reads of the ``config.json`` that timm writes for these weights."""
    config = json.loads(json.dumps(_timm_config(row.name)))
    spec = zoo.entry("resnet18").spec  # of which only the channels matter
    assert _read_preprocess(config, spec) == row.preprocess


def test_all_of_torchvision_s_weights_of_the_zoo_s_networks_are_there() -> None:
    names = {
        f"{network}.{weights.name}"
        for network in zoo.list_models()
        if network in torchvision_models.list_models()
        for weights in torchvision_models.get_model_weights(network)
    }
    assert {name for name in released_names() if "IMAGENET1K" in name} == names
    for network in ("resnet50", "wide_resnet101_2"):
        enum = torchvision_models.get_model_weights(network)
        for weights in (*enum, enum.DEFAULT):
            assert find_release(str(weights)) is find_release(f"{network}.{weights.name}")


@pytest.mark.parametrize("row", DETECTORS, ids=str)
def test_a_detector_is_as_torchvision_records_it(row: ReleasedWeights) -> None:
    weights = torchvision_models.get_model_weights(row.network)
    version = weights.COCO_V1
    assert (row.aliases, row.url) == ((f"{row.network}.COCO_V1",), version.url)
    figures = version.meta["_metrics"]["COCO-val2017"]
    assert (row.box_ap, row.mask_ap) == (figures["box_map"], figures.get("mask_map"))
    assert row.num_classes == len(version.meta["categories"]) - 1
    # The parameters of frozen BN are not counted there.
    frozen = 0 if row.network.endswith("_v2") else 53_120
    assert row.num_parameters == version.meta["num_params"] + frozen
    assert row.preprocess.fit == "whole"
    for named in (version, weights.DEFAULT):
        assert find_release(str(named)) is row
    assert find_release(f"{weights.__name__}.DEFAULT") is row
    assert default_release(row.network) is row


def test_all_of_torchvision_s_detectors_that_residual_has_are_there() -> None:
    theirs = [
        name for name in torchvision_models.list_models() if re.match(r"(faster|mask)rcnn_resnet", name)
    ]
    assert sorted(row.network for row in DETECTORS) == theirs


def test_the_figures_of_a_detector_are_those_of_boxes_and_masks() -> None:
    line = "maskrcnn_resnet50_fpn.tv_coco (torchvision, BSD-3-Clause, COCO, box AP 37.9 %, mask AP 34.6 %)"
    assert str(released("maskrcnn_resnet50_fpn")) == line


@pytest.mark.parametrize("row", CLASSIFIERS, ids=str)
def test_a_row_is_of_a_network_of_the_zoo(row: ReleasedWeights) -> None:
    if row.network in ("resnext101_32x16d", "resnext101_32x32d"):
        assert row.commercial == "no"
        return
    spec = dataclasses.replace(zoo.entry(row.network).spec, num_classes=row.num_classes)
    assert row.num_parameters == spec.num_parameters


def test_the_others_are_counted_and_have_their_publisher() -> None:
    assert sorted(row.source for row in OTHERS) == sorted(
        ["transformers"] * 6
        + ["DINO", "VICReg", "Barlow Twins", "MoCo v2", "MoCo v3", "SwAV", "DeepCluster v2"]
    )


def test_a_licence_that_forbids_commercial_use_is_said_and_never_a_default() -> None:
    bound = [row for row in ROWS if row.commercial != "yes"]
    assert sum(row.commercial == "no" for row in bound) == 19
    for row in bound:
        assert ("not for commercial use" in row.warning) == (row.licence == "CC-BY-NC-4.0")
        assert default_release(row.network) is not row
    unclear = [row for row in bound if row.commercial == "unclear"]
    assert [row.warning for row in unclear] == [
        "resnet50.bamboo has no recorded licence: ask its authors before you use it"
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet18", "resnet18.tv_in1k"),
        ("resnet50", "resnet50.tv_in1k"),
        ("wide_resnet50_2", "wide_resnet50_2.tv_in1k"),
        ("resnet26", "resnet26.bt_in1k"),
        ("resnet50.v2", "resnetv2_50.a1h_in1k"),
        ("resnetv2_50", "resnetv2_50.a1h_in1k"),
        ("resnet50.IMAGENET1K_V1", "resnet50.tv_in1k"),
        ("ResNet50_Weights.IMAGENET1K_V2", "resnet50.IMAGENET1K_V2"),
        ("ResNeXt50_32X4D_Weights.DEFAULT", "resnext50_32x4d.IMAGENET1K_V2"),
        ("ResNet18_Weights.DEFAULT", "resnet18.tv_in1k"),
    ],
)
def test_other_names_of_weights(name: str, meant: str) -> None:
    assert released(name).name == meant


def test_a_line_says_what_weights_are() -> None:
    assert str(released("resnet50")) == (
        "resnet50.tv_in1k (torchvision V1, BSD-3-Clause, ImageNet-1k, 76.13 %)"
    )
    assert str(released("dino.resnet50")) == (
        "dino.resnet50 (DINO, Apache-2.0, ImageNet-1k without labels, 75.30 % by a linear classifier)"
    )


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown weights 'resnet50.a9_in1k' \(nearest: .*a\d_in1k"):
        released("resnet50.a9_in1k")
    with pytest.raises(ConfigurationError, match="'resnet50.v1' is a network without released weights"):
        released("resnet50.v1")


def test_a_url_of_two_rows_means_its_publisher_s() -> None:
    row = released("resnet50.tv2_in1k")
    assert release_of_url(row.url) is released("resnet50.IMAGENET1K_V2")
    assert release_of_url("https://example.org/x.pth") is None


def test_every_residual_network_of_timm_is_had_or_named_as_a_variant() -> None:
    """No weights of a relative are fetched only to be refused; none that Residual has is refused by name."""
    names = [
        name for module in ("resnet", "resnetv2") for name in timm.list_models(module=module, pretrained=True)
    ]
    assert len(names) > 100
    known = set(list_released())
    for name in names:
        assert (missing_variant(name) is None) == (name in known), name


def test_nearest_of_a_variant_is_a_network() -> None:
    for name in ("resnet50d.ra2_in1k", "resnet101c.gluon_in1k", "seresnet50.a1_in1k", "resnetblur50.bt_in1k"):
        variant = missing_variant(name)
        assert variant is not None
        assert re.fullmatch(r"resnet\d+", variant.nearest)
        assert default_release(variant.nearest) is not None
