"""Mixup and CutMix by hand, and the same images however a micro-batch is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from deepresidual.data.mix import MixChoice, apply_mix, choose_mix, soft_targets
from deepresidual.recipe import Mix
from deepresidual.runtime.random import step_generator


def _images(count: int, channels: int = 2, side: int = 6) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(count))


def _mixed(
    images: torch.Tensor, targets: torch.Tensor, choice: MixChoice
) -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = images.clone(), targets.clone()
    apply_mix(images, targets, choice)
    return images, targets


# -- applying ----------------------------------------------------------------------------------------------


def test_mixup_of_two_pixels() -> None:
    images = torch.tensor([8.0, 0.0, -4.0, 4.0]).reshape(4, 1, 1, 1)
    targets = torch.eye(4)
    apply_mix(images, targets, MixChoice(0.75))
    assert images.ravel().tolist() == [6, 2, -2, 2]
    assert targets.tolist() == [
        [0.75, 0.25, 0, 0],
        [0.25, 0.75, 0, 0],
        [0, 0, 0.75, 0.25],
        [0, 0, 0.25, 0.75],
    ]


def test_cutmix_swaps_the_rectangle_of_partners() -> None:
    images = torch.arange(2.0).reshape(2, 1, 1, 1).expand(2, 1, 3, 4).clone()
    targets = torch.eye(2)
    apply_mix(images, targets, MixChoice(0.75, (1, 1, 4, 2)))
    assert images[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert images[1, 0].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert targets.tolist() == [[0.75, 0.25], [0.25, 0.75]]


@pytest.mark.parametrize("choice", [MixChoice(0.3), MixChoice(0.75, (1, 2, 4, 5))])
def test_the_partner_is_the_index_with_its_last_bit_turned(choice: MixChoice) -> None:
    images, targets = _images(8), torch.eye(8)
    mixed, mixed_targets = _mixed(images, targets, choice)
    for index in range(8):
        partner = index ^ 1
        expected = choice.weight * images[index] + (1 - choice.weight) * images[partner]
        if choice.box is not None:
            left, top, right, bottom = choice.box
            expected = images[index].clone()
            expected[:, top:bottom, left:right] = images[partner][:, top:bottom, left:right]
        torch.testing.assert_close(mixed[index], expected)
        torch.testing.assert_close(
            mixed_targets[index], choice.weight * targets[index] + (1 - choice.weight) * targets[partner]
        )


@pytest.mark.parametrize("choice", [MixChoice(0.3), MixChoice(0.75, (1, 2, 4, 5))])
def test_the_last_of_an_odd_batch_stays_as_it_is(choice: MixChoice) -> None:
    for count in (1, 5):
        images, targets = _images(count), torch.eye(count)
        mixed, mixed_targets = _mixed(images, targets, choice)
        assert torch.equal(mixed[-1], images[-1])
        assert torch.equal(mixed_targets[-1], targets[-1])


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("choice", [MixChoice(0.3), MixChoice(0.9), MixChoice(0.75, (1, 2, 4, 5))])
def test_parts_of_a_batch_are_mixed_as_the_whole_is(choice: MixChoice, size: int) -> None:
    images, targets = _images(8), torch.eye(8)
    whole, whole_targets = _mixed(images, targets, choice)
    parts = [
        _mixed(images[at : at + size], targets[at : at + size], choice) for at in range(0, len(images), size)
    ]
    assert torch.equal(torch.cat([part for part, _ in parts]), whole)
    assert torch.equal(torch.cat([part for _, part in parts]), whole_targets)


def test_images_keep_their_memory_and_its_order() -> None:
    images = _images(4).to(memory_format=torch.channels_last)
    address = images.data_ptr()
    contiguous, _ = _mixed(_images(4), torch.eye(4), MixChoice(0.3))
    apply_mix(images, torch.eye(4), MixChoice(0.3))
    assert images.data_ptr() == address
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images, contiguous)


@pytest.mark.parametrize("choice", [MixChoice(1.0), MixChoice(1.0, (3, 3, 3, 3))])
def test_a_whole_weight_changes_nothing(choice: MixChoice) -> None:
    images, targets = _images(4), torch.eye(4)
    mixed, mixed_targets = _mixed(images, targets, choice)
    assert torch.equal(mixed, images)
    assert torch.equal(mixed_targets, targets)


def test_bfloat16_images_are_mixed_in_their_type() -> None:
    images = _images(4).to(torch.bfloat16)
    mixed, _ = _mixed(images, torch.eye(4), MixChoice(0.25))
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(
        mixed[0].float(), 0.25 * images[0].float() + 0.75 * images[1].float(), rtol=0.01, atol=0.02
    )


# -- choosing ----------------------------------------------------------------------------------------------


def _choices(mix: Mix, count: int = 2000, height: int = 40, width: int = 50) -> list[MixChoice | None]:
    return [choose_mix(mix, step_generator(0, step), height, width) for step in range(count)]


def test_the_choice_is_a_function_of_the_generator() -> None:
    mix = Mix(mixup=0.2, cutmix=1.0, mix_probability=0.7)
    assert _choices(mix, 50) == _choices(mix, 50)
    assert len(set(_choices(mix, 50))) > 20


@pytest.mark.parametrize("mix", [Mix(), Mix(mixup=0.2, mix_probability=0.0), Mix(cutmix=0.0)])
def test_nothing_is_mixed_where_nothing_was_asked_for(mix: Mix) -> None:
    assert set(_choices(mix, 20)) == {None}


@pytest.mark.parametrize(
    ("mix", "mixed", "cut"),
    [
        (Mix(mixup=0.2), 1.0, 0.0),
        (Mix(cutmix=1.0), 1.0, 1.0),
        (Mix(mixup=0.2, cutmix=1.0), 1.0, 0.5),
        (Mix(mixup=0.2, cutmix=1.0, mix_probability=0.4), 0.4, 0.5),
    ],
)
def test_steps_take_one_of_the_two_as_often_as_asked_for(mix: Mix, mixed: float, cut: float) -> None:
    chosen = [choice for choice in _choices(mix) if choice is not None]
    # five standard deviations of a fair coin: 5 · √500 = 112
    assert abs(len(chosen) - 2000 * mixed) <= (0 if mixed == 1 else 112)
    share = sum(choice.box is not None for choice in chosen) / len(chosen)
    assert abs(share - cut) <= (0 if cut in (0, 1) else 5 * 0.5 / len(chosen) ** 0.5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_weights_of_mixup_follow_a_beta_distribution(alpha: float) -> None:
    weights = np.array([choice.weight for choice in _choices(Mix(mixup=alpha)) if choice is not None])
    # Beta(α, α) has the mean 1/2 and the variance 1 / (4 · (2α + 1)).
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(weights.mean() - 0.5) < 5 * (variance / len(weights)) ** 0.5
    assert abs(weights.var() - variance) < 0.1 * variance


def test_the_weight_of_cutmix_is_the_share_of_pixels_that_stay() -> None:
    for choice in _choices(Mix(cutmix=1.0), 300):
        assert choice is not None
        assert choice.box is not None
        left, top, right, bottom = choice.box
        assert 0 <= left <= right <= 50
        assert 0 <= top <= bottom <= 40
        images = torch.arange(2.0).reshape(2, 1, 1, 1).expand(2, 1, 40, 50).clone()
        apply_mix(images, torch.eye(2), choice)
        assert float(images[1].mean()) == pytest.approx(choice.weight)


def test_rectangles_of_cutmix_reach_every_edge_and_have_the_shape_of_the_image() -> None:
    boxes = np.array([choice.box for choice in _choices(Mix(cutmix=1.0)) if choice is not None])
    assert boxes.min(axis=0).tolist()[:2] == [0, 0]
    assert boxes.max(axis=0).tolist()[2:] == [50, 40]
    inner = boxes[(boxes[:, 0] > 0) & (boxes[:, 1] > 0) & (boxes[:, 2] < 50) & (boxes[:, 3] < 40)]
    widths, heights = inner[:, 2] - inner[:, 0], inner[:, 3] - inner[:, 1]
    # Both sides are cut to even numbers.
    assert np.all(np.abs(widths * 40 / 50 - heights) <= 3)


# -- soft targets ------------------------------------------------------------------------------------------


def test_soft_targets_by_hand() -> None:
    labels = torch.tensor([2, 0])
    assert soft_targets(labels, 4).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    torch.testing.assert_close(
        soft_targets(labels, 4, 0.2),
        torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]),
    )
    assert soft_targets(labels, 4).dtype == torch.float32


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_soft_targets_give_the_loss_of_torchs_label_smoothing(smoothing: float) -> None:
    logits = torch.randn(16, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 10
    targets = soft_targets(labels, 10, smoothing)
    torch.testing.assert_close(targets.sum(1), torch.ones(16))
    torch.testing.assert_close(
        functional.cross_entropy(logits, targets),
        functional.cross_entropy(logits, labels, label_smoothing=smoothing),
    )
