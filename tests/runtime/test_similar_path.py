"""The path that was meant by one that does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepresidual.runtime.similar_path import did_you_mean, similar_path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("photos/cats", "photos/dogs", "runs/mine"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "labels.csv").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("phots", "photos"),
        ("PHOTOS", "photos"),
        ("phots/cats", "photos/cats"),
        ("phots/birds", "photos"),
        ("photos/cat", "photos/cats"),
        ("run/mien", "runs"),
        ("runs/mien", "runs/mine"),
        ("label.csv", "labels.csv"),
        ("digits2", ""),
        ("nothing-like-it", ""),
        ("a\0b", ""),
        ("x" * 5000, ""),
        ("", ""),
    ],
)
def test_the_most_similar_name_is_meant(here: Path, given: str, meant: str) -> None:
    assert similar_path(given) == meant
    assert did_you_mean(given) == (f"did you mean {meant}?" if meant else "")


def test_the_spelling_of_the_folder_stays(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert similar_path(here / "phots" / "cats") == str(here / "photos" / "cats")
    monkeypatch.setenv("HOME", str(here))
    assert similar_path("~/phots") == "~/photos"


def test_what_exists_is_its_own(here: Path) -> None:
    assert similar_path("photos/cats") == "photos/cats"
