"""Masks of regions: parity with torchvision's Mask R-CNN, and what an image teaches whatever is beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.resnet import BasicBlock
from torchvision.ops import roi_align

from deepresidual.errors import ConfigurationError
from deepresidual.nn.detection import Detector, Taught, TaughtMask
from deepresidual.nn.detection.masks import mask_targets
from deepresidual.spec import DetectorSpec, MaskHead
from deepresidual.zoo.detectors import detector as named
from deepresidual.zoo.detectors import name_of, with_masks
from tests.nn.detection.networks import detector, images, spec_of, taught
from tests.nn.detection.test_torchvision import (
    PYRAMID,
    SIZES,
    TAUGHT,
    batch_of,
    draw_as_ours,
    lively,
    padded,
    run_theirs,
)

HEAD = MaskHead(bins=6, convs=2, channels=16)
# Torchvision counts frozen BN for none.
_BN_PARAMETERS = 53_120
MASKED = dataclasses.replace(PYRAMID, masks=HEAD)


def bitmap(box: Sequence[float], size: tuple[int, int], seed: int) -> Tensor:
    """Return the pixels of a mask inside of a box, and at its edges, ``(H, W)`` uint8."""
    left, top, right, bottom = (int(edge) for edge in box)
    right, bottom = min(right, size[1]), min(bottom, size[0])
    pixels = torch.zeros(size, dtype=torch.uint8)
    noise = torch.randn((bottom - top, right - left), generator=torch.Generator().manual_seed(seed))
    pixels[top:bottom, left:right] = (noise > -0.5).to(torch.uint8)
    pixels[[top, bottom - 1], left:right] = 1
    pixels[top:bottom, [left, right - 1]] = 1
    return pixels


def taught_mask(pixels: Tensor) -> TaughtMask:
    """Return a mask as far as it reaches, with a margin."""
    rows, columns = (pixels.any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
    around = np.pad(pixels.numpy(), 1, mode="edge")
    part = around[int(rows[0]) : int(rows[-1]) + 3, int(columns[0]) : int(columns[-1]) + 3]
    return TaughtMask(torch.from_numpy(part.copy()), int(columns[0]) - 1, int(rows[0]) - 1)


def with_bitmaps(
    lessons: Sequence[Taught], sizes: Sequence[tuple[int, int]]
) -> tuple[list[Taught], list[Tensor]]:
    """Return what is taught with masks, and the masks of each image, ``(n, H, W)``."""
    of_images = [
        torch.stack([bitmap(box, size, seed) for seed, box in enumerate(lesson.boxes.tolist())])
        if len(lesson.boxes)
        else torch.zeros(0, *size, dtype=torch.uint8)
        for lesson, size in zip(lessons, sizes, strict=True)
    ]
    masked = [
        dataclasses.replace(lesson, masks=tuple(map(taught_mask, pixels)))
        for lesson, pixels in zip(lessons, of_images, strict=True)
    ]
    return masked, of_images


def theirs_of(network: Detector) -> Any:
    """Return torchvision's Mask R-CNN with the same weights."""
    spec = network.spec
    stages = {f"layer{stage}": str(stage - 1) for stage in range(1, 5)}
    body = torchvision.models.resnet.ResNet(BasicBlock, list(spec.backbone.depths))
    backbone = BackboneWithFPN(body, stages, list(spec.backbone.widths), spec.fpn_channels)
    theirs = MaskRCNN(
        backbone,
        min_size=1,
        max_size=10_000,
        rpn_anchor_generator=AnchorGenerator(spec.anchors.sizes, (spec.anchors.ratios,) * 5),
        box_head=TwoMLPHead(spec.fpn_channels * spec.regions.bins**2, spec.regions.hidden),
        box_predictor=FastRCNNPredictor(spec.regions.hidden, spec.num_classes + 1),
        mask_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], HEAD.bins, 2),
        mask_head=MaskRCNNHeads(spec.fpn_channels, (HEAD.channels,) * HEAD.convs, 1),
        mask_predictor=MaskRCNNPredictor(HEAD.channels, HEAD.channels, spec.num_classes + 1),
        rpn_pre_nms_top_n_train=spec.proposals.before_nms_train,
        rpn_pre_nms_top_n_test=spec.proposals.before_nms,
        rpn_post_nms_top_n_train=spec.proposals.after_nms_train,
        rpn_post_nms_top_n_test=spec.proposals.after_nms,
        rpn_batch_size_per_image=spec.proposals.samples,
        box_batch_size_per_image=spec.regions.samples,
    )
    theirs.load_state_dict(network.state_dict())
    return theirs


def test_the_same_weights_find_the_same_masks_to_the_bit() -> None:
    network = lively(detector(MASKED)).eval()
    theirs = theirs_of(network).eval()
    batch = batch_of(SIZES)
    with torch.no_grad():
        found = network(batch, SIZES)
        _, detections, _ = run_theirs(theirs, batch)
    for ours, other in zip(found, detections, strict=True):
        assert ours.masks is not None
        assert ours.masks.shape == (len(ours.boxes), 12, 12)
        assert len(ours.boxes) > 50
        assert torch.equal(ours.boxes, other["boxes"])
        assert torch.equal(ours.masks, other["masks"][:, 0])
        assert ours.masks.std() > 0.02


def test_the_same_samples_give_the_same_losses_and_gradients() -> None:
    """Of masks the mean of one image: torchvision's is that of all regions of a batch."""
    network = lively(detector(MASKED)).eval()
    theirs = theirs_of(network)
    theirs.train()
    network.train()
    for module in (*network.modules(), *theirs.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    lessons, of_images = with_bitmaps(TAUGHT[:1], SIZES[:1])
    batch = padded(batch_of(SIZES), SIZES)[:1]
    targets = [{"boxes": lessons[0].boxes, "labels": lessons[0].labels + 1, "masks": of_images[0]}]
    ours = network(batch, SIZES[:1], lessons)
    with (
        mock.patch.object(BalancedPositiveNegativeSampler, "__call__", draw_as_ours),
        mock.patch("tests.nn.detection.test_torchvision.SIZES", SIZES[:1]),
        mock.patch("tests.nn.detection.test_torchvision.TAUGHT", TAUGHT[:1]),
    ):
        _, _, losses = run_theirs(theirs, batch, targets)
    torch.testing.assert_close(ours["mask"], losses["loss_mask"], rtol=1e-5, atol=1e-7)
    ours["mask"].backward()
    losses["loss_mask"].backward()
    learned = 0
    for (name, parameter), other in zip(network.named_parameters(), theirs.parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None), name
        if parameter.grad is not None:
            learned += 1
            scale = float(other.grad.abs().max())
            assert float((parameter.grad - other.grad).abs().max()) <= 2e-4 * scale, name
    assert learned > 20


def test_names_sizes_and_number_of_the_default_are_those_of_torchvision() -> None:
    spec = with_masks(named("resnet50-fpn", 90))
    with torch.device("meta"):
        theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=91
        )
        ours = Detector(spec)
    usual = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == usual
    assert spec.num_parameters == 44_401_393 + _BN_PARAMETERS


@pytest.mark.parametrize("name", ["resnet20-c4", "resnet50-c4", "resnet18-fpn", "resnet18-fpn-tiny"])
def test_parameters_are_counted_in_closed_form_and_specs_are_json(name: str) -> None:
    spec = with_masks(named(name, 3))
    with torch.device("meta"):
        network = Detector(spec)
    assert spec.num_parameters == sum(parameter.numel() for parameter in network.parameters())
    assert DetectorSpec.from_dict(spec.to_dict()) == spec
    assert name_of(spec) == name
    assert spec.num_macs(64) > named(name, 3).num_macs(64)
    assert "masks" not in named(name, 3).to_dict()


@pytest.mark.parametrize("neck", ["c4", "fpn"])
def test_masks_are_as_large_as_the_spec_says(neck: Any) -> None:
    spec = dataclasses.replace(spec_of(neck), masks=HEAD)
    network = detector(spec).eval()
    with torch.no_grad():
        (found,) = network(images(1, 3, 64, 96), [(64, 96)])
    assert found.masks is not None
    assert found.masks.shape == (len(found.boxes), spec.mask_px, spec.mask_px)
    assert 0 <= float(found.masks.min()) <= float(found.masks.max()) <= 1


@pytest.mark.parametrize("neck", ["c4", "fpn"])
def test_what_an_image_teaches_does_not_depend_on_the_others(neck: Any) -> None:
    spec = dataclasses.replace(spec_of(neck), masks=HEAD)
    network = detector(spec).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    sizes = [(64, 96), (64, 80), (64, 96)]
    lessons, _ = with_bitmaps(
        [
            taught((4, 6, 40, 50, 0), (30, 10, 90, 60, 2), seed=1),
            taught(seed=2),
            taught((10, 10, 60, 60, 1), (0, 0, 20, 20, 1), (50, 30, 96, 64, 0), seed=3),
        ],
        sizes,
    )
    batch = images(3, 3, 64, 96)
    together = network(batch, sizes, lessons)["mask"]
    apart = [
        network(batch[row : row + 1], sizes[row : row + 1], lessons[row : row + 1])["mask"]
        for row in range(3)
    ]
    torch.testing.assert_close(together, torch.stack(apart).sum(), rtol=1e-5, atol=1e-6)
    assert apart[1] == 0
    assert together > 0


@pytest.mark.parametrize("neck", ["c4", "fpn"])
@pytest.mark.parametrize("count", [0, 1])
def test_every_weight_is_in_the_graph_where_nothing_is_taught(neck: Any, count: int) -> None:
    network = detector(dataclasses.replace(spec_of(neck), masks=HEAD)).train()
    losses = network(images(count, 3, 64, 64), [(64, 64)] * count, [taught(seed=1)] * count)
    assert set(losses) == {"rpn_class", "rpn_box", "class", "box", "mask"}
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
    assert losses["mask"] == 0


def test_objects_without_a_mask_teach_their_box_alone() -> None:
    network = detector(dataclasses.replace(spec_of("fpn"), masks=HEAD)).train()
    lesson = taught((4, 6, 40, 50, 0), seed=1)
    losses = network(images(1, 3, 64, 64), [(64, 64)], [dataclasses.replace(lesson, masks=(None,))])
    assert losses["mask"] == 0
    assert losses["box"] > 0


def test_targets_are_roi_align_of_the_whole_mask() -> None:
    """Of masks in the middle, at the edges and in the corners; regions reach beyond them."""
    size = (48, 64)
    boxes = [(10, 10, 30, 40), (0, 0, 20, 48), (40, 20, 64, 48)]
    pixels = torch.stack([bitmap(box, size, seed) for seed, box in enumerate(boxes)])
    regions = torch.tensor(
        [
            (8.5, 7, 33, 44),
            (0, 0, 64, 48),
            (12, 12, 20, 20.5),
            (0, 0, 22, 48),
            (39.2, 15, 64, 48),
            (0, 40, 9, 48),
        ]
    )
    objects = torch.tensor([0, 0, 0, 1, 2, 2])
    ours, known = mask_targets([taught_mask(each) for each in pixels], objects, regions, 7)
    rois = torch.cat([objects[:, None].float(), regions], dim=1)
    expected = roi_align(pixels[:, None].float(), rois, 7, 1.0)[:, 0]
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-5)
    assert known.all()
    assert ours.max() == 1


def test_masks_are_as_many_as_boxes() -> None:
    lesson = taught((4, 6, 40, 50, 0))
    with pytest.raises(ConfigurationError, match="there are 2 masks; expected 1, one a box"):
        dataclasses.replace(lesson, masks=(None, None))
