"""The table of a network's stages adds up to the network, and reads like the paper's Table 1."""

from __future__ import annotations

import dataclasses
import json

import pytest

from residual import zoo
from residual.errors import ConfigurationError
from residual.zoo.table import stages
from residual.zoo.verified import Comparison, verified


@pytest.mark.parametrize("entry", zoo.ENTRIES, ids=lambda entry: entry.name)
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
