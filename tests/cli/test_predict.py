"""``residual predict`` and ``residual explain`` on many paths: what can be used is, and the rest is named."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from deepresidual.cli import main
from deepresidual.data.formats import EXPECTED
from deepresidual.evaluation.results import read_results
from deepresidual.models import TorchClassifier, save

HEIC = Path(__file__).parents[1] / "data" / "heic"

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


@pytest.fixture
def mixed(model: str, photos: Path) -> Path:
    """Return a folder of two good images, two bad ones, and three files of other kinds."""
    folder = photos.parent / "mixed"
    folder.mkdir()
    good = (photos / "test" / "red" / "red-000.png").read_bytes()
    (folder / "a.png").write_bytes(good)
    (folder / "b.jpg").write_bytes(b"")
    (folder / "c").write_bytes(good)  # an image by its content alone
    (folder / "d.png").symlink_to("nowhere")
    (folder / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (folder / "notes.txt").write_text("remember the milk")
    (folder / "photos.zip").write_bytes(b"PK\3\4")
    return folder


def _table_of(file: Path) -> list[dict[str, object]]:
    if file.suffix == ".csv":
        return [dict(row) for row in csv.DictReader(file.read_text().splitlines())]
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    rows: list[dict[str, object]] = pq.read_table(file).to_pylist()
    return rows


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_image_of_a_folder_has_a_row_in_the_file_errors_included(
    model: str, mixed: Path, capsys: Capture, suffix: str
) -> None:
    file = Path(f"found.{suffix}")
    assert main(["predict", model, "mixed", "--top-k", "2", "--out", str(file)]) == 3
    out, err = capsys.readouterr()
    assert out == f"found.{suffix}: 4 rows, 2 of them errors\n"
    assert err.splitlines() == [
        (
            "warning: 3 other files are not used (mixed/photos.zip: a zip file among images; give it by "
            "itself, or unpack it; mixed/film.mp4: no image (MP4); mixed/notes.txt: no image (text))"
        ),
        "warning: mixed/b.jpg: the file is empty (0 bytes)",
        "warning: mixed/d.png: the file cannot be read (No such file or directory)",
        "error: 2 of 4 files could not be used, as named above",
    ]
    rows = _table_of(file)
    assert list(rows[0]) == ["path", "class", "probability", "class_2", "probability_2", "error"]
    assert [row["path"] for row in rows] == [f"mixed/{name}" for name in ("a.png", "b.jpg", "c", "d.png")]
    assert [row["error"] for row in rows] == [
        *("", "the file is empty (0 bytes)", "", "the file cannot be read (No such file or directory)"),
    ]
    assert [bool(row["class"]) for row in rows] == [True, False, True, False]
    # The same numbers as on stdout, in full.
    assert main(["predict", model, "mixed", "--top-k", "2", "--format", "csv"]) == 3
    printed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["path"] for row in printed] == [row["path"] for row in rows]
    for row, shown in zip(rows, printed, strict=True):
        if row["class"]:
            assert row["class_2"] == shown["class_2"]
            assert float(str(row["probability"])) == pytest.approx(float(shown["probability"]), abs=1e-6)


def test_a_parquet_file_that_begins_with_errors_has_numbers_all_the_same(
    model: str, mixed: Path, capsys: Capture
) -> None:
    assert main(["predict", model, "mixed/b.jpg", "mixed/a.png", "--out", "found.parquet"]) == 3
    assert str(pq.read_schema("found.parquet").field("probability").type) == "double"


def test_a_file_of_rows_is_whole_or_not_there(
    model: str, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("found.csv").write_text("from before")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deepresidual.prediction.rows.PredictionRows.columns", interrupted)
    assert main(["predict", model, "mixed/a.png", "--out", "found.csv"]) == 130
    assert Path("found.csv").read_text() == "from before"
    assert not list(Path().glob(".found*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "found.txt"], "error: --out is 'found.txt'; expected a name in .csv, .jsonl, .parquet"),
        (
            ["--out", "f.csv", "--format", "jsonl"],
            "error: --format is jsonl, and the name of --out, f.csv, says another; leave --format out",
        ),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(
    model: str, mixed: Path, capsys: Capture, options: list[str], message: str
) -> None:
    assert main(["predict", model, "mixed", *options]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_many_files_with_one_fault_are_told_by_their_number(model: str, mixed: Path, capsys: Capture) -> None:
    for number in range(11):
        (mixed / f"empty-{number:02d}.png").write_bytes(b"")
    assert main(["predict", model, "mixed", "--json"]) == 3
    out, err = capsys.readouterr()
    assert sum("error" in row for row in json.loads(out)["results"]) == 13
    assert err.count(": the file is empty (0 bytes)") == 8 + 1
    assert "warning: and 4 more: the file is empty (0 bytes)" in err


def test_heic_photos_without_their_library_have_rows_and_one_warning(
    model: str, mixed: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepresidual.data.readers.reads_heic", lambda: False)
    for number in range(3):
        (mixed / f"IMG_{number}.HEIC").write_bytes((HEIC / "upright.heic").read_bytes())
    assert main(["predict", model, "mixed", "--json"]) == 3
    out, err = capsys.readouterr()
    rows = [row for row in json.loads(out)["results"] if row["path"].endswith(".HEIC")]
    assert [row["error"][:18] for row in rows] == ["a HEIC photo, as i"] * 3
    assert err.count("IMG_0.HEIC: a HEIC photo, as iPhones take them; to read these: pip install") == 1
    assert "and 2 more: a HEIC photo" in err
    assert err.count("HEIC photo") == 2


def test_an_image_comes_through_stdin(
    model: str, mixed: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (mixed / "a.png").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["predict", model, "-", "mixed/a.png", "--format", "csv"]) == 0
    _, file, stdin = csv.reader(capsys.readouterr().out.splitlines())
    assert (file[0], stdin[0]) == ("mixed/a.png", "stdin")
    assert file[1:] == stdin[1:]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(["predict", model, "-"]) == 3
    assert "warning: stdin: the file is empty (0 bytes)" in capsys.readouterr().err


def test_images_in_a_zip_are_predicted(model: str, mixed: Path, capsys: Capture) -> None:
    with zipfile.ZipFile("all.zip", "w") as target:
        target.write(mixed / "a.png", "photos/a.png")
        target.writestr("photos/b.png", b"")
    assert main(["predict", model, "all.zip", "--format", "csv"]) == 3
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["path"] for row in rows] == ["all.zip/photos/a.png", "all.zip/photos/b.png"]
    assert rows[1]["error"] == "the file is empty (0 bytes)"


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
