"""``residual predict`` and ``residual explain`` on many paths: what can be used is, and the rest is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from deepresidual.cli import main
from deepresidual.data.formats import EXPECTED
from deepresidual.evaluation.results import read_results
from deepresidual.models import TorchClassifier, save

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path, tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a model folder in the current folder, which holds ``photos`` where they are used."""
    monkeypatch.chdir(tmp_path)
    save(tiny_model, "model")
    return "model"


@pytest.fixture
def broken(model: str, tiny_model: TorchClassifier) -> str:
    """Return the name of a model whose weights are finite and whose outputs are not."""
    assert isinstance(tiny_model.network.bn1, torch.nn.BatchNorm2d)
    # Weights that are allowed and overflow: the sum over a window is infinite, in half of the channels.
    with torch.no_grad():
        tiny_model.network.conv1.weight.fill_(3e38)
        tiny_model.network.conv1.weight[::2] *= -1
    save(tiny_model, "broken")
    return "broken"


NOT_FINITE = (
    "error: broken: its outputs are not finite for 5 of 5 files, as named above; "
    "check its weights: variances below 0 and weights that overflow give NaN"
)


@pytest.mark.parametrize("options", [[], ["--json"], ["--format", "jsonl"], ["--format", "csv"]])
def test_a_network_that_gives_nan_is_named(
    broken: str, photos: Path, capsys: Capture, options: list[str]
) -> None:
    assert main(["predict", broken, "photos/test/red", *options]) == 3
    out, err = capsys.readouterr()
    assert "nan" not in out.casefold()
    assert err.splitlines()[-1] == NOT_FINITE
    assert err.count("warning: photos/test/red/red-00") == 5
    if options == ["--json"]:
        assert {row["error"] for row in json.loads(out)["results"]} == {
            "the outputs of the model are not finite"
        }


@pytest.mark.parametrize("options", [[], ["--json"], ["--method", "score-cam"], ["--method", "grad-cam++"]])
def test_no_picture_of_a_network_that_gives_nan(
    broken: str, photos: Path, tmp_path: Path, capsys: Capture, options: list[str]
) -> None:
    assert main(["explain", broken, "photos/test/red", *options]) == 3
    out, err = capsys.readouterr()
    assert "nan" not in out.casefold()
    assert err.splitlines()[-1] == NOT_FINITE
    assert list((tmp_path / "explanations").iterdir()) == []


@pytest.mark.parametrize("options", [[], ["--json"], ["--views", "flip"], ["--corrupt", "jpeg=50"]])
def test_no_figures_of_a_network_that_gives_nan(
    broken: str, photos: Path, capsys: Capture, options: list[str]
) -> None:
    assert main(["evaluate", broken, "photos", *options]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: broken: its outputs are not finite for test/blue/blue-000.png; check its weights" in err


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_what_stands_for_nothing_is_named_and_the_rest_is_done(
    model: str, photos: Path, capsys: Capture, command: str
) -> None:
    Path("photos/test/new").mkdir()
    paths = ["photos/test/*", "gone.png", "photos/test/red", "x/*.png"]
    assert main([command, model, *paths, "--json"]) == 3
    out, err = capsys.readouterr()
    rows = json.loads(out)["results"]
    assert len(rows) == 16
    assert [row["path"] for row in rows if "error" in row] == ["gone.png"]
    assert err.splitlines() == [
        f"warning: photos/test/new holds no images; expected {EXPECTED} files",
        "warning: the pattern x/*.png matches no file",
        "warning: gone.png: the file cannot be read (No such file or directory)",
        "error: 1 of 16 files could not be used, as named above; 2 paths stand for no image, as named above",
    ]


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_one_path_that_is_missing_is_an_error_at_once(capsys: Capture, command: str) -> None:
    assert main([command, "resnet20-digits", "gone.png"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: gone.png does not exist; expected an image file, a folder or a pattern\n"


FORMULAS = ('=HYPERLINK("x")', "@SUM(A1)", "-1")


def test_no_cell_of_a_prediction_is_a_formula(
    photos: Path, tiny_model: TorchClassifier, capsys: Capture
) -> None:
    save(TorchClassifier(tiny_model.network, FORMULAS, tiny_model.preprocess), photos.parent / "model")
    (photos / "test" / "red" / "red-000.png").rename(photos / "=1+1.png")
    assert (
        main(["predict", str(photos.parent / "model"), str(photos), "--format", "csv", "--top-k", "3"]) == 0
    )
    rows = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 64
    for row in rows[1:]:
        assert {row[1], row[3], row[5]} == {f"'{FORMULAS[0]}", f"'{FORMULAS[1]}", FORMULAS[2]}
        assert 0 < float(row[2]) < 1


def test_formulas_in_names_come_back_to_compare(
    photos: Path, tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for part in ("train", "test"):
        for name, formula in zip(("blue", "green", "red"), FORMULAS, strict=True):
            (photos / part / name).rename(photos / part / formula)
    names = sorted(FORMULAS)
    save(TorchClassifier(tiny_model.network, tuple(names), tiny_model.preprocess), photos.parent / "model")
    monkeypatch.chdir(photos.parent)
    for file in ("a.csv", "b.jsonl"):
        assert main(["evaluate", "model", "photos", "--predictions", file]) == 0
    with Path("a.csv").open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert {row["label"] for row in rows} == {f"'{FORMULAS[0]}", f"'{FORMULAS[1]}", "-1"}
    assert not any(cell.startswith(("=", "@")) for row in rows for cell in row.values())
    assert read_results("a.csv") == read_results("b.jsonl")
    capsys.readouterr()
    assert main(["compare", "a.csv", "b.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == 0


def test_classes_that_are_no_text_are_written_as_escapes(
    photos: Path, tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    odd = os.fsdecode(b"caf\xe9")
    for part in ("train", "test"):
        (photos / part / "green").rename(photos / part / odd)
    save(
        TorchClassifier(tiny_model.network, ("blue", odd, "red"), tiny_model.preprocess),
        photos.parent / "model",
    )
    monkeypatch.chdir(photos.parent)
    for file in ("a.csv", "a.jsonl", "a.parquet"):
        assert main(["evaluate", "model", "photos", "--details", "--predictions", file]) == 0
        assert {label for label, _ in read_results(file).values()} == {"blue", r"caf\udce9", "red"}


def test_a_spreadsheet_may_have_saved_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffkey,label,predicted\n'=1.png,ant,bee\n", encoding="utf-8")
    assert read_results(tmp_path / "a.csv") == {"=1.png": ("ant", "bee")}
