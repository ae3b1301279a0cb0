"""Trees as fb.resnet.torch builds them, read here, and run by an interpreter of the same trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deepresidual import zoo
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.readers import read
from deepresidual.conversion.torch7 import Torch7
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.nn import ResNet
from deepresidual.spec import ResNetSpec
from deepresidual.zoo import cifar
from deepresidual.zoo.labels import CIFAR10_CLASS_NAMES, imagenet_class_names
from tests.conversion.readers.writers import Module, write_torch7
from tests.parity.agreement import converted, largest_difference
from tests.parity.conftest import Parity

GENERATOR = torch.Generator()


@pytest.fixture(autouse=True)
def _same_weights_in_any_order() -> None:
    GENERATOR.manual_seed(3)


# -- the modules, with weights under which logits stay of the order of one ----------------------------------


def uniform(size: int, low: float, high: float) -> Tensor:
    return torch.empty(size).uniform_(low, high, generator=GENERATOR)


def conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> Module:
    weight = torch.randn(out, channels // groups, kernel, kernel, generator=GENERATOR)
    fields = {
        "weight": weight * (2 / weight[0].numel()) ** 0.5,
        "nInputPlane": channels,
        "nOutputPlane": out,
        "kW": kernel,
        "kH": kernel,
        "dW": stride,
        "dH": stride,
        "padW": kernel // 2,
        "padH": kernel // 2,
        "groups": groups,
    }
    return Module("cudnn.SpatialConvolution", fields)


def bn(channels: int, low: float = 0.3, high: float = 0.7) -> Module:
    fields = {
        "weight": uniform(channels, low, high),
        "bias": uniform(channels, -0.2, 0.2),
        "running_mean": uniform(channels, -0.2, 0.2),
        "running_var": uniform(channels, 0.7, 1.5),
        "eps": 1e-5,
        "momentum": 0.1,
        "affine": True,
        "nDim": 4,
    }
    return Module("nn.SpatialBatchNormalization", fields)


def relu() -> Module:
    return Module("cudnn.ReLU", {"inplace": True})


def holding(kind: str, *modules: Module, **fields: Any) -> Module:
    return Module(f"nn.{kind}", {"modules": list(modules), **fields})


def pooling(kind: str, kernel: int, stride: int, padding: int = 0) -> Module:
    fields = {f"{name}{axis}": size for name, size in (("k", kernel), ("d", stride)) for axis in "WH"}
    return Module(kind, {**fields, "padW": padding, "padH": padding, "ceil_mode": False})


# -- fb.resnet.torch's models, by its lua files --------------------------------------------------------------


def shortcut_of(channels: int, out: int, stride: int, option: str, *, has_bn: bool) -> Module:
    if option == "C" or (option == "B" and channels != out):
        projection = conv(channels, out, 1, stride)
        return holding("Sequential", projection, *([bn(out)] if has_bn else []))
    if channels == out:
        return Module("nn.Identity", {})
    zeros = Module("nn.MulConstant", {"constant_scalar": 0, "inplace": False})
    doubled = holding("Concat", Module("nn.Identity", {}), zeros, dimension=2)
    return holding("Sequential", pooling("nn.SpatialAveragePooling", 1, stride), doubled)


def unit_of(kind: str, shape: list[tuple[int, int, int, int, int]], option: str) -> Module:
    """A unit of one kind from its convolutions: (in, out, kernel, stride, groups)."""
    channels, out, stride = shape[0][0], shape[-1][1], max(row[3] for row in shape)
    is_pre = kind not in ("original", "bn-after-addition")
    main: list[Module] = []
    for number, row in enumerate(shape):
        if number == 0 and kind == "own":
            main += [bn(channels), relu()]
        if number > 0:
            main += [bn(row[0]), relu()]
        main.append(conv(*row))
    if kind == "original":
        main.append(bn(out))
    branches = holding(
        "ConcatTable",
        holding("Sequential", *main),
        shortcut_of(channels, out, stride, option, has_bn=not is_pre),
    )
    head = [bn(channels), relu()] if kind == "shared" else []
    tail = (
        {"original": [relu()], "bn-after-addition": [bn(out, 0.8, 1.1), relu()]}.get(kind, [])
        if not is_pre
        else []
    )
    return holding("Sequential", *head, branches, Module("nn.CAddTable", {"inplace": True}), *tail)


def network_of(
    depths: tuple[int, ...],
    widths: tuple[int, ...],
    *,
    unit: str = "basic",
    option: str = "B",
    kind: str = "original",
    stem: str = "imagenet",
    classes: int = 7,
    stride_on: int = 1,
    groups: int = 1,
    inner: int = 1,
) -> Module:
    """A network; ``kind`` is original, bn-after-addition or pre, as resnet.lua and preresnet.lua lay them."""
    stem_bn = kind != "pre" or stem == "imagenet"
    modules = [conv(3, widths[0], 7, 2) if stem == "imagenet" else conv(3, widths[0], 3)]
    modules += [bn(widths[0]), relu()] if stem_bn else []
    modules += [pooling("nn.SpatialMaxPooling", 3, 2, 1)] if stem == "imagenet" else []
    channels = widths[0]
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        units = []
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            here = kind
            if kind == "pre":
                is_bare = stem_bn and stage == index == 0
                here = "bare" if is_bare else "shared" if index == 0 else "own"
            strides = (stride, 1, 1) if stride_on == 0 else (1, stride, 1)
            if unit == "basic":
                shape = [(channels, width, 3, stride, 1), (width, width, 3, 1, 1)]
            else:
                mid = width * inner
                shape = [
                    (channels, mid, 1, strides[0], 1),
                    (mid, mid, 3, strides[1], groups),
                    (mid, 4 * width, 1, 1, 1),
                ]
            units.append(unit_of(here, shape, option))
            channels = shape[-1][1]
        modules.append(holding("Sequential", *units))
    modules += [bn(channels), relu()] if kind == "pre" else []
    side = (56 if stem == "imagenet" else 32) // 2 ** (len(depths) - 1)
    modules += [
        pooling("cudnn.SpatialAveragePooling", side, 1),
        Module("nn.View", {"numElements": channels, "numInputDims": 3}),
        Module(
            "nn.Linear",
            {
                "weight": torch.randn(classes, channels, generator=GENERATOR) * (2 / channels) ** 0.5,
                "bias": uniform(classes, -0.2, 0.2),
            },
        ),
    ]
    return holding("Sequential", *modules)


# -- an interpreter ------------------------------------------------------------------------------------------


def run(module: Module, x: Any) -> Any:
    """Run a tree as Torch7 does."""
    kind, fields = module.class_name.rpartition(".")[2], module.fields
    children = fields.get("modules", [])

    def pair(name: str) -> tuple[int, int]:
        return fields[f"{name}H"], fields[f"{name}W"]

    match kind:
        case "Sequential":
            for child in children:
                x = run(child, x)
            return x
        case "ConcatTable":
            return [run(child, x) for child in children]
        case "CAddTable":
            return sum(x[1:], x[0])
        case "Concat":
            return torch.cat([run(child, x) for child in children], fields["dimension"] - 1)
        case "Identity":
            return x
        case "MulConstant":
            return x * fields["constant_scalar"]
        case "ReLU":
            return functional.relu(x)
        case "SpatialConvolution":
            weight, bias = fields["weight"], fields.get("bias")
            return functional.conv2d(x, weight, bias, pair("d"), pair("pad"), 1, fields["groups"])
        case "SpatialBatchNormalization":
            statistics = fields["running_mean"], fields["running_var"]
            return functional.batch_norm(x, *statistics, fields["weight"], fields["bias"], eps=fields["eps"])
        case "SpatialMaxPooling":
            return functional.max_pool2d(x, pair("k"), pair("d"), pair("pad"))
        case "SpatialAveragePooling":
            return functional.avg_pool2d(x, pair("k"), pair("d"))
        case "View":
            return x.reshape(-1, fields["numElements"])
        case "Linear":
            return functional.linear(x, fields["weight"], fields["bias"])
    raise AssertionError(kind)


def read_here(checkpoint: ForeignCheckpoint) -> ResNet:
    return converted(Torch7(), checkpoint)[0]


def difference(network: Module, path: Path) -> tuple[ResNetSpec, float]:
    ours = read_here(read(write_torch7(path / "net.t7", network)))
    px = 224 if ours.spec.stem == "imagenet" else 32
    return ours.spec, largest_difference(ours, lambda images: run(network, images), (px, px))


FULL = (64, 128, 256, 512)
SMALL = (8, 16, 32, 64)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {"depths": (2, 2, 2, 2), "widths": FULL}),
        pytest.param(
            "resnet50",
            {"depths": (3, 4, 6, 3), "widths": FULL, "unit": "bottleneck"},
            marks=pytest.mark.test_all,
        ),
        pytest.param(
            "resnet50.fb",
            {"depths": (3, 4, 6, 3), "widths": FULL, "unit": "bottleneck", "kind": "bn-after-addition"},
            marks=pytest.mark.test_all,
        ),
        ("resnet20", {"depths": (3, 3, 3), "widths": (16, 32, 64), "stem": "cifar", "option": "A"}),
    ],
)
def test_published_networks_are_the_same_here(
    name: str, arguments: dict[str, Any], tmp_path: Path, parity: Parity
) -> None:
    spec, found = difference(network_of(**arguments), tmp_path)
    assert zoo.name_of(spec) == name
    parity(name, "torch7", "in", found, 1e-5)


@pytest.mark.parametrize("kind", ["original", "bn-after-addition", "pre"])
@pytest.mark.parametrize("option", ["A", "B", "C"])
@pytest.mark.parametrize("unit", ["basic", "bottleneck"])
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_every_tree_is_its_network_here_or_refused(
    kind: str, option: str, unit: str, stem: str, tmp_path: Path, parity: Parity
) -> None:
    depths, widths = (2, 1, 2), SMALL[:3]
    if option == "A" and unit == "bottleneck":
        # Concat doubles the channels, and the first bottleneck quadruples them: fb's own code would fail.
        network = network_of(depths, widths, unit=unit, option=option, kind=kind, stem=stem)
        with pytest.raises(ModelFileError, match=r"doubles 8 channels where F puts out 32|paths split"):
            read_here(read(write_torch7(tmp_path / "net.t7", network)))
        return
    network = network_of(depths, widths, unit=unit, option=option, kind=kind, stem=stem)
    # preresnet.lua activates before the split in the heads of stages, and there only; Residual does so
    # where there is a projection, which are the same units for option B alone.
    if kind == "pre" and option != "B":
        with pytest.raises(
            ModelFileError, match=r"does not have its first BN and ReLU (before|after) the paths split"
        ):
            read_here(read(write_torch7(tmp_path / "net.t7", network)))
        return
    spec, found = difference(network, tmp_path)
    assert (spec.unit, spec.stem, spec.shortcut, spec.depths, spec.widths) == (
        *(unit, stem, option, depths),
        widths,
    )
    assert spec.arrangement == ("full-preactivation" if kind == "pre" else kind)
    assert spec.first_activation == ("stem" if kind == "pre" and stem == "imagenet" else "unit")
    parity("custom", "torch7", "in", found, 1e-5)


@pytest.mark.parametrize(("stride_on", "name"), [(0, "1x1"), (1, "3x3")])
def test_strides_and_groups_are_read_off_the_convolutions(
    stride_on: int, name: str, tmp_path: Path, parity: Parity
) -> None:
    network = network_of(
        (1, 2), SMALL[:2], unit="bottleneck", option="C", stride_on=stride_on, groups=4, inner=2
    )
    spec, found = difference(network, tmp_path)
    assert (spec.stride_on, spec.groups, spec.inner_multiplier) == (name, 4, 2)
    parity("custom", "torch7", "in", found, 1e-5)


def modules_of(module: Module) -> list[Module]:
    inner = [one for child in module.fields.get("modules", []) for one in modules_of(child)]
    return [module, *inner]


def convs_of(network: Module) -> list[Module]:
    return [one for one in modules_of(network) if one.class_name.endswith("SpatialConvolution")]


def small(**arguments: Any) -> Module:
    return network_of((1, 1), SMALL[:2], stem="cifar", **arguments)


def test_biases_of_zeros_are_dropped_and_others_kept(tmp_path: Path, parity: Parity) -> None:
    network = small()
    for one in convs_of(network):
        one.fields["bias"] = torch.zeros(one.fields["nOutputPlane"])
    checkpoint = read(write_torch7(tmp_path / "zeros.t7", network))
    recognition = Torch7().recognize(checkpoint)
    assert recognition is not None
    translation = Torch7().translation(recognition.spec, checkpoint)
    assert len(translation.dropped) == len(convs_of(network))
    assert set(translation.dropped.values()) == {"a bias of zeros"}
    assert translation.dropped["0.bias"] == "a bias of zeros"
    spec, found = difference(network, tmp_path)
    assert spec.conv_bias == "none"
    parity("custom", "torch7", "in", found, 1e-5)
    for one in convs_of(network):
        one.fields["bias"] = uniform(one.fields["nOutputPlane"], -0.2, 0.2)
    spec, found = difference(network, tmp_path)
    assert spec.conv_bias == "all"
    parity("custom", "torch7", "in", found, 1e-5)
    del convs_of(network)[1].fields["bias"]
    with pytest.raises(
        ModelFileError, match=r"module 3\.0\.0\.0\.0 .* has no bias, and the module 0 has one"
    ):
        difference(network, tmp_path)


def test_kernels_kept_as_a_matrix_and_a_bare_projection_are_read(tmp_path: Path, parity: Parity) -> None:
    network = small(kind="pre")
    table = network.fields["modules"][2].fields["modules"][0].fields["modules"][2]
    table.fields["modules"][1] = table.fields["modules"][1].fields["modules"][0]
    stem = network.fields["modules"][0]
    _, expected = difference(network, tmp_path)
    parity("custom", "torch7", "in", expected, 1e-5)
    kernel = stem.fields["weight"]
    whole = read_here(read(tmp_path / "net.t7"))
    stem.class_name, stem.fields["weight"] = "nn.SpatialConvolutionMM", kernel.flatten(1)
    again = read_here(read(write_torch7(tmp_path / "matrix.t7", network)))
    assert torch.equal(again.conv1.weight, whole.conv1.weight)
    assert again.spec == whole.spec


def test_preprocessing_and_labels_follow_the_stem(tmp_path: Path) -> None:
    large = network_of((1, 1), (4, 8), classes=1000)
    recognition = Torch7().recognize(read(write_torch7(tmp_path / "a.t7", large)))
    assert recognition is not None
    assert recognition.label_names == imagenet_class_names()
    assert (recognition.preprocess.crop_px, recognition.preprocess.resize_px) == (224, 256)
    assert recognition.preprocess.interpolation == "bicubic"
    recognition = Torch7().recognize(read(write_torch7(tmp_path / "b.t7", small(classes=10))))
    assert recognition is not None
    assert recognition.label_names == CIFAR10_CLASS_NAMES
    assert recognition.preprocess == cifar.PREPROCESS
    recognition = Torch7().recognize(read(write_torch7(tmp_path / "c.t7", small())))
    assert recognition is not None
    assert recognition.label_names is None


def put(index: list[int], module: Module) -> Any:
    def change(network: Module) -> None:
        *way, last = index
        for step in way:
            network = network.fields["modules"][step]
        network.fields["modules"][last] = module

    return change


def setting(kind: str, number: int, **fields: Any) -> Any:
    def change(network: Module) -> None:
        found = [one for one in modules_of(network) if one.class_name.endswith(f".{kind}")]
        found[number].fields.update(fields)

    return change


UNIT = [3, 0]
DROPOUT = Module("nn.Dropout", {"p": 0.5})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (put([0], DROPOUT), r"module 0 \(nn\.Dropout\) stands where a SpatialConvolution is expected"),
        (put([2], DROPOUT), r"module 2 \(nn\.Dropout\) stands where a ReLU is expected"),
        (put([3], DROPOUT), r"holds no stages"),
        (put([3], holding("Sequential")), r"module 3 \(nn\.Sequential\) holds no units"),
        (put(UNIT, DROPOUT), r"module 3\.0 \(nn\.Dropout\) stands where a Sequential is expected"),
        (put([*UNIT, 1], DROPOUT), r"module 3\.0\.1 \(nn\.Dropout\) stands where a CAddTable is expected"),
        (put([*UNIT, 2], DROPOUT), r"module 3\.0\.2 \(nn\.Dropout\) stands where nothing more is expected"),
        (put([*UNIT, 0], holding("ConcatTable")), r"module 3\.0\.0 \(nn\.ConcatTable\) has 0 branches"),
        (put([*UNIT, 0, 0, 4], relu()), r"module 3\.0\.0\.0\.4 \(cudnn\.ReLU\) stands where nothing"),
        (put([*UNIT, 0, 0, 2], bn(8)), r"module 3\.0\.0\.0\.2 .* stands where a ReLU is expected"),
        (put([*UNIT, 0, 1], holding("Sequential", DROPOUT)), r"3\.0\.0\.1\.0 \(nn\.Dropout\) stands where"),
        (put([*UNIT, 0, 1], conv(8, 8, 1)), r"3\.0\.0\.1 .* has no BN beside it as layer1\.0\.downsample\.1"),
        (put([7], DROPOUT), r"module 7 \(nn\.Dropout\) stands where a Linear is expected"),
        (setting("SpatialConvolution", 0, padW=0), r"module 0 .* has padW 0 instead of 1"),
        (setting("SpatialConvolution", 0, nInputPlane=4), r"module 0 .* has nInputPlane 4 instead of 3"),
        (setting("SpatialConvolution", 1, kW=5), r"module 3\.0\.0\.0\.0 .* has kW 5 instead of 3"),
        (setting("SpatialConvolution", 1, kH="3"), r"module 3\.0\.0\.0\.0 .* has no whole number as kH"),
        (setting("SpatialConvolution", 1, groups=2), r"has groups 2 instead of 1"),
        (setting("SpatialConvolution", 1, nOutputPlane=0, nInputPlane=0), r"has nInputPlane 0 instead of 8"),
        (setting("SpatialConvolution", 2, nOutputPlane=0), r"is no network that Residual has"),
        (setting("SpatialBatchNormalization", 1, eps=1e-3), r"module 3\..* has another eps or momentum"),
        (setting("SpatialBatchNormalization", 0, eps=True), r"module 1 .* has no number as eps"),
        (
            setting("SpatialBatchNormalization", 0, running_std=torch.ones(8)),
            r"module 1 .* keeps running_std of an early version",
        ),
        (setting("SpatialAveragePooling", 0, kW=8), r"module 5 .* does not pool the whole map of 16×16"),
        (setting("Linear", 0, weight=torch.ones(3)), r"module 7 \(nn\.Linear\) has no matrix as weight"),
        (
            lambda network: network.fields["modules"].append(DROPOUT),
            r"module 8 \(nn\.Dropout\) stands where nothing more is expected",
        ),
        (lambda network: network.fields["modules"].pop(), r"module at the root .* ends where a Linear"),
        (
            lambda network: network.fields["modules"].insert(3, pooling("nn.SpatialMaxPooling", 3, 2, 1)),
            r"module 3 \(nn\.SpatialMaxPooling\) does not belong to a stem of kind cifar",
        ),
        (
            lambda network: [network.fields["modules"].pop(1) for _ in range(2)],
            r"module 0 .* has no BN beside it as bn1",
        ),
        (
            lambda network: (
                network.fields["modules"][4]
                .fields["modules"]
                .append(unit_of("own", [(16, 16, 3, 1, 1)] * 2, "B"))
            ),
            r"module 4\.1 .* is full-preactivation after units that are original",
        ),
        (
            lambda network: (
                network.fields["modules"][4]
                .fields["modules"]
                .append(unit_of("original", [(16, 16, 3, 1, 1)] * 3, "B"))
            ),
            r"module 4\.1 .* has 3 convolutions on its main path",
        ),
        (
            lambda network: network.fields["modules"][3].fields["modules"][0].fields["modules"].pop(2),
            r"module 3\.0 .* has its BN and ReLU where no arrangement has them",
        ),
        (
            put([4, 0, 0, 1], Module("nn.Identity", {})),
            r"module 4\.0\.0\.1 \(nn\.Identity\) is a shortcut of kind identity instead of projection",
        ),
    ],
)
def test_other_trees_are_refused_by_their_module(change: Any, text: str, tmp_path: Path) -> None:
    network = small()
    change(network)
    with pytest.raises(ModelFileError, match=text):
        read_here(read(write_torch7(tmp_path / "net.t7", network)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (setting("MulConstant", 0, constant_scalar=1), r"\(nn\.MulConstant\) multiplies by something else"),
        (setting("Concat", 0, dimension=3), r"\(nn\.Concat\) does not join channels"),
        (setting("SpatialAveragePooling", 0, dW=1), r"module 4\.0\.0\.1\.0 .* has dW 1 instead of 2"),
        (put([4, 0, 0, 1, 1, 1], Module("nn.Identity", {})), r"is not an Identity beside a MulConstant"),
    ],
)
def test_other_paddings_are_refused(change: Any, text: str, tmp_path: Path) -> None:
    network = small(option="A")
    change(network)
    with pytest.raises(ModelFileError, match=text):
        read_here(read(write_torch7(tmp_path / "net.t7", network)))


def test_preactivated_units_that_activate_otherwise_are_refused(tmp_path: Path) -> None:
    network = small(kind="pre")
    unit = network.fields["modules"][1].fields["modules"][0]
    main = unit.fields["modules"][2].fields["modules"][0].fields["modules"]
    main[:0] = [bn(8), relu()]
    with pytest.raises(ModelFileError, match=r"module 1\.0 .* activates twice"):
        difference(network, tmp_path)
    del main[:2]
    network.fields["modules"][1:1] = [bn(8), relu()]
    with pytest.raises(ModelFileError, match=r"module 3\.0\.0 .* stands where no BN is expected"):
        difference(network, tmp_path)


def test_pooling_of_the_stem_that_rounds_up_is_refused(tmp_path: Path) -> None:
    network = network_of((1,), (4,))
    setting("SpatialMaxPooling", 0, ceil_mode=True)(network)
    with pytest.raises(ModelFileError, match=r"module 3 \(nn\.SpatialMaxPooling\) rounds up"):
        difference(network, tmp_path)


def test_other_files_are_not_recognized_and_nothing_is_named_without_one(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2)}
    assert Torch7().recognize(ForeignCheckpoint(Path("x"), "torch", tensors, "")) is None
    assert Torch7().recognize(read(write_torch7(tmp_path / "x.t7", tensors))) is None
    with pytest.raises(ConfigurationError, match="depend on its tree of modules"):
        Torch7().translation(ResNetSpec("basic", (1,), (4,)))
    checkpoint = read(write_torch7(tmp_path / "net.t7", small()))
    with pytest.raises(ConfigurationError, match=r"is another network than the spec \(at layer3"):
        Torch7().translation(ResNetSpec("basic", (1, 1, 1), (8, 16, 32), stem="cifar"), checkpoint)
