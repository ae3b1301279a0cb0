"""Two runs that have divided the same data differently are compared on what neither was trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from deepresidual.cli import main
from deepresidual.data.source import open_source
from deepresidual.data.source.division import as_recorded
from deepresidual.runs.samples import record_samples, recorded_splits
from tests.conftest import write_photos
from tests.training.parts import a_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/photos/ of 30 pictures in no splits, and a/, a run of them."""
    folder = tmp_path_factory.mktemp("common")
    photos = write_photos(folder / "data" / "photos", 10)
    a_run(photos, folder / "a", {"steps": 1})
    return folder


@pytest.fixture
def photos(trained: Path) -> Path:
    return trained / "data" / "photos"


def with_test(trained: Path, folder: Path, num_shared: int, num_others: int) -> Path:
    """Write a copy of the run that held out some images that it did, and others from its training images."""
    shutil.copytree(trained / "a", folder)
    rows = recorded_splits(folder / "samples")
    parts = {
        "train": [*rows["test"][num_shared:], *rows["train"][num_others:]],
        "test": [*rows["test"][:num_shared], *rows["train"][:num_others]],
    }
    shutil.rmtree(folder / "samples")
    source = as_recorded(open_source(str(trained / "data" / "photos")), parts)
    assert len(source.split("test")) == num_shared + num_others
    record_samples(folder / "samples", source)
    return folder


def test_runs_of_different_splits_are_compared_on_what_both_hold_out(
    trained: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    runs = [str(trained / "a"), str(with_test(trained, tmp_path / "b", 4, 3))]
    page = tmp_path / "page.html"
    assert main(["compare", *runs, str(photos), "--json", "--workers", "0", "--report", str(page)]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["count"], document["num_left_out"]) == (4, 5)
    said = (
        "compared on 4 images that neither was trained on; 5 left out: "
        f"2 only in the test split of {runs[0]}, 3 only in the test split of {runs[1]}"
    )
    assert said in " ".join(err.split())
    assert page.exists()
    # A model of no run has the split that the data has.
    shutil.copytree(trained / "a" / "model", tmp_path / "model")
    assert main(["compare", runs[1], str(tmp_path / "model"), str(photos), "--workers", "0"]) == 0
    out, err = capsys.readouterr()
    assert "4 images: both right" in out
    assert "compared on 4 images that both have in test; 5 left out" in err
    # The same split is no reason for a line.
    assert main(["compare", runs[0], runs[0], str(photos), "--workers", "0"]) == 0
    assert "compared on" not in capsys.readouterr().err


def test_what_either_was_trained_on_is_left_out_by_content(
    trained: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    b = with_test(trained, tmp_path / "b", 0, 3)
    write_photos(tmp_path / "new" / "test", 2, seed=5)
    key = recorded_splits(trained / "a" / "samples")["test"][0][0]  # b was trained on it, and a was not
    shutil.copy(photos / key, tmp_path / "new" / "test" / "red" / "again.png")
    words = ["compare", str(trained / "a"), str(b), str(tmp_path / "new"), "--workers", "0", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["count"], json.loads(out)["num_left_out"]) == (6, 1)
    assert (
        "compared on 6 images that neither was trained on; 1 left out: 1 used for training (same content; "
        "--keep-training-images counts them)" in " ".join(err.split())
    )
    assert main([*words, "--keep-training-images"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["count"] == 7
    assert (
        "compared on 7 images that both have in test, 1 used for training and counted (same content)" in err
    )
    # Where nothing else is left, the option is the remedy.
    shutil.rmtree(tmp_path / "new" / "test")
    for name in ("red", "green", "blue"):
        (tmp_path / "new" / "test" / name).mkdir(parents=True)
        key = next(k for k, _, _ in recorded_splits(b / "samples")["test"])
        shutil.copy(photos / key, tmp_path / "new" / "test" / name)
    assert main(words) == 3
    assert "were used for training one of them (same content)" in capsys.readouterr().err
    assert main([*words, "--keep-training-images"]) == 0


def test_where_no_image_is_held_out_by_both_the_remedy_works(
    trained: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    runs = [str(trained / "a"), str(with_test(trained, tmp_path / "b", 0, 3))]
    assert main(["compare", *runs, str(photos), "--workers", "0"]) == 3
    assert (
        f"{runs[0]} and {runs[1]} hold out different images of {photos} (6 and 3), none of which is held out "
        "by both; expected images that neither was trained on; put new ones into OTHER/test, a folder for "
        f"each class, and compare there: residual compare {' '.join(runs)} OTHER" in capsys.readouterr().err
    )
    write_photos(tmp_path / "OTHER" / "test", 2, seed=5)
    assert main(["compare", *runs, str(tmp_path / "OTHER"), "--workers", "0"]) == 0
    assert "6 images: both right" in capsys.readouterr().out


def test_files_of_different_images_are_refused_with_what_works_instead(
    trained: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    runs = [str(trained / "a"), str(with_test(trained, tmp_path / "b", 4, 3))]
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    for run, file in zip(runs, files, strict=True):
        assert main(["evaluate", run, str(photos), "--predictions", file, "--workers", "0"]) == 0
    capsys.readouterr()
    assert main(["compare", *files]) == 3
    said = (
        "expected the same images in both (6 and 7 here); give the models in place of their files, which are "
        "then measured on the images that both may be judged on: residual compare MODEL MODEL DATA"
    )
    assert said in capsys.readouterr().err
