"""``residual predict`` with a detector: rows, files, COCO's results, pictures, shards, and refusals."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from deepresidual.cli import main
from deepresidual.data.masks import Runs
from deepresidual.models import TorchClassifier, save
from tests.detectors import TINY_MASKS, tiny_detector

Capture = pytest.CaptureFixture[str]
SIZES = {"a.png": (60, 40), "b.jpg": (40, 60), "c.bmp": (64, 64)}
HEADER = ["path", "label", "score", "x0", "y0", "x1", "y1", "error"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a detector in the current folder, which holds photos of three formats."""
    monkeypatch.chdir(tmp_path)
    save(tiny_detector(), "model")
    Path("photos").mkdir()
    random = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
            Path("photos", name)
        )
    return "model"


def lines(text: str) -> list[Any]:
    """Return JSON lines as values."""
    return [json.loads(line) for line in text.splitlines()]


def test_every_form_has_the_same_objects(model: str, capsys: Capture) -> None:
    common = ["predict", model, "photos", "--min-score", "0.05"]
    assert main([*common, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    results = document["results"]
    assert (document["count"], document["min_score"]) == (3, 0.05)
    assert [(row["path"], row["width"], row["height"]) for row in results] == [
        (f"photos/{name}", *size) for name, size in SIZES.items()
    ]
    flat = [
        [row["path"], each["label"], each["score"], *each["box"]]
        for row in results
        for each in row["objects"]
    ]
    assert len(flat) > 3
    assert main([*common, "--format", "jsonl"]) == 0
    assert lines(capsys.readouterr().out) == results
    assert main([*common, "--format", "csv"]) == 0
    header, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == HEADER
    assert [[path, label, *map(float, numbers)] for path, label, *numbers, _ in rows] == flat
    for suffix in ("csv", "jsonl", "parquet"):
        assert main([*common, "--out", f"found.{suffix}", "--format", suffix]) == 0
        assert capsys.readouterr().out.startswith(f"found.{suffix}: ")
    table = pq.read_table("found.parquet")
    assert table.column_names == HEADER
    assert [list(row.values())[:-1] for row in table.to_pylist()] == flat
    assert [
        [row["path"], row["label"], *(float(row[name]) for name in HEADER[2:-1])]
        for row in csv.DictReader(Path("found.csv").read_text().splitlines())
    ] == flat
    assert lines(Path("found.jsonl").read_text()) == [{**row, "error": ""} for row in results]


def test_a_table_has_a_line_for_each_object_and_each_photo_without_one(model: str, capsys: Capture) -> None:
    assert main(["predict", model, "photos"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "label                score     x0     y0     x1     y1  file",
        *(f"{'–':<56}photos/{name}" for name in SIZES),
    ]
    assert err.splitlines() == [
        "no objects in 3 images",
        "no object has a score of 0.5 or more: a lower --min-score shows what the model is less sure of",
    ]
    assert main(["predict", model, "photos/a.png", "--min-score", "0"]) == 0
    out, err = capsys.readouterr()
    assert all(len(line) <= 80 for line in out.splitlines())
    assert all(line.endswith("  photos/a.png") for line in out.splitlines()[1:])
    assert err.endswith(" in 1 image\n")


def test_a_photo_without_objects_has_a_row_without_a_label(model: str, capsys: Capture) -> None:
    assert main(["predict", model, "photos", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [f"photos/{name},,,,,,," for name in SIZES]
    assert main(["predict", model, "photos", "--out", "found.parquet"]) == 0
    rows = pq.read_table("found.parquet").to_pylist()
    assert [(row["path"], row["label"], row["x0"]) for row in rows] == [
        (f"photos/{name}", None, None) for name in SIZES
    ]


def test_a_file_that_cannot_be_used_has_its_error_and_the_exit_code_is_3(model: str, capsys: Capture) -> None:
    Path("photos/bad.png").write_bytes(b"")
    assert main(["predict", model, "photos", "--out", "found.csv", "--draw", "drawn"]) == 3
    out, err = capsys.readouterr()
    assert out == "found.csv: no objects in 3 images, 1 file could not be used\n"
    assert "warning: photos/bad.png: the file is empty (0 bytes)" in err
    assert err.endswith("error: 1 of 4 files could not be used, as named above\n")
    assert "photos/bad.png,,,,,,,the file is empty (0 bytes)" in Path("found.csv").read_text().splitlines()
    assert sorted(path.name for path in Path("drawn").iterdir()) == ["a.png", "b.jpg", "c.jpg"]


def test_where_nothing_can_be_used_there_is_nothing_but_the_error(model: str, capsys: Capture) -> None:
    Path("note.txt").write_text("a note")
    assert main(["predict", model, "note.txt"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "no objects" not in err
    assert err.endswith("error: 1 of 1 file could not be used, as named above\n")


def test_coco_results_hold_all_that_the_model_gives(model: str, capsys: Capture) -> None:
    for number, name in enumerate(SIZES, start=7):
        Path("photos", name).rename(Path("photos", f"{number:06d}{Path(name).suffix}"))
    assert main(["predict", model, "photos", "--format", "coco", "--out", "found.json"]) == 0
    assert capsys.readouterr().out.startswith("found.json: ")  # and nothing else
    written = json.loads(Path("found.json").read_text())
    assert {row["image_id"] for row in written} == {7, 8, 9}
    assert {row["category_id"] for row in written} <= {1, 2, 3}
    assert main(["predict", model, "photos", "--format", "coco"]) == 0
    assert json.loads(capsys.readouterr().out) == written
    assert main(["predict", model, "photos", "--format", "jsonl", "--min-score", "0"]) == 0
    objects = [each for row in lines(capsys.readouterr().out) for each in row["objects"]]
    assert [row["score"] for row in written] == [each["score"] for each in objects]
    for row, each in zip(written, objects, strict=True):
        x, y, width, height = row["bbox"]
        assert [x, y, x + width, y + height] == pytest.approx(each["box"], abs=0.02)
        assert row["category"] == each["label"]


def test_images_that_are_not_called_by_numbers_are_counted(model: str, capsys: Capture) -> None:
    assert main(["predict", model, "photos", "--format", "coco"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {(row["image_id"], row["file_name"]) for row in found} == {
        (1, "a.png"),
        (2, "b.jpg"),
        (3, "c.bmp"),
    }


def test_shards_hold_the_rows_of_one_file(model: str, capsys: Capture) -> None:
    common = ["predict", model, "photos", "--min-score", "0.05"]
    assert main([*common, "--out", "found.parquet"]) == 0
    for part in ("0/2", "1/2"):
        assert main([*common, "--out", "shards", "--shard", part, "--shard-size", "1", "--json"]) == 0
    out = capsys.readouterr().out
    assert '"num_shards_done": 3' in out
    assert Path("shards/_SUCCESS").exists()
    shards = [pq.read_table(path).to_pylist() for path in sorted(Path("shards").glob("*.parquet"))]
    assert [row for shard in shards for row in shard] == pq.read_table("found.parquet").to_pylist()
    assert main(["predict", model, "photos", "--min-score", "0.3", "--out", "shards"]) == 2
    assert "min_score was 0.05 and is 0.3" in capsys.readouterr().err


def test_pictures_are_upright_and_never_overwritten(model: str, capsys: Capture) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (500, 400), "gray").save("turned.jpg", exif=exif)
    assert main(["predict", model, "turned.jpg", "photos/b.jpg", "--draw", "drawn", "--min-score", "0"]) == 0
    assert capsys.readouterr().err.endswith("drew 2 pictures into drawn\n")
    with Image.open("drawn/turned.jpg") as picture:
        assert (picture.size, picture.format) == ((400, 500), "JPEG")
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 10
    with Image.open("drawn/b.jpg") as picture:
        assert picture.size == (40 * 9, 60 * 9)  # small ones are enlarged by a whole factor
    assert main(["predict", model, "photos/b.jpg", "--draw", "drawn"]) == 2
    assert "drawn/b.jpg would be overwritten; choose another --draw" in capsys.readouterr().err


def test_masks_are_written_and_drawn(model: str, capsys: Capture) -> None:
    assert model == "model"
    save(tiny_detector(spec=TINY_MASKS), "masks")
    common = ["predict", "masks", "photos/c.bmp", "--min-score", "0.05"]
    assert main([*common, "--json", "--draw", "drawn"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert all(each["mask"]["size"] == [64, 64] for each in row["objects"])
    assert main([*common, "--format", "coco"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["segmentation"] for each in found] == [each["mask"] for each in row["objects"]]
    assert sum(coco_mask.area(each["segmentation"]) for each in found) > 0
    assert main([*common, "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == ",".join(HEADER)
    with Image.open("drawn/c.jpg") as picture, Image.open("photos/c.bmp") as photo:
        factor = picture.width // 64
        assert picture.size == (64 * factor, 64 * factor)
        covered = np.zeros((64, 64), np.bool_)
        for each in found:
            crop = Runs.from_dict(each["segmentation"]).crop()
            rows, columns = crop.pixels.shape
            covered[crop.top : crop.top + rows, crop.left : crop.left + columns] |= crop.pixels > 0
        covered = covered.repeat(factor, 0).repeat(factor, 1)
        plain = np.asarray(photo.resize(picture.size, Image.Resampling.NEAREST), int)
        changed = np.abs(np.asarray(picture, int) - plain).max(axis=2) > 24
    assert changed[covered].mean() > 0.9


def test_json_names_the_pictures(model: str, capsys: Capture) -> None:
    Path("more").mkdir()
    Path("more/a.png").write_bytes(Path("photos/a.png").read_bytes())
    assert main(["predict", model, "photos/a.png", "more/a.png", "--draw", "drawn", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [row["picture"] for row in results] == ["drawn/a.png", "drawn/a-2.png"]


def test_a_network_that_gives_nan_is_named(model: str, capsys: Capture) -> None:
    detector = tiny_detector()
    with torch.no_grad():
        # Weights that are allowed and overflow.
        for parameter in detector.network.roi_heads.box_predictor.cls_score.parameters():
            parameter.fill_(3e38)
        detector.network.roi_heads.box_predictor.cls_score.weight[0] *= -1
    save(detector, "broken")
    assert main(["predict", "broken", "photos"]) == 3
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(
            "error: broken: its outputs are not finite for 3 of 3 files, as named above; check its weights"
        )
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-k", "2"], "--top-k is given, and model is a detector"),
        (["--min-probability", "0.5"], "--min-probability is given, and model is a detector"),
        (["--fast-decode"], "--fast-decode is given, and model is a detector"),
        (["--features", "--out", "x.npy"], "--features is given, and model is a detector"),
        (["--features"], "--features is given, and model is a detector"),
        (["--format", "npy"], "--format npy is given, and model is a detector"),
        (["--format", "json"], "residual predict has no --format json; here it is --json"),
        (["--format", "xml"], "--format is 'xml'; expected one of coco, csv, jsonl, npy, parquet, table\n"),
        (["--min-score", "2"], "--min-score is 2; expected 0 to 1"),
        (
            ["--out", "shards", "--draw", "drawn"],
            "--draw is given with a folder of shards; expected one of them",
        ),
        (["--out", "shards", "--format", "coco"], "--format is coco, and --out a folder"),
        (
            ["--out", "x.csv", "--format", "jsonl"],
            "--format is jsonl, and the name of --out, x.csv, says another; leave --format out",
        ),
        (["--backend", "openvino"], "model is a model that PyTorch computes, and the backend is 'openvino'"),
        (["--draw", "photos/a.png"], "photos/a.png is not a folder; choose another --draw"),
    ],
)
def test_what_has_no_meaning_for_a_detector_is_refused(
    model: str, capsys: Capture, options: list[str], message: str
) -> None:
    assert main(["predict", model, "photos", *options]) in (2, 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1
    assert not Path("drawn").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--min-score", "0.5"], "--min-score"),
        (["--draw", "drawn"], "--draw"),
        (["--format", "coco"], "--format coco"),
        (["--out", "x.json"], "--out FILE.json"),
    ],
)
def test_what_is_for_detectors_is_refused_with_a_classifier(
    model: str, tiny_model: TorchClassifier, capsys: Capture, options: list[str], named: str
) -> None:
    save(tiny_model, "classes")
    assert main(["predict", "classes", "photos", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {named} is given, and classes is a classifier; expected a detector")
    assert not Path("drawn").exists()


def test_detectors_are_listed_by_name_and_pattern(capsys: Capture) -> None:
    assert main(["models", "resnet18-fpn", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert row["num_classes"] == 80
    assert [level["stride"] for level in row["levels"]] == [4, 8, 16, 32, 64]
    assert [level["num_anchors"] for level in row["levels"]][:2] == [3 * 200**2, 3 * 100**2]
    assert main(["models", "resnet18-fpn", "--image-px", "64"]) == 0
    out = capsys.readouterr().out
    assert f"{row['parameters']:,} (80 classes)" in out
    assert " layer1 " in out
    assert main(["models", "resnet20-*"]) == 0
    out = capsys.readouterr().out
    assert [f"resnet20-{kind} " in out for kind in ("c4", "fpn", "fpn-slim", "fpn-tiny")] == [True] * 4
    assert main(["models"]) == 0
    assert "Each has detectors: NETWORK-c4, NETWORK-fpn" in capsys.readouterr().out
    assert main(["models", "resnet18-fpn", "--figure", "x.svg"]) == 2
    assert "--figure is given for resnet18-fpn; expected a network" in capsys.readouterr().err
    assert main(["benchmark", "inference", "resnet18-fpn"]) == 2
    assert (
        "resnet18-fpn is a detector; expected a network, such as its own, resnet18" in capsys.readouterr().err
    )
