"""An exported model that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepresidual.exporting import Export, export
from deepresidual.models import TorchClassifier, create
from tests.conftest import COLORS, SMALL_INPUT, TINY


def tiny_model() -> TorchClassifier:
    """Return a tiny classifier whose BN has statistics other than 0 and 1, as after training."""
    network = create(TINY, seed=3)
    generator = torch.Generator().manual_seed(3)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return TorchClassifier(network, tuple(COLORS), SMALL_INPUT)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Return a tiny model, exported to ONNX; not to be changed."""
    return export(tiny_model(), tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture
def own_export(exported: Export, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    import shutil

    return Path(shutil.copytree(exported.path, tmp_path / "export"))
