"""Comparisons with other libraries go through ``parity``; ``--record-parity`` writes what was measured.

    pytest tests/parity --record-parity -m ''

rewrites ``src/deepresidual/zoo/parity.json``, which `residual models` and the documentation show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from deepresidual import zoo
from tests.conversion.in_process import read_in_this_process

RESULTS = Path(__file__).parent.parent.parent / "src" / "deepresidual" / "zoo" / "parity.json"
_MEASURED = pytest.StashKey[dict[tuple[str, str, str], float]]()

Parity = Callable[[str, str, str, float, float], None]
"""(network, package, "in" or "out", largest difference of logits, tolerance) → passes or fails."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-parity", action="store_true", help="write the measured differences")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = {}


@pytest.fixture(autouse=True)
def _read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_this_process(monkeypatch)


@pytest.fixture
def parity(pytestconfig: pytest.Config) -> Parity:
    """Hold a largest difference of logits against its tolerance, and note it."""
    measured = pytestconfig.stash.setdefault(_MEASURED, {})

    def compare(network: str, package: str, direction: str, difference: float, tolerance: float) -> None:
        assert math.isfinite(difference)
        assert difference <= tolerance, f"{network}, {package}, {direction}"
        key = (network, package, direction)
        if network in zoo.list_models():  # Short ones are compared, not noted.
            measured[key] = max(difference, measured.get(key, 0.0))

    return compare


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus != 0 or not session.config.getoption("--record-parity", default=False):
        return
    measured = {row["network"] + row["reference"] + row["direction"]: row for row in _recorded()}
    measured |= {
        network + package + direction: {
            "network": network,
            "reference": package,
            "version": _version(package),
            "direction": direction,
            "largest_difference": float(f"{difference:.1e}"),
        }
        for (network, package, direction), difference in session.config.stash[_MEASURED].items()
    }
    rows = sorted(measured.values(), key=lambda row: (row["reference"], row["network"], row["direction"]))
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def _recorded() -> list[dict[str, Any]]:
    """What earlier runs recorded; a run of some of the tests replaces only what it measured."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else []
    return rows


def _version(package: str) -> str:
    """Version of what was asked; empty for what the tests themselves act out (Torch7)."""
    if package == "caffe":
        return f"by OpenCV {metadata.version('opencv-python-headless')}"
    try:
        return metadata.version("tensorflow-cpu" if package == "tensorflow" else package)
    except metadata.PackageNotFoundError:
        return ""
