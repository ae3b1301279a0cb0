"""Comparisons with other libraries go through ``parity``; ``--record-parity`` writes what was measured.

    pytest tests/parity --record-parity

rewrites ``src/residual/zoo/parity.json``, which `residual models` and the documentation show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

RESULTS = Path(__file__).parent.parent.parent / "src" / "residual" / "zoo" / "parity.json"
_MEASURED = pytest.StashKey[dict[tuple[str, str, str], float]]()

Parity = Callable[[str, str, str, float, float], None]
"""(network, package, "in" or "out", largest difference of logits, tolerance) → passes or fails."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-parity", action="store_true", help="write the measured differences")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = {}


@pytest.fixture
def parity(pytestconfig: pytest.Config) -> Parity:
    """Hold a largest difference of logits against its tolerance, and note it."""
    measured = pytestconfig.stash.setdefault(_MEASURED, {})

    def compare(network: str, package: str, direction: str, difference: float, tolerance: float) -> None:
        assert math.isfinite(difference)
        assert difference <= tolerance, f"{network}, {package}, {direction}"
        key = (network, package, direction)
        measured[key] = max(difference, measured.get(key, 0.0))

    return compare


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus != 0 or not session.config.getoption("--record-parity", default=False):
        return
    rows = [
        {
            "network": network,
            "reference": package,
            "version": _version(package),
            "direction": direction,
            "largest_difference": float(f"{difference:.1e}"),
        }
        for (network, package, direction), difference in sorted(session.config.stash[_MEASURED].items())
    ]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def _version(package: str) -> str:
    """Version of an installed package; empty for what the tests themselves act out (Torch7)."""
    distribution = {"caffe": "opencv-python-headless", "tensorflow": "tensorflow-cpu"}.get(package, package)
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
