"""torchvision's Faster R-CNN in the way of its references: the other side of a detector's training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision import models
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from deepresidual.benchmarks.detection_sides import DetectionProblem
from deepresidual.benchmarks.measurement import require_alike
from deepresidual.benchmarks.training_sides import OurTraining, TrainingSide
from deepresidual.models import create
from deepresidual.spec import DetectorSpec

_LEARNING_RATE = 0.01
_TOLERANCE = 1e-3


def torchvision_detector(problem: DetectionProblem, spec: DetectorSpec) -> Any:
    """Return torchvision's network of a spec with a pyramid, on its own ResNet."""
    body = models.get_model(problem.model)
    stages = {name: str(number) for number, name in enumerate(spec.read_stages)}
    widths = [width * spec.backbone.expansion for width in spec.backbone.widths]
    proposals, regions, detections = spec.proposals, spec.regions, spec.detections
    return FasterRCNN(
        BackboneWithFPN(body, stages, widths, spec.fpn_channels),
        min_size=problem.image_px,
        max_size=problem.image_px,
        rpn_anchor_generator=AnchorGenerator(spec.anchors.sizes, (spec.anchors.ratios,) * spec.num_levels),
        rpn_pre_nms_top_n_train=proposals.before_nms_train,
        rpn_post_nms_top_n_train=proposals.after_nms_train,
        rpn_pre_nms_top_n_test=proposals.before_nms,
        rpn_post_nms_top_n_test=proposals.after_nms,
        rpn_batch_size_per_image=proposals.samples,
        box_head=TwoMLPHead(spec.fpn_channels * regions.bins**2, regions.hidden),
        box_predictor=FastRCNNPredictor(regions.hidden, spec.num_classes + 1),
        box_batch_size_per_image=regions.samples,
        box_detections_per_img=detections.most,
        box_nms_thresh=detections.nms_iou,
        box_score_thresh=detections.min_score,
    )


class TorchvisionDetection(TrainingSide):
    """Zero, forward, backward, step, in float32 and NCHW; its own transform normalizes and pads."""

    def __init__(self, problem: DetectionProblem) -> None:
        super().__init__(problem.device)
        spec = problem.plan().spec
        assert isinstance(spec, DetectorSpec)  # noqa: S101  # a detection problem's
        self.network = torchvision_detector(problem, spec).to(problem.device).train()
        self.images = list((problem.pixels().permute(0, 3, 1, 2) / 255).contiguous().to(problem.device))
        self._targets = [
            {"boxes": boxes.to(problem.device), "labels": labels.to(problem.device) + 1}
            for boxes, labels in zip(problem.boxes(), problem.labels(), strict=True)
        ]
        self._optimizer = torch.optim.SGD(
            self.network.parameters(), lr=_LEARNING_RATE, momentum=0.9, weight_decay=1e-4
        )
        self._last = torch.tensor(0.0)
        self.setup = {"layout": "NCHW", "precision": "fp32", "compiled": False}

    def step(self) -> None:
        """Do one update."""
        self._optimizer.zero_grad()
        losses: dict[str, Tensor] = self.network(
            self.images, [{name: value.clone() for name, value in target.items()} for target in self._targets]
        )
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._last = loss.detach()

    def loss(self) -> float:
        """Do one update and return the loss before it."""
        self.step()
        return float(self._last)


def require_same_detections(ours: OurTraining, theirs: TorchvisionDetection) -> None:
    """Give their network our weights, and refuse to go on if it does not find the same.

    Raises:
        RunError: The scores of what both find differ.
    """
    theirs.network.load_state_dict(ours.network.state_dict())
    spec = ours.plan.spec
    assert isinstance(spec, DetectorSpec)  # noqa: S101
    every: Any = create(replace(spec, detections=replace(spec.detections, min_score=0.0)))
    every.load_state_dict(ours.network.state_dict())
    every.eval()
    heads, pixels = theirs.network.roi_heads, (torch.stack(theirs.images) * 255).round().byte().cpu()
    usual, heads.score_thresh = heads.score_thresh, 0.0
    theirs.network.eval()
    with torch.no_grad():
        images = ours.plan.preprocess.normalize(pixels.permute(0, 2, 3, 1))
        found = every(images, [tuple(images.shape[2:])] * len(images))
        other = theirs.network(theirs.images)
    theirs.network.train()
    heads.score_thresh = usual
    for number, (here, there) in enumerate(zip(found, other, strict=True)):
        what = f"the sum of the scores in image {number}"
        require_alike(what, float(here.scores.sum()), float(there["scores"].sum()), _TOLERANCE)
