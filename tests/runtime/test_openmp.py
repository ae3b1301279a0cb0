"""Whose setting of idle threads holds: seen from new processes, as libgomp reads it once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from deepresidual.runtime.openmp import SPIN_COUNT

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "RESIDUAL_SPINCOUNT")
SHOW = (
    "import os; from deepresidual.runtime.openmp import *; "
    "print(spin_source(), '|', describe_spinning(), '|', os.environ.get('GOMP_SPINCOUNT'))"
)


def told(before: str = "", **environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\nimport deepresidual\n{SHOW}"],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [part.strip() for part in done.stdout.split("|")]


def test_importing_residual_sets_a_short_spin() -> None:
    assert told() == ["residual", f"GOMP_SPINCOUNT={SPIN_COUNT}", str(SPIN_COUNT)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("GOMP_SPINCOUNT", "77"), ("OMP_WAIT_POLICY", "ACTIVE"), ("OMP_WAIT_POLICY", "passive")],
)
def test_the_user_s_setting_wins(name: str, value: str) -> None:
    source, description, spin = told(**{name: value})
    assert (source, description) == ("environment", f"{name}={value} from the environment")
    assert spin == (value if name == "GOMP_SPINCOUNT" else "None")


def test_after_torch_nothing_is_set() -> None:
    # A stand-in: what counts is that a module of this name is loaded.
    source, description, spin = told("import sys, types; sys.modules['torch'] = types.ModuleType('torch')")
    assert (source, spin) == ("torch imported first", "None")
    assert "torch was imported before deepresidual" in description


def test_a_process_that_was_started_from_here_knows_whose_setting_it_is() -> None:
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    inherited = {**clean, "GOMP_SPINCOUNT": str(SPIN_COUNT), "RESIDUAL_SPINCOUNT": str(SPIN_COUNT)}
    done = subprocess.run(
        [sys.executable, "-c", f"import deepresidual\n{SHOW}"],
        env=inherited,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("residual |")


@pytest.mark.test_all
def test_torch_computes_with_the_setting() -> None:
    """OpenMP itself says at its start what it has read."""
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", "import deepresidual, torch; torch.ones(8, 8) @ torch.ones(8, 8)"],
        env={**clean, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch does not compute with GNU's OpenMP here")
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in done.stderr
