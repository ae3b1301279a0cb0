"""What the parity tests share: weights that make a comparison mean something, and the comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deepresidual.conversion.checkpoint import Checkpoint
from deepresidual.conversion.ecosystem import Ecosystem, Recognition
from deepresidual.conversion.translation import read_tensors
from deepresidual.models.model import empty_network
from deepresidual.nn import ResNet


def randomize(network: nn.Module, seed: int) -> nn.Module:
    """Fill every parameter and statistic so that logits stay of the order of one and no BN is trivial."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.3, 0.7),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.7, 1.5),
            ):
                assert isinstance(tensor, Tensor)
                nn.init.uniform_(tensor, low, high, generator=generator)
            assert module.num_batches_tracked is not None
            module.num_batches_tracked.fill_(int(torch.randint(1, 1000, (), generator=generator)))
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.2, 0.2, generator=generator)
    return network.eval()


@torch.inference_mode()
def largest_difference(
    ours: Callable[[Tensor], Any],
    theirs: Callable[[Tensor], Any],
    size: tuple[int, int] = (64, 64),
    channels: int = 3,
) -> float:
    """Return the largest absolute difference of a logit on two random images.

    Fails where the logits say nothing: constant, the same for both images, or far from the order of one.
    """
    images = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(7))
    expected = theirs(images)
    assert expected.std() > 1e-3
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    assert expected.abs().max() < 1e3
    return float((ours(images) - expected).abs().max())


def converted(ecosystem: Ecosystem, checkpoint: Checkpoint) -> tuple[ResNet, Recognition]:
    """Return our network with a checkpoint's weights, in evaluation mode, and what it was recognized as."""
    recognition = ecosystem.recognize(checkpoint)
    assert recognition is not None
    network = empty_network(recognition.spec)
    translation = ecosystem.translation(recognition.spec, checkpoint)
    network.load_state_dict(read_tensors(translation, checkpoint.tensors, network.state_dict(), "file"))
    return network.eval(), recognition
