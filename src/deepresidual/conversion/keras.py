"""Keras: ResNet50, 101 and 152, and their V2, of ``keras.applications``; in and out.

All three formats are read: ``.weights.h5`` and ``.keras`` of Keras 3, and the legacy ``.h5``. Keras 3 names
groups by class and number (``conv2d_7``), in the order of the model's layers. Today's versions note the
layer's own name beside; where a file does not, and carries no configuration either, the order decides.

Not in a Keras file, and so lost on the way there: torch's counters of batches, class names, preprocessing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from deepresidual.conversion.ecosystem import Ecosystem, Exported, ForeignCheckpoint, Recognition, Reference
from deepresidual.conversion.translation import Rule, Translation, num_batches_tracked, write_tensors
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError, RunError
from deepresidual.runtime.files import flush, make_folder
from deepresidual.spec import ResNetSpec
from deepresidual.zoo import entry
from deepresidual.zoo.labels import imagenet_names_for

_ROWS = {
    f"ResNet{layers}{version}": f"resnet{layers}.keras{suffix}"
    for version, suffix in (("", ""), ("V2", "-v2"))
    for layers in (50, 101, 152)
}
"""Function of ``keras.applications`` → row of the zoo."""

_NETWORKS = "ResNet50, ResNet101, ResNet152 or the V2 of each"
# In the order in which Keras 3 numbers them.
_VARIABLES = {
    "conv": {"kernel": "weight", "bias": "bias"},
    "linear": {"kernel": "weight", "bias": "bias"},
    "bn": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
}
_GROUPS = {"conv": "conv2d", "bn": "batch_normalization", "linear": "dense"}
_NUMBERED = re.compile(r"((?:layers|_layer_checkpoint_dependencies)/([^/]+)/vars)/(\d{1,3})")
_NAMED = re.compile(
    r"(?:model_weights/)?([^/]+)/(?:[^/]+/)*(kernel|bias|gamma|beta|moving_mean|moving_variance)(?::0)?"
)


class _Layer(NamedTuple):
    """One layer with weights: its name in Keras, our module, and its kind as in ``deepresidual.spec``."""

    name: str
    module: str
    kind: str
    bias: bool

    def variables(self) -> list[str]:
        """Return its variables in Keras's order."""
        return [name for name in _VARIABLES[self.kind] if self.kind == "bn" or self.bias or name != "bias"]


class Keras(Ecosystem):
    """The residual networks of ``keras.applications``."""

    name = "keras"
    package = "keras"

    def recognize(self, checkpoint: ForeignCheckpoint) -> Recognition | None:
        """Recognize a ResNet by layer names, or by the shapes of layers that have only numbers."""
        if checkpoint.format != "keras":
            return None
        groups = _groups(checkpoint)
        shapes = {
            name: tuple(checkpoint.tensors[variables["kernel"]].shape)
            for name, variables in groups.items()
            if "kernel" in variables
        }
        named = {"conv1_conv", "conv2_block1_1_conv"} <= set(shapes)
        num_convs = sum(len(shape) == 4 for shape in shapes.values())
        num_bns = sum("gamma" in variables for variables in groups.values())
        is_v2 = "conv2_block1_preact_bn" in groups if named else num_bns != num_convs
        function = next(
            (
                function
                for function, row in _ROWS.items()
                if _depths(shapes, entry(row).spec) == entry(row).spec.depths
                and function.endswith("V2") == is_v2
            ),
            None,
        )
        if function is None:
            if not named:
                return None
            raise ModelFileError(
                f"{checkpoint.path} is a Keras ResNet with "
                f"{list(_depths(shapes, entry(_ROWS['ResNet50']).spec))} units in its stages",
                expected=_NETWORKS,
            )
        row = entry(_ROWS[function])
        if not named and not _fits(row.spec, num_convs, num_bns, shapes):
            return None
        heads = sum(len(shape) == 2 for shape in shapes.values())
        if "predictions" not in shapes and heads:
            raise ModelFileError(
                f"{checkpoint.path} is Keras's {function} with {heads} dense layers instead of its top",
                expected="weights of a model with include_top=True, or without a top",
            )
        # Without its top it is a backbone of 0 classes.
        stem, head = shapes.get("conv1_conv", shapes.get("conv2d", ())), shapes.get("predictions", (0, 0))
        if len(stem) != 4 or len(head) != 2:
            raise ModelFileError(
                f"{checkpoint.path} is Keras's {function} with a first kernel {stem} and a last one {head}",
                expected="4 axes and 2",
            )
        try:
            spec = dataclasses.replace(row.spec, in_channels=stem[2], num_classes=head[1])
        except ConfigurationError as error:
            raise ModelFileError(f"{checkpoint.path}: {error}") from error
        assumed = [f"images are prepared as keras.applications prepares them for {function}"]
        labels = imagenet_names_for(spec.num_classes)
        if labels:
            assumed.append("the 1,000 classes are ImageNet's")
        evidence = "layer names such as conv2_block1_1_conv" if named else "the shapes of its numbered layers"
        return Recognition(
            spec,
            f"{evidence}: {function}",
            row.preprocess.in_gray() if spec.in_channels == 1 else row.preprocess,
            labels,
            tuple(assumed),
        )

    def translation(self, spec: ResNetSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return the names in ``checkpoint``; without one, ``layer/variable`` (``conv1_conv/kernel``)."""
        _function(spec)
        groups = {} if checkpoint is None else _groups(checkpoint)
        numbered = _group_names(spec)
        rules = []
        for layer in _layers(spec):
            found = groups.get(layer.name, groups.get(numbered[layer.name], {}))
            for variable in layer.variables():
                source = found.get(variable, f"{layer.name}/{variable}")
                target = f"{layer.module}.{_VARIABLES[layer.kind][variable]}"
                if variable == "kernel":
                    rules.append(Rule(target, source, "conv-hwio" if layer.kind == "conv" else "linear-io"))
                else:
                    rules.append(Rule(target, source))
        counters = (f"{layer.module}.num_batches_tracked" for layer in _layers(spec) if layer.kind == "bn")
        return Translation(tuple(rules), filled=num_batches_tracked(counters))

    def reference(self, checkpoint: ForeignCheckpoint, spec: ResNetSpec) -> Reference:
        """Build the application, and let Keras load the weights; no configuration of the file is run."""
        function, keras = _function(spec), _import_keras()
        with _on_cpu(keras):
            model = _build(keras, function, spec)
            with _under_known_suffix(checkpoint) as path:
                try:
                    model.load_weights(path)
                except (ValueError, KeyError, TypeError, OSError) as error:
                    reason = " ".join(str(error).split())[:300]
                    raise ModelFileError(
                        f"{checkpoint.path}: Keras cannot load it as {function} ({reason})"
                    ) from error

        def logits(images: torch.Tensor) -> torch.Tensor:
            channels_last = keras.config.image_data_format() == "channels_last"
            array = (images.permute(0, 2, 3, 1) if channels_last else images).contiguous().numpy()
            with _on_cpu(keras), torch.no_grad():
                return torch.tensor(keras.ops.convert_to_numpy(model(array, training=False)))

        return Reference(f"Keras {keras.__version__} ({keras.config.backend()}) {function}", logits)

    def write(self, model: Exported, path: Path) -> None:
        """Write a ``.weights.h5`` or ``.keras`` file, whose model takes images of any size to logits.

        The rest of what Keras knows of a model is its own default: BN's momentum, 0.99, above all.
        """
        suffix = next((suffix for suffix in (".weights.h5", ".keras") if path.name.endswith(suffix)), None)
        if suffix is None:
            raise ConfigurationError(
                f"{path} names no format of Keras", expected="a name in .weights.h5 or .keras"
            )
        if not model.spec.num_classes:
            raise ConfigurationError(
                "the model is a backbone without a classifier, which is not written for Keras",
                expected="a model with classes, or torchvision or timm",
            )
        function, keras = _function(model.spec), _import_keras()
        tensors = write_tensors(self.translation(model.spec), model.state)
        with _on_cpu(keras):
            network = _build(keras, function, model.spec)
            for layer in _layers(model.spec):
                arrays = [tensors[f"{layer.name}/{variable}"] for variable in layer.variables()]
                network.get_layer(layer.name).set_weights([array.detach().cpu().numpy() for array in arrays])
            save = network.save if suffix == ".keras" else network.save_weights
            _save_atomically(save, path)


# -- names -------------------------------------------------------------------------------------------


def _layers(spec: ResNetSpec) -> list[_Layer]:
    """Return the layers with weights in the order of ``model.layers``, within each kind."""
    units = {unit.name: number for number, unit in enumerate(spec.units(), start=1)}
    layers = []
    for layer in spec.layers(input_px=224):
        unit, _, inner = layer.name.partition(".")[2].partition(".") if "." in layer.name else ("", "", "")
        if not inner:
            name = {"conv1": "conv1_conv", "bn1": "conv1_bn", "bn": "post_bn", "fc": "predictions"}[
                layer.name
            ]
            place = (0 if name.startswith("conv1") else len(units) + 1, 0.0)
        else:
            stage = layer.name.split(".")[0]
            if inner.startswith("downsample"):
                part = "0"
                # The projection runs beside the third convolution, and was made before it.
                place = (units[f"{stage}.{unit}"], 2.5)
            else:
                number = int(inner[-1])
                place = (units[f"{stage}.{unit}"], float(number))
                number -= layer.kind == "bn" and spec.is_preactivated
                part = str(number) if number else "preact"
            name = f"conv{int(stage[-1]) + 1}_block{int(unit) + 1}_{part}_{layer.kind}"
        layers.append((place, _Layer(name, layer.name, layer.kind, layer.bias)))
    return [layer for _, layer in sorted(layers, key=lambda item: item[0])]


def _group_names(spec: ResNetSpec) -> dict[str, str]:
    """Map a layer's name to its group in a file of Keras 3: its class, and its number in the model."""
    counts = dict.fromkeys(_GROUPS, 0)
    names = {}
    for layer in _layers(spec):
        number = counts[layer.kind]
        names[layer.name] = _GROUPS[layer.kind] + (f"_{number}" if number else "")
        counts[layer.kind] += 1
    return names


def _groups(checkpoint: ForeignCheckpoint) -> dict[str, dict[str, str]]:
    """Map each layer to its variables and their names in the file.

    Layers go by their own names where the file says them, else by those of their groups. Names that fit no
    format, or come twice, are left out; the translation then shows them as left over.
    """
    noted, configured = (
        checkpoint.metadata.get("names", {}),
        _configured_names(checkpoint.metadata.get("config")),
    )
    groups: dict[str, dict[str, str]] = {}
    numbered: dict[str, dict[int, str]] = {}
    for name in checkpoint.tensors:
        if match := _NUMBERED.fullmatch(name):
            layer = noted.get(match[1]) or configured.get(match[2], match[2])
            numbered.setdefault(layer, {}).setdefault(int(match[3]), name)
        elif match := _NAMED.fullmatch(name):
            groups.setdefault(match[1], {}).setdefault(match[2], name)
    for layer, names in numbered.items():
        variables = list(_VARIABLES["bn" if len(names) == 4 else "conv"])
        groups[layer] = {variables[number]: name for number, name in names.items() if number < len(variables)}
    # A head of one's own has another name.
    heads = [
        layer
        for layer, variables in groups.items()
        if "kernel" in variables and checkpoint.tensors[variables["kernel"]].ndim == 2
    ]
    if "predictions" not in groups and len(heads) == 1:
        groups["predictions"] = groups.pop(heads[0])
    return groups


def _configured_names(config: Any) -> dict[str, str]:
    """Map groups of the file to layers' names, from a configuration of which nothing is run."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    counts: dict[str, int] = {}
    names = {}
    for layer in layers if isinstance(layers, list) else ():
        group = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}.get(
            str(layer.get("class_name")) if isinstance(layer, dict) else ""
        )
        own = layer.get("config") if group else None
        if group is None or not isinstance(own, dict):
            continue
        number = counts.get(group, 0)
        counts[group] = number + 1
        names[f"{group}_{number}" if number else group] = str(own.get("name"))
    return names


def _depths(shapes: Mapping[str, tuple[int, ...]], spec: ResNetSpec) -> tuple[int, ...]:
    """Return the number of units in each stage: that of the 3×3 kernels of its width."""
    return tuple(sum(shape == (3, 3, width, width) for shape in shapes.values()) for width in spec.widths)


def _fits(spec: ResNetSpec, num_convs: int, num_bns: int, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    kinds = [layer.kind for layer in _layers(spec)]
    stem = shapes.get("conv2d", ())
    return (
        (num_convs, num_bns) == (kinds.count("conv"), kinds.count("bn"))
        and stem[:2] == (7, 7)
        and stem[3:] == (spec.widths[0],)
    )


def _function(spec: ResNetSpec) -> str:
    """Return the function of ``keras.applications`` that builds this network.

    First weights and BN's momentum make no other function of the images.

    Raises:
        ConfigurationError: There is none; the message names what differs from the nearest.
    """
    ignored = ("num_classes", "in_channels", "initialization", "bn_momentum")
    differing = {
        function: spec.differences(entry(row).spec, ignoring=ignored) for function, row in _ROWS.items()
    }
    function = min(differing, key=lambda function: len(differing[function]))
    clauses = differing[function]
    if not clauses:
        return function
    raise ConfigurationError(
        f"Keras has no such network; nearest is {function}, but {', '.join(clauses)}", expected=_NETWORKS
    )


# -- the library -------------------------------------------------------------------------------------


def _import_keras() -> Any:
    """Import Keras; on torch, unless something else was chosen or it runs already."""
    chosen = "KERAS_BACKEND" in os.environ or "keras" in sys.modules
    # It probes for TensorFlow, which would greet.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        if not chosen:
            os.environ["KERAS_BACKEND"] = "torch"
        importlib.import_module("h5py")
        return importlib.import_module("keras")
    except ImportError as error:
        raise MissingDependencyError.of_extra(
            "Keras networks need keras and h5py, and they are not installed", "keras"
        ) from error
    finally:
        if not chosen:
            os.environ.pop("KERAS_BACKEND", None)


@contextlib.contextmanager
def _on_cpu(keras: Any) -> Iterator[None]:
    """Run Keras on the CPU, with variables that it may change, and without its own warnings."""
    with keras.device("cpu:0"), torch.inference_mode(mode=False), warnings.catch_warnings():
        # Keras 3.15 makes NumPy arrays of tensors as NumPy 2 no longer likes.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _build(keras: Any, function: str, spec: ResNetSpec) -> Any:
    channels_last = keras.config.image_data_format() == "channels_last"
    shape = (None, None, spec.in_channels) if channels_last else (spec.in_channels, None, None)
    # An input of one's own lifts the fixed size that include_top asks for.
    top = {"classes": spec.num_classes, "classifier_activation": None}
    built = getattr(keras.applications, function)(
        weights=None,
        input_tensor=keras.Input(shape),
        name=function.lower(),
        **(top if spec.num_classes else {"include_top": False, "pooling": "avg"}),
    )
    # Such a model takes a list of one input, and warns of anything else: the same layers once more without.
    return keras.Model(built.inputs[0], built.outputs[0], name=built.name)


@contextlib.contextmanager
def _under_known_suffix(checkpoint: ForeignCheckpoint) -> Iterator[str]:
    """Yield a path whose suffix says the format; Keras goes by it alone."""
    path = checkpoint.path
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    numbered = any(_NUMBERED.fullmatch(name) for name in checkpoint.tensors)
    suffix = ".keras" if zipped else ".weights.h5" if numbered else ".h5"
    if path.name.endswith(suffix) and (suffix != ".h5" or not path.name.endswith(".weights.h5")):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="residual-", ignore_cleanup_errors=True) as folder:
        link = Path(folder) / f"checkpoint{suffix}"
        try:
            link.symlink_to(path.absolute())
        except OSError:
            # Windows lets only some users make links.
            shutil.copyfile(path, link)
        yield str(link)


def _save_atomically(save: Any, path: Path) -> None:
    make_folder(path.parent)
    # Keras goes by the suffix, which therefore stays at the end.
    temporary = path.with_name(f".tmp.{path.name}")
    try:
        save(temporary)
        with temporary.open("rb+") as file:
            flush(file.fileno(), temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # h5py reports a full disk as either.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300]
        raise RunError(
            f"cannot write {path} ({reason})", remedy="choose another folder or free some space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
