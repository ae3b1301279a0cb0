"""Caffe models as the release has them, run by OpenCV under a description of their own, against ours."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import Tensor

from deepresidual import zoo
from deepresidual.conversion.caffe import Caffe
from deepresidual.conversion.readers import caffemodel, read
from deepresidual.conversion.translation import read_tensors
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError
from deepresidual.nn import empty_network
from tests.parity.agreement import largest_difference

if TYPE_CHECKING:
    from deepresidual.spec import ResNetSpec
    from tests.parity.conftest import Parity

cv2: Any = pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("google.protobuf", reason="protobuf is not installed")
if not hasattr(cv2.dnn, "readNetFromCaffe"):
    pytest.skip("this OpenCV does not read Caffe's models", allow_module_level=True)

TOLERANCE = 1e-4


class Writer:
    """A caffemodel and its prototxt, layer by layer; ``factor`` is the third blob of every BN."""

    def __init__(self, factor: float = 2.0, *, legacy: bool = False) -> None:
        self.net = caffemodel.messages()["NetParameter"](name="ResNet", input=["data"])
        self.text: list[str] = []
        self.factor = factor
        self.legacy = legacy
        self.generator = torch.Generator().manual_seed(3)

    def layer(self, name: str, kind: str, bottoms: list[str], top: str, settings: str, *blobs: Tensor) -> Any:
        layer = self.net.layer.add(name=name, type=kind, bottom=bottoms, top=[top])
        for values in blobs:
            blob = layer.blobs.add()
            blob.data = values.float().numpy().tobytes()
            if self.legacy:
                sides = (1,) * (4 - values.ndim) + tuple(values.shape)
                blob.num, blob.channels, blob.height, blob.width = sides
            else:
                blob.shape.dim.extend(values.shape)
        ends = "".join(f' bottom: "{bottom}"' for bottom in bottoms)
        self.text.append(f'layer {{ name: "{name}" type: "{kind}"{ends} top: "{top}" {settings} }}')
        return layer

    def uniform(self, count: int, low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        standard_deviation = (2 / math.prod(shape[1:])) ** 0.5
        return torch.empty(shape).normal_(0, standard_deviation, generator=self.generator)

    def conv_bn(
        self, name: str, where: str, bottom: str, sides: tuple[int, ...], stride: int, *, bias: bool = False
    ) -> str:
        """Write convolution, BN and Scale, the latter two in place; return the top."""
        out_channels, _, kernel_px, _ = sides
        blobs = [self.normal(*sides)] + ([self.uniform(out_channels, -0.2, 0.2)] if bias else [])
        text = (
            f"convolution_param {{ num_output: {out_channels} kernel_size: {kernel_px} "
            f"pad: {kernel_px // 2} stride: {stride}{'' if bias else ' bias_term: false'} }}"
        )
        conv = self.layer(name, "Convolution", [bottom], name, text, *blobs).convolution_param
        conv.num_output = out_channels
        conv.kernel_size.append(kernel_px)
        conv.pad.append(kernel_px // 2)
        conv.stride.append(stride)
        if not bias:
            conv.bias_term = False
        factor = self.factor
        mean = self.uniform(out_channels, -0.2, 0.2) * factor
        variance = self.uniform(out_channels, 0.7, 1.5) * factor
        text = "batch_norm_param { use_global_stats: true }"
        norm = self.layer(
            f"bn{where}", "BatchNorm", [name], name, text, mean, variance, torch.tensor([factor])
        )
        norm.batch_norm_param.use_global_stats = True
        affine = (self.uniform(out_channels, 0.3, 0.7), self.uniform(out_channels, -0.2, 0.2))
        scale = self.layer(f"scale{where}", "Scale", [name], name, "scale_param { bias_term: true }", *affine)
        scale.scale_param.bias_term = True
        return name

    def relu(self, name: str) -> str:
        self.layer(f"{name}_relu", "ReLU", [name], name, "")
        return name

    def resnet(self, units: list[list[str]], width: int, num_classes: int, *, stem_bias: bool) -> Writer:
        """Write the release's ResNet with the given labels of units, a list a stage."""
        top = self.relu(self.conv_bn("conv1", "_conv1", "data", (width, 3, 7, 7), 2, bias=stem_bias))
        pool = self.layer(
            "pool1", "Pooling", [top], "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"
        ).pooling_param
        pool.pool, pool.kernel_size, pool.stride = 0, 3, 2
        top, channels = "pool1", width
        for stage, labels in enumerate(units, start=2):
            inner = width * 2 ** (stage - 2)
            for unit in labels:
                stride = 2 if unit == "a" and stage > 2 else 1
                where = f"{stage}{unit}_branch"
                shortcut = top
                if unit == "a":
                    sides = (4 * inner, channels, 1, 1)
                    shortcut = self.conv_bn(f"res{where}1", f"{where}1", top, sides, stride)
                for branch, sides, step in (
                    ("2a", (inner, channels, 1, 1), stride),
                    ("2b", (inner, inner, 3, 3), 1),
                    ("2c", (4 * inner, inner, 1, 1), 1),
                ):
                    top = self.conv_bn(f"res{where}{branch}", where + branch, top, sides, step)
                    if branch != "2c":
                        self.relu(top)
                self.layer(f"res{stage}{unit}", "Eltwise", [shortcut, top], f"res{stage}{unit}", "")
                top, channels = self.relu(f"res{stage}{unit}"), 4 * inner
        text = "pooling_param { pool: AVE global_pooling: true }"
        pool = self.layer("pool5", "Pooling", [top], "pool5", text).pooling_param
        pool.pool, pool.kernel_size, pool.stride = 1, 7, 1  # as in the release, which is for 224 px
        head = f"fc{num_classes}"
        weight, bias = self.normal(num_classes, channels), self.uniform(num_classes, -0.2, 0.2)
        text = f"inner_product_param {{ num_output: {num_classes} }}"
        linear = self.layer(head, "InnerProduct", ["pool5"], head, text, weight, bias)
        linear.inner_product_param.num_output = num_classes
        self.net.layer.add(name="prob", type="Softmax", bottom=[head], top=["prob"])
        return self

    def save(self, path: Path) -> Path:
        path.write_bytes(self.net.SerializeToString())
        return path

    def opencv(self, path: Path) -> Callable[[Tensor], Tensor]:
        """Let OpenCV run the file under the prototxt of this writer."""

        def logits(images: Tensor) -> Tensor:
            dims = " ".join(f"dim: {side}" for side in images.shape)
            head = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}'
            text = "\n".join([head, *self.text]).encode()
            net = cv2.dnn.readNetFromCaffe(bytearray(text), bytearray(path.read_bytes()))
            net.setInput(images.numpy())
            return torch.from_numpy(net.forward().copy())

        return logits


class Fifty(NamedTuple):
    """A file of ResNet-50, and what was written into it."""

    writer: Writer
    path: Path
    spec: ResNetSpec

    def opencv(self) -> Callable[[Tensor], Tensor]:
        """Return the function of the file by OpenCV."""
        return self.writer.opencv(self.path)


FIFTY = [list("abc"), list("abcd"), list("abcdef"), list("abc")]
HUNDRED_ONE = [
    list("abc"),
    ["a", "b1", "b2", "b3"],
    ["a", *(f"b{number}" for number in range(1, 23))],
    list("abc"),
]


def converted(path: Path, spec: ResNetSpec | None = None) -> torch.nn.Module:
    checkpoint = read(path)
    recognition = Caffe().recognize(checkpoint)
    assert recognition is not None
    network = empty_network(spec or recognition.spec)
    translation = Caffe().translation(recognition.spec, checkpoint)
    network.load_state_dict(read_tensors(translation, checkpoint.tensors, network.state_dict(), "caffe"))
    return network.eval()


@pytest.fixture(
    scope="module", params=[pytest.param(64, marks=pytest.mark.test_all), 8], ids=["full", "narrow"]
)
def fifty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fifty:
    writer = Writer().resnet(FIFTY, request.param, 1000, stem_bias=True)
    path = writer.save(tmp_path_factory.mktemp("caffe") / "ResNet-50-model.caffemodel")
    widths = tuple(request.param * factor for factor in (1, 2, 4, 8))
    return Fifty(writer, path, dataclasses.replace(zoo.entry("resnet50.caffe").spec, widths=widths))


def small(factor: float = 2.0, *, legacy: bool = False) -> Writer:
    return Writer(factor, legacy=legacy).resnet([["a"], ["a", "b"]], 4, 5, stem_bias=False)


def test_resnet_50_is_recognized(fifty: Fifty) -> None:
    checkpoint = read(fifty.path)
    recognition = Caffe().recognize(checkpoint)
    assert recognition is not None
    entry = zoo.entry("resnet50.caffe")
    assert recognition.spec == fifty.spec
    assert recognition.preprocess == entry.preprocess
    assert recognition.label_names is not None
    assert len(recognition.label_names) == 1000
    assert len(recognition.assumed) == 1
    assert "mean image" in recognition.assumed[0]
    assert Caffe().translation(fifty.spec) == Caffe().translation(fifty.spec, checkpoint)


@pytest.mark.parametrize("side", [64, 65])
def test_resnet_50_gives_the_logits_of_opencv(fifty: Fifty, side: int, parity: Parity) -> None:
    difference = largest_difference(converted(fifty.path), fifty.opencv(), (side, side))
    parity(zoo.name_of(fifty.spec) or "narrow", "caffe", "in", difference, TOLERANCE)


def write_mean_image(path: Path, pixels: Tensor) -> None:
    blob = caffemodel.messages()["BlobProto"](num=1, data=pixels.float().numpy().tobytes())
    blob.channels, blob.height, blob.width = pixels.shape
    path.write_bytes(blob.SerializeToString())


def test_the_mean_image_beside_the_file_is_subtracted(tmp_path: Path) -> None:
    path = small().save(tmp_path / "ResNet-50-model.caffemodel")
    # Blue, green and red on the scale 0 to 255, as the release has it.
    mean = torch.empty(3, 224, 224).uniform_(90, 130, generator=torch.Generator().manual_seed(5))
    write_mean_image(tmp_path / "ResNet_mean.binaryproto", mean)
    recognition = Caffe().recognize(read(path))
    assert recognition is not None
    assert recognition.assumed == ()
    preprocess = recognition.preprocess
    assert preprocess.mean_image is not None
    rgb = torch.randint(
        0, 256, (2, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(6)
    )
    views = torch.stack([torch.from_numpy(preprocess.to_channels(one.numpy()).copy()) for one in rgb])
    expected = rgb.flip(-1).permute(0, 3, 1, 2).double() - mean.double()
    torch.testing.assert_close(preprocess.normalize(views).double(), expected, rtol=0, atol=1e-4)
    average = tuple(float(value) / 255 for value in mean.double().mean((1, 2)))
    assert preprocess.mean == pytest.approx(average, abs=1e-7)
    usual = zoo.entry("resnet50.caffe").preprocess
    assert dataclasses.replace(preprocess, mean=usual.mean, mean_image=None) == usual


@pytest.mark.parametrize(
    ("mean", "text"),
    [
        (
            torch.zeros(3, 256, 256),
            r"shape \(3, 256, 256\); expected \(3, 224, 224\), as in the release; move it",
        ),
        (
            torch.full((3, 224, 224), torch.nan),
            r"mean\.binaryproto: mean_image has values that are not finite",
        ),
    ],
)
def test_another_mean_image_is_refused(mean: Tensor, text: str, tmp_path: Path) -> None:
    path = small().save(tmp_path / "ResNet-50-model.caffemodel")
    write_mean_image(tmp_path / "ResNet_mean.binaryproto", mean)
    with pytest.raises(ModelFileError, match=text):
        Caffe().recognize(read(path))


def test_torchs_pooling_gives_other_logits(fifty: Fifty) -> None:
    spec = dataclasses.replace(fifty.spec, padding="torch")
    assert largest_difference(converted(fifty.path, spec), fifty.opencv(), (65, 65)) > 1e-3


@pytest.mark.parametrize("side", [64, 65])
def test_the_reference_is_the_same_network(fifty: Fifty, side: int) -> None:
    reference = Caffe().reference(read(fifty.path), fifty.spec)
    assert reference.name == f"OpenCV {cv2.__version__}"
    assert largest_difference(reference.logits, fifty.opencv(), (side, side)) <= TOLERANCE


def test_numbered_units_of_resnet_101(tmp_path: Path) -> None:
    writer = Writer().resnet(HUNDRED_ONE, 8, 10, stem_bias=False)
    path = writer.save(tmp_path / "ResNet-101-model.caffemodel")
    checkpoint = read(path)
    recognition = Caffe().recognize(checkpoint)
    assert recognition is not None
    expected = zoo.entry("resnet101.caffe").spec
    assert recognition.spec == dataclasses.replace(expected, widths=(8, 16, 32, 64), num_classes=10)
    assert recognition.label_names is None
    assert Caffe().translation(recognition.spec) == Caffe().translation(recognition.spec, checkpoint)
    names = {rule.source for rule in Caffe().translation(expected).rules}
    assert {"res3b1_branch2a/0", "scale4b22_branch2c/1", "bn5c_branch2b/1", "fc1000/1"} <= names
    assert largest_difference(converted(path), writer.opencv(path), (65, 65)) <= TOLERANCE


def test_a_factor_of_zero_stands_for_zeros(tmp_path: Path) -> None:
    writer = small()
    for layer in writer.net.layer:
        if layer.type == "BatchNorm" and layer.name != "bn_conv1":
            continue
        if layer.type == "BatchNorm":
            layer.blobs[2].data = bytes(4)
    path = writer.save(tmp_path / "x.caffemodel")
    state = converted(path).state_dict()
    assert not state["bn1.running_mean"].any()
    assert not state["bn1.running_var"].any()
    assert state["layer1.0.bn1.running_var"].min() >= 0.7 - 1e-6
    theirs = writer.opencv(path)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    expected = theirs(images)
    with torch.inference_mode():
        ours = converted(path)(images)
    assert ((ours - expected).abs().max() / expected.abs().max()).item() <= 1e-5


def test_the_old_form_of_shapes_is_the_same_network(tmp_path: Path) -> None:
    old = converted(small(legacy=True).save(tmp_path / "old.caffemodel")).state_dict()
    new = converted(small().save(tmp_path / "new.caffemodel")).state_dict()
    assert all(torch.equal(old[name], new[name]) for name in new)


def change(writer: Writer, name: str) -> Any:
    return next(layer for layer in writer.net.layer if layer.name == name)


def unknown_blob(writer: Writer) -> None:
    writer.layer("se2a", "Convolution", ["pool1"], "se2a", "", torch.zeros(1, 1, 1, 1))


def unknown_type(writer: Writer) -> None:
    writer.net.layer.add(name="drop", type="LRN")


def two_classifiers(writer: Writer) -> None:
    writer.net.layer.add(name="fc2", type="InnerProduct")


def another_eps(writer: Writer) -> None:
    change(writer, "bn_conv1").batch_norm_param.eps = 1e-3


def endless_eps(writer: Writer) -> None:
    change(writer, "bn_conv1").batch_norm_param.eps = float("inf")


def another_stride(writer: Writer) -> None:
    change(writer, "res3a_branch1").convolution_param.stride[0] = 1


def padded_pooling(writer: Writer) -> None:
    change(writer, "pool1").pooling_param.pad = 1


def product(writer: Writer) -> None:
    change(writer, "res2a").eltwise_param.operation = 0


def unpadded(writer: Writer) -> None:
    change(writer, "res2a_branch2b").convolution_param.pad[0] = 0


def gap(writer: Writer) -> None:
    for layer in writer.net.layer:
        layer.name = layer.name.replace("3b", "3c")


def no_projection(writer: Writer) -> None:
    writer.net.layer.remove(change(writer, "res2a_branch1"))


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (unknown_blob, r"a blob that its networks do not have \(se2a/0\)"),
        (unknown_type, "a layer 'drop' of the type 'LRN'"),
        (two_classifiers, "2 layers of the type InnerProduct"),
        (another_eps, r"ε of \['0\.001.*'1e-05'\]"),
        (endless_eps, r"ε of \['1e-05', 'inf'\]"),
        (another_stride, "strides in conv1, res3a_branch2a; "),
        (padded_pooling, "the max-pooling"),
        (product, "settings in layer 'res2a'"),
        (unpadded, "settings in layer 'res2a_branch2b'"),
        (gap, "has units a, c in stage 3"),
        (no_projection, "has 1 projections"),
    ],
)
def test_what_the_release_does_not_have_is_refused(
    tmp_path: Path, edit: Callable[[Writer], None], text: str
) -> None:
    writer = small()
    edit(writer)
    checkpoint = read(writer.save(tmp_path / "x.caffemodel"))
    with pytest.raises(ModelFileError, match=text):
        Caffe().recognize(checkpoint)


def test_the_files_settings_are_read(tmp_path: Path) -> None:
    writer = small()
    pool = change(writer, "pool1").pooling_param
    pool.pad, pool.round_mode = 1, 1
    for layer in writer.net.layer:
        if layer.type == "BatchNorm":
            layer.batch_norm_param.eps = 1e-4
    change(writer, "res3a_branch2a").convolution_param.stride[0] = 1
    change(writer, "res3a_branch2b").convolution_param.stride[0] = 2
    recognition = Caffe().recognize(read(writer.save(tmp_path / "x.caffemodel")))
    assert recognition is not None
    spec = recognition.spec
    assert (spec.padding, spec.bn_eps, spec.stride_on) == ("torch", 1e-4, "3x3")


def test_a_file_without_strides_is_taken_for_the_release(tmp_path: Path) -> None:
    writer = small()
    for layer in writer.net.layer:
        layer.ClearField("convolution_param")
    recognition = Caffe().recognize(read(writer.save(tmp_path / "x.caffemodel")))
    assert recognition is not None
    assert recognition.spec.stride_on == "1x1"
    assert any("states no strides" in clause for clause in recognition.assumed)


def test_other_files_are_not_caffes(tmp_path: Path) -> None:
    writer = Writer()
    writer.layer("conv1", "Convolution", ["data"], "conv1", "", torch.zeros(4, 3, 7, 7))
    assert Caffe().recognize(read(writer.save(tmp_path / "x.caffemodel"))) is None


@pytest.mark.parametrize("name", ["resnet18", "resnet50.keras", "resnet50.tf", "resnet101.preact"])
def test_other_networks_have_no_names_there(name: str) -> None:
    with pytest.raises(ConfigurationError, match="which the release for Caffe does not have"):
        Caffe().translation(zoo.entry(name).spec)


def test_without_opencv_there_is_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read(small().save(tmp_path / "x.caffemodel"))
    recognition = Caffe().recognize(checkpoint)
    assert recognition is not None
    monkeypatch.delattr(cv2.dnn, "readNetFromCaffe")
    with pytest.raises(MissingDependencyError, match="does not read Caffe's models"):
        Caffe().reference(checkpoint, recognition.spec)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependencyError, match="OpenCV is not installed"):
        Caffe().reference(checkpoint, recognition.spec)
