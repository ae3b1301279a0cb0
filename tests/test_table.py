"""The table of a network's stages adds up to the network, and reads like the paper's Table 1."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from deepresidual import zoo
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError
from deepresidual.zoo.table import stages
from deepresidual.zoo.verified import Comparison, verified


def deep(entry: zoo.ZooEntry) -> Any:
    return pytest.param(entry, marks=pytest.mark.test_all) if entry.spec.num_layers >= 200 else entry


@pytest.mark.parametrize("entry", [deep(entry) for entry in zoo.entries()], ids=lambda entry: entry.name)
@pytest.mark.parametrize("px", [32, 224, 97])
def test_rows_add_up(entry: zoo.ZooEntry, px: int) -> None:
    table = stages(entry.spec, px)
    assert sum(row.num_parameters for row in table) == entry.spec.num_parameters
    assert sum(row.num_macs for row in table) == entry.spec.num_macs(px)
    assert sum(row.num_units for row in table if row.name.startswith("layer")) == sum(entry.spec.depths)
    json.dumps([dataclasses.asdict(row) for row in table])


def test_resnet50_is_the_papers_column() -> None:
    table = stages(zoo.entry("resnet50.v1").spec, 224)
    assert [(row.name, row.paper_name, row.output_px, row.stride) for row in table] == [
        ("conv1", "", 112, 2),
        ("pool", "", 56, 2),
        ("layer1", "conv2_x", 56, 1),
        ("layer2", "conv3_x", 28, 2),
        ("layer3", "conv4_x", 14, 2),
        ("layer4", "conv5_x", 7, 2),
        ("fc", "", 1, 1),
    ]
    assert table[4].layers == ("1×1, 256", "3×3, 256", "1×1, 1024")
    assert (table[4].num_units, table[4].shortcuts) == (6, {"projection": 1, "identity": 5})


def test_groups_and_dilation_are_said() -> None:
    assert stages(zoo.entry("resnext50_32x4d").spec, 224)[2].layers[1] == "3×3, 128, 32 groups"
    dilated = dataclasses.replace(zoo.entry("resnet50").spec, output_stride=16)
    assert stages(dilated, 224)[5].layers[1] == "3×3, 512, dilation 2"
    assert stages(dilated, 224)[5].output_px == 14


def test_plain_nets_have_no_shortcuts() -> None:
    assert all(not row.shortcuts for row in stages(zoo.entry("plain34").spec, 224))


@pytest.mark.parametrize("px", [0, -1, 10**9])
def test_an_impossible_size_is_refused(px: int) -> None:
    with pytest.raises(ConfigurationError, match=f"the image size is {px} px; expected 1 to 65,536 px"):
        stages(zoo.entry("resnet50").spec, px)


def test_a_comparison_reads_as_library_and_version() -> None:
    assert str(Comparison("resnet50", "timm", "1.0.20", "in", 1e-6)) == "timm 1.0.20"
    assert str(Comparison("resnet50", "torch7", "", "in", 1e-6)) == "torch7"


def test_what_was_compared_is_in_the_zoo() -> None:
    for name in zoo.list_models():
        assert all(row.network == name and row.largest_difference >= 0 for row in verified(name))


def test_the_command_prints_stages_and_published_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "resnet50.v1"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "layer3 14 × 14 2 1×1, 256 7,098,368 1,387.3 M 1 projection" in lines
    assert "conv4_x 3×3, 256 × 6 5 identity" in lines
    assert "total 25,557,032 3,858.0 M" in lines
    assert "22.85 % / 6.71 % imagenet 10-crop He et al. 2015, Table 3" in lines
    assert any(line.startswith(("verified not yet compared", "verified against")) for line in lines)


def test_the_command_prints_them_as_json_for_the_size_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "resnet110.dropout", "--image-px", "64", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert row["macs"] == zoo.entry("resnet110.dropout").spec.num_macs(64)
    assert [stage["output_px"] for stage in row["stages"]] == [64, 64, 32, 16, 1]
    assert row["published"] == [
        {
            "data": "cifar10",
            "top1_error": 20,
            "top5_error": None,
            "protocol": "1 view",
            "source": "He et al. 2016, Table 1",
            "std": None,
            "is_lower_bound": True,
        }
    ]
    assert isinstance(row["verified"], list)


def test_the_command_refuses_an_impossible_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "resnet20", "--image-px", "0"]) == 2
    assert capsys.readouterr().err == "error: the image size is 0 px; expected 1 to 65,536 px\n"
