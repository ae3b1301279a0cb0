"""``residual explain`` with a detector: pictures, rows, JSON, and what is said where nothing is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepresidual.cli import main
from deepresidual.models import TorchClassifier, save
from tests.detectors import tiny_detector

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with a detector, and photos of two sizes."""
    monkeypatch.chdir(tmp_path)
    save(tiny_detector(), "model")
    Path("photos").mkdir()
    random = np.random.default_rng(0)
    for name, (width, height) in {"a.png": (60, 40), "b.jpg": (40, 60)}.items():
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path("photos", name))
    return tmp_path


def test_a_picture_and_a_row_for_each_photo(capsys: Capture) -> None:
    assert main(["explain", "model", "photos"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["object", "class", "score", "picture"]
    names = ["a-object-1-hires-cam.png", "b-object-1-hires-cam.png"]
    assert [row.split()[-1] for row in rows] == [f"explanations/{name}" for name in names]
    assert all(row.startswith("1 of ") for row in rows)
    assert sorted(path.name for path in Path("explanations").iterdir()) == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in Path("explanations").iterdir())


def test_another_object_its_stages_and_another_method_have_files_of_their_own(capsys: Capture) -> None:
    common = ["explain", "model", "photos/a.png", "--out", "out"]
    for options in ([], ["--object", "2"], ["--stages"], ["--method", "grad-cam", "--layer", "layer2"]):
        assert main([*common, *options]) == 0
    names = sorted(path.name for path in Path("out").iterdir())
    ends = ("1-grad-cam", "1-hires-cam", "1-stages", "2-hires-cam")
    assert names == [f"a-object-{end}.png" for end in ends]
    capsys.readouterr()
    assert main([*common, "--stages"]) == 2
    assert "out/a-object-1-stages.png would be overwritten" in capsys.readouterr().err


def test_json_is_one_document_and_says_what_predict_says(capsys: Capture) -> None:
    assert main(["predict", "model", "photos/a.png", "--min-score", "0", "--json"]) == 0
    objects = json.loads(capsys.readouterr().out)["results"][0]["objects"]
    assert main(["explain", "model", "photos/a.png", "--object", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document.pop("results")
    assert document == {"schema_version": 1, "method": "hires-cam", "layer": "last", "count": 1}
    assert Path(row["picture"]).exists()
    assert (row["object"], row["found"]) == (2, len(objects))
    assert {"label": row["class"], "score": row["score"], "box": row["box"]} == objects[1]


def test_where_there_is_no_such_object_one_sentence_says_so(capsys: Capture) -> None:
    assert main(["explain", "model", "photos/a.png", "--object", "5000"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: photos/a.png: object 5000 is asked for, and ")
    assert err.count("\n") == 1
    assert not Path("explanations").exists()
    assert main(["explain", "model", "photos", "--object", "5000", "--json"]) == 3
    out, err = capsys.readouterr()
    assert all("5000 is asked for" in row["error"] for row in json.loads(out)["results"])
    assert err.endswith("error: 2 of 2 files could not be used, as named above\n")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--object", "0"], 2, "--object is 0; expected 1 for the surest, or more"),
        (["--class", "cow"], 2, "unknown class 'cow'; expected one of cat, dog, hen"),
        (["--method", "score-cam"], 2, "--method score-cam is given, and model is a detector; expected"),
        (["--batch-size", "4"], 2, "--batch-size is given, and model is a detector"),
        (["--layer", "layer9"], 2, "unknown layer 'layer9'"),
        (["--stages", "--layer", "layer2"], 2, "--layer is given with --stages, which draws no heat map"),
        (["--workers", "-1"], 2, "workers is -1"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    capsys: Capture, options: list[str], code: int, message: str
) -> None:
    assert main(["explain", "model", "photos", *options]) == code
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert not Path("explanations").exists()


@pytest.mark.parametrize("options", [["--object", "2"], ["--stages"]])
def test_what_is_for_detectors_is_refused_with_a_classifier(
    tiny_model: TorchClassifier, capsys: Capture, options: list[str]
) -> None:
    save(tiny_model, "classes")
    assert main(["explain", "classes", "photos", *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {options[0]} is given, and classes is a classifier; expected a detector")
    assert not Path("explanations").exists()
