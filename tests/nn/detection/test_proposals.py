"""Proposals at sampled places: the gradient is that of whole maps, in the same bits again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepresidual.nn.detection.proposals import ProposalHead
from tests.nn.detection.networks import detector, images, spec_of

SIDES = ((9, 7), (5, 4), (3, 2))


def head_and_maps() -> tuple[ProposalHead, list[Tensor], Tensor, Tensor]:
    """Return a head, maps that learn, and which anchors of two images are asked for, each several times."""
    head = detector(spec_of("fpn")).rpn.head
    maps = [images(2, 16, *side, seed=number).requires_grad_() for number, side in enumerate(SIDES)]
    count = 3 * sum(rows * columns for rows, columns in SIDES)
    anchors = torch.arange(count).repeat(30)
    return head, maps, torch.arange(len(anchors)) % 2, anchors


def test_some_anchors_are_what_all_are_at_their_places_and_at_edges() -> None:
    head, maps, of_image, anchors = head_and_maps()
    logits, codes = (torch.cat(values, dim=1) for values in head(maps))
    some = head.at(maps, of_image, anchors)
    torch.testing.assert_close(some[0], logits[of_image, anchors], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(some[1], codes[of_image, anchors], rtol=1e-5, atol=1e-6)
    weights = images(len(anchors), 5)
    expected = torch.autograd.grad(
        (logits[of_image, anchors] * weights[:, 0]).sum() + (codes[of_image, anchors] * weights[:, 1:]).sum(),
        maps,
    )
    given = torch.autograd.grad((some[0] * weights[:, 0]).sum() + (some[1] * weights[:, 1:]).sum(), maps)
    for here, there in zip(given, expected, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_gradient_has_the_same_bits_again(num_threads: int) -> None:
    head, maps, of_image, anchors = head_and_maps()
    weights, before = images(len(anchors), 5), torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        bits = set()
        for _ in range(8):
            logits, codes = head.at(maps, of_image, anchors)
            grads = torch.autograd.grad((logits * weights[:, 0]).sum() + (codes * weights[:, 1:]).sum(), maps)
            bits.add(b"".join(grad.numpy().tobytes() for grad in grads))
    finally:
        torch.set_num_threads(before)
    assert len(bits) == 1
