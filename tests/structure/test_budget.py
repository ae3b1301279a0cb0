"""Every folder of tests has a ceiling of CPU seconds, and their sum may only fall.

``tests/cpu.py`` holds what a session used against them; ``make test-all`` holds them (``--hold-ceilings``).
"""

from __future__ import annotations

from pathlib import Path

from tests.cpu import CEILINGS, folder_of

TESTS = Path(__file__).parent.parent
# Six minutes on two cores are 720, imports and collection among them; when these were set a run used 547.
CPU_SECONDS = 709


def test_every_folder_has_a_ceiling() -> None:
    files = (path.relative_to(TESTS.parent).as_posix() for path in TESTS.rglob("test_*.py"))
    assert {folder_of(file) for file in files} <= set(CEILINGS)


def test_the_sum_of_all_ceilings_only_falls() -> None:
    assert sum(CEILINGS.values()) <= CPU_SECONDS


def test_a_test_belongs_to_its_folder() -> None:
    assert folder_of("tests/parity/test_timm.py::test_x[a/b]") == "parity"
    assert folder_of("tests/analysis/experiments/test_jobs.py::test_x") == "analysis"
    assert folder_of("tests/test_spec.py::test_x") == "."
