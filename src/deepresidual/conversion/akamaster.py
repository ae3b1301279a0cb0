"""CIFAR checkpoints of akamaster/pytorch_resnet_cifar10 (BSD-2-Clause), option A with zeros on both sides.

Names are torchvision's except ``linear``, the classifier. The shortcuts have no tensors.
"""

from __future__ import annotations

import dataclasses

from deepresidual import zoo
from deepresidual.conversion.architecture import read_architecture, torchvision_translation
from deepresidual.conversion.ecosystem import Ecosystem, ForeignCheckpoint, Recognition
from deepresidual.conversion.translation import Translation
from deepresidual.errors import ModelFileError
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.labels import CIFAR10_CLASS_NAMES


class Akamaster(Ecosystem):
    """The CIFAR networks of akamaster/pytorch_resnet_cifar10."""

    name = "akamaster"

    def recognize(self, checkpoint: ForeignCheckpoint) -> Recognition | None:
        """Recognize three stages of basic units with a classifier called ``linear``."""
        if "linear.weight" not in checkpoint.tensors:
            return None
        spec = read_architecture(checkpoint.tensors, checkpoint.path, classifier="linear")
        if spec is None:
            return None
        wanted = dataclasses.replace(spec, stem="cifar", shortcut="A-both-sides")
        name = zoo.name_of(wanted)
        if spec.shortcut != "A" or name is None:
            raise ModelFileError(
                f"{checkpoint.path} has a classifier called linear and is no network of akamaster's "
                f"(units {list(spec.depths)}, widths {list(spec.widths)}, shortcut {spec.shortcut})",
                expected="a CIFAR network of 6n + 2 layers without projections",
            )
        labels = CIFAR10_CLASS_NAMES if spec.num_classes == len(CIFAR10_CLASS_NAMES) else None
        return Recognition(
            wanted,
            "the classifier's name, linear, and three stages without projections",
            zoo.entry(name).preprocess,
            labels,
            ("images are normalized with ImageNet's mean and standard deviation, as akamaster's code does",),
        )

    def translation(self, spec: ResNetSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return torchvision's names with ``linear`` for ``fc``."""
        return torchvision_translation(spec, "linear", checkpoint)
