"""Detection: boxes, classes and masks of objects, by Faster and Mask R-CNN, measured as COCO does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from deepresidual.backends.detector import TorchDetector, by_size, padded, taught, window_of_view
from deepresidual.data.augment import Window
from deepresidual.data.masks import Crop
from deepresidual.data.objects import Objects, ObjectsBatch
from deepresidual.data.source import Split
from deepresidual.data.source.annotated.split import DETECTION
from deepresidual.evaluation.objects import DetectionEvaluation, evaluate_detections
from deepresidual.runs.plan import Plan
from deepresidual.runtime.distributed import Processes
from deepresidual.runtime.signals import StopRequest
from deepresidual.spec import DetectorSpec
from deepresidual.tasks.object_pictures import crops_of, scenes_of
from deepresidual.tasks.task import TASKS, BatchSums

LOSSES = ("rpn_class", "rpn_box", "class", "box")
"""Parts of the loss: objectness and boxes of the proposals, classes and boxes of the regions."""


class Detection:
    """The task of Ren et al. 2015, which won the detection prizes of 2015 on residual networks.

    Args:
        plan: The plan of the run.
    """

    head: tuple[str, ...] = ("roi_heads.box_predictor.",)
    parts: tuple[str, ...] = LOSSES
    charts: Mapping[str, str] = MappingProxyType(
        {"loss": "loss", "ap": "AP (mean over IoU .50 to .95)", "ap50": "AP50"}
    )

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._spec = cast(DetectorSpec, plan.spec)
        if self._spec.masks is not None:
            self.head = (*self.head, "roi_heads.mask_predictor.")
            self.parts = (*LOSSES, "mask")
            self.charts = MappingProxyType(
                {**self.charts, "mask_ap": "AP of masks", "mask_ap50": "AP50 of masks"}
            )

    def blank_targets(self, count: int) -> ObjectsBatch:
        """Return an object in the middle of each image."""
        side = self._plan.train_px
        window = Window((side, side), side, (1.0, 1.0), (0.0, 0.0), (0, 0, side, side))
        box = np.array([[side / 4, side / 4, 3 * side / 4, 3 * side / 4]], np.float32)
        first, last = side // 4, 3 * side // 4
        crops = None
        if self._spec.masks is not None:
            crops = (Crop(first, first, np.ones((last - first, last - first), np.uint8)),)
        label = np.zeros(1, np.int64)
        return ObjectsBatch(
            tuple(Objects(box, label, crops=crops, window=window, seed=row) for row in range(count))
        )

    def loss(self, network: Callable[..., Any], images: Tensor, targets: Any, step: int) -> BatchSums:  # noqa: ARG002
        """Return the sum over the images of the four losses of each.

        ``targets`` is an :class:`ObjectsBatch` in pixels of the views.
        """
        objects: Sequence[Objects] = list(targets) if isinstance(targets, ObjectsBatch) else []
        parts: list[dict[str, Tensor]] = []
        for size, rows in self._together(images, objects).items():
            seen = [objects[row] for row in rows]
            together = padded(images if len(rows) == len(images) else images[rows], size)
            lessons = [taught(each, images.device) for each in seen]
            parts.append(network(together, [window_of_view(each).filled for each in seen], lessons))
        losses = {name: torch.stack([part[name].float() for part in parts]).sum() for name in self.parts}
        total = torch.stack(list(losses.values())).sum()
        return BatchSums(total, {name: value.detach() for name, value in losses.items()})

    def _together(self, images: Tensor, objects: Sequence[Objects]) -> dict[tuple[int, int], list[int]]:
        """Return the rows of the images that go through the network together, by the size it sees them in.

        Where BN is frozen, an image is padded as in evaluation, whatever the others of its micro-batch are:
        padding shows at the edges of the maps. BN that learns its statistics sees all images together, each
        in the whole square.
        """
        if self._plan.recipe.batch_norm == "frozen" and objects:
            return by_size([self._spec.padded_size(window_of_view(each).filled) for each in objects])
        return {self._spec.padded_size((images.shape[2], images.shape[3])): list(range(len(objects)))}

    def figures(self, loss: float, parts: Mapping[str, float], count: int) -> dict[str, float]:
        """Return the mean loss of an image, and its parts."""
        return {"loss": loss / count, **{f"loss_{name}": parts[name] / count for name in self.parts}}

    def training_error(self, parts: Mapping[str, float], count: int) -> float:  # noqa: ARG002
        """Return 1: how many objects are found while it trains is not known."""
        return 1.0

    def headline(self, figures: Mapping[str, Any], digits: int) -> str:
        """Return AP and AP50 in per cent, of masks where there are; of training, losses of the regions."""
        if "mask_ap50" in figures:
            ap, ap50 = figures["mask_ap"], figures["mask_ap50"]
            return f"mask AP {ap:.{digits}%}, AP50 {ap50:.{digits}%}"
        if "ap50" in figures:
            return f"AP {figures['ap']:.{digits}%}, AP50 {figures['ap50']:.{digits}%}"
        masks = f", mask {figures['loss_mask']:.3f}" if "loss_mask" in figures else ""
        return f"class {figures['loss_class']:.3f}, box {figures['loss_box']:.3f}{masks}"

    def evaluate(
        self,
        model: TorchDetector,
        split: Split,
        name: str,
        *,
        num_workers: int,
        processes: Processes,
        skip_bad: bool,
        stop: StopRequest,
    ) -> DetectionEvaluation:
        """Evaluate on whole images."""
        return evaluate_detections(
            model,
            split,
            name,
            num_workers=num_workers,
            processes=processes,
            skip_bad=skip_bad,
            stop=stop,
        )

    def settled(self, model: TorchDetector, result: DetectionEvaluation) -> TorchDetector:  # noqa: ARG002
        """Return the model as it is."""
        return model

    def error(self, result: DetectionEvaluation) -> float:
        """Return 1 − AP, of masks where there are."""
        return 1 - (result.ap if result.masks is None else result.masks.ap)

    def read(self, document: Mapping[str, Any]) -> DetectionEvaluation:
        """Build an evaluation from ``evaluation.json``."""
        return DetectionEvaluation.from_dict(document)

    def photos(self, split: Split, result: DetectionEvaluation) -> dict[str, bytes]:
        """Return crops of the surest false detections and of the largest missed objects."""
        return crops_of(split, result)

    def heat_maps(self, model: TorchDetector, split: Split, result: DetectionEvaluation) -> dict[str, bytes]:
        """Return whole images with what is annotated, and with what is found."""
        return scenes_of(model, split, result)


TASKS[DETECTION] = Detection
