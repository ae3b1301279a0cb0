"""Detectors: what they give out, and what they learn from."""

from __future__ import annotations

import pytest
import torch

from deepresidual.spec import Neck
from tests.nn.detection.networks import detector, images, spec_of, taught

NECKS: tuple[Neck, ...] = ("c4", "fpn")


@pytest.mark.parametrize("neck", NECKS)
def test_every_parameter_gets_a_gradient_and_the_closed_form_counts_them(neck: Neck) -> None:
    network = detector(spec_of(neck))
    assert sum(parameter.numel() for parameter in network.parameters()) == network.spec.num_parameters
    targets = [taught((10, 10, 50, 60, 0), (30, 20, 90, 80, 2)), taught()]
    losses = network(images(2, 3, 96, 128), [(96, 128), (80, 100)], targets)
    assert list(losses) == ["rpn_class", "rpn_box", "class", "box"]
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    missing = [name for name, grad in gradients.items() if grad is None or not bool(grad.any())]
    assert missing == []


@pytest.mark.parametrize("neck", NECKS)
def test_what_is_found_is_sorted_and_lies_in_the_image(neck: Neck) -> None:
    network = detector(spec_of(neck)).eval()
    with torch.no_grad():
        small, large = network(images(2, 3, 96, 128), [(80, 100), (96, 128)])
    for found, (height, width) in ((small, (80, 100)), (large, (96, 128))):
        assert len(found.scores) == 100
        assert bool((found.scores.diff() <= 0).all())
        assert bool((found.boxes >= 0).all())
        assert bool((found.boxes.amax(0) <= torch.tensor([width, height, width, height])).all())
        assert set(found.labels.tolist()) <= {0, 1, 2}
