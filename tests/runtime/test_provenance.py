"""The command that a record names: ours, or the script that calls us."""

from __future__ import annotations

import sys

import pytest

from deepresidual.runtime.provenance import command_line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/opt/bin/residual", "train", "photos"], ["residual", "train", "photos"]),
        (["/opt/deepresidual/__main__.py", "train", "photos"], ["residual", "train", "photos"]),
        (
            ["benchmarks/detectors.py", "bccd", "--seeds", "5"],
            ["python", "benchmarks/detectors.py", "bccd", "--seeds", "5"],
        ),
        (["-c"], ["residual"]),
    ],
)
def test_the_command_is_ours_or_a_script(
    words: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", words)
    assert command_line() == expected
