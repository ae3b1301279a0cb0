"""Parity with torchvision's Faster R-CNN: the same weights find the same boxes and give the same losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.resnet import BasicBlock
from torchvision.ops import roi_pool

from deepresidual.nn.detection import Detector, Found
from deepresidual.nn.detection.matching import Matches
from deepresidual.nn.detection.sampling import Use, draw_samples
from deepresidual.spec import Anchors, DetectorSpec, Proposals, Regions, ResNetSpec
from tests.nn.detection.networks import detector, images, taught

# torchvision's own ResNet is as wide as this.
BACKBONE = ResNetSpec(unit="basic", depths=(1, 1, 1, 1), num_classes=0)
PYRAMID = DetectorSpec(
    backbone=BACKBONE,
    num_classes=3,
    fpn_channels=32,
    anchors=Anchors(sizes=((8,), (16,), (32,), (64,), (128,))),
    proposals=Proposals(samples=64, before_nms_train=150, after_nms_train=120, before_nms=150, after_nms=120),
    regions=Regions(hidden=64, samples=48),
)
C4 = dataclasses.replace(
    PYRAMID,
    neck="c4",
    rpn_channels=256,
    anchors=Anchors(sizes=((8, 16, 32),)),
    regions=Regions(pooling="pool", bins=6, samples=24),
)
SIZES = [(96, 150), (128, 90), (101, 160)]
TAUGHT = [
    taught((10, 10, 50, 60, 0), (30, 20, 90, 80, 2), (5, 50, 21, 66, 1), seed=1),
    taught((20, 30, 60, 100, 1), seed=2),
    taught(seed=3),
]


def lively(network: Detector) -> Detector:
    """Return a network whose first weights are so large that its scores and boxes differ."""
    generator = torch.Generator().manual_seed(0)
    for module in (*network.rpn.modules(), *network.roi_heads.box_predictor.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.08, generator=generator)
    return network


def their_pyramid(spec: DetectorSpec) -> Any:
    """Return torchvision's network of a spec with a pyramid."""
    stages = {f"layer{stage}": str(stage - 1) for stage in range(1, 5)}
    body = torchvision.models.resnet.ResNet(BasicBlock, list(spec.backbone.depths))
    backbone = BackboneWithFPN(body, stages, list(spec.backbone.widths), spec.fpn_channels)
    hidden = spec.regions.hidden
    return FasterRCNN(
        backbone,
        min_size=1,
        max_size=10_000,
        rpn_anchor_generator=AnchorGenerator(spec.anchors.sizes, (spec.anchors.ratios,) * 5),
        box_head=TwoMLPHead(spec.fpn_channels * spec.regions.bins**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, spec.num_classes + 1),
        rpn_pre_nms_top_n_train=spec.proposals.before_nms_train,
        rpn_pre_nms_top_n_test=spec.proposals.before_nms,
        rpn_post_nms_top_n_train=spec.proposals.after_nms_train,
        rpn_post_nms_top_n_test=spec.proposals.after_nms,
        rpn_batch_size_per_image=spec.proposals.samples,
        box_batch_size_per_image=spec.regions.samples,
    )


class TheirC4(nn.Module):
    """A C4 detector of torchvision's components, which its own class refuses to be."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        body: Any = torchvision.models.resnet.ResNet(BasicBlock, list(spec.backbone.depths))
        body.fc = nn.Identity()
        self.backbone = nn.ModuleDict({"body": body})
        settings = spec.proposals
        self.rpn = RegionProposalNetwork(
            AnchorGenerator(spec.anchors.sizes, (spec.anchors.ratios,)),
            RPNHead(spec.map_channels, spec.num_anchors),
            settings.positive_iou,
            settings.negative_iou,
            settings.samples,
            settings.positive_share,
            {"training": settings.before_nms_train, "testing": settings.before_nms},
            {"training": settings.after_nms_train, "testing": settings.after_nms},
            settings.nms_iou,
        )
        bins, stride = spec.regions.bins, spec.strides[0]
        self.roi_heads = RoIHeads(
            lambda maps, boxes, _: roi_pool(maps["0"], boxes, bins, 1 / stride),
            lambda pooled: body.layer4(pooled).mean((2, 3)),
            FastRCNNPredictor(spec.backbone.out_channels, spec.num_classes + 1),
            *(0.5, 0.5, spec.regions.samples, 0.25, None, 0.05, 0.5, 100),
        )

    def maps(self, batch: Tensor) -> dict[str, Tensor]:
        body: Any = self.backbone["body"]
        x = body.maxpool(body.relu(body.bn1(body.conv1(batch))))
        return {"0": body.layer3(body.layer2(body.layer1(x)))}


def theirs_of(network: Detector) -> Any:
    """Return torchvision's network with the same weights."""
    theirs = their_pyramid(network.spec) if network.spec.neck == "fpn" else TheirC4(network.spec)
    theirs.load_state_dict(network.state_dict())
    return theirs


def batch_of(sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return images padded as torchvision pads them, with other numbers where the padding is."""
    return images(len(sizes), 3, 128, 160)


def padded(batch: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return what torchvision's transform makes of the images in a batch."""
    out = torch.zeros_like(batch)
    for row, (height, width) in enumerate(sizes):
        out[row, :, :height, :width] = batch[row, :, :height, :width]
    return out


def run_theirs(theirs: Any, batch: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
    """Return their proposals, detections and losses."""
    whole = padded(batch, SIZES)
    maps = theirs.maps(whole) if isinstance(theirs, TheirC4) else theirs.backbone(whole)
    proposals, of_proposals = theirs.rpn(ImageList(whole, SIZES), maps, targets)
    found, of_regions = theirs.roi_heads(maps, proposals, SIZES, targets)
    return proposals, found, {**of_proposals, **of_regions}


def assert_same_rows(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    """Compare columns as sets of rows: torchvision does not say in which order equal scores come."""
    rows = [
        torch.cat([column.reshape(len(column), -1).double() for column in columns], dim=1)
        for columns in (ours, theirs)
    ]
    first, second = (torch.unique(side, dim=0) for side in rows)
    assert len(first) == len(rows[0])
    assert torch.equal(first, second)


@pytest.mark.parametrize("spec", [C4, PYRAMID], ids=["c4", "fpn"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_the_same_weights_find_the_same_boxes_to_the_bit(
    spec: DetectorSpec, layout: torch.memory_format
) -> None:
    network = lively(detector(spec)).eval()
    theirs = theirs_of(network).eval()
    for module in (network, theirs):
        module.to(memory_format=layout)
    batch = batch_of(SIZES).contiguous(memory_format=layout)
    proposed = list[list[Tensor]]()
    network.rpn.register_forward_hook(lambda *hooked: proposed.append(hooked[2].boxes))
    with torch.no_grad():
        found = network(batch, SIZES)
        proposals, detections, _ = run_theirs(theirs, batch)
    for ours, other in zip(proposed[0], proposals, strict=True):
        assert len(ours) > 40
        assert_same_rows([ours], [other])
    for ours, other in zip(found, detections, strict=True):
        assert isinstance(ours, Found)
        assert len(ours.scores) > 50
        assert torch.equal(ours.scores, other["scores"])
        assert_same_rows(
            [ours.boxes, ours.labels + 1, ours.scores], [other["boxes"], other["labels"], other["scores"]]
        )


def draw_as_ours(sampler: Any, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Draw for torchvision what :mod:`deepresidual.nn.detection.sampling` draws."""
    use: Use = "anchors" if sampler.batch_size_per_image == 64 else "regions"
    positive, negative = list[Tensor](), list[Tensor]()
    for label, objects in zip(labels, TAUGHT, strict=True):
        masks = [(label >= 1), (label == 0)]
        chosen = draw_samples(
            Matches(torch.zeros_like(label, dtype=torch.int64), *masks),
            sampler.batch_size_per_image,
            sampler.positive_fraction,
            objects.seed,
            use,
        )
        assert sum(map(len, chosen)) == sampler.batch_size_per_image
        for masks, places in zip((positive, negative), chosen, strict=True):
            masks.append(torch.zeros_like(label, dtype=torch.uint8))
            masks[-1][places] = 1
    return positive, negative


@pytest.mark.parametrize("spec", [C4, PYRAMID], ids=["c4", "fpn"])
def test_the_same_samples_give_the_same_losses_and_gradients(spec: DetectorSpec) -> None:
    network = lively(detector(spec))
    theirs = theirs_of(network)
    # BN's batch statistics are the padded batch's in both.
    network.train()
    theirs.train()
    batch, count = batch_of(SIZES), len(SIZES)
    targets = [{"boxes": objects.boxes, "labels": objects.labels + 1} for objects in TAUGHT]
    ours = network(batch, SIZES, TAUGHT)
    with mock.patch.object(BalancedPositiveNegativeSampler, "__call__", draw_as_ours):
        _, _, losses = run_theirs(theirs, batch, targets)
    names = {
        "rpn_class": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "class": "loss_classifier",
        "box": "loss_box_reg",
    }
    for name, other in names.items():
        torch.testing.assert_close(ours[name] / count, losses[other], rtol=1e-5, atol=1e-7)
    (torch.stack(list(ours.values())).sum() / count).backward()  # type: ignore[no-untyped-call]
    sum(losses.values()).backward()
    for (name, parameter), other in zip(network.named_parameters(), theirs.parameters(), strict=True):
        assert parameter.grad is not None
        scale = float(other.grad.abs().max())
        difference = float((parameter.grad - other.grad).abs().max())
        assert difference <= 2e-4 * scale, f"{name}: {difference} of {scale}"


def test_names_and_sizes_of_the_default_are_those_of_torchvision() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=91
        )
        ours = empty_detector_of_the_default()
    usual = {name: value.shape for name, value in theirs.state_dict().items()}
    here = {name: value.shape for name, value in ours.state_dict().items()}
    assert here == usual


def empty_detector_of_the_default() -> Detector:
    backbone = ResNetSpec(unit="bottleneck", depths=(3, 4, 6, 3), num_classes=0)
    return Detector(DetectorSpec(backbone=backbone, num_classes=90))
