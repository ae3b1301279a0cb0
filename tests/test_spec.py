"""The spec against the papers' figures, and its validation."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from deepresidual import zoo
from deepresidual.errors import ConfigurationError
from deepresidual.spec import ResNetSpec, Shortcut, shortcut_form

# Parameters of He et al. 2015, Table 1, by shortcut option: exact counts for 1,000 classes.
IMAGENET_PARAMETERS = {
    ("resnet18", "A"): 11_515_688,
    ("resnet18", "B"): 11_689_512,
    ("resnet18", "C"): 12_043_816,
    ("resnet34", "A"): 21_623_848,
    ("resnet34", "B"): 21_797_672,
    ("resnet34", "C"): 22_716_840,
    ("resnet50", "B"): 25_557_032,
    ("resnet50", "C"): 40_128_552,
    ("resnet101", "B"): 44_549_160,
    ("resnet101", "C"): 76_981_288,
    ("resnet152", "B"): 60_192_808,
    ("resnet152", "C"): 107_335_720,
    ("plain18", "none"): 11_515_688,
    ("plain34", "none"): 21_623_848,
}

# GMAC at 224 px, to the three decimals that are published.
IMAGENET_GMACS = {
    "resnet18.a": 1.795,
    "resnet18": 1.814,
    "resnet34.a": 3.644,
    "resnet34": 3.664,
    "resnet34.c": 3.831,
    "resnet50.v1": 3.858,
    "resnet50": 4.089,
    "resnet101.v1": 7.570,
    "resnet101": 7.801,
    "resnet152.v1": 11.282,
    "resnet152": 11.514,
    "plain18": 1.795,
    "plain34": 3.644,
}

# layers: (parameters with A, B, C; MMAC with A), He et al. 2015, Table 6.
CIFAR = {
    20: (269_722, 272_474, 283_962, 40.6),
    32: (464_154, 466_906, 489_594, 68.9),
    44: (658_586, 661_338, 695_226, 97.2),
    56: (853_018, 855_770, 900_858, 125.5),
    110: (1_727_962, 1_730_714, 1_826_202, 252.9),
    1202: (19_421_274, 19_424_026, 20_538_714, 2829.2),
}


@pytest.mark.parametrize(("name", "shortcut"), IMAGENET_PARAMETERS)
def test_imagenet_parameters_are_the_published_ones(name: str, shortcut: Shortcut) -> None:
    spec = dataclasses.replace(zoo.entry(name).spec, shortcut=shortcut)
    assert spec.num_parameters == IMAGENET_PARAMETERS[name, shortcut]


@pytest.mark.parametrize("name", IMAGENET_GMACS)
def test_imagenet_macs_are_the_published_ones(name: str) -> None:
    assert round(zoo.entry(name).num_macs / 1e9, 3) == IMAGENET_GMACS[name]


@pytest.mark.parametrize("layers", CIFAR)
def test_cifar_counts_are_the_published_ones(layers: int) -> None:
    a, b, c, mmacs = CIFAR[layers]
    spec = zoo.entry(f"resnet{layers}").spec
    assert [dataclasses.replace(spec, shortcut=kind).num_parameters for kind in ("A", "B", "C")] == [a, b, c]
    assert round(spec.num_macs(32) / 1e6, 1) == mmacs
    plain = zoo.entry(f"plain{layers}").spec
    assert (plain.num_parameters, plain.num_macs(32)) == (a, spec.num_macs(32))


# Counts of the ImageNet nets with BN both after conv1 and at the head of the first unit. He et al. 2016 have
# one of the two ("we adopt the first activation right after conv1 and before splitting into two paths",
# appendix), and so have fb.resnet.torch, timm and Keras: 2 · 64 parameters fewer.
PREACTIVATION_WITH_TWO_FIRST_BN = {
    18: 11_687_848,
    50: 25_549_480,
    101: 44_541_608,
    152: 60_185_256,
    200: 64_666_280,
}


@pytest.mark.parametrize("layers", PREACTIVATION_WITH_TWO_FIRST_BN)
def test_pre_activation_nets_for_imagenet_have_one_first_bn(layers: int) -> None:
    spec = zoo.entry(f"resnet{layers}.preact").spec
    assert spec.num_parameters == PREACTIVATION_WITH_TWO_FIRST_BN[layers] - 2 * 64
    in_unit = dataclasses.replace(spec, first_activation="unit")
    assert in_unit.num_parameters == spec.num_parameters


# He et al. 2016: exact counts of the pre-activation networks, and of R164 as it was.
PREACTIVATION_PARAMETERS = {
    "resnet110.preact": 1_727_962,
    "resnet164.preact": 1_703_258,
    "resnet164": 1_704_154,
    "resnet1001.preact": 10_327_706,
}


@pytest.mark.parametrize("name", PREACTIVATION_PARAMETERS)
def test_parameters_of_2016_are_the_published_ones(name: str) -> None:
    assert zoo.entry(name).spec.num_parameters == PREACTIVATION_PARAMETERS[name]


def test_more_figures_of_2016() -> None:
    assert round(zoo.entry("resnet200.preact").num_macs / 1e9, 3) == 15.007
    hundred = [dataclasses.replace(zoo.entry(f"resnet{n}.preact").spec, num_classes=100) for n in (164, 1001)]
    assert [spec.num_parameters for spec in hundred] == [1_726_388, 10_350_836]
    layers = zoo.entry("resnet1001.preact").spec.layers(32)
    assert round(sum(layer.num_parameters for layer in layers if layer.kind != "bn") / 1e6, 1) == 10.2


# KaimingHe/resnet-1k-layers, resnet-pre-act.lua: the first 1×1 of a unit has the stride, the 3×3 never.
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("resnet164", 244_500_992),
        ("resnet164.preact", 244_500_992),
        ("resnet164.bnadd", 244_500_992),
        ("resnet164.relubefore", 244_500_992),
        ("resnet164.reluonly", 244_500_992),
        ("resnet1001", 1_487_849_984),
        ("resnet1001.preact", 1_487_849_984),
    ],
)
def test_bottlenecks_for_cifar_stride_on_their_first_1x1(name: str, macs: int) -> None:
    spec = zoo.entry(name).spec
    (first, *_), (second, *_) = (
        spec.convolutions(unit) for unit in spec.units() if unit.name in ("layer2.0", "layer3.0")
    )
    assert [(conv.kernel_px, conv.stride) for conv in (first, second)] == [(1, 2), (1, 2)]
    assert spec.num_macs(32) == macs
    later = dataclasses.replace(spec, stride_on="3x3")
    assert later.num_parameters == spec.num_parameters
    assert later.num_macs(32) > macs


def test_no_published_network_of_table_5_strides_on_its_3x3() -> None:
    for layers, macs in ((152, 11_282_415_616), (200, 14_776_270_848)):
        row = zoo.entry(f"resnet{layers}.preact-v1")
        assert row.num_macs == macs
        assert dataclasses.replace(row.spec, stride_on="3x3") == zoo.entry(f"resnet{layers}.preact").spec


@pytest.mark.parametrize("entry", zoo.entries(), ids=lambda entry: entry.name)
def test_the_name_says_the_depth(entry: zoo.ZooEntry) -> None:
    match = re.search(r"\d+", entry.name)
    assert match is not None
    assert entry.spec.num_layers == int(match[0])


@pytest.mark.parametrize("entry", zoo.entries(), ids=lambda entry: entry.name)
def test_every_spec_survives_json(entry: zoo.ZooEntry) -> None:
    assert ResNetSpec.from_dict(entry.spec.to_dict()) == entry.spec


@pytest.mark.parametrize(
    ("kind", "same", "wider", "strided", "both"),
    [
        ("none", "none", "none", "none", "none"),
        ("A", "identity", "pad", "pad", "pad"),
        ("A-both-sides", "identity", "pad-both-sides", "pad-both-sides", "pad-both-sides"),
        ("B", "identity", "projection", "projection", "projection"),
        ("B-subsampled", "identity", "projection", "pad", "projection"),
        ("C", "projection", "projection", "projection", "projection"),
        ("scaled", "identity", "pad", "pad", "pad"),
        ("exclusive-gating", "identity", "pad", "pad", "pad"),
        ("shortcut-only-gating", "identity", "pad", "pad", "pad"),
        ("dropout", "identity", "pad", "pad", "pad"),
    ],
)
def test_shortcut_form_by_shape(kind: Shortcut, same: str, wider: str, strided: str, both: str) -> None:
    shapes = [(16, 16, 1), (16, 32, 1), (16, 16, 2), (16, 32, 2)]
    assert [shortcut_form(kind, *shape) for shape in shapes] == [same, wider, strided, both]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "conv"}, "unit is 'conv'; expected one of basic, bottleneck"),
        (
            {"shortcut": "D"},
            "shortcut is 'D'; expected one of none, A, A-both-sides, B, B-subsampled, C, scaled",
        ),
        ({"stem": "mnist"}, "stem is 'mnist'"),
        ({"stride_on": "5x5"}, "stride_on is '5x5'"),
        ({"arrangement": "postact"}, "arrangement is 'postact'; expected one of original, bn-after-addition"),
        ({"groups": 2}, "groups is 2 and inner_multiplier is 1 in basic units; expected 1 and 1"),
        ({"unit": "bottleneck", "groups": 3}, "do not divide into 3 groups"),
        ({"unit": "bottleneck", "inner_multiplier": 0}, "inner_multiplier holds 0"),
        ({"depths": (2, 2)}, "depths has 2 stages and widths has 4"),
        ({"depths": (), "widths": ()}, "depths has 0 stages"),
        ({"depths": (0, 0, 0, 0)}, "depths holds 0; expected 1 to 10,000"),
        ({"widths": (10**9, 1, 1, 1)}, "widths holds 1000000000"),
        ({"num_classes": 10**7}, "num_classes holds 10000000; expected 0 to 1,000,000"),
        ({"num_classes": -1}, "num_classes holds -1"),
        ({"in_channels": 0}, "in_channels holds 0"),
        ({"depths": (9999, 9999, 9999, 9999)}, "the network would have 39,996 units"),
        ({"bn_eps": 0.0}, "bn_eps holds 0.0; expected 1e-12 to 1.0"),
        ({"bn_momentum": 1.5}, "bn_momentum holds 1.5; expected 0.0 to 1.0"),
        ({"stochastic_depth": 1.0}, "stochastic_depth holds 1.0; expected 0.0 to 0.99"),
        ({"shortcut": "none", "stochastic_depth": 0.2}, "in a plain net, which would drop everything"),
        ({"first_activation": "stem"}, "first_activation is 'stem' and arrangement is 'original'"),
        ({"shortcut_scale": 0.5}, "shortcut_scale is 0.5 and residual_scale is 1.0 with shortcut 'B'"),
        ({"gate_bias": -6.0}, "gate_bias is -6.0 with shortcut 'B'; expected 0, but for"),
        ({"output_stride": 12}, "output_stride is 12; expected one of 4, 8, 16, 32"),
        (
            {"zero_init_last_bn": True, "arrangement": "full-preactivation"},
            "zero_init_last_bn is true and arrangement is 'full-preactivation', where F does not end with BN",
        ),
        ({"widths": (60_000, 60_000, 60_000, 60_000)}, "at most 10,000 units and 4,000,000,000 parameters"),
    ],
)
def test_fields_out_of_range_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        dataclasses.replace(zoo.entry("resnet18").spec, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "os.system"}, "unknown field '_target_' in the spec"),
        ({"shortcuts": "A"}, "unknown field 'shortcuts' in the spec; expected shortcut"),
        ({"depths": "2222"}, "depths is '2222'; expected whole numbers, one a stage"),
        ({"depths": [2, 2, 2, True]}, "depths is .*; expected whole numbers, one a stage"),
        ({"bn_eps": "1"}, "bn_eps is '1'; expected a finite number"),
        ({"bn_eps": float("nan")}, "bn_eps is nan; expected a finite number"),
        ({"zero_init_last_bn": 1}, "zero_init_last_bn is 1; expected true or false"),
        ({"output_stride": 8.0}, "output_stride is 8.0; expected a whole number or none"),
        ({"num_classes": 10.0}, "num_classes is 10.0; expected a whole number"),
        ({"unit": ["basic"]}, r"unit is \['basic'\]; expected one of basic, bottleneck"),
    ],
)
def test_hostile_json_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ResNetSpec.from_dict({**zoo.entry("resnet18").spec.to_dict(), **change})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigurationError, match="the spec has no field 'depths'"):
        ResNetSpec.from_dict({"unit": "basic"})


def moving_statistics(spec: ResNetSpec) -> int:
    """Means and variances of BN, which Keras counts among the parameters."""
    return sum(2 * layer.out_channels for layer in spec.layers(224) if layer.kind == "bn")


def test_keras_counts() -> None:
    keras = zoo.entry("resnet50.keras").spec
    assert keras.num_parameters - zoo.entry("resnet50.v1").spec.num_parameters == 26_560
    assert moving_statistics(keras) == 53_120
    assert keras.num_parameters + moving_statistics(keras) == 25_636_712
    # keras-hub's backbones: without classifier, with the statistics.
    backbones = {18: 11_186_112, 50: 23_561_152, 101: 42_605_504, 152: 58_295_232}
    for layers, count in backbones.items():
        spec = zoo.entry(f"resnet{layers}").spec
        classifier = (spec.num_features + 1) * 1000
        assert spec.num_parameters - classifier + moving_statistics(spec) == count


def test_differences_name_the_fields_of_the_architecture_that_differ() -> None:
    here = ResNetSpec(unit="basic", depths=(2, 2), widths=(16, 32), stochastic_depth=0.1)
    there = ResNetSpec(unit="basic", depths=(2, 3), widths=(16, 32), stem="cifar")
    assert here.differences(there) == [
        "depths is [2, 2] and there [2, 3]",
        "stem is 'imagenet' and there 'cifar'",
    ]
    assert here.differences(there, ignoring=("depths", "stem")) == []
    assert here.differences(here.architecture) == []
