"""Keras's own networks against ours: the same logits from the same file, and back again bit for bit."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from deepresidual import zoo
from deepresidual.conversion import keras as conversion
from deepresidual.conversion.ecosystem import Exported
from deepresidual.conversion.keras import Keras
from deepresidual.conversion.readers import read
from deepresidual.conversion.translation import read_tensors, write_tensors
from deepresidual.errors import ConfigurationError
from deepresidual.models.network import create
from deepresidual.nn import ResNet, empty_network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deepresidual.spec import ResNetSpec
    from tests.parity.conftest import Parity

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="keras is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="h5py is not installed"),
    # Keras 3.15 makes NumPy arrays of tensors as NumPy 2 no longer likes.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

NUM_CLASSES = 7
TOLERANCE = 1e-4

# Two stages of few units and channels, built by Keras's own functions; the stem has 64 channels there. The
# first unit of a stage is another one than those after it, in V2 the last is, too.
WIDTHS = (64, 8)
SHORT_DEPTHS = {"ShortResNet": (2, 1), "ShortResNetV2": (3, 2)}
SHORT = list(SHORT_DEPTHS)
FULL_ROWS = dict(conversion._ROWS)
NETWORKS = [*SHORT, *(pytest.param(function, marks=pytest.mark.test_all) for function in FULL_ROWS)]


@pytest.fixture(autouse=True)
def _without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Keras on torch from importing TensorFlow, which it does wherever that is installed."""
    if "tensorflow" not in sys.modules:
        monkeypatch.setitem(sys.modules, "tensorflow", None)


@pytest.fixture(autouse=True)
def _short_networks(
    _without_tensorflow: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Add the short networks to Keras's functions, and to the rows that are known of it."""
    keras = library()
    for function in SHORT:
        monkeypatch.setattr(keras.applications, function, functools.partial(short, function), raising=False)
        monkeypatch.setitem(conversion._ROWS, function, function)
    monkeypatch.setattr(conversion, "entry", row)
    yield
    if request.node.get_closest_marker("test_all"):  # One full network at a time.
        keras.backend.clear_session()


def short(
    function: str, weights: None = None, name: str = "short", include_top: bool = True, **options: Any
) -> Any:
    """Build a network as ``keras.applications`` does, of few units."""
    resnet = importlib.import_module("keras.src.applications.resnet")
    is_v2 = function.endswith("V2")
    stack = resnet.stack_residual_blocks_v2 if is_v2 else resnet.stack_residual_blocks_v1
    unstrided = len(WIDTHS) - 1 if is_v2 else 0

    def stages(maps: Any) -> Any:
        for number, (width, depth) in enumerate(zip(WIDTHS, SHORT_DEPTHS[function], strict=True)):
            stride = 1 if number == unstrided else 2
            maps = stack(maps, width, depth, stride1=stride, name=f"conv{number + 2}")
        return maps

    return resnet.ResNet(stages, is_v2, True, include_top, weights, name=name, **options)


def library() -> Any:
    """Keras, on torch unless the environment says otherwise."""
    return conversion._import_keras()


def row(name: str) -> zoo.ZooEntry:
    """Return the row of a function, or of that name."""
    if name in SHORT_DEPTHS:
        full = row(name.replace("ShortResNet", "ResNet50"))
        spec = dataclasses.replace(full.spec, depths=SHORT_DEPTHS[name], widths=WIDTHS)
        return dataclasses.replace(full, name=name, spec=spec)
    return zoo.entry(FULL_ROWS.get(name, name))


def keras_model(function: str, side: int = 64, *, seed: int = 0, **options: Any) -> Any:
    """Keras's network with every weight drawn, such that the logits are of the order of one."""
    keras = library()
    settings = {"classes": NUM_CLASSES, "classifier_activation": None, **options}
    model = getattr(keras.applications, function)(weights=None, input_shape=(side, side, 3), **settings)
    generator = torch.Generator().manual_seed(seed)
    for layer in model.layers:
        arrays = [
            draw(variable.name, tuple(variable.shape), layer.name, generator).numpy()
            for variable in layer.weights
        ]
        if arrays:
            layer.set_weights(arrays)
    if options.get("include_top", True):
        scale = 3 / keras_logits(model, images_of(side, side)).abs().max().item()
        head = model.get_layer("predictions")
        head.set_weights([array * scale for array in head.get_weights()])
    return model


@functools.lru_cache(maxsize=2)
def unchanged_model(function: str) -> Any:
    """Return a network that no test changes."""
    return keras_model(function, side=75)


def draw(variable: str, shape: tuple[int, ...], layer: str, generator: torch.Generator) -> torch.Tensor:
    if variable == "kernel":
        return torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[:-1]))
    if variable in ("gamma", "moving_variance"):
        # The last BN of a unit adds little: the sum of many units stays small.
        scale = 0.3 if variable == "gamma" and layer.endswith(("_3_bn", "_2_bn")) else 1.0
        return scale * (0.8 + 0.4 * torch.rand(shape, generator=generator))
    return 0.05 * torch.randn(shape, generator=generator)


def keras_logits(model: Any, images: torch.Tensor) -> torch.Tensor:
    output = model(images.permute(0, 2, 3, 1).contiguous().numpy(), training=False)
    return torch.tensor(library().ops.convert_to_numpy(output))


def images_of(*sides: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(seed))


def read_network(path: Path) -> tuple[ResNet, Any]:
    checkpoint = read(path)
    recognition = Keras().recognize(checkpoint)
    assert recognition is not None
    network = empty_network(recognition.spec)
    translation = Keras().translation(recognition.spec, checkpoint)
    network.load_state_dict(read_tensors(translation, checkpoint.tensors, network.state_dict(), str(path)))
    return network.eval(), recognition


@torch.inference_mode()
def largest_difference(network: ResNet, theirs: torch.Tensor, images: torch.Tensor) -> float:
    assert theirs.std() > 0.05, "logits that hardly vary prove nothing"
    assert 0.2 < theirs.abs().max() < 50
    assert (theirs[0] - theirs[1]).abs().max() > 0.05, "both images give the same"
    return float((network(images) - theirs).abs().max())


@torch.inference_mode()
def exported(spec: ResNetSpec, seed: int = 0) -> tuple[ResNet, Exported]:
    """A network of ours with every tensor drawn, and what is written of it."""
    network = create(spec, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(12)
        elif tensor.ndim > 1:
            spread = math.sqrt(2 / tensor[0].numel())
            tensor.copy_(spread * torch.randn(tensor.shape, generator=generator))
        elif name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            tensor.copy_(0.8 + 0.4 * torch.rand(tensor.shape, generator=generator))
            tensor.mul_(0.3 if name.endswith("bn3.weight") else 1.0)
        else:
            tensor.copy_(0.05 * torch.randn(tensor.shape, generator=generator))
    scale = 3 / network(images_of(64, 64)[:, : spec.in_channels]).abs().max()
    network.fc.weight.mul_(scale)
    network.fc.bias.mul_(scale)
    names = tuple(str(number) for number in range(spec.num_classes))
    return network, Exported(spec, network.state_dict(), zoo.entry("resnet50.keras").preprocess, names)


def without_weights(spec: ResNetSpec) -> Exported:
    return Exported(spec, {}, zoo.entry("resnet50.keras").preprocess, ())


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(function, marks=pytest.mark.test_all) if "1" in function else function
        for function in FULL_ROWS
    ],
)
def test_every_network_has_the_names_and_shapes_of_keras(function: str) -> None:
    theirs = getattr(library().applications, function)(
        weights=None, classes=NUM_CLASSES, input_shape=(64, 64, 3)
    )
    spec = dataclasses.replace(row(function).spec, num_classes=NUM_CLASSES)
    with torch.device("meta"):
        written = write_tensors(Keras().translation(spec), ResNet(spec).state_dict())
    assert {name: tuple(tensor.shape) for name, tensor in written.items()} == {
        f"{layer.name}/{variable.name}": tuple(variable.shape)
        for layer in theirs.layers
        for variable in layer.weights
    }


@pytest.mark.parametrize("function", NETWORKS)
def test_file_of_keras_gives_the_logits_of_keras(function: str, tmp_path: Path, parity: Parity) -> None:
    model = unchanged_model(function)
    model.save_weights(tmp_path / "model.weights.h5")
    network, recognition = read_network(tmp_path / "model.weights.h5")
    assert recognition.spec == dataclasses.replace(row(function).spec, num_classes=NUM_CLASSES)
    assert recognition.preprocess == row(function).preprocess
    assert function in recognition.evidence
    images = images_of(75, 75)
    difference = largest_difference(network, keras_logits(model, images), images)
    parity(row(function).name, "keras", "in", difference, TOLERANCE)


@pytest.mark.parametrize("function", SHORT)
@pytest.mark.parametrize("file", ["model.keras", "model.h5", "renamed.bin"])
def test_every_format_is_the_same_network(function: str, file: str, tmp_path: Path) -> None:
    model = unchanged_model(function)
    written = tmp_path / file.replace("renamed.bin", "model.keras")
    model.save(written)
    if not (tmp_path / file).exists():
        shutil.move(written, tmp_path / file)
    network, recognition = read_network(tmp_path / file)
    images = images_of(75, 75)
    theirs = keras_logits(model, images)
    assert largest_difference(network, theirs, images) <= TOLERANCE
    reference = Keras().reference(read(tmp_path / file), recognition.spec)
    assert reference.name.startswith("Keras 3.")
    with torch.inference_mode():
        assert torch.allclose(reference.logits(images), theirs, atol=1e-5)
        # The reference takes any size, and one that is not square.
        other = images_of(75, 97)
        assert largest_difference(network, reference.logits(other), other) <= TOLERANCE


@pytest.mark.parametrize("function", SHORT)
@pytest.mark.parametrize("prefix", ["layers", "_layer_checkpoint_dependencies"])
def test_numbered_groups_without_names_are_read_by_their_order(
    function: str, prefix: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.weights.h5"
    unchanged_model(function).save_weights(path)
    with_names, _ = read_network(path)
    with importlib.import_module("h5py").File(path, "r+") as file:
        for group in file["layers"].values():
            del group["vars"].attrs["name"]
        if prefix != "layers":
            file.move("layers", prefix)
    assert not any("layers" in group for group in read(path).metadata.get("names", {}))
    network, recognition = read_network(path)
    assert "shapes" in recognition.evidence
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, with_names.state_dict()[name]), name


def test_names_come_from_the_configuration_where_groups_have_none(tmp_path: Path) -> None:
    unchanged_model("ShortResNet").save(tmp_path / "model.keras")
    checkpoint = read(tmp_path / "model.keras")
    metadata = {key: value for key, value in checkpoint.metadata.items() if key != "names"}
    recognition = Keras().recognize(dataclasses.replace(checkpoint, metadata=metadata))
    assert recognition is not None
    assert "conv2_block1_1_conv" in recognition.evidence


@pytest.mark.parametrize("config", [[], {"config": 3}, {"config": {"layers": [1, {"class_name": "Conv2D"}]}}])
def test_odd_configuration_is_ignored(config: Any, tmp_path: Path) -> None:
    unchanged_model("ShortResNet").save(tmp_path / "model.keras")
    checkpoint = dataclasses.replace(read(tmp_path / "model.keras"), metadata={"config": config})
    recognition = Keras().recognize(checkpoint)
    assert recognition is not None
    assert "shapes" in recognition.evidence


@pytest.mark.parametrize("function", NETWORKS)
def test_out_and_back_is_the_same_to_the_bit(function: str, tmp_path: Path, parity: Parity) -> None:
    spec = dataclasses.replace(row(function).spec, num_classes=NUM_CLASSES)
    network, model = exported(spec)
    suffix = ".keras" if function.endswith("V2") else ".weights.h5"
    path = tmp_path / f"out{suffix}"
    Keras().write(model, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".keras":
        theirs = library().models.load_model(path)  # the safe mode is Keras's default
    else:
        theirs = keras_model(function, seed=5)
        theirs.load_weights(path)
    images = images_of(64, 64)
    difference = largest_difference(network, keras_logits(theirs, images), images)
    parity(row(function).name, "keras", "out", difference, TOLERANCE)
    back, recognition = read_network(path)
    assert recognition.spec == spec
    for name, tensor in back.state_dict().items():
        expected = model.state[name]
        # Keras does not count batches.
        assert torch.equal(tensor, torch.zeros_like(expected) if name.endswith("tracked") else expected), name


def test_gray_images_and_a_thousand_classes(tmp_path: Path) -> None:
    spec = dataclasses.replace(row("ShortResNet").spec, in_channels=1)
    _, model = exported(spec)
    Keras().write(model, tmp_path / "gray.keras")
    _, recognition = read_network(tmp_path / "gray.keras")
    assert recognition.spec == spec
    assert recognition.preprocess.channels == "gray"
    assert recognition.label_names is not None
    assert recognition.label_names[0] == "tench"


@pytest.mark.parametrize("function", SHORT)
def test_weights_without_top_are_a_backbone_with_the_same_features(function: str, tmp_path: Path) -> None:
    path = tmp_path / f"{function}.weights.h5"
    theirs = keras_model(function, include_top=False, pooling="avg")
    theirs.save_weights(path)
    network, recognition = read_network(path)
    assert recognition.spec.num_classes == 0
    images = images_of(64, 64)
    expected = keras_logits(theirs, images)
    assert expected.std() > 0.05
    with torch.inference_mode():
        ours = network(images)
    scale = expected.abs().max().item()
    assert (ours - expected).abs().max() <= TOLERANCE * scale
    reference = Keras().reference(read(path), network.spec)
    assert (ours - reference.logits(images)).abs().max() <= TOLERANCE * scale


def test_a_backbone_is_not_written(tmp_path: Path) -> None:
    spec = dataclasses.replace(row("ShortResNet").spec, num_classes=0)
    model = without_weights(spec)
    with pytest.raises(ConfigurationError, match="a backbone without a classifier, which is not written for"):
        Keras().write(model, tmp_path / "x.keras")


def test_other_networks_are_not_recognized(tmp_path: Path) -> None:
    keras = library()
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()])
    model.save_weights(tmp_path / "other.weights.h5")
    assert Keras().recognize(read(tmp_path / "other.weights.h5")) is None
    checkpoint = read(tmp_path / "other.weights.h5")
    assert Keras().recognize(dataclasses.replace(checkpoint, format="torch")) is None


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("resnet50", r"nearest is ResNet50, but stride_on is '3x3' and there '1x1'.*conv_bias is 'none'"),
        ("resnet18", r"Keras has no such network.*expected ResNet50, ResNet101"),
    ],
)
def test_networks_that_keras_lacks_are_refused(name: str, match: str, tmp_path: Path) -> None:
    spec = dataclasses.replace(zoo.entry(name).spec, num_classes=2)
    with pytest.raises(ConfigurationError, match=match):
        Keras().write(without_weights(spec), tmp_path / "out.keras")
    assert list(tmp_path.iterdir()) == []


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    model = without_weights(zoo.entry("resnet50.keras").spec)
    with pytest.raises(
        ConfigurationError, match=r"names no format of Keras; expected a name in \.weights\.h5 or"
    ):
        Keras().write(model, tmp_path / "out.h5")


def test_failed_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepresidual.errors import RunError

    path = tmp_path / "out.weights.h5"
    path.write_text("old")
    _, model = exported(dataclasses.replace(row("ShortResNet").spec, num_classes=2))

    def fail(self: Any, file: Path, **_: Any) -> None:
        Path(file).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(library().Model, "save_weights", fail)
    with pytest.raises(RunError, match="cannot write .*No space left on device"):
        Keras().write(model, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"
