"""``residual explain`` as a user calls it: pictures, table, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepresidual.cli import main
from deepresidual.models import TorchClassifier, save

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path, tiny_model: TorchClassifier) -> str:
    save(tiny_model, tmp_path / "model")
    return str(tmp_path / "model")


def test_a_picture_for_each_photo(model: str, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "pictures"
    assert main(["explain", model, str(photos / "test"), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "probability", "picture"]
    pictures = sorted(out.iterdir())
    assert len(pictures) == 15
    assert sorted(line.split()[-1] for line in lines[1:]) == [str(path) for path in pictures]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert pictures[0].name == "blue-000-grad-cam.png"


def test_json_is_one_document(model: str, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    pattern, out = str(photos / "test" / "red" / "*.png"), tmp_path / "out"
    options = ["--method", "score-cam", "--layer", "layer1.0", "--class", "green", "--json"]
    assert main(["explain", model, pattern, *options, "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert (document["method"], document["layer"], document["count"]) == ("score-cam", "layer1.0", 5)
    for row in document["results"]:
        assert row["class"] == "green"
        assert 0 < row["probability"] <= row["predicted"]["probability"] < 1
        assert Path(row["picture"]).stem == f"{Path(row['path']).stem}-score-cam"
        assert Path(row["picture"]).exists()


def test_photos_of_one_name_get_pictures_of_their_own(
    model: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    files = [photos / "test" / folder / "x.png" for folder in ("red", "green", "blue")]
    for file in files:
        next(file.parent.glob("*-000.png")).rename(file)
    files.append(files[0].with_name("X.png"))  # the same where case does not count
    files[0].with_name("X.png").write_bytes(files[0].read_bytes())
    assert main(["explain", model, *map(str, files), "--out", str(tmp_path / "out")]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["X-grad-cam-4.png", "x-grad-cam-2.png", "x-grad-cam-3.png", "x-grad-cam.png"]


def test_bad_files_are_named_and_the_exit_code_is_3(
    model: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = photos / "test" / "red"
    (folder / "notes.jpg").write_text("not a picture")
    (folder / "readme.txt").write_text("not even called one")
    assert main(["explain", model, str(folder), "--out", str(tmp_path / "out"), "--json"]) == 3
    captured = capsys.readouterr()
    assert "notes.jpg: not an image that can be used (found text)" in captured.err
    assert "readme.txt is not used" in captured.err
    assert captured.err.endswith("error: 1 of 6 files could not be used, as named above\n")
    document = json.loads(captured.out)
    assert [row["path"] for row in document["results"] if "error" in row] == [str(folder / "notes.jpg")]
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_nothing_is_overwritten(model: str, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = ["explain", model, str(photos / "test" / "red"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    present = sorted((tmp_path / "out").iterdir())
    before = [path.read_bytes() for path in present]
    capsys.readouterr()
    assert main([*arguments, "--class", "blue"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    expected = (
        f"{present[0]} and 4 more would be overwritten; choose another --out, or remove what is there\n"
    )
    assert captured.err == f"error: {expected}"
    assert [path.read_bytes() for path in present] == before
    present[0].unlink()
    present[0].symlink_to("nowhere")  # a link that leads nowhere is something, too
    assert main([*arguments[:2], str(photos / "test" / "red" / "red-000.png"), *arguments[3:]]) == 2
    assert main([*arguments, "--method", "grad-cam++"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "there is no PATH"),
        (["nowhere.jpg"], 3, "nowhere.jpg does not exist"),
        (["PHOTOS", "--layer", "layer7"], 2, r"unknown layer 'layer7' (nearest: layer"),
        (["PHOTOS", "--class", "gren"], 2, "unknown class 'gren' (nearest: green"),
        (["PHOTOS", "--class", "3"], 2, "unknown class '3'; expected one of blue, green, red"),
        (["PHOTOS", "--batch-size", "0"], 2, "batch_size is 0"),
        (["PHOTOS", "--device", "abacus"], 2, "device 'abacus' is not available"),
        (["PHOTOS", "--out", "PHOTOS/test/red/red-000.png"], 2, "is not a folder; choose another --out"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    model: str,
    photos: Path,
    tmp_path: Path,
    capsys: Capture,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    given = [word.replace("PHOTOS", str(photos)) for word in arguments]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "out")]
    assert main(["explain", model, *given]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_said(
    model: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    assert main(["explain", model, str(photos / "test" / "red"), "--out", str(out)]) == 1
    assert f"error: cannot write {out}" in capsys.readouterr().err
