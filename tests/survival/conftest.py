"""One process that forks the runs, one data set and one folder of undisturbed runs for a worker's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.conftest import write_photos
from tests.fork_server import ForkServer
from tests.survival.trials import Trials, Undisturbed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def runner(fork_server: ForkServer) -> ForkServer:
    """A process that has imported torch and forks runs."""
    return fork_server


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 3 × (16 + 5) pictures in train/ and test/, which no test changes."""
    root = tmp_path_factory.mktemp("data") / "photos"
    write_photos(root / "train", 16)
    write_photos(root / "test", 5, seed=1)
    return root


@pytest.fixture
def squares(pictures: Path, tmp_path: Path) -> Path:
    """The same pictures cut to squares of one size, which training keeps in memory."""
    root = tmp_path / "squares"
    for file in pictures.rglob("*.png"):
        target = root / file.relative_to(pictures)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).crop((0, 0, 24, 24)).save(target)
    return root


@pytest.fixture(scope="package")
def undisturbed(runner: ForkServer, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Runs of those pictures that nothing happened to."""
    return Undisturbed(Trials(runner, pictures, tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture
def trials(runner: ForkServer, pictures: Path, tmp_path: Path, undisturbed: Undisturbed) -> Trials:
    """Runs of those pictures below a folder of the test's own."""
    return Trials(runner, pictures, tmp_path, undisturbed)
