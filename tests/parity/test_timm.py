"""timm's own networks, read here, and ours as folders that timm opens."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from deepresidual import zoo
from deepresidual.conversion.ecosystem import Exported, Recognition
from deepresidual.conversion.readers import read
from deepresidual.conversion.timm import Timm
from deepresidual.conversion.torchvision import TorchVision
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models import create, load, save
from deepresidual.models.convert import convert
from deepresidual.nn import ResNet
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec
from tests.on_demand import OnDemand
from tests.parity.agreement import (
    TINY,
    check_both_ways,
    check_names_and_shapes,
    converted,
    in_memory,
    largest_difference,
    randomize,
)
from tests.parity.conftest import Parity
from tests.suites import short

timm: Any = OnDemand("timm")

NETWORKS = {
    **{f"resnet{layers}": f"resnet{layers}" for layers in (18, 26, 34, 50, 101, 152)},
    **{name: name for name in ("resnext50_32x4d", "wide_resnet50_2", "wide_resnet101_2")},
    **{f"resnext101_{width}": f"resnext101_{width}" for width in ("32x4d", "32x8d", "64x4d")},
    **{f"resnetv2_{layers}": f"resnet{layers}.v2" for layers in (18, 34, 50, 101, 152)},
}
# The others differ from these in depth alone.
DISTINCT = ("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "resnetv2_18", "resnetv2_50")
PREPROCESS = Preprocess(
    crop_px=64, resize_px=73, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), interpolation="bicubic"
)


def read_here(path: Path) -> tuple[ResNet, Recognition]:
    return converted(Timm(), read(path))


def tiny_v1(block: str, **options: int) -> torch.nn.Module:
    resnet = timm.models.resnet
    network: torch.nn.Module = resnet.ResNet(getattr(resnet, block), TINY, num_classes=7, **options)
    return network


def tiny_v2(*, basic: bool, output_stride: int = 32) -> torch.nn.Module:
    network: torch.nn.Module = timm.models.resnetv2.ResNetV2(
        TINY,
        channels=(32, 64, 128, 256),
        stem_chs=32 if basic else 8,
        basic=basic,
        bottle_ratio=1.0 if basic else 0.25,
        num_classes=7,
        output_stride=output_stride,
        conv_layer=timm.layers.create_conv2d,
        norm_layer=timm.layers.BatchNormAct2d,
    )
    return network


TINY_NETWORKS = {
    "basic": lambda: tiny_v1("BasicBlock"),
    "basic, dilated": lambda: tiny_v1("BasicBlock", output_stride=8),
    "bottleneck": lambda: tiny_v1("Bottleneck"),
    "bottleneck, dilated": lambda: tiny_v1("Bottleneck", output_stride=8),
    "groups": lambda: tiny_v1("Bottleneck", cardinality=32, base_width=4),
    "wide": lambda: tiny_v1("Bottleneck", base_width=128),
    "v2 basic": lambda: tiny_v2(basic=True),
    "v2 basic, dilated": lambda: tiny_v2(basic=True, output_stride=16),
    "v2 bottleneck": lambda: tiny_v2(basic=False),
    "v2 bottleneck, dilated": lambda: tiny_v2(basic=False, output_stride=16),
}


@pytest.mark.parametrize("kind", TINY_NETWORKS)
def test_tiny_networks_are_the_same_here_and_there(kind: str) -> None:
    theirs = TINY_NETWORKS[kind]()
    # Tensors do not tell what dilates; a folder's configuration does.
    spec = dataclasses.replace(spec_of(theirs), output_stride=DILATED.get(kind))
    check_both_ways(Timm(), spec, theirs)


DILATED = {kind: 16 if kind.startswith("v2") else 8 for kind in TINY_NETWORKS if kind.endswith("dilated")}


def spec_of(network: torch.nn.Module) -> ResNetSpec:
    checkpoint = in_memory(network)
    recognition = Timm().recognize(checkpoint) or TorchVision().recognize(checkpoint)
    assert recognition is not None
    return recognition.spec


@pytest.mark.parametrize("name", short(NETWORKS, *DISTINCT))
def test_every_network_has_the_names_and_shapes_of_timms(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=7)
        spec = dataclasses.replace(zoo.entry(NETWORKS[name]).spec, num_classes=7)
        check_names_and_shapes(Timm(), spec, theirs)
    assert zoo.name_of(spec_of(theirs)) == NETWORKS[name]


FULL = short(NETWORKS, "resnet18", "resnetv2_18")


@pytest.mark.parametrize("name", FULL)
def test_networks_of_timm_are_the_same_here_and_there(name: str, tmp_path: Path, parity: Parity) -> None:
    row = NETWORKS[name]
    ours = randomize(create(row, num_classes=7), seed=2)
    assert isinstance(ours, ResNet)
    Timm().write(Exported(ours.spec, ours.state_dict(), PREPROCESS, tuple("abcdefg")), tmp_path / "out")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    for size in ((64, 64), (75, 97)):
        parity(row, "timm", "out", largest_difference(ours, theirs, size), 1e-5)
    # timm's own weights, under the same folder's configuration.
    from safetensors.torch import save_file

    other = randomize(timm.create_model(name, num_classes=7), seed=3)
    save_file(other.state_dict(), tmp_path / "out" / "model.safetensors")
    back, recognition = read_here(tmp_path / "out")
    parity(row, "timm", "in", largest_difference(back, other), 1e-5)
    assert zoo.name_of(back.spec) == row
    assert recognition.preprocess == PREPROCESS
    assert recognition.label_names == tuple("abcdefg")


@pytest.mark.parametrize("name", short(NETWORKS, "resnetv2_18"))
def test_folders_that_timm_writes_are_read(name: str, tmp_path: Path, parity: Parity) -> None:
    theirs: Any = randomize(timm.create_model(name, num_classes=7), seed=5)
    timm.models.save_for_hf(theirs, tmp_path, safe_serialization=True)
    ours, recognition = read_here(tmp_path)
    assert zoo.name_of(ours.spec) == NETWORKS[name]
    assert recognition.preprocess.mean == theirs.pretrained_cfg["mean"]
    for size in ((64, 64), (75, 97)):
        parity(NETWORKS[name], "timm", "in", largest_difference(ours, theirs, size), 1e-5)
    reference = Timm().reference(read(tmp_path), ours.spec)
    assert largest_difference(ours, reference.logits) <= 1e-5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50d", "a deep stem of three convolutions .* its tensor conv1.0.weight"),
        ("resnetv2_50d", "a deep stem of three convolutions .* its tensor stem.conv1.weight"),
        ("skresnet18", "selective kernels .skresnet., as its tensor layer1.0.conv1.paths.0.conv.weight"),
        ("seresnet50", "a tensor that its networks do not have .layer1.0.se.fc1"),
        ("resnetv2_50x1_bit", "is a resnetv2 with another normalization than BN"),
        ("resnetblur50", "the architecture is 'resnetblur50'"),
        ("resnet50_gn", "the architecture is 'resnet50_gn'"),
        ("selecsls42", "is timm's 'selecsls42', which Residual does not have"),
    ],
)
def test_timms_other_networks_are_refused(name: str, message: str, tmp_path: Path) -> None:
    # Of one unit a stage, where the function takes it.
    depths = {} if name in ("selecsls42", "resnetv2_50x1_bit") else {"layers": TINY}
    theirs = timm.create_model(name, num_classes=7, **depths)
    timm.models.save_for_hf(theirs, tmp_path, safe_serialization=True)
    with pytest.raises(ModelFileError, match=message):
        Timm().recognize(read(tmp_path))


@pytest.mark.parametrize("row", short(["resnet50", "resnet18.v2", "resnet50.v2"], "resnet18.v2"))
def test_out_and_back_is_the_same_to_the_bit(row: str, tmp_path: Path) -> None:
    ours = randomize(create(row, num_classes=7, in_channels=1), seed=2)
    assert isinstance(ours, ResNet)
    gray = Preprocess(crop_px=64, resize_px=64, mean=(0.4,), std=(0.2,), channels="gray")
    Timm().write(Exported(ours.spec, ours.state_dict(), gray, tuple("abcdefg")), tmp_path / "out")
    back, recognition = read_here(tmp_path / "out")
    assert (back.spec, recognition.preprocess) == (ours.spec, gray)
    assert all(torch.equal(back.state_dict()[key], tensor) for key, tensor in ours.state_dict().items())


@pytest.mark.parametrize("output_stride", short([8, 16], 8))
@pytest.mark.parametrize("name", short(["resnet18", "resnet50", "resnetv2_18", "resnetv2_50"], "resnet18"))
def test_dilation_is_timms(name: str, output_stride: int, tmp_path: Path, parity: Parity) -> None:
    row = NETWORKS[name]
    theirs = randomize(timm.create_model(name, num_classes=7, output_stride=output_stride), seed=3)
    timm.models.save_for_hf(theirs, tmp_path / "theirs", safe_serialization=True)
    ours, _ = read_here(tmp_path / "theirs")
    spec = dataclasses.replace(zoo.entry(row).spec, output_stride=output_stride, num_classes=7)
    assert ours.spec == spec
    parity(row, "timm", "in", largest_difference(ours, theirs, (75, 97)), 1e-5)
    Timm().write(Exported(spec, ours.state_dict(), PREPROCESS, tuple("abcdefg")), tmp_path / "out")
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    parity(row, "timm", "out", largest_difference(ours, again, (75, 97)), 1e-5)


def test_a_lone_file_of_resnetv2_is_recognized_by_its_names(tmp_path: Path) -> None:
    theirs = randomize(tiny_v2(basic=False), seed=4)
    torch.save(theirs.state_dict(), tmp_path / "v2.pth")
    ours, recognition = read_here(tmp_path / "v2.pth")
    assert largest_difference(ours, theirs) <= 1e-5
    assert recognition.preprocess.mean == (0.5, 0.5, 0.5)
    assert any("one half" in clause for clause in recognition.assumed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timm") / "resnet18"
    network = create("resnet18", num_classes=3)
    Timm().write(Exported(network.spec, network.state_dict(), PREPROCESS, ("a", "b", "c")), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "os.system"}, "config.json has the unknown key '_target_'"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "config.json has the unknown key 'auto_map'"),
        ({"trust_remote_code": True}, "config.json has the unknown key 'trust_remote_code'"),
        ({"pretrained_cfg.class_path": "x.Y"}, "pretrained_cfg has the unknown key 'class_path'"),
        ({"architecture": "vit_base"}, "the architecture is 'vit_base'; expected one of resnet18"),
        ({"architecture": 3}, "the architecture is 3;"),
        (
            {"architecture": "resnet34"},
            "the architecture is 'resnet34' and the tensors are those of resnet18",
        ),
        ({"num_classes": 10}, "the classifier has 3 rows and the config says 10; expected the same"),
        ({"model_args": {"block": "os.system"}}, "model_args is .*; expected only in_chans, num_classes, "),
        ({"model_args": {"in_chans": 1}}, "model_args.in_chans is 1; expected 3"),
        ({"model_args": {"num_classes": 4}}, "model_args.num_classes is 4; expected 3"),
        ({"model_args": {"global_pool": "max"}}, "model_args.global_pool is 'max'; expected 'avg'"),
        ({"global_pool": "catavgmax"}, "global_pool is 'catavgmax'; expected 'avg'"),
        ({"model_args": {"output_stride": 7}}, "output_stride is 7; expected one of 4, 8, 16, 32"),
        ({"pretrained_cfg.std": [0, 1, 1]}, r"std is \[0.0, 1.0, 1.0\]; expected numbers above 0"),
        ({"pretrained_cfg.mean": [0.1] * 4}, "mean is .*; expected 3 finite numbers"),
        ({"pretrained_cfg.input_size": [3, 0, 0]}, "crop_px is 0"),
        ({"pretrained_cfg.input_size": [3, 10**6, 10**6]}, "crop_px is 1000000"),
        ({"pretrained_cfg.input_size": [4, 64, 64]}, "input_size is .*; expected 3 channels, a square"),
        ({"pretrained_cfg.crop_pct": 0}, "crop_pct is 0; expected 0.05 to 1"),
        ({"pretrained_cfg.crop_mode": "border"}, "crop_mode is 'border'; expected center"),
        ({"pretrained_cfg.interpolation": "x"}, "interpolation is 'x'"),
        ({"pretrained_cfg": 3}, "pretrained_cfg is 3; expected an object"),
        (
            {"label_names": ["a", 1, "c"]},
            r"label_names is \['a', 1, 'c'\]; expected a list of strings, or",
        ),
        ({"label_names": "abc"}, "label_names is 'abc'; expected a list of strings, or an object with one"),
        (
            {"label_names": {"0": "a", "2": "c", "1": ["b"]}},
            "label_names is .*; expected a list of strings, or",
        ),
        (
            {"label_names": {"0": "a", "1": "b", "7": "c"}},
            "label_names is .*; expected a list of strings, or",
        ),
        (
            {"model_args": {"block": "os.system"}},
            "model_args is {'block': 'os.system'}; expected only",
        ),
        ({"pretrained_cfg.architecture": 1, "x" * 200_000: 1}, "config.json has the unknown key 'xxx"),
        ({"label_names": ["a", "b"]}, "label_names has 2 names, 2 of them distinct; expected 3, one a row"),
        ({"label_names": ["a", "b", "a"]}, "label_names has 3 names, 2 of them distinct; expected 3"),
    ],
)
def test_hostile_configurations_are_refused_by_field(
    folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    config = copy.deepcopy(json.loads((folder / "config.json").read_text()))
    for key, value in change.items():
        section, _, field = key.rpartition(".")
        (config[section] if section else config)[field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=message) as caught:
        Timm().recognize(read(tmp_path))
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"label_names": {"2": "c", "0": "a", "1": "b"}}, ("a", "b", "c")),
        ({"pretrained_cfg.label_names": ["x", "y", "z"]}, ("x", "y", "z")),
        (
            {
                "pretrained_cfg.label_names": ["n00000001", "n00000002", "n00000003"],
                "pretrained_cfg.label_descriptions": {"n00000001": "ant", "n00000003": "cat"},
                "label_names": ["n00000001", "n00000002", "n00000003"],
            },
            ("ant", "n00000002", "cat"),
        ),
        ({"label_names": []}, None),
        ({"label_names": None, "model_args": {"drop_rate": 0.2, "zero_init_last": False}}, None),
    ],
)
def test_class_names_are_taken_from_where_timm_has_them(
    folder: Path, tmp_path: Path, change: dict[str, Any], names: tuple[str, ...] | None
) -> None:
    config = copy.deepcopy(json.loads((folder / "config.json").read_text()))
    config.pop("label_names", None)
    for key, value in change.items():
        section, _, field = key.rpartition(".")
        (config[section] if section else config)[field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    recognition = Timm().recognize(read(tmp_path))
    assert recognition is not None
    assert recognition.label_names == names


@pytest.mark.parametrize("safe", short([True, False], False))
def test_a_model_of_ours_comes_back_from_timm_with_its_class_names(tmp_path: Path, safe: bool) -> None:
    save(create("resnet18", num_classes=2, seed=1), tmp_path / "ours", label_names=["ants", "bees"])
    theirs = timm.create_model(f"local-dir:{tmp_path / 'ours'}", pretrained=True)
    timm.models.save_for_hf(theirs, tmp_path / "theirs", safe_serialization=safe)
    convert(tmp_path / "theirs", tmp_path / "back")
    before, after = load(tmp_path / "ours"), load(tmp_path / "back")
    assert (after.label_names, after.preprocess) == (before.label_names, before.preprocess)
    weights = after.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in before.network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50.v1", "timm has no such network: stride_on"),
        ("resnet50.preact", "timm has no such network: first_activation is 'stem' and there 'unit'"),
        ("resnet20", "timm has no such network"),
    ],
)
def test_what_timm_lacks_is_named(name: str, message: str, tmp_path: Path) -> None:
    model = Exported(zoo.entry(name).spec, {}, PREPROCESS, ())
    with pytest.raises(ConfigurationError, match=message):
        Timm().write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
