"""A tiny network, as it is and exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepresidual.exporting import export
from tests.exporting.conftest import tiny_model


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return its export as ONNX; not to be changed."""
    return export(tiny_model(), tmp_path_factory.mktemp("exported") / "model").path


@pytest.fixture(scope="session")
def program_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return its export as a program of PyTorch; not to be changed."""
    return export(tiny_model(), tmp_path_factory.mktemp("exported") / "program", to="pt2").path
