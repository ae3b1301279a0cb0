"""The release of the 2015 paper's ImageNet networks: ``ResNet-50-model.caffemodel`` and its two siblings.

A stage's units are lettered (``res3a`` to ``res3d``) in ResNet-50; in ResNet-101 and 152 those of the long
stages are numbered after the first (``res4a``, ``res4b1``, ``res4b2`` and so on). Caffe's BN keeps sums: a
third blob divides mean and variance. Its affine half is a layer of its own, Scale. Pooling rounds up.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import re
import string
from typing import Any

import torch
from torch import Tensor

from deepresidual import zoo
from deepresidual.conversion.architecture import state_names
from deepresidual.conversion.ecosystem import Ecosystem, ForeignCheckpoint, Recognition, Reference
from deepresidual.conversion.readers import read_binaryproto
from deepresidual.conversion.translation import Rule, Translation, num_batches_tracked
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError
from deepresidual.preprocess import MeanImage, Preprocess
from deepresidual.spec import Padding, ResNetSpec, StrideOn
from deepresidual.zoo.labels import imagenet_names_for

_UNIT = r"([2-9])([a-z]|b[1-9]\d{0,3})"
_BRANCH = re.compile(rf"(?:res|bn|scale){_UNIT}_branch(?:1|2[abc])")
_BLOBS = re.compile(
    rf"conv1/[01]|bn_conv1/[012]|scale_conv1/[01]"
    rf"|res{_UNIT}_branch(?:1|2[abc])/0|bn{_UNIT}_branch(?:1|2[abc])/[012]|scale{_UNIT}_branch(?:1|2[abc])/[01]"
)
_CONVOLUTION = re.compile(rf"conv1|res{_UNIT}_branch(?:1|2[abc])")
_INPUTS = ("Input", "Data", "ImageData", "HDF5Data", "MemoryData", "DummyData")
_TYPES = {
    *_INPUTS,
    *("Convolution", "BatchNorm", "Scale", "ReLU", "Pooling", "Eltwise", "InnerProduct", "Split", "Dropout"),
    *("Softmax", "SoftmaxWithLoss", "Accuracy", "Silence"),
}
_BRANCHES = {"conv1": "2a", "conv2": "2b", "conv3": "2c", "downsample.0": "1"}
_BN_BRANCHES = {"bn1": "2a", "bn2": "2b", "bn3": "2c", "downsample.1": "1"}
_LETTERED_LAYERS = 50  # the release letters all units of ResNet-50
_LETTERED_UNITS = 3  # and those of stages that are no longer than this in the others
_MEAN_IMAGE = "ResNet_mean.binaryproto"
_DEFAULT_EPS = 1e-5  # caffe.proto, BatchNormParameter.eps


class Caffe(Ecosystem):
    """The original release for Caffe."""

    name = "caffe"
    package = "cv2"

    def recognize(self, checkpoint: ForeignCheckpoint) -> Recognition | None:
        """Recognize the release's layer names; read strides, pooling and BN's ε from the layers' settings."""
        tensors = checkpoint.tensors
        if checkpoint.format != "caffemodel" or not {"conv1/0", "res2a_branch2a/0"} <= set(tensors):
            return None
        classifier = _classifier(checkpoint)
        for name in tensors:
            if not _BLOBS.fullmatch(name) and name not in (f"{classifier}/0", f"{classifier}/1"):
                raise ModelFileError(
                    f"{checkpoint.path} has the release's layer names and a blob that its networks do not "
                    f"have ({name[:100]})",
                    expected="ResNet-50, 101 or 152",
                )
        layers = _layers(checkpoint)
        stages = _stages(checkpoint)
        shortcuts = {name for name in tensors if name.endswith("_branch1/0") and name.startswith("res")}
        if shortcuts != {f"res{stage}{labels[0]}_branch1/0" for stage, labels in stages.items()}:
            raise ModelFileError(
                f"{checkpoint.path} has {len(shortcuts)} projections",
                expected="one in the first unit of every stage",
            )
        _check_layers(checkpoint, layers)
        stride_on, assumed = _stride_on(checkpoint, layers, list(stages))
        preprocess = _preprocess(checkpoint)
        if preprocess.mean_image is None:
            assumed += (
                f"the mean image, {_MEAN_IMAGE}, is not beside it; the mean colour is subtracted instead",
            )
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        try:
            widths = tuple(shapes[f"res{stage}a_branch2c/0"][0] // 4 for stage in stages)
            inner = shapes["res2a_branch2a/0"][0]
            if shapes["conv1/0"][2:] != (7, 7):
                raise ModelFileError(
                    f"{checkpoint.path} has a first convolution of shape {shapes['conv1/0']}", expected="7×7"
                )
            spec = ResNetSpec(
                unit="bottleneck",
                depths=tuple(map(len, stages.values())),
                widths=widths,
                stride_on=stride_on,
                groups=inner // shapes["res2a_branch2b/0"][1],
                inner_multiplier=inner // widths[0],
                conv_bias="stem" if "conv1/1" in tensors else "none",
                padding=_padding(checkpoint, layers),
                bn_eps=_bn_eps(checkpoint, layers),
                num_classes=tensors[f"{classifier}/1"].numel(),
                in_channels=shapes["conv1/0"][1],
            )
        except (KeyError, IndexError, ZeroDivisionError, ConfigurationError) as error:
            raise ModelFileError(f"{checkpoint.path} is no network that Residual has ({error})") from error
        return Recognition(
            spec,
            "the release's layer names, such as res2a_branch2a",
            preprocess,
            imagenet_names_for(spec.num_classes),
            assumed,
        )

    def translation(self, spec: ResNetSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return the layers' names and numbers of blobs; BN's mean and variance are divided by the third."""
        _require_release(spec)
        if checkpoint is None:
            units = [_release_labels(spec, depth) for depth in spec.depths]
            classifier = f"fc{spec.num_classes}"
        else:
            units = list(_stages(checkpoint).values())
            classifier = _classifier(checkpoint)
        if tuple(map(len, units)) != spec.depths:
            raise ConfigurationError(
                f"the file has {[len(labels) for labels in units]} units in its stages",
                expected=str(list(spec.depths)),
            )
        rules, names = [], state_names(spec)
        for name in names:
            module, _, part = name.rpartition(".")
            if module == "fc":
                rules.append(Rule(name, f"{classifier}/{'01'[part == 'bias']}", "flat"))
            elif module == "conv1":
                is_bias = part == "bias"
                rules.append(Rule(name, f"conv1/{'01'[is_bias]}", "flat" if is_bias else "same"))
            elif module == "bn1":
                rules += _bn_rule(name, part, "_conv1")
            else:
                stage, unit, inside = module.removeprefix("layer").split(".", 2)
                where = f"{int(stage) + 1}{units[int(stage) - 1][int(unit)]}_branch"
                if inside in _BRANCHES:
                    rules.append(Rule(name, f"res{where}{_BRANCHES[inside]}/0"))
                else:
                    rules += _bn_rule(name, part, where + _BN_BRANCHES[inside])
        return Translation(tuple(rules), filled=num_batches_tracked(names))

    def reference(self, checkpoint: ForeignCheckpoint, spec: ResNetSpec) -> Reference:  # noqa: ARG002
        """Let OpenCV 4 run the file, under a description made from the file's own layers."""
        try:
            cv2: Any = importlib.import_module("cv2")
        except ImportError as error:
            raise MissingDependencyError(
                "OpenCV is not installed", remedy="run: pip install 'opencv-python-headless<5'"
            ) from error
        if not hasattr(getattr(cv2, "dnn", None), "readNetFromCaffe"):
            raise MissingDependencyError(
                f"OpenCV {cv2.__version__} does not read Caffe's models",
                expected="OpenCV 4",
                remedy="run: pip install 'opencv-python-headless<5'",
            )
        weights = bytearray(checkpoint.path.read_bytes())

        @functools.lru_cache(maxsize=1)
        def network(shape: tuple[int, ...]) -> Any:
            description = bytearray(_prototxt(checkpoint, shape).encode())
            try:
                net = cv2.dnn.readNetFromCaffe(description, weights)
            except cv2.error as error:
                raise ModelFileError(f"{checkpoint.path} cannot be read by OpenCV ({error})") from error
            net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
            net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
            net.enableWinograd(False)
            return net

        def logits(images: Tensor) -> Tensor:
            net = network(tuple(images.shape))
            net.setInput(images.contiguous().numpy())
            return torch.from_numpy(net.forward().copy()).reshape(len(images), -1)

        return Reference(f"OpenCV {cv2.__version__}", logits)


def _preprocess(checkpoint: ForeignCheckpoint) -> Preprocess:
    """Return the release's preprocessing, with the mean image where that lies beside the file."""
    usual, path = zoo.entry("resnet50.caffe").preprocess, checkpoint.path.with_name(_MEAN_IMAGE)
    if not path.exists():
        return usual
    pixels = read_binaryproto(path)
    expected = (usual.num_channels, usual.crop_px, usual.crop_px)
    if tuple(pixels.shape) != expected:
        raise ModelFileError(
            f"{path} holds a mean image of shape {tuple(pixels.shape)}",
            expected=f"{expected}, as in the release",
            remedy="move it elsewhere to subtract the mean colour instead",
        )
    try:
        image = MeanImage.from_array((pixels.double() / 255).permute(1, 2, 0).numpy())
    except ConfigurationError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return dataclasses.replace(usual, mean=image.average(), mean_image=image)


def _layers(checkpoint: ForeignCheckpoint) -> dict[str, dict[str, Any]]:
    return {layer["name"]: layer for layer in checkpoint.metadata.get("layers", ())}


def _classifier(checkpoint: ForeignCheckpoint) -> str:
    """Return the name of the one InnerProduct."""
    found = [
        layer["name"] for layer in checkpoint.metadata.get("layers", ()) if layer["type"] == "InnerProduct"
    ]
    if len(found) != 1:
        raise ModelFileError(
            f"{checkpoint.path} has {len(found)} layers of the type InnerProduct", expected="one, fc1000"
        )
    name: str = found[0]
    return name


def _stages(checkpoint: ForeignCheckpoint) -> dict[int, list[str]]:
    """Return the labels of each stage's units, in order: ``a``, ``b``, ``c`` or ``a``, ``b1``, ``b2``."""
    found: dict[int, set[str]] = {}
    for name in checkpoint.tensors:
        match = _BRANCH.fullmatch(name.rpartition("/")[0])
        if match:
            found.setdefault(int(match[1]), set()).add(match[2])
    if sorted(found) != list(range(2, 2 + len(found))):
        raise ModelFileError(f"{checkpoint.path} has stages with gaps between their numbers")
    stages = {}
    for stage in sorted(found):
        labels = found[stage]
        possible = [_labels(len(labels), numbered=numbered) for numbered in (False, True)]
        fitting = next((candidate for candidate in possible if set(candidate) == labels), None)
        if fitting is None:
            raise ModelFileError(
                f"{checkpoint.path} has units {', '.join(sorted(labels)[:10])} in stage {stage}",
                expected="a, b, c, … or a, b1, b2, … without gaps",
            )
        stages[stage] = fitting
    return stages


def _labels(depth: int, *, numbered: bool) -> list[str]:
    if numbered:
        return ["a", *(f"b{number}" for number in range(1, depth))]
    return list(string.ascii_lowercase[:depth])


def _release_labels(spec: ResNetSpec, depth: int) -> list[str]:
    return _labels(depth, numbered=spec.num_layers > _LETTERED_LAYERS and depth > _LETTERED_UNITS)


def _check_layers(checkpoint: ForeignCheckpoint, layers: dict[str, dict[str, Any]]) -> None:
    """Refuse layers that no network of the release has, and settings that would make another function."""
    for name, layer in layers.items():
        if layer["type"] not in _TYPES:
            raise ModelFileError(
                f"{checkpoint.path} has a layer {name[:100]!r} of the type {layer['type'][:100]!r}",
                expected="the types of ResNet-50, 101 and 152",
            )
        eltwise = layer.get("eltwise_param", {})
        convolution = layer.get("convolution_param", {})
        kernel_px = layer["blobs"][0][-1] if layer["blobs"] and layer["blobs"][0] else 1
        differs = (
            eltwise.get("operation", "SUM") != "SUM"
            or any(coefficient != 1 for coefficient in eltwise.get("coeff", ()))
            or any(dilation != 1 for dilation in convolution.get("dilation", ()))
            or layer.get("inner_product_param", {}).get("transpose", False)
            or (convolution and _sides(convolution, "pad", 0) != {kernel_px // 2})
        )
        if differs:
            raise ModelFileError(
                f"{checkpoint.path} has settings in layer {name[:100]!r} that the release's networks "
                "do not have"
            )


def _sides(settings: dict[str, Any], what: str, default: int) -> set[int]:
    """Return the stride or padding of both axes; Caffe has one field for both, and one for each."""
    values = settings.get(what, [])
    values = list(values) if isinstance(values, list) else [values]
    values += [settings[name] for name in (f"{what}_h", f"{what}_w") if name in settings]
    return set(values) or {default}


def _stride_on(
    checkpoint: ForeignCheckpoint, layers: dict[str, dict[str, Any]], stages: list[int]
) -> tuple[StrideOn, tuple[str, ...]]:
    """Return the convolution of a bottleneck that strides, and what had to be assumed for it."""
    strides = {
        name: _sides(layer.get("convolution_param", {}), "stride", 1)
        for name, layer in layers.items()
        if _CONVOLUTION.fullmatch(name)
    }
    striding = {name for name, stride in strides.items() if stride != {1}}
    if not striding:
        return "1x1", ("the first 1×1 of a stage strides, as in the release; the file states no strides",)
    common = {"conv1"} | {f"res{stage}a_branch1" for stage in stages[1:]}
    if all(strides[name] == {2} for name in striding):
        if striding == common | {f"res{stage}a_branch2a" for stage in stages[1:]}:
            return "1x1", ()
        if striding == common | {f"res{stage}a_branch2b" for stage in stages[1:]}:
            return "3x3", ()
    raise ModelFileError(
        f"{checkpoint.path} strides in {', '.join(sorted(striding)[:10])}",
        expected="stride 2 in conv1 and in the first unit of every later stage, on its 1×1 or its 3×3",
    )


def _padding(checkpoint: ForeignCheckpoint, layers: dict[str, dict[str, Any]]) -> Padding:
    """Return the rule that pads the pooling: Caffe rounds up, and does not pad in the release."""
    # The default of PoolingParameter.pool is MAX.
    pools = [
        layer.get("pooling_param", {})
        for layer in layers.values()
        if layer["type"] == "Pooling" and layer.get("pooling_param", {}).get("pool", "MAX") == "MAX"
    ]
    if len(pools) == 1 and _sides(pools[0], "kernel_size", 3) | _sides(pools[0], "kernel", 3) == {3}:
        pads, rounds = _sides(pools[0], "pad", 0), pools[0].get("round_mode", "CEIL")
        if _sides(pools[0], "stride", 1) == {2} and (pads, rounds) == ({0}, "CEIL"):
            return "caffe"
        # With padding 1, rounding up puts out one pixel more than torch for every even side.
        if _sides(pools[0], "stride", 1) == {2} and (pads, rounds) == ({1}, "FLOOR"):
            return "torch"
    raise ModelFileError(
        f"{checkpoint.path} has the max-pooling {pools[:3]}",
        expected="one of 3×3 and stride 2, without padding and rounded up, or padded by 1 and rounded down",
    )


def _bn_eps(checkpoint: ForeignCheckpoint, layers: dict[str, dict[str, Any]]) -> float:
    found = {
        layer.get("batch_norm_param", {}).get("eps", _DEFAULT_EPS)
        for layer in layers.values()
        if layer["type"] == "BatchNorm"
    }
    # The file has float32; seven digits are what was written.
    values = {float(f"{eps:.7g}") for eps in found if isinstance(eps, float)}
    if len(values) != 1 or len(values) < len({type(eps) for eps in found}):
        raise ModelFileError(
            f"{checkpoint.path} has BN with ε of {sorted(map(str, found))[:10]}", expected="one value for all"
        )
    return values.pop()


def _bn_rule(name: str, part: str, where: str) -> list[Rule]:
    """Return the rule for a tensor of BN, whose affine half is the layer Scale."""
    match part:
        case "weight" | "bias":
            return [Rule(name, f"scale{where}/{'01'[part == 'bias']}", "flat")]
        case "running_mean" | "running_var":
            return [Rule(name, f"bn{where}/{'01'[part == 'running_var']}", "flat", divisor=f"bn{where}/2")]
        case _:
            return []


def _require_release(spec: ResNetSpec) -> None:
    """Refuse what the release's layer names cannot say."""
    for field, allowed in (
        ("unit", ("bottleneck",)),
        ("stem", ("imagenet",)),
        ("shortcut", ("B",)),
        ("stride_in", ("first",)),
        ("arrangement", ("original",)),
        ("conv_bias", ("none", "stem")),
        ("padding", ("caffe", "torch")),
        ("output_stride", (None,)),
    ):
        value = getattr(spec, field)
        if value not in allowed:
            raise ConfigurationError(
                f"{field} is {value!r}, which the release for Caffe does not have",
                expected=" or ".join(map(repr, allowed)),
            )


def _prototxt(checkpoint: ForeignCheckpoint, shape: tuple[int, ...]) -> str:
    """Describe the file's layers in Caffe's text format, from an input of ``shape`` to the classifier.

    Tops get names of our own, and so do layers without blobs: the file's could hold anything. The average
    is taken over the whole map, of whatever size, where the release states the 7×7 of 224 px.
    """
    layers: list[dict[str, Any]] = checkpoint.metadata["layers"]
    entries = list(checkpoint.metadata.get("input", ()))
    entries += [top for layer in layers if layer["type"] in _INPUTS for top in layer["top"]]
    tops: dict[str, str] = {entries[0] if entries else "data": "t0"}
    dims = " ".join(f"dim: {side}" for side in shape)
    lines = [f'layer {{ name: "input" type: "Input" top: "t0" input_param {{ shape {{ {dims} }} }} }}']
    for number, layer in enumerate(layers):
        if layer["type"] in _INPUTS or not layer["bottom"] or not all(x in tops for x in layer["bottom"]):
            continue
        bottoms = [tops[bottom] for bottom in layer["bottom"]]
        for top in layer["top"]:
            tops.setdefault(top, f"t{len(tops)}")
        name = layer["name"] if layer["blobs"] else f"layer{number}"
        parts = [f"name: {json.dumps(name)} type: {json.dumps(layer['type'])}"]
        parts += [f'bottom: "{bottom}"' for bottom in bottoms]
        parts += [f'top: "{tops[top]}"' for top in layer["top"]]
        for settings_name, settings in layer.items():
            if not settings_name.endswith("_param"):
                continue
            is_average = settings.get("pool") == "AVE"
            stated = {"pool": "AVE", "global_pooling": True} if is_average else settings
            parts.append(f"{settings_name} {{ {_settings(stated)} }}")
        lines.append(f"layer {{ {' '.join(parts)} }}")
        if layer["type"] == "InnerProduct":
            break
    return "\n".join(lines) + "\n"


def _settings(settings: dict[str, Any]) -> str:
    found = []
    for name, value in settings.items():
        for item in value if isinstance(value, list) else [value]:
            text = str(item).lower() if isinstance(item, bool) else str(item)
            found.append(f"{name}: {text}")
    return " ".join(found)
