"""transformers: folders of ``ResNetForImageClassification``; in and out, both stride placements.

A folder of ``ResNetModel``, which has no classifier, is read as a backbone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepresidual import zoo
from deepresidual.conversion.architecture import counted, state_names
from deepresidual.conversion.ecosystem import Ecosystem, Exported, ForeignCheckpoint, Recognition, Reference
from deepresidual.conversion.torchvision import load_but_for_counters, require_plain_resnet
from deepresidual.conversion.translation import Rule, Translation, write_tensors
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError
from deepresidual.preprocess import Preprocess
from deepresidual.runtime import files
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.labels import imagenet_class_names

# Keys that say what the network is, and keys of transformers' own bookkeeping that change nothing.
_SAID = {
    *("depths", "hidden_sizes", "embedding_size", "layer_type", "hidden_act", "num_channels"),
    *("downsample_in_bottleneck", "downsample_in_first_stage", "id2label", "label2id"),
}
_BOOKKEEPING = {
    *("model_type", "architectures", "transformers_version", "torch_dtype", "dtype", "problem_type"),
    *("stage_names", "out_features", "out_indices", "num_labels", "return_dict", "_name_or_path"),
    *("output_hidden_states", "use_cache", "chunk_size_feed_forward", "is_encoder_decoder"),
    *("finetuning_task", "output_attentions", "torchscript"),
}
# Of a preprocessor_config.json: what says how an image is prepared, and bookkeeping.
_PROCESSOR = {
    *("image_processor_type", "feature_extractor_type", "size", "crop_size", "crop_pct", "resample"),
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "rescale_factor"),
    *("image_mean", "image_std", "default_to_square", "data_format", "input_data_format", "device"),
    *("return_tensors", "disable_grouping", "processor_class", "_valid_processor_keys"),
}
_CONVNEXT = "ConvNextImageProcessor"
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling


class Transformers(Ecosystem):
    """ResNetForImageClassification of transformers."""

    name = "transformers"
    package = "transformers"

    def recognize(self, checkpoint: ForeignCheckpoint) -> Recognition | None:
        """Recognize a folder by ``model_type`` and tensor names; the config says the rest."""
        config = checkpoint.metadata.get("config")
        if f"{_base(checkpoint)}embedder.embedder.convolution.weight" not in checkpoint.tensors:
            return None
        where = f"{checkpoint.path}: config.json"
        if not isinstance(config, dict):
            raise ModelFileError(
                f"{checkpoint.path} has transformers' names and no config.json, which says where it strides",
                remedy="convert the folder that save_pretrained wrote",
            )
        if config.get("model_type") != "resnet":
            raise ModelFileError(f"{where}: model_type is {config.get('model_type')!r}", expected="'resnet'")
        for key in config:
            if key not in _SAID | _BOOKKEEPING:
                raise ModelFileError(
                    f"{where} has the unknown key {key[:100]!r}",
                    expected="what transformers writes for a ResNet",
                )
        try:
            spec = _read_spec(config, checkpoint)
        except ConfigurationError as error:
            raise ModelFileError(f"{where}: {error}") from error
        try:
            preprocess, assumed = _read_preprocess(checkpoint.metadata.get("preprocessor_config"), spec)
        except ConfigurationError as error:
            raise ModelFileError(f"{checkpoint.path}: preprocessor_config.json: {error}") from error
        return Recognition(
            spec,
            "config.json with model_type resnet, and transformers' tensor names",
            preprocess,
            _labels(config, spec.num_classes, where),
            assumed,
        )

    def translation(self, spec: ResNetSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return transformers' names."""
        base = _base(checkpoint)
        rules = (Rule(name, _name(name, spec).replace(_BASE, base, 1)) for name in state_names(spec))
        return counted(rules, checkpoint)

    def reference(self, checkpoint: ForeignCheckpoint, spec: ResNetSpec) -> Reference:
        """Build transformers' network and load the checkpoint's tensors strictly."""
        transformers = _import_transformers()
        try:
            _require(spec)
        except ConfigurationError as error:
            raise MissingDependencyError(error.found) from error
        config, name = _their_config(transformers, spec), f"transformers {transformers.__version__}"
        if not spec.num_classes:
            backbone = transformers.ResNetModel(config)
            tensors = {
                each.removeprefix(_base(checkpoint)): tensor for each, tensor in checkpoint.tensors.items()
            }
            load_but_for_counters(backbone, dataclasses.replace(checkpoint, tensors=tensors), "transformers'")
            return Reference(name, lambda images: backbone(images).pooler_output.flatten(1))
        network = transformers.ResNetForImageClassification(config)
        load_but_for_counters(network, checkpoint, "transformers'")
        return Reference(name, lambda images: network(images).logits)

    def write(self, model: Exported, path: Path) -> None:
        """Write a folder that ``from_pretrained`` opens, with the preprocessing of AutoImageProcessor."""
        _require(model.spec)
        if not model.spec.num_classes:
            raise ConfigurationError(
                "the model is a backbone without a classifier, which is not written for transformers",
                expected="a model with classes, or torchvision or timm",
            )
        preprocess = model.preprocess
        if preprocess.channels != "rgb":
            raise ConfigurationError(
                f"the network reads {preprocess.channels}, which transformers' preprocessing cannot say",
                expected="rgb",
            )
        with files.atomic_folder(path) as folder:
            files.write_tensors(
                folder / "model.safetensors", write_tensors(self.translation(model.spec), model.state)
            )
            files.write_json(folder / "config.json", _config(model.spec, model.label_names))
            files.write_json(folder / "preprocessor_config.json", _processor(preprocess))


# -- names -------------------------------------------------------------------------------------------

_BASE = "resnet."  # before the names of a model with a head


def _base(checkpoint: ForeignCheckpoint | None) -> str:
    """Return the prefix of a checkpoint's names; a bare model has none."""
    is_bare = checkpoint is not None and "embedder.embedder.convolution.weight" in checkpoint.tensors
    return "" if is_bare else _BASE


def _name(name: str, spec: ResNetSpec) -> str:
    module, _, parameter = name.rpartition(".")
    if module == "fc":
        return f"classifier.1.{parameter}"
    kind = {"conv": "convolution", "bn": "normalization"}
    if module in ("conv1", "bn1"):
        return f"resnet.embedder.embedder.{kind[module[:-1]]}.{parameter}"
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.([01]))", module)
    if match is None:
        raise ConfigurationError(f"transformers has no tensor {name} ({spec.arrangement})")
    stage, unit, part, number, projection = match.groups()
    layer = f"resnet.encoder.stages.{int(stage) - 1}.layers.{unit}"
    if projection is not None:
        return f"{layer}.shortcut.{('convolution', 'normalization')[int(projection)]}.{parameter}"
    return f"{layer}.layer.{int(number) - 1}.{kind[part]}.{parameter}"


# -- reading -----------------------------------------------------------------------------------------


def _whole_numbers(config: Mapping[str, Any], key: str, default: list[int]) -> tuple[int, ...]:
    value = config.get(key, default)
    if not isinstance(value, list) or not value or not all(type(item) is int for item in value):
        raise ConfigurationError(f"{key} is {str(value)[:100]}", expected="a list of whole numbers")
    return tuple(value)


def _read_spec(config: Mapping[str, Any], checkpoint: ForeignCheckpoint) -> ResNetSpec:
    # What a config leaves out has transformers' default, which is ResNet-50's.
    layer_type = config.get("layer_type", "bottleneck")
    if layer_type not in ("basic", "bottleneck"):
        raise ConfigurationError(f"layer_type is {layer_type!r}", expected="basic or bottleneck")
    if config.get("hidden_act", "relu") != "relu":
        raise ConfigurationError(f"hidden_act is {config['hidden_act']!r}", expected="relu")
    if config.get("downsample_in_first_stage", False) is not False:
        raise ConfigurationError("downsample_in_first_stage is set", expected="false")
    in_bottleneck = config.get("downsample_in_bottleneck", False)
    if type(in_bottleneck) is not bool:
        raise ConfigurationError(f"downsample_in_bottleneck is {in_bottleneck!r}", expected="true or false")
    expansion = 4 if layer_type == "bottleneck" else 1
    sizes = _whole_numbers(config, "hidden_sizes", [256, 512, 1024, 2048])
    if any(size % expansion for size in sizes):
        raise ConfigurationError(f"hidden_sizes is {list(sizes)}", expected="multiples of 4")
    widths = tuple(size // expansion for size in sizes)
    if config.get("embedding_size", 64) != widths[0]:
        raise ConfigurationError(
            f"embedding_size is {config.get('embedding_size', 64)!r}",
            expected=f"{widths[0]}, as inside stage 1",
        )
    head = checkpoint.tensors.get("classifier.1.weight")
    if head is not None and (head.ndim != 2 or not len(head)):
        raise ConfigurationError(f"the classifier is of shape {tuple(head.shape)}", expected="two axes")
    num_classes = 0 if head is None else len(head)
    if config.get("num_channels", 3) != 3:
        raise ConfigurationError(f"num_channels is {str(config['num_channels'])[:100]}", expected="3")
    if num_classes and config.get("num_labels", num_classes) != num_classes:
        raise ConfigurationError(
            f"num_labels is {str(config['num_labels'])[:100]}", expected=str(num_classes)
        )
    return ResNetSpec(
        unit=layer_type,
        depths=_whole_numbers(config, "depths", [3, 4, 6, 3]),
        widths=widths,
        stride_on="1x1" if in_bottleneck and expansion == 4 else "3x3",
        num_classes=num_classes,
        in_channels=config.get("num_channels", 3),
    )


def _labels(config: Mapping[str, Any], num_classes: int, where: str) -> tuple[str, ...] | None:
    names = config.get("id2label")
    if names is None or not num_classes:
        return None
    if not isinstance(names, dict) or set(names) != {str(row) for row in range(num_classes)}:
        raise ModelFileError(
            f"{where}: id2label does not name each of the {num_classes} rows of the classifier once"
        )
    labels = tuple(names[str(row)] for row in range(num_classes))
    if not all(isinstance(label, str) for label in labels):
        raise ModelFileError(f"{where}: id2label holds names that are no strings")
    if len(set(labels)) == num_classes:
        return labels
    if num_classes == 1000 and labels[0].startswith("tench"):
        # ImageNet's own words, with "crane" and "maillot" twice.
        return imagenet_class_names()
    raise ModelFileError(
        f"{where}: id2label has {len(set(labels)):,} distinct names", expected=f"{num_classes:,}"
    )


def _read_preprocess(processor: Any, spec: ResNetSpec) -> tuple[Preprocess, tuple[str, ...]]:
    default = zoo.default_preprocess(spec)
    if not isinstance(processor, dict):
        return default, ("there is no preprocessor_config.json: images are prepared as for ImageNet",)
    for key in processor:
        if key not in _PROCESSOR:
            raise ConfigurationError(f"unknown key {key[:100]!r}", expected="what transformers writes")
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if processor.get(key, True) is not True:
            raise ConfigurationError(f"{key} is {str(processor[key])[:100]}", expected="true")
    factor = processor.get("rescale_factor", 1 / 255)
    if type(factor) is not float or abs(factor * 255 - 1) > 1e-6:
        raise ConfigurationError(f"rescale_factor is {str(factor)[:100]}", expected="1/255")
    resample = processor.get("resample", 3)
    if type(resample) is not int or resample not in _RESAMPLING:
        raise ConfigurationError(
            f"resample is {str(resample)[:100]}", expected=", ".join(map(str, _RESAMPLING))
        )
    crop_px, resize_px, assumed = _read_sizes(processor, default.crop_px)
    fields = {
        "crop_px": crop_px,
        "resize_px": resize_px,
        "mean": processor.get("image_mean", default.mean),
        "std": processor.get("image_std", default.std),
        "interpolation": _RESAMPLING[resample],
        "channels": "rgb",
    }
    return Preprocess.from_dict(fields), assumed


def _read_sizes(processor: Mapping[str, Any], default_px: int) -> tuple[int, int, tuple[str, ...]]:
    """Return the sides of the crop and of the resize, and the settings that could not be taken over."""
    # ResNets come with ConvNext's; older folders name it as feature_extractor_type.
    name = processor.get("image_processor_type", processor.get("feature_extractor_type", _CONVNEXT))
    kind = re.fullmatch(r"(ConvNext|Bit|ViT)(?:ImageProcessor|FeatureExtractor)(?:Fast|Pil)?", str(name))
    if kind is None:
        raise ConfigurationError(
            f"image_processor_type is {str(name)[:100]!r}", expected="that of ConvNext, Bit or ViT"
        )
    edge, is_squashed = _side(processor, "size", default_px)
    if processor.get("do_center_crop"):
        # An ordinary processor: the shorter side to `size`, then the crop.
        crop_px, _ = _side(processor, "crop_size", default_px)
        resize_px = edge
    elif kind[1] == "ConvNext" and edge < 384:
        # It resizes to size / crop_pct and crops; from 384 px on it squashes.
        crop_pct = processor.get("crop_pct", 224 / 256)
        if type(crop_pct) not in (int, float) or not 0.05 <= crop_pct <= 1:
            raise ConfigurationError(f"crop_pct is {str(crop_pct)[:100]}", expected="0.05 to 1")
        return edge, int(edge / crop_pct), ()
    else:
        crop_px, resize_px, is_squashed = edge, edge, True
    squashed = ("images that are no squares are cropped here, where transformers squashes them",)
    return crop_px, resize_px, squashed if is_squashed else ()


def _side(processor: Mapping[str, Any], key: str, default_px: int) -> tuple[int, bool]:
    """Return the side that ``size`` or ``crop_size`` gives, and whether it gives a square."""
    value = processor.get(key, default_px)
    sides = [value] if not isinstance(value, dict) else [value[name] for name in sorted(value)]
    names = set(value) if isinstance(value, dict) else {"shortest_edge"}
    fits = names == {"shortest_edge"} or (names == {"height", "width"} and sides[0] == sides[1])
    if not fits or type(sides[0]) is not int or sides[0] < 1:
        raise ConfigurationError(
            f"{key} is {str(value)[:100]}", expected="a side in pixels, or two that are equal"
        )
    return sides[0], key == "size" and names != {"shortest_edge"}


# -- transformers' own --------------------------------------------------------------------------------


def _require(spec: ResNetSpec) -> None:
    """Refuse what transformers does not have; it has both places of the stride."""
    if spec.output_stride is not None:
        raise ConfigurationError("transformers has no dilated ResNet")
    if (spec.groups, spec.inner_multiplier) != (1, 1):
        raise ConfigurationError("transformers has no ResNeXt and no Wide ResNet")
    # torchvision's network except stride and widths.
    require_plain_resnet(dataclasses.replace(spec, stride_on="3x3"), "transformers", free=("widths",))


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "transformers is not installed", remedy="pip install transformers"
        ) from error
    return transformers


def _config(spec: ResNetSpec, labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "depths": list(spec.depths),
        "hidden_sizes": [width * spec.expansion for width in spec.widths],
        "embedding_size": spec.widths[0],
        "layer_type": spec.unit,
        "hidden_act": "relu",
        "num_channels": spec.in_channels,
        "downsample_in_bottleneck": spec.stride_on == "1x1",
        "downsample_in_first_stage": False,
        "id2label": {str(row): label for row, label in enumerate(labels)},
        "label2id": {label: row for row, label in enumerate(labels)},
    }


def _their_config(transformers: Any, spec: ResNetSpec) -> Any:
    fields = _config(spec, tuple(str(row) for row in range(spec.num_classes or 1)))
    del fields["architectures"], fields["model_type"]
    return transformers.ResNetConfig(**fields)


def _processor(preprocess: Preprocess) -> dict[str, Any]:
    resample = {name: number for number, name in _RESAMPLING.items()}[preprocess.interpolation]
    return {
        # The plain processor: the shorter side to `size`, and the central crop.
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": preprocess.resize_px},
        "resample": resample,
        "do_center_crop": True,
        "crop_size": {"height": preprocess.crop_px, "width": preprocess.crop_px},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }
