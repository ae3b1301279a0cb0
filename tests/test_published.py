"""Published results: about networks of the zoo, as their sources print them."""

from __future__ import annotations

import pytest

from deepresidual import zoo
from deepresidual.zoo.published import RESULTS, Published, published
from tests.on_demand import OnDemand

torchvision = OnDemand("torchvision")

TORCHVISION = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)


def find(name: str, protocol: str, source: str) -> Published:
    (row,) = (row for row in published(name) if row.protocol == protocol and source in row.source)
    return row


def test_every_result_is_about_a_network_of_the_zoo() -> None:
    assert {row.network for row in RESULTS} <= set(zoo.list_models())


def test_no_result_is_there_twice() -> None:
    keys = [(row.network, row.data, row.protocol, row.source) for row in RESULTS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("row", RESULTS, ids=lambda row: f"{row.network}-{row.protocol}-{row.source}")
def test_errors_are_percent_and_fit_the_network(row: Published) -> None:
    assert 0 < row.top1_error < 100
    assert row.top5_error is None or 0 < row.top5_error < row.top1_error
    assert (row.data == "imagenet") == (zoo.entry(row.network).spec.stem == "imagenet")
    assert row.std is None or row.protocol.startswith("mean of ")


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_errors_are_those_of_its_installed_records(name: str) -> None:
    for weights in torchvision.models.get_model_weights(name):
        metrics = weights.meta["_metrics"]["ImageNet-1K"]
        (row,) = (row for row in published(name) if row.source == f"torchvision, {weights.name}")
        assert row.top1_error == pytest.approx(100 - metrics["acc@1"], abs=1e-9)
        assert row.top5_error == pytest.approx(100 - metrics["acc@5"], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "protocol", "source", "text"),
    [
        ("plain34", "10-crop", "2015, Table 3", "28.54 % / 10.02 %"),
        ("resnet34.a", "10-crop", "2015, Table 3", "25.03 % / 7.76 %"),
        ("resnet18.a", "10-crop", "2015, Table 2", "27.88 %"),
        ("resnet152.v1", "fully convolutional, 5 scales", "2015, Table 4", "19.38 % / 4.49 %"),
        ("resnet110", "mean of 5 runs", "2015, Table 6", "6.61 ± 0.16 %"),
        ("resnet110.dropout", "1 view", "2016, Table 1", "> 20 %"),
        ("plain110", "1 view", "2015, section 4.2", "> 60 %"),
        ("resnet34.c", "10-crop", "2015, Table 3", "24.19 % / 7.40 %"),
        ("resnet200.v1", "1-crop 320 px", "2016, Table 5", "21.8 % / 6.0 %"),
        ("resnet110.exclusive-gating", "median of 5 runs", "2016, Table 1", "8.70 %"),
        ("resnet164.preact", "median of 5 runs", "2016, Table 2", "5.46 %"),
        ("resnet152.preact-v1", "1-crop 320 px", "2016, Table 5", "21.1 % / 5.5 %"),
        ("resnet200.preact-v1", "1-crop 320 px", "2016, Table 5", "20.7 % / 5.3 %"),
        ("resnet50", "1-crop 160 px", "timm, a3_in1k", "24.006 %"),
    ],
)
def test_results_read_as_in_the_papers(name: str, protocol: str, source: str, text: str) -> None:
    assert str(find(name, protocol, source)) == text


def test_results_of_the_paper_stand_at_networks_with_the_papers_stride() -> None:
    for row in RESULTS:
        spec = zoo.entry(row.network).spec
        # † of Table 5 is fb.resnet.torch's network.
        if row.source.startswith("He et al.") and "aspect-ratio" not in row.source:
            assert spec.unit == "basic" or spec.stride_on == "1x1", row.network


def test_the_degradation_and_its_cure() -> None:
    errors = {
        name: published(name)[0].top1_error for name in ("plain18", "resnet18.a", "plain34", "resnet34.a")
    }
    assert errors["plain34"] > errors["plain18"] > errors["resnet18.a"] > errors["resnet34.a"]


def test_what_has_no_result_has_none() -> None:
    assert published("plain20") == ()
