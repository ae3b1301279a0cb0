"""A tiny network, as it is and exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepresidual.exporting import export
from deepresidual.models import TorchClassifier, create
from tests.conftest import COLORS, SMALL_INPUT, TINY


def tiny_network() -> TorchClassifier:
    """Return it."""
    network = create(TINY, seed=3)
    # Statistics of BN as after training: other than 0 and 1.
    generator = torch.Generator().manual_seed(3)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return TorchClassifier(network, tuple(COLORS), SMALL_INPUT)


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return its export as ONNX; not to be changed."""
    return export(tiny_network(), tmp_path_factory.mktemp("exported") / "model").path


@pytest.fixture(scope="session")
def program_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return its export as a program of PyTorch; not to be changed."""
    return export(tiny_network(), tmp_path_factory.mktemp("exported") / "program", to="pt2").path
