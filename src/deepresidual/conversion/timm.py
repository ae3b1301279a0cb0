"""timm: ``resnet*`` with torchvision's names, and ``resnetv2_*`` with BN; in and out, as folders of the Hub.

A lone file of timm's ``resnet*`` is the same as torchvision's; the folder's ``config.json`` tells them apart
and brings preprocessing and class names.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepresidual import zoo
from deepresidual.conversion.architecture import (
    counted,
    num_rows,
    read_architecture,
    state_names,
    torchvision_translation,
)
from deepresidual.conversion.ecosystem import Ecosystem, Exported, ForeignCheckpoint, Recognition, Reference
from deepresidual.conversion.torchvision import load_but_for_counters, require_plain_resnet
from deepresidual.conversion.translation import Rule, Translation, write_tensors
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError, quoted
from deepresidual.preprocess import Preprocess
from deepresidual.runtime import files
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.labels import imagenet_names_for

# What timm writes into a config.json; anything else could mean another network.
_KEYS = {"architecture", "num_classes", "num_features", "global_pool", "pretrained_cfg", "model_args"}
_KEYS |= {"label_names", "label_descriptions"}
_CFG_KEYS = {
    *("tag", "custom_load", "input_size", "test_input_size", "min_input_size", "fixed_input_size"),
    *("interpolation", "crop_pct", "test_crop_pct", "crop_mode", "mean", "std", "num_classes", "pool_size"),
    *("first_conv", "classifier", "license", "origin_url", "paper_name", "paper_ids", "notes", "url"),
    *("hf_hub_id", "architecture", "file", "source", "label_offset", "description", "paper_url"),
    *("hf_hub_filename", "label_names", "label_descriptions", "test_pool_size"),
}
# What it builds a network with; save_for_hf writes the first three every time.
_ARGUMENTS = ("in_chans", "num_classes", "global_pool", "output_stride")
# Arguments that change training alone, and are recorded sometimes.
_TRAINING_ARGUMENTS = ("drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last")


class Timm(Ecosystem):
    """timm's residual networks."""

    name = "timm"
    package = "timm"

    def recognize(self, checkpoint: ForeignCheckpoint) -> Recognition | None:
        """Recognize a folder by its ``pretrained_cfg``, and ``resnetv2_*`` by tensor names."""
        config = checkpoint.metadata.get("config")
        is_folder = isinstance(config, dict) and "pretrained_cfg" in config and "model_type" not in config
        tensors = checkpoint.tensors
        is_v2 = "stem.conv.weight" in tensors and "stages.0.blocks.0.norm1.weight" in tensors
        if checkpoint.format not in ("torch", "safetensors"):
            return None
        _refuse_variant(tensors, checkpoint.path)
        if not (is_folder or is_v2):
            return None
        spec = _read_v2(checkpoint) if is_v2 else read_architecture(tensors, checkpoint.path)
        if spec is None:
            name = config.get("architecture") if isinstance(config, dict) else None
            raise ModelFileError(
                f"{checkpoint.path} is timm's {str(name)[:100]!r}, which Residual does not have",
                expected=f"one of {', '.join(_architectures())}",
            )
        if not is_folder or config is None:
            preprocess = dataclasses.replace(
                zoo.default_preprocess(spec),
                mean=(0.5, 0.5, 0.5),
                std=(0.5, 0.5, 0.5),
                interpolation="bicubic",
            )
            return Recognition(
                spec,
                "tensor names such as stages.0.blocks.0.norm1.weight, which are timm's resnetv2",
                preprocess,
                _labels({}, spec, checkpoint.path),
                ("images are prepared as by most of timm's resnetv2: mean and standard deviation one half",),
            )
        return _with_config(checkpoint, config, spec)

    def translation(self, spec: ResNetSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return torchvision's names, or those of ``resnetv2``."""
        if not spec.is_preactivated:
            return torchvision_translation(spec, "fc", checkpoint)
        rules = (
            Rule(name, _v2_name(name), "linear-1x1" if name == "fc.weight" else "same")
            for name in state_names(spec)
        )
        return counted(rules, checkpoint)

    def reference(self, checkpoint: ForeignCheckpoint, spec: ResNetSpec) -> Reference:
        """Build timm's network and load the checkpoint's tensors strictly."""
        try:
            import timm
        except ImportError as error:
            raise MissingDependencyError("timm is not installed", remedy="pip install timm") from error
        try:
            _require(spec)
        except ConfigurationError as error:
            raise MissingDependencyError(error.found) from error
        network = _build(timm, spec)
        load_but_for_counters(network, checkpoint, "timm's")
        return Reference(f"timm {timm.__version__}", network)

    def write(self, model: Exported, path: Path) -> None:
        """Write a folder that ``timm.create_model("local-dir:…", pretrained=True)`` opens."""
        _require(model.spec)
        name = _architecture(model.spec)
        v2 = model.spec.is_preactivated
        config = {
            "architecture": name,
            "num_classes": model.spec.num_classes,
            "num_features": model.spec.num_features,
            "label_names": list(model.label_names),
            "model_args": _arguments(model.spec),
            "pretrained_cfg": {
                **_preprocess_config(model.preprocess, model.spec),
                "first_conv": "stem.conv" if v2 else "conv1",
                "classifier": "head.fc" if v2 else "fc",
            },
        }
        with files.atomic_folder(path) as folder:
            files.write_tensors(
                folder / "model.safetensors", write_tensors(self.translation(model.spec), model.state)
            )
            files.write_json(folder / "config.json", config)


# -- reading -----------------------------------------------------------------------------------------


def _v2_name(name: str) -> str:
    if name.startswith("fc."):
        return f"head.{name}"
    if name.startswith("bn."):
        return name.replace("bn.", "norm.", 1)
    if name == "conv1.weight":
        return "stem.conv.weight"
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.(.+)", name)
    if match is None:
        raise ConfigurationError(f"timm's resnetv2 has no tensor {name}")
    part = match[3].replace("downsample.0", "downsample.conv")
    part = re.sub(r"^bn(\d)", r"norm\1", part)
    return f"stages.{int(match[1]) - 1}.blocks.{match[2]}.{part}"


def _refuse_variant(tensors: Mapping[str, Any], path: Path) -> None:
    """Refuse the relatives of timm whose stem or shortcuts are others, by the tensor that tells."""
    is_resnet = any(name.startswith(("layer1.0.", "stages.0.blocks.0.")) for name in tensors)
    for telling, variant in (
        ("conv1.0.weight", "a deep stem of three convolutions (resnet50d and others)"),
        ("stem.conv1.weight", "a deep stem of three convolutions (resnetv2_50d and others)"),
        ("layer1.0.conv1.paths.0.conv.weight", "selective kernels (skresnet)"),
        ("layer2.0.downsample.1.weight", "pooling before the projections (resnet50d and others)"),
    ):
        # A projection's second module is BN, whose weight has one axis.
        if is_resnet and telling in tensors and ("downsample" not in telling or tensors[telling].ndim == 4):
            raise ModelFileError(
                f"{path} has {variant}, as its tensor {telling} says, which Residual does not have",
                expected=f"one of {', '.join(_architectures())}",
            )


def _read_v2(checkpoint: ForeignCheckpoint) -> ResNetSpec:
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    depths: dict[int, int] = {}
    for name in shapes:
        if match := re.match(r"stages\.(\d{1,2})\.blocks\.(\d{1,5})\.", name):
            depths[int(match[1])] = max(depths.get(int(match[1]), 0), int(match[2]) + 1)
    bottleneck = "stages.0.blocks.0.conv3.weight" in shapes
    last = "conv3" if bottleneck else "conv2"
    try:
        spec = ResNetSpec(
            unit="bottleneck" if bottleneck else "basic",
            depths=tuple(depths[stage] for stage in range(len(depths))),
            widths=tuple(
                shapes[f"stages.{stage}.blocks.0.{last}.weight"][0] // (4 if bottleneck else 1)
                for stage in range(len(depths))
            ),
            arrangement="full-preactivation",
            first_activation="unit" if bottleneck else "branch",
            num_classes=num_rows(shapes, "head.fc"),
            in_channels=shapes["stem.conv.weight"][1],
        )
    except (KeyError, IndexError, ConfigurationError) as error:
        raise ModelFileError(f"{checkpoint.path} is no resnetv2 that Residual has ({error})") from error
    if "norm.running_mean" not in shapes:
        raise ModelFileError(
            f"{checkpoint.path} is a resnetv2 with another normalization than BN", expected="resnetv2 with BN"
        )
    return spec


def _with_config(checkpoint: ForeignCheckpoint, config: Mapping[str, Any], spec: ResNetSpec) -> Recognition:
    """Check a folder's configuration against its tensors, and take preprocessing and names from it."""
    path = checkpoint.path
    _refuse_unknown(config, _KEYS, f"{path}: config.json")
    cfg = config["pretrained_cfg"]
    if not isinstance(cfg, dict):
        raise ModelFileError(f"{path}: pretrained_cfg is {quoted(cfg)}", expected="an object")
    _refuse_unknown(cfg, _CFG_KEYS, f"{path}: pretrained_cfg")
    name = config.get("architecture")
    if not isinstance(name, str) or name.split(".")[0] not in _architectures():
        raise ModelFileError(
            f"{path}: the architecture is {quoted(name)}",
            expected=f"one of {', '.join(_architectures())}",
        )
    row = _architectures()[name.split(".")[0]]
    found = (spec.unit, spec.depths, spec.widths, spec.groups, spec.inner_multiplier, spec.arrangement)
    if found != (row.unit, row.depths, row.widths, row.groups, row.inner_multiplier, row.arrangement):
        raise ModelFileError(
            f"{path}: the architecture is {name!r} and the tensors are those of "
            f"{zoo.name_of(spec) or 'another'}"
        )
    if (stated := config.get("num_classes", spec.num_classes)) != spec.num_classes:
        raise ModelFileError(
            f"{path}: the classifier has {spec.num_classes} rows and the config says {quoted(stated)}",
            expected="the same",
        )
    arguments = config.get("model_args") or {}
    if not isinstance(arguments, dict) or not set(arguments) <= {*_ARGUMENTS, *_TRAINING_ARGUMENTS}:
        raise ModelFileError(
            f"{path}: model_args is {quoted(arguments, 200)}", expected=f"only {', '.join(_ARGUMENTS)}"
        )
    held = {"in_chans": spec.in_channels, "num_classes": spec.num_classes, "global_pool": "avg"}
    for where, stated in (
        ("model_args.", arguments),
        ("", {"global_pool": config.get("global_pool", "avg")}),
    ):
        for key in held.keys() & stated.keys():
            if stated[key] != held[key]:
                raise ModelFileError(
                    f"{path}: {where}{key} is {quoted(stated[key])}", expected=repr(held[key])
                )
    try:
        spec = dataclasses.replace(spec, output_stride=arguments.get("output_stride"))
        preprocess = _read_preprocess(cfg, spec)
    except ConfigurationError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return Recognition(
        spec,
        f"config.json with timm's pretrained_cfg, and its architecture {name}",
        preprocess,
        _labels({**cfg, **config}, spec, path),
    )


def _refuse_unknown(found: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in found:
        if key not in known:
            raise ModelFileError(
                f"{where} has the unknown key {quoted(key)}", expected="what timm itself writes"
            )


def _read_preprocess(cfg: Mapping[str, Any], spec: ResNetSpec) -> Preprocess:
    size = cfg.get("input_size", [3, 224, 224])
    if not isinstance(size, list) or len(size) != 3 or any(type(side) is not int for side in size):
        raise ConfigurationError(f"input_size is {quoted(size)}", expected="channels, height, width")
    if size[0] != spec.in_channels or size[1] != size[2]:
        raise ConfigurationError(f"input_size is {size}", expected=f"{spec.in_channels} channels, a square")
    crop_pct = cfg.get("crop_pct", 0.875)
    if type(crop_pct) not in (int, float) or not 0.05 <= crop_pct <= 1:
        raise ConfigurationError(f"crop_pct is {quoted(crop_pct)}", expected="0.05 to 1")
    if cfg.get("crop_mode", "center") != "center":
        raise ConfigurationError(f"crop_mode is {quoted(cfg['crop_mode'])}", expected="center")
    fields = {
        "crop_px": size[1],
        "resize_px": math.floor(size[1] / crop_pct),
        "mean": cfg.get("mean", zoo.default_preprocess(spec).mean),
        "std": cfg.get("std", zoo.default_preprocess(spec).std),
        "interpolation": cfg.get("interpolation", "bicubic"),
        "channels": "gray" if spec.in_channels == 1 else "rgb",
    }
    return Preprocess.from_dict(fields)


def _labels(config: Mapping[str, Any], spec: ResNetSpec, path: Path) -> tuple[str, ...] | None:
    # By hand they stand beside pretrained_cfg; timm's own save_for_hf writes them into it.
    names = config.get("label_names")
    if isinstance(names, dict):
        # By row, as timm allows where rows are left out; here each row has to have its name.
        names = [names.get(str(row)) for row in range(len(names))]
    if not names:
        return imagenet_names_for(spec.num_classes)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelFileError(
            f"{path}: label_names is {quoted(config['label_names'])}",
            expected="a list of strings, or an object with one for each row",
        )
    if len(names) != spec.num_classes or len(set(names)) != len(names):
        raise ModelFileError(
            f"{path}: label_names has {len(names):,} names, {len(set(names)):,} of them distinct",
            expected=f"{spec.num_classes:,}, one a row of the classifier",
        )
    if re.fullmatch(r"n\d{8}", names[0]):
        # WordNet ids, with names for people beside them.
        descriptions = config.get("label_descriptions")
        if isinstance(descriptions, dict):
            told = [str(descriptions.get(name, name)) for name in names]
            names = told if len(set(told)) == len(told) else names
    return tuple(names)


# -- timm's own ---------------------------------------------------------------------------------------


def _architectures() -> dict[str, ResNetSpec]:
    """Return the networks that both have, by timm's names."""
    same = [f"resnet{layers}" for layers in (18, 26, 34, 50, 101, 152, 200)]
    same += ["resnext50_32x4d", *(f"resnext101_{width}" for width in ("32x4d", "32x8d", "64x4d"))]
    specs = {name: zoo.entry(name).spec for name in (*same, "wide_resnet50_2", "wide_resnet101_2")}
    # Two of 194 and 469 million parameters, trained on Instagram's pictures.
    for width in (16, 32):
        wide = dataclasses.replace(specs["resnext101_32x8d"], inner_multiplier=width // 2)
        specs[f"resnext101_32x{width}d"] = wide
    return specs | {f"resnetv2_{n}": zoo.entry(f"resnet{n}.v2").spec for n in (18, 34, 50, 101, 152)}


def _require(spec: ResNetSpec) -> None:
    """Refuse networks that timm does not have."""
    if spec.output_stride == 4:
        raise ConfigurationError("timm has no such network: output_stride is 4", expected="8, 16 or 32")
    if not spec.is_preactivated:
        # Unlike torchvision's, its basic units dilate.
        require_plain_resnet(dataclasses.replace(spec, output_stride=None), "timm")
        return
    theirs = ResNetSpec(
        unit=spec.unit,
        depths=spec.depths,
        widths=spec.widths,
        arrangement="full-preactivation",
        first_activation="unit" if spec.unit == "bottleneck" else "branch",
    )
    free = ("num_classes", "in_channels", "output_stride", "initialization", "bn_momentum")
    differing = spec.differences(theirs, ignoring=free)
    if differing:
        raise ConfigurationError(f"timm has no such network: {', '.join(differing)}")


def _architecture(spec: ResNetSpec) -> str:
    for name, row in _architectures().items():
        changed = dataclasses.replace(
            row,
            num_classes=spec.num_classes,
            in_channels=spec.in_channels,
            output_stride=spec.output_stride,
            bn_momentum=spec.bn_momentum,
            initialization=spec.initialization,
        )
        same_stride = (
            dataclasses.replace(changed, stride_on=spec.stride_on) if spec.unit == "basic" else changed
        )
        if spec.architecture in (changed, same_stride):
            return name
    raise ConfigurationError(
        f"timm has no network of {list(spec.depths)} {spec.unit} units with widths {list(spec.widths)}",
        expected=f"one of {', '.join(_architectures())}",
    )


def _arguments(spec: ResNetSpec) -> dict[str, int]:
    arguments = {"in_chans": spec.in_channels} if spec.in_channels != 3 else {}
    return arguments | ({"output_stride": spec.output_stride} if spec.output_stride else {})


def _build(timm: Any, spec: ResNetSpec) -> Any:
    return timm.create_model(
        _architecture(spec), pretrained=False, num_classes=spec.num_classes, **_arguments(spec)
    )


def _preprocess_config(preprocess: Preprocess, spec: ResNetSpec) -> dict[str, Any]:
    if preprocess.channels == "bgr":
        raise ConfigurationError("the network reads BGR, which timm's preprocessing cannot say")
    return {
        "input_size": [spec.in_channels, preprocess.crop_px, preprocess.crop_px],
        "num_classes": spec.num_classes,
        "interpolation": preprocess.interpolation,
        "crop_pct": preprocess.crop_pct,
        "crop_mode": "center",
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
    }
