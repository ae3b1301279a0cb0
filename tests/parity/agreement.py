"""What the parity tests share: weights that make a comparison mean something, and the comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepresidual.conversion.ecosystem import Ecosystem, ForeignCheckpoint, Recognition
from deepresidual.conversion.translation import read_tensors, write_tensors
from deepresidual.nn import ResNet, empty_network
from deepresidual.spec import ResNetSpec

TINY = (1, 1, 1, 1)
"""Units of a network that has every kind of layer of its family, and hardly any weight."""


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


def converted(ecosystem: Ecosystem, checkpoint: ForeignCheckpoint) -> tuple[ResNet, Recognition]:
    """Return our network with a checkpoint's weights, in evaluation mode, and what it was recognized as."""
    recognition = ecosystem.recognize(checkpoint)
    assert recognition is not None
    network = empty_network(recognition.spec)
    translation = ecosystem.translation(recognition.spec, checkpoint)
    network.load_state_dict(read_tensors(translation, checkpoint.tensors, network.state_dict(), "file"))
    return network.eval(), recognition


def in_memory(network: nn.Module, prefix: str = "") -> ForeignCheckpoint:
    """Return another library's network as if it had been read from a file."""
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    return ForeignCheckpoint(Path("file.pth"), "torch", state, "")


def check_names_and_shapes(ecosystem: Ecosystem, spec: ResNetSpec, theirs: nn.Module) -> None:
    """Hold our names and shapes, translated, against another library's network; both are on ``meta``."""
    ours = ResNet(spec).state_dict()
    written = write_tensors(ecosystem.translation(spec), ours)
    expected = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in written.items()} == expected


def check_both_ways(
    ecosystem: Ecosystem,
    spec: ResNetSpec,
    theirs: nn.Module,
    logits: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Carry weights here and others there: the same logits both ways, and the same bits back.

    Args:
        ecosystem: Whose network it is.
        spec: The same network here.
        theirs: The network, of whatever weights.
        logits: What it gives of images. Default: its output.
    """
    logits = logits or theirs
    translation = ecosystem.translation(spec)
    ours, empty = empty_network(spec).eval(), empty_network(spec).state_dict()
    randomize(theirs, seed=1)
    ours.load_state_dict(read_tensors(translation, theirs.state_dict(), empty, "file"))
    for size in ((32, 32), (43, 65)):
        assert largest_difference(ours, logits, size) <= 1e-5
    randomize(ours, seed=2)
    theirs.load_state_dict(write_tensors(translation, ours.state_dict()))
    assert largest_difference(ours, logits, (43, 65)) <= 1e-5
    back = read_tensors(translation, theirs.state_dict(), empty, "file")
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.state_dict().items())
