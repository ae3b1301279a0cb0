"""Our side of the benchmark of a detector's training: the update of a run, on a fixed batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deepresidual.backends.precision import settle_precision
from deepresidual.benchmarks.training_sides import Problem
from deepresidual.data.augment import Window
from deepresidual.data.objects import Objects, ObjectsBatch
from deepresidual.data.source.annotated.split import DETECTION
from deepresidual.runs.plan import Plan
from deepresidual.runtime.compute import PrecisionChoice
from deepresidual.zoo import default_preprocess, entry
from deepresidual.zoo.detectors import detector_of

NUM_CLASSES = 20
"""Classes of the objects, as many as VOC has."""

_OBJECTS_AN_IMAGE = 8  # COCO's density is 7


@dataclass(frozen=True)
class DetectionProblem(Problem):
    """The training of a detector on one batch of random images with random boxes.

    Attributes:
        kind: What stands behind the network; a name of :data:`deepresidual.zoo.detectors.KINDS`.
        precision: Precision to train in; ``auto``: what a run of its own chooses on this machine.
    """

    kind: str = "fpn"
    precision: PrecisionChoice = "fp32"

    def plan(self, *, activation_checkpointing: bool = False) -> Plan:
        """Return the plan of such a run."""
        backbone = replace(entry(self.model).spec, activation_checkpointing=activation_checkpointing)
        px, preprocess = self.image_px, default_preprocess(backbone)
        settled = settle_precision(self.precision, backbone, self.device, image_px=self.image_px)
        return replace(
            self.plan_of(backbone, settled.precision),
            precision_reason=settled.reason,
            spec=detector_of(backbone, self.kind, NUM_CLASSES),
            preprocess=replace(preprocess, fit="whole", resize_px=px, crop_px=px),
            classes=tuple(str(number) for number in range(NUM_CLASSES)),
            task=DETECTION,
            compiled=False,
        )

    def boxes(self) -> Tensor:
        """Return the boxes of the images, ``(N, n, 4)``, from an eighth of their sides to a half."""
        generator = torch.Generator().manual_seed(1)
        low, side = torch.rand(2, self.batch_size, _OBJECTS_AN_IMAGE, 2, generator=generator).unbind()
        low = low * self.image_px / 2
        return torch.cat([low, low + self.image_px * (1 + 3 * side) / 8], dim=2)

    def labels(self) -> Tensor:
        """Return the labels of the boxes, ``(N, n)``."""
        places = torch.arange(self.batch_size * _OBJECTS_AN_IMAGE) % NUM_CLASSES
        return places.view(self.batch_size, _OBJECTS_AN_IMAGE)

    def targets(self) -> ObjectsBatch:
        """Return boxes and labels as the loader gives them."""
        px = self.image_px
        window = Window((px, px), px, (1.0, 1.0), (0.0, 0.0), (0, 0, px, px))
        rows = zip(self.boxes().numpy(), self.labels().numpy(), strict=True)
        return ObjectsBatch(
            tuple(
                Objects(boxes.astype(np.float32), labels, window=window, seed=number)
                for number, (boxes, labels) in enumerate(rows)
            )
        )
