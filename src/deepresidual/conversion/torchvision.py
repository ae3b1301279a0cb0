"""torchvision: ResNet, ResNeXt and Wide ResNet; in and out. Our names are its names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from deepresidual import zoo
from deepresidual.conversion.architecture import read_architecture, torchvision_translation
from deepresidual.conversion.ecosystem import Ecosystem, Exported, ForeignCheckpoint, Recognition, Reference
from deepresidual.conversion.translation import Translation
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError
from deepresidual.runtime.files import write_bytes
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.labels import imagenet_names_for

# Arguments of its constructor; everything else is fixed.
_WIDTHS = (64, 128, 256, 512)
_FREE = ("unit", "depths", "groups", "inner_multiplier", "num_classes", "in_channels", "output_stride")


class TorchVision(Ecosystem):
    """The networks of ``torchvision.models.resnet``."""

    name = "torchvision"
    package = "torchvision"

    def recognize(self, checkpoint: ForeignCheckpoint) -> Recognition | None:
        """Recognize the names, which timm's plain ResNets share."""
        if checkpoint.format not in ("torch", "safetensors"):
            return None
        spec = read_architecture(checkpoint.tensors, checkpoint.path)
        if spec is None:
            return None
        if "config" in checkpoint.metadata:
            raise ModelFileError(
                f"{checkpoint.path} has torchvision's tensor names and a config.json that is not timm's",
                remedy="convert the weights file alone, if the configuration says nothing that matters",
            )
        labels = imagenet_names_for(spec.num_classes)
        assumed = []
        if spec.shortcut == "A":
            assumed.append(
                "a network without projections has option A; plain ones look the same (--model plainN)"
            )
        elif spec.unit == "bottleneck":
            assumed.append("the stride is on the 3×3, as in torchvision and timm (else: --model NAME.v1)")
            assumed.append(
                "nothing is blurred or pooled before striding: timm's resnetblur and resnetaa look the same"
            )
        if not spec.num_classes:
            assumed.append("there is no classifier: the network is a backbone of 0 classes")
        data = "CIFAR-10" if spec.stem == "cifar" else "ImageNet"
        assumed.append(f"images are prepared as for {data}, {zoo.default_preprocess(spec).crop_px} px")
        if labels is not None:
            assumed.append("the 1,000 classes are ImageNet's")
        return Recognition(
            spec,
            "tensor names such as layer1.0.conv1.weight, which are torchvision's and timm's",
            zoo.default_preprocess(spec),
            labels,
            tuple(assumed),
        )

    def translation(self, spec: ResNetSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return our own names."""
        return torchvision_translation(spec, "fc", checkpoint)

    def reference(self, checkpoint: ForeignCheckpoint, spec: ResNetSpec) -> Reference:
        """Build torchvision's ResNet with the checkpoint's tensors."""
        try:
            import torchvision
        except ImportError as error:
            raise MissingDependencyError(
                "torchvision is not installed", remedy="pip install torchvision"
            ) from error
        try:
            require_plain_resnet(spec, "torchvision")
        except ConfigurationError as error:
            # Another program's network under torchvision's names.
            raise MissingDependencyError(error.found) from error
        network = _build(spec)
        load_but_for_counters(network, checkpoint, "torchvision's")
        return Reference(f"torchvision {torchvision.__version__}", network)

    def write(self, model: Exported, path: Path) -> None:
        """Write a state dict with ``torch.save``."""
        require_plain_resnet(model.spec, "torchvision")
        if model.spec.output_stride is not None:
            raise ConfigurationError(
                f"output_stride is {model.spec.output_stride}, which a state dict cannot say", expected="none"
            )
        buffer = io.BytesIO()
        torch.save({name: tensor.cpu().contiguous() for name, tensor in model.state.items()}, buffer)
        write_bytes(path, buffer.getvalue())


def load_but_for_counters(network: torch.nn.Module, checkpoint: ForeignCheckpoint, whose: str) -> None:
    """Load a checkpoint into another library's network, strictly, and set it to evaluation.

    Counters of batches may be missing (:func:`~deepresidual.conversion.architecture.counted`).

    Raises:
        ModelFileError: The names are not those of the network.
    """
    missing, unexpected = network.load_state_dict(checkpoint.tensors, strict=False)
    missing = [name for name in missing if not name.endswith(".num_batches_tracked")]
    if unexpected or missing:
        raise ModelFileError(
            f"{checkpoint.path} does not fit {whose} network (missing {missing[:3]}, extra {unexpected[:3]})"
        )
    network.eval()


def require_plain_resnet(spec: ResNetSpec, library: str, free: tuple[str, ...] = ()) -> None:
    """Refuse what torchvision's ResNet, and timm's of the same names, cannot be.

    Args:
        spec: The network.
        library: Name for the message.
        free: Fields that this library can choose beyond torchvision.

    Raises:
        ConfigurationError: The message says what differs.
    """
    free = (*_FREE, *free)
    # Widths apart: how many there are follows the number of stages.
    theirs = ResNetSpec(**{name: getattr(spec, name) for name in (*free, "widths")})
    ignored = {*free, "bn_momentum", "initialization", *(("stride_on",) if spec.unit == "basic" else ())}
    differing = spec.differences(theirs, ignoring=ignored)
    if "widths" not in free and spec.widths != _WIDTHS:
        differing.insert(0, f"widths is {list(spec.widths)} and there {list(_WIDTHS)}")
    if spec.unit == "basic" and spec.output_stride not in (None, 32):
        differing.append(f"output_stride is {spec.output_stride} and there 32")
    if differing:
        raise ConfigurationError(f"{library} has no such network: {', '.join(differing)}")


def _build(spec: ResNetSpec) -> Any:
    from torchvision.models import resnet

    block = resnet.Bottleneck if spec.unit == "bottleneck" else resnet.BasicBlock
    # width_per_group 64 is the plain network: channels inside = width · (width_per_group / 64) · groups.
    width_per_group = 64 * spec.inner_multiplier // spec.groups
    strides = {None: 0, 32: 0, 16: 1, 8: 2, 4: 3}
    dilated = strides.get(spec.output_stride, 0)
    network = resnet.ResNet(
        block,
        list(spec.depths),
        num_classes=spec.num_classes or 1,
        groups=spec.groups,
        width_per_group=width_per_group,
        replace_stride_with_dilation=[dilated > 2, dilated > 1, dilated > 0],
    )
    if spec.in_channels != 3:
        network.conv1 = torch.nn.Conv2d(spec.in_channels, 64, 7, stride=2, padding=3, bias=False)
    if not spec.num_classes:
        network.fc = torch.nn.Identity()
    return network
