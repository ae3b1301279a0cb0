"""What a run finds out about its images: where it looks, what it writes, and what is never lost for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepresidual.cli import main
from deepresidual.errors import DataError, ModelFileError
from deepresidual.reporting import write_report
from deepresidual.runs.findings import findings_in_words
from deepresidual.runs.read import read_run
from deepresidual.runtime.signals import StopRequested
from deepresidual.training import findings
from deepresidual.training.launch import train
from tests.conftest import write_photos
from tests.reporting.page import Page

KNOWN = "resnet20-cifar10"


def trained(photos: Path, out: Path, **options: Any) -> Path:
    options = {"weights": KNOWN, "recipe": "probe", "image_px": 16, **options}
    result = train(photos, out=out, num_workers=0, precision="fp32", **options)
    assert result.status == "finished"
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos by colour, one of which lies in the folder of another colour on each side."""
    root = tmp_path_factory.mktemp("findings") / "photos"
    for part, count in (("train", 14), ("test", 9)):
        write_photos(root / part, count, seed=count)
        first = min((root / part / "red").iterdir())
        first.rename(root / part / "blue" / f"wrong-{part}.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(photos, tmp_path_factory.mktemp("findings") / "run")


def test_wrong_labels_of_both_sides_are_listed_with_their_photos(run: Path) -> None:
    found = json.loads((run / "label-errors.json").read_text())
    rows = {row["path"]: row for row in found["rows"]}
    for part in ("train", "test"):
        row = rows[f"{part}/blue/wrong-{part}.png"]
        assert (row["split"], row["label"], row["suggested"]) == (part, "blue", "red")
    assert len(list((run / "label-errors").iterdir())) == len(rows)
    assert found["num_folds"] == 5


def test_the_report_lists_them_apart_and_as_csv(run: Path) -> None:
    page = Page((run / "report.html").read_text())
    assert "Labels to look at" in page.texts("h2")
    assert {"Training images", "Held-out images"} <= set(page.texts("h3"))
    assert "changing their labels changes the measure" in page.text
    (listed,) = page.all("pre", "list")
    lines = (listed.text or "").split()
    assert lines[0] == "path,label,suggested"
    assert {"train/blue/wrong-train.png,blue,red", "test/blue/wrong-test.png,blue,red"} <= set(lines)
    assert f"residual check {run}" not in page.text
    assert "in 10 were wrong labels in our tests" in page.text


def test_the_learning_curve_stands_in_the_run_and_in_the_report(run: Path) -> None:
    curve = json.loads((run / "learning-curve.json").read_text())
    counts = [point["count"] for point in curve["points"]]
    assert counts == sorted(counts)
    assert "Would more images help?" in Page((run / "report.html").read_text()).texts("h2")


@pytest.mark.test_all
def test_the_last_lines_say_it_in_one(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--weights", KNOWN, "--recipe", "probe", "--image-px", "16", "--workers", "0"]
    assert main(["train", str(photos), "--out", str(tmp_path / "run"), *options]) == 0
    said = findings_in_words(read_run(tmp_path / "run"))
    assert "to look at (report)" in said
    assert said in capsys.readouterr().out


def test_a_run_from_nothing_does_not_look(photos: Path, tmp_path: Path) -> None:
    changes = {"epochs": 1.0, "batch_size": 8}
    run = trained(photos, tmp_path / "run", weights="none", recipe="cifar", changes=changes)
    assert not (run / "label-errors.json").exists()
    assert "Labels to look at" not in (run / "report.html").read_text()


@pytest.mark.test_all
def test_weights_that_know_the_classes_are_not_asked(run: Path, photos: Path, tmp_path: Path) -> None:
    again = trained(photos, tmp_path / "run", weights=str(run / "model"))
    found = json.loads((again / "label-errors.json").read_text())
    assert found["rows"] == []
    assert "may have learned these labels by heart" in found["reason"]
    assert "by heart" in (again / "report.html").read_text()


@pytest.mark.parametrize("problem", [StopRequested(143), DataError("test/red/1.png is damaged")])
def test_a_run_is_not_lost_for_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise problem

    monkeypatch.setattr(findings, "extract_features", fails)
    run = trained(photos, tmp_path / "run")
    assert not (run / "label-errors.json").exists()
    assert (run / "report.html").exists()


def test_too_many_images_are_not_looked_at(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "_MOST_HELD_OUT", 5)
    assert not (trained(photos, tmp_path / "run") / "label-errors.json").exists()


@pytest.mark.parametrize("file", ["label-errors.json", "learning-curve.json"])
def test_damage_is_named(run: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / file).write_text('{"schema_version": 1}')
    with pytest.raises(ModelFileError, match=f"{file} is damaged \\(.* is missing"):
        write_report(tmp_path / "run")


@pytest.mark.test_all
def test_the_same_picture_with_two_labels_is_on_top(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for part, count in (("train", 8), ("test", 4)):
        write_photos(root / part, count, side=80, seed=count)
    original = min((root / "train" / "green").iterdir())
    with Image.open(original) as image:
        image.resize((70, 60)).save(root / "test" / "blue" / "copy.png")
    run = trained(root, tmp_path / "run", image_px=64)
    found = json.loads((run / "label-errors.json").read_text())
    pair = {"test/blue/copy.png", f"train/green/{original.name}"}
    assert pair in [{row["path"], row["twin"]} for row in found["conflicts"]]
    page = Page((run / "report.html").read_text())
    assert "The same picture with two labels" in page.texts("h3")
    (listed,) = page.all("pre", "list")
    assert (listed.text or "").split()[1].split(",")[0] in pair
