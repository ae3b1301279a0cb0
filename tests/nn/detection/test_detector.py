"""Detectors of every kind: what they give out, and what they learn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from deepresidual.errors import ConfigurationError
from deepresidual.nn.detection import (
    Detector,
    Taught,
    empty_detector,
    initialize_detector,
)
from deepresidual.nn.detection.boxes import iou
from deepresidual.nn.detection.proposals import ProposalNetwork
from deepresidual.spec import Anchors, DetectorSpec, Neck, Proposals, ResNetSpec
from tests.nn.detection.networks import SMALL, detector, images, spec_of, taught

NECKS: tuple[Neck, ...] = ("c4", "fpn")
SIZES = [(96, 128), (80, 100)]
OBJECTS = taught((10, 10, 50, 60, 0), (30, 20, 90, 80, 2), seed=3)

SPECS: dict[str, DetectorSpec] = {
    "c4": spec_of("c4"),
    "fpn": spec_of("fpn"),
    "bottleneck-c4": spec_of("c4", ResNetSpec(unit="bottleneck", depths=(1, 2), widths=(4, 8))),
    "preactivated-c4": spec_of(
        "c4", dataclasses.replace(SMALL, arrangement="full-preactivation", shortcut="A")
    ),
    "preactivated-fpn": spec_of("fpn", dataclasses.replace(SMALL, arrangement="full-preactivation")),
    "plain-fpn": spec_of("fpn", dataclasses.replace(SMALL, shortcut="none")),
    "gray-fpn": spec_of("fpn", dataclasses.replace(SMALL, in_channels=1)),
    "cifar-c4": spec_of(
        "c4", ResNetSpec(unit="basic", depths=(1, 1, 1), widths=(4, 8, 16), stem="cifar", shortcut="A")
    ),
    "dilated-fpn": spec_of("fpn", dataclasses.replace(SMALL, output_stride=16)),
    "caffe-fpn": spec_of("fpn", dataclasses.replace(SMALL, padding="caffe")),
    "two-stages-fpn": dataclasses.replace(
        spec_of("fpn"), fpn_stages=2, fpn_extra=False, anchors=Anchors(sizes=((16, 32), (64, 128)))
    ),
    "deep-rpn-fpn": dataclasses.replace(spec_of("fpn"), rpn_convs=2),
    "border-c4": dataclasses.replace(spec_of("c4"), anchors=Anchors(((16, 32, 64),), inside_only=True)),
}


def losses_of(network: Detector, targets: Sequence[Taught], batch: Tensor | None = None) -> dict[str, Tensor]:
    """Return the losses of as many images as there are targets."""
    count, channels = len(targets), network.spec.in_channels
    batch = images(count, channels, 96, 128) if batch is None else batch
    losses: dict[str, Tensor] = network(batch, SIZES[:count], targets)
    return losses


def gradients(network: Detector, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradient of every parameter; it is an error if one has none."""
    network.zero_grad()
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert [name for name, grad in found.items() if grad is None] == []
    return {name: grad.clone() for name, grad in found.items() if grad is not None}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_parameter_learns_and_the_closed_form_counts_them(spec: DetectorSpec) -> None:
    network = detector(spec)
    assert sum(parameter.numel() for parameter in network.parameters()) == spec.num_parameters
    losses = losses_of(network, [OBJECTS, taught()])
    assert list(losses) == ["rpn_class", "rpn_box", "class", "box"]
    assert [name for name, grad in gradients(network, losses).items() if not bool(grad.any())] == []


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_what_is_found_is_sorted_and_lies_in_the_image(spec: DetectorSpec) -> None:
    network = detector(spec).eval()
    with torch.no_grad():
        every = network(images(2, spec.in_channels, 96, 128), SIZES)
    for found, (height, width) in zip(every, SIZES, strict=True):
        assert 10 < len(found.scores) <= spec.detections.most
        assert bool((found.scores.diff() <= 0).all())
        assert bool((found.boxes >= 0).all())
        assert bool((found.boxes.amax(0) <= torch.tensor([width, height, width, height])).all())
        assert set(found.labels.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_multiply_adds_are_those_that_are_counted(spec: DetectorSpec) -> None:
    spec = dataclasses.replace(spec, proposals=Proposals(after_nms=3))
    network = detector(spec).eval()
    counted = list[int]()

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1] * module.in_channels // module.groups
            counted.append(output.numel() * kernel)
        elif isinstance(module, nn.Linear):
            counted.append(output.numel() * module.in_features)

    for module in network.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        network(images(1, spec.in_channels, 64, 64), [(64, 64)])
    assert sum(counted) == spec.num_macs(64)


@pytest.mark.parametrize("neck", NECKS)
def test_images_teach_the_same_together_and_apart(neck: Neck) -> None:
    # With BN's own statistics, images of a batch see each other through them alone.
    network = detector(spec_of(neck)).eval()
    batch, targets = images(2, 3, 96, 128), [OBJECTS, taught((5, 5, 40, 40, 1), seed=8)]
    together = gradients(network, losses_of(network, targets, batch))
    apart = [
        gradients(network, network(batch[row : row + 1], SIZES[row : row + 1], targets[row : row + 1]))
        for row in range(2)
    ]
    for name, grad in together.items():
        torch.testing.assert_close(grad, apart[0][name] + apart[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("neck", NECKS)
def test_the_seed_decides_what_is_learned_from_and_torchs_own_state_does_not(neck: Neck) -> None:
    network = detector(spec_of(neck)).eval()
    first = losses_of(network, [OBJECTS])
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = losses_of(network, [OBJECTS])
    assert torch.equal(torch.random.get_rng_state(), before)
    other = losses_of(network, [dataclasses.replace(OBJECTS, seed=4)])
    assert [float(first[name].detach()) for name in first] == [float(again[name].detach()) for name in first]
    assert float(first["rpn_class"].detach()) != float(other["rpn_class"].detach())


@pytest.mark.parametrize("neck", NECKS)
def test_images_of_nothing_and_proposals_of_nothing_train(neck: Neck) -> None:
    # No proposal is as large, and an image without objects adds none.
    spec = dataclasses.replace(spec_of(neck), proposals=Proposals(min_px=1000))
    network = detector(spec)
    losses = losses_of(network, [taught(), taught((0, 0, 50, 50, 1), ignored=1)])
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    assert values["rpn_class"] > 0
    assert (values["rpn_box"], values["class"], values["box"]) == (0, 0, 0)
    assert all(bool(torch.isfinite(grad).all()) for grad in gradients(network, losses).values())
    network.eval()
    with torch.no_grad():
        assert [len(found.boxes) for found in network(images(2, 3, 96, 128), SIZES)] == [0, 0]


@pytest.mark.parametrize("neck", NECKS)
def test_a_network_that_has_diverged_says_so_and_finds_nothing(neck: Neck) -> None:
    network = detector(spec_of(neck))
    for parameter in network.rpn.parameters():
        nn.init.constant_(parameter, float("nan"))
    nn.init.constant_(network.roi_heads.box_predictor.cls_score.bias, float("nan"))
    losses = losses_of(network, [OBJECTS, taught()])
    assert not bool(torch.isfinite(torch.stack([losses["rpn_class"], losses["class"]])).any())
    with torch.no_grad():
        results = network.eval()(images(2, 3, 96, 128), SIZES)
    assert [(len(found.boxes), bool(found.is_finite)) for found in results] == [(0, False)] * 2


@pytest.mark.parametrize("neck", NECKS)
def test_an_image_of_nan_does_not_spoil_the_others(neck: Neck) -> None:
    network, pixels = detector(spec_of(neck)).eval(), images(2, 3, 96, 128)
    with torch.no_grad():
        alone, _ = network(pixels, SIZES)
        pixels[1, 0, 5, 5] = float("nan")
        good, bad = network(pixels, SIZES)
    assert (bool(good.is_finite), bool(bad.is_finite)) == (True, False)
    assert torch.equal(good.boxes, alone.boxes)


def test_what_is_beside_an_image_is_not_seen() -> None:
    network = detector(spec_of("fpn")).eval()
    batch = images(1, 3, 96, 128)
    other = batch.clone()
    other[:, :, 80:] = float("nan")
    other[:, :, :, 100:] = 1e6
    with torch.no_grad():
        first, second = (network(pixels, [(80, 100)])[0] for pixels in (batch, other))
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.scores, second.scores)
    assert bool(torch.isnan(other[:, :, 80:, :100]).all())


def test_images_of_one_padded_size_do_not_see_each_other() -> None:
    network = detector(spec_of("fpn")).eval()
    batch = images(2, 3, 96, 96)
    with torch.no_grad():
        together = network(batch[:, :, :64, :64], [(60, 60), (33, 64)])[1]
        alone = network(batch[1:, :, :64, :64], [(33, 64)])[0]
        larger = network(batch[1:], [(33, 64)])[0]
    torch.testing.assert_close(together.scores, alone.scores)
    torch.testing.assert_close(together.boxes, alone.boxes, rtol=1e-4, atol=1e-3)
    # Why images of other sizes do not share a batch.
    assert larger.scores.tolist() != pytest.approx(alone.scores.tolist(), abs=1e-4)


@pytest.mark.parametrize("neck", NECKS)
def test_a_pass_over_sampled_places_alone_teaches_the_same(neck: Neck) -> None:
    network = detector(dataclasses.replace(spec_of(neck), proposals=Proposals(samples=40))).eval()
    learned = []
    for at_places in (True, False):
        with mock.patch.object(ProposalNetwork, "_learns_at_places", lambda *_, to=at_places: to):
            learned.append(gradients(network, losses_of(network, [OBJECTS, taught((0, 0, 9, 9, 1))])))
    for name, grad in learned[0].items():
        torch.testing.assert_close(grad, learned[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("neck", NECKS)
def test_bf16_and_deterministic_algorithms_train(neck: Neck) -> None:
    network = detector(spec_of(neck))
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = losses_of(network, [OBJECTS, taught()])
        assert {loss.dtype for loss in losses.values()} == {torch.float32}
        assert all(bool(torch.isfinite(grad).all()) for grad in gradients(network, losses).values())
        network.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(images(2, 3, 96, 128), SIZES)[0]
        assert {found.boxes.dtype, found.scores.dtype} == {torch.float32}
        # Scores are no numbers of bf16, which has 128 from 0.25 to 0.5.
        assert len(set(found.scores.tolist())) > 2 * len(set(found.scores.bfloat16().tolist()))
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_detector_learns_to_find_what_it_is_taught() -> None:
    network = detector(spec_of("fpn")).train()
    batch = torch.full((2, 3, 64, 64), -0.5)
    batch[0, :, 10:40, 20:50] = 1
    batch[1, 0, 30:60, 5:35] = 1
    batch[1, 1:, 30:60, 5:35] = -1
    targets = [taught((20, 10, 50, 40, 0), seed=1), taught((5, 30, 35, 60, 2), seed=2)]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    for _ in range(60):
        gradients(network, network(batch, [(64, 64)] * 2, targets))
        optimizer.step()
    with torch.no_grad():
        found = network(batch, [(64, 64)] * 2)
    for each, objects in zip(found, targets, strict=True):
        assert each.labels[0] == objects.labels[0]
        assert float(each.scores[0]) > 0.6
        assert float(iou(each.boxes[:1], objects.boxes)) > 0.5


def test_first_weights_are_a_function_of_the_seed_and_distributed_as_torchvisions() -> None:
    spec = dataclasses.replace(spec_of("fpn"), fpn_channels=64)
    state = torch.random.get_rng_state()
    first, again, other = (detector(spec, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [
        name for name in first if name.endswith("weight") and ".bn" not in name and "downsample.1" not in name
    ]
    assert all(not torch.equal(first[name], other[name]) for name in drawn)
    # A standard deviation of 0.01, ±√(3 / fan-in) and ±1/√in_features.
    assert float(first["rpn.head.conv.0.0.weight"].std()) == pytest.approx(0.01, rel=0.03)
    assert float(first["backbone.fpn.layer_blocks.0.0.weight"].abs().max()) == pytest.approx(
        (3 / (64 * 9)) ** 0.5, rel=0.01
    )
    assert float(first["roi_heads.box_head.fc6.weight"].abs().max()) == pytest.approx(
        (64 * 49) ** -0.5, rel=0.01
    )
    assert not bool(first["backbone.fpn.inner_blocks.0.0.bias"].any())
    assert bool(first["roi_heads.box_predictor.cls_score.bias"].all())


def test_a_batch_that_does_not_fit_is_refused() -> None:
    network = detector(spec_of("fpn"))
    batch = images(2, 3, 64, 64)
    with pytest.raises(ConfigurationError, match="2 images with 1 sizes"):
        network(batch, [(64, 64)])
    with pytest.raises(ConfigurationError, match="2 images with 2 sizes and 1 targets"):
        network(batch, [(64, 64)] * 2, [taught()])
    with pytest.raises(ConfigurationError, match="65×64 pixels is said to lie in 64×64"):
        network(batch, [(64, 64), (65, 64)])


def test_an_empty_detector_takes_weights_from_elsewhere() -> None:
    spec = spec_of("c4")
    network = empty_detector(spec)
    network.load_state_dict(detector(spec).state_dict())
    other = detector(spec)
    initialize_detector(other, 1)
    assert torch.equal(
        network.roi_heads.box_predictor.cls_score.weight, other.roi_heads.box_predictor.cls_score.weight
    )
