"""``evaluate --report``, and ``compare`` of models, runs and files: their pages, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepresidual.cli import main
from deepresidual.training.launch import train
from tests.conftest import TINY
from tests.reporting.page import Page

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def trained_run(photos: Path, tmp_path: Path) -> Path:
    """A run of the photos."""
    changes = {"epochs": 1.0, "batch_size": 24}
    train(photos, TINY, tmp_path / "run", changes=changes, image_px=8, num_workers=0, precision="fp32")
    return tmp_path / "run"


def test_any_evaluation_has_a_page(trained_run: Path, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "page.html"
    assert main(["evaluate", str(trained_run / "model"), str(photos), "--report", str(page)]) == 0
    assert f"report  {page}" in capsys.readouterr().out
    assert main(["evaluate", str(trained_run), str(photos), "--report", str(page), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["report"] == str(page)
    text = page.read_text()
    read = Page(text)
    assert read.loads() == read.scripts() == []
    assert read.texts("h1")[0].startswith(
        f"{document['top1_count']} of {document['count']} images are named right"
    )
    assert len(read.all("figure")) == len(document["mistakes"]) + min(2, len(document["best"]))
    assert len(read.all("img", "heat")) == len(read.all("figure"))


def test_a_file_of_ones_own_is_not_replaced(
    trained_run: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    for command in (["evaluate", str(trained_run), str(photos)], ["compare", "a.csv", "b.csv"]):
        assert main([*command, "--report", str(mine)]) == 2
        assert "choose another --report" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_models_runs_and_files_are_compared(
    trained_run: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    file, page = tmp_path / "a.csv", tmp_path / "page.html"
    assert main(["evaluate", str(trained_run), str(photos), "--predictions", str(file)]) == 0
    capsys.readouterr()
    model = str(trained_run / "model")
    assert main(["compare", str(file), model, str(photos), "--json", "--report", str(page)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["only_first"] == document["only_second"] == 0
    assert document["count"] == 15
    assert document["report"] == str(page)
    read = Page(page.read_text())
    assert read.loads() == read.scripts() == []
    assert read.texts("h1")[0].startswith("No difference is shown: A and B name")
    assert read.texts("h2") == [
        "Where they agree",
        "What each is better at",
        "Images that tell them apart",
        "How it was made",
    ]
    # Two runs say where their data lies.
    assert main(["compare", str(trained_run), str(trained_run)]) == 0
    assert "15 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a.csv"], 2, "there are 1 words to compare"),
        (["a.csv", "b.csv", "c", "d"], 2, "there are 4 words to compare"),
        (["MODEL", "MODEL"], 2, "there is no DATA; name it: residual compare"),
        (["MODEL", "no-such-model", "PHOTOS"], 3, "no-such-model does not exist"),
        (["MODEL", "MODEL", "no-such-folder"], 3, "no-such-folder does not exist"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    trained_run: Path, photos: Path, capsys: Capture, words: list[str], code: int, message: str
) -> None:
    places = {"MODEL": str(trained_run / "model"), "PHOTOS": str(photos)}
    assert main(["compare", *(places.get(word, word) for word in words)]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
