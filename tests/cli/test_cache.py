"""``residual cache``: what lies there by kind, and deleting it and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepresidual.cli import main
from deepresidual.runtime import cache
from deepresidual.runtime.cache import CACHE_KINDS, write_cache

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of three kinds, in which a user has put a file of his own."""
    root = tmp_path / "cache"
    monkeypatch.setenv("RESIDUAL_CACHE", str(root))
    for name in (
        "features/a/b.safetensors",
        "features/a/.c.tmp",
        "models/v1/net/config.json",
        "mine/photo.jpg",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * 1000)
    write_cache("precision", "key", {"a": 1})
    return root


def kinds(capsys: Capture) -> dict[str, tuple[int, int]]:
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    return {row["kind"]: (row["files"], row["bytes"]) for row in document["kinds"]}


def test_it_lists_every_kind_with_files_and_bytes(folder: Path, capsys: Capture) -> None:
    assert main(["cache", "--json"]) == 0
    found = kinds(capsys)
    assert list(found) == list(CACHE_KINDS)
    assert (found["features"], found["models"], found["downloads"]) == ((2, 2000), (1, 1000), (0, 0))
    assert found["precision"] == (1, (folder / "precision.json").stat().st_size)
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name} " in out for name in CACHE_KINDS)
    assert f"{folder}: 0.0 MB; 'residual cache clear [KIND]' deletes it" in out


def test_one_kind_is_deleted_and_the_others_stay(folder: Path, capsys: Capture) -> None:
    assert main(["cache", "clear", "features"]) == 0
    assert capsys.readouterr().out == f"deleted 2 files, 0.0 MB, from {folder}\n"
    assert list((folder / "features").iterdir()) == []
    assert (folder / "models/v1/net/config.json").is_file()


def test_all_is_deleted_but_what_is_not_ours(folder: Path, capsys: Capture) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.txt").write_text("kept")
    (folder / "features" / "link").symlink_to(elsewhere)
    assert main(["cache", "clear", "--json"]) == 0
    found = kinds(capsys)
    assert (found["features"], found["precision"][0]) == ((2, 2000), 1)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "mine/photo.jpg"
    ]
    assert (elsewhere / "kept.txt").is_file()
    assert main(["cache", "clear"]) == 0
    assert "deleted 0 files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["clear", "feature"], 2, "unknown kind of cache 'feature' (nearest: features"),
        (["clear", "../mine"], 2, "unknown kind of cache '../mine'"),
        (
            ["list", "features"],
            2,
            "KIND is 'features' for a list of all; expected it after 'residual cache clear'",
        ),
    ],
)
def test_what_is_not_there_is_refused(
    folder: Path, capsys: Capture, arguments: list[str], code: int, said: str
) -> None:
    assert main(["cache", *arguments]) == code
    assert said in capsys.readouterr().err
    assert (folder / "mine/photo.jpg").is_file()


def test_files_that_cannot_be_deleted_and_no_home_are_said(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "remove", lambda _path: None)
    assert main(["cache", "clear", "models"]) == 1
    assert f"{folder / 'models'} still holds 1 files that cannot be deleted; see" in capsys.readouterr().err
    monkeypatch.delenv("RESIDUAL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert main(["cache"]) == 4
    assert "there is no home folder to keep a cache in; set RESIDUAL_CACHE" in capsys.readouterr().err
