"""Fixtures that several tests share: small pictures, small data sets, small models."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from deepresidual.models import TorchClassifier, create
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec
from tests.commands import Commands
from tests.cpu import CpuSeconds
from tests.fakes.hub import FakeHub, Running, point_to
from tests.fork_server import ForkServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# RESIDUAL_FUZZ_TIMES=20 gives every test of hypothesis 20 times the examples, others in each run; `make fuzz`
# does that. A failure prints the decorator that repeats it.
FUZZ_TIMES = int(os.environ.get("RESIDUAL_FUZZ_TIMES", "1"))


def examples(count: int) -> int:
    """Return how many examples a test has that states ``count`` in its own settings."""
    return count * FUZZ_TIMES


# Without it the same examples in every run, and no verdict from the clock: a busy machine is no defect.
settings.register_profile(
    "residual",
    deadline=None,
    derandomize=FUZZ_TIMES == 1,
    database=None,
    print_blob=True,
    max_examples=examples(40),
)
settings.load_profile("residual")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu-seconds", metavar="FILE", help="write the CPU seconds of every test, as JSON")
    parser.addoption(
        "--hold-ceilings", action="store_true", help="fail where a folder uses more than budget.json"
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell started this behind itself, with `&`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(CpuSeconds(config), "cpu-seconds")


TINY = ResNetSpec(unit="basic", depths=(1, 1), widths=(4, 8), stem="cifar", shortcut="A", num_classes=3)
SMALL_INPUT = Preprocess(crop_px=8, resize_px=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
COLORS = {"blue": (20, 40, 200), "green": (30, 180, 60), "red": (210, 40, 30)}


@pytest.fixture
def no_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for no wrong labels at a run's end, which takes longer than training a tiny network."""
    monkeypatch.setattr("deepresidual.training.loop.record_findings", lambda *_: None)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Networks this small run faster on one thread, and other jobs on the machine disturb them less."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what commands remember out of the user's cache, and what the user has there out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESIDUAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")  # no test asks a network, unless it runs a server of its own
        patch.delenv(
            "COLUMNS", raising=False
        )  # pytest-xdist tells its workers a width, and tables fit into it
        yield


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Blame the test that leaves a signal handled or blocked, rather than a later one that sends it."""
    yield
    if threading.current_thread() is threading.main_thread():
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A process that forks runs and commands, which so start at once."""
    with ForkServer(tmp_path_factory.mktemp("forked")) as server:
        yield server


@pytest.fixture(scope="session")
def commands(fork_server: ForkServer) -> Commands:
    """Runs ``residual …`` as processes."""
    return Commands(fork_server)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A fake Hugging Face Hub that this process and children with this environment ask, and an empty cache.

    Residual's own cache is empty, too.
    """
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "residual-cache"))
    with Running(tmp_path / "hf") as running:
        point_to(running, monkeypatch)
        yield running


@pytest.fixture
def tiny_model() -> TorchClassifier:
    """A model of three classes that takes no time."""
    return TorchClassifier(create(TINY), tuple(COLORS), SMALL_INPUT)


def write_photos(root: Path, per_class: int, side: int = 24, seed: int = 0, columns: int = 0) -> Path:
    """Write noisy pictures of three colours as PNG, one folder a class; wider than high unless told."""
    generator = np.random.default_rng(seed)
    for name, color in COLORS.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            noise = generator.integers(-40, 40, (side, columns or side + 4, 3))
            pixels = (np.array(color) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}-{number:03d}.png")
    return root


def write_splits(root: Path) -> Path:
    """Write 3 × (16 + 5) pictures in train/ and test/."""
    write_photos(root / "train", 16)
    write_photos(root / "test", 5, seed=1)
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 3 × (16 + 5) pictures in train/ and test/."""
    return write_splits(tmp_path / "photos")


@pytest.fixture
def damage() -> Callable[[Path], None]:
    """Cut the last third off a file."""

    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])

    return cut
