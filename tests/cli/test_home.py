"""A leading ``~`` is the user's home folder in every path that a command takes, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import deepresidual
from deepresidual.backends import find_images
from deepresidual.cli import main
from deepresidual.evaluation import compare, evaluate
from deepresidual.models import TorchClassifier, create, save
from deepresidual.runtime.files import expanded
from tests.conftest import TINY

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(photos: Path, tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder with ``photos`` and ``model``; the current folder is another."""
    folder = photos.parent
    save(tiny_model, folder / "model")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(elsewhere)
    return folder


def test_a_name_that_exists_and_an_unknown_user_stay_as_they_are(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert expanded("~/photos") == home / "photos"
    assert expanded("~") == home
    assert expanded("a/~/b") == Path("a/~/b")
    assert expanded("~no-such-user/photos") == Path("~no-such-user/photos")
    Path("~").mkdir()
    assert expanded("~") == Path("~")


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["models", "resnet20", "--figure=~/net.svg"], "net.svg"),
        (["check", "~/photos", "--out=~/found.csv"], "found.csv"),
        (["evaluate", "~/model", "~/photos", "--predictions=~/all.csv"], "all.csv"),
        (
            ["explain", "~/model", "~/photos/test/red/red-000.png", "--out=~/maps"],
            "maps/red-000-grad-cam.png",
        ),
        (["convert", "~/model", "~/copy"], "copy/config.json"),
        (["data", "shard", "~/photos", "~/tars"], "tars/classes.json"),
    ],
)
def test_a_command_reads_and_writes_in_the_home_folder(
    home: Path, capsys: Capture, arguments: list[str], written: str
) -> None:
    assert main([*arguments, "--json"]) in (0, 3)  # check finds a difference between the colours' noise
    capsys.readouterr()
    assert (home / written).exists()
    assert list(Path().iterdir()) == []


def test_train_report_and_compare_work_in_the_home_folder(home: Path, capsys: Capture) -> None:
    options = "--model resnet20 --image-px 8 --batch-size 10 --precision fp32 --steps 1"
    assert main(["train", "~/photos", *options.split(), "--out=~/run"]) == 0
    assert main(["report", "~/run", "--out=~/page.html"]) == 0
    assert (home / "page.html").exists()
    for name in ("a", "b"):
        assert main(["evaluate", "~/run", "~/photos", f"--predictions=~/{name}.csv"]) == 0
    capsys.readouterr()
    assert main(["compare", "~/a.csv", "~/b.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 15
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("pattern", ["~/photos/test", "~/photos/test/*/*.png", "~/photos/**/red-00[0-4].png"])
def test_patterns_begin_in_the_home_folder(home: Path, pattern: str) -> None:
    found = find_images([pattern])
    assert found.files
    assert all(file.startswith(f"{home}/photos/") for file in found.files)


def test_python_takes_the_home_folder_too(home: Path) -> None:
    model = deepresidual.load("~/model")
    assert len(model.predict("~/photos/test/red/red-000.png")) == 1
    deepresidual.save(create(TINY), "~/saved")
    assert (home / "saved" / "config.json").exists()
    assert evaluate("~/model", "~/photos", predictions="~/all.csv").count == 15
    assert compare("~/all.csv", "~/all.csv").count == 15
    deepresidual.convert("~/model", "~/converted")
    assert (home / "converted" / "config.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", "~no-such-user/x"], 3),
        (["train", "~no-such-user/x", "--dry-run"], 3),
        (["train", "csv:~no-such-user/x.csv", "--dry-run"], 3),
        (["evaluate", "MODEL", "shards:~no-such-user/x"], 3),
        (["evaluate", "MODEL", "cifar10:~no-such-user/x"], 3),
        (["evaluate", "~no-such-user/x", "PHOTOS"], 3),
        (["predict", "~no-such-user/x", "PHOTOS"], 3),
        (["predict", "MODEL", "~no-such-user/x.png"], 3),
        (["predict", "MODEL", "~no-such-user/*.png"], 3),
        (["explain", "MODEL", "~no-such-user/x.png"], 3),
        (["report", "~no-such-user/x"], 2),
        (["compare", "~no-such-user/x.csv", "~no-such-user/y.csv"], 3),
        (["convert", "~no-such-user/x.pth", "converted"], 3),
    ],
)
def test_an_unknown_user_is_a_path_that_does_not_exist(
    home: Path, capsys: Capture, arguments: list[str], code: int
) -> None:
    stands_for = {"MODEL": str(home / "model"), "PHOTOS": str(home / "photos")}
    assert main([stands_for.get(word, word) for word in arguments]) == code
    captured = capsys.readouterr()
    assert "~no-such-user/" in captured.out + captured.err
    assert "Traceback" not in captured.err
