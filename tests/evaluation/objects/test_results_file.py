"""Files of what detectors found, with masks: ours give all of it back, and those of others are read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from deepresidual import evaluate
from deepresidual.cli import main
from deepresidual.data.masks import Masks, Runs
from deepresidual.data.objects import Objects
from deepresidual.errors import DataError
from deepresidual.evaluation.objects import evaluate_results
from deepresidual.evaluation.objects.results_file import ResultNames, read_results, write_results
from tests.detectors import TINY_MASKS, tiny_detector, write_masks

Capture = pytest.CaptureFixture[str]
NAMES = ResultNames(["a.png", "b.png"], [7, 9], ["cat", "dog"], [1, 3], lambda _: (40, 60))
SQUARE = np.array([(10.0, 20.0), (30.0, 20.0), (30.0, 35.0), (10.0, 35.0)])


def some_found() -> list[Objects]:
    """Return a cat in the first image, and nothing in the second."""
    boxes, scores = np.array([(10, 20, 30, 35)], np.float32), np.array([0.3], np.float32)
    cat = Objects(boxes, np.zeros(1, np.int64), scores=scores, masks=Masks.of([[SQUARE]]).on((40, 60)))
    return [cat, Objects.none()]


def read(path: Path, rows: list[dict[str, Any]]) -> list[Objects]:
    path.write_text(json.dumps([{"image_id": 7, "category_id": 3, "score": 0.5, **row} for row in rows]))
    return read_results(path, NAMES)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet", "csv"])
def test_what_was_written_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"found.{suffix}"
    write_results(path, some_found(), NAMES)
    cat, nothing = read_results(path, NAMES)
    assert (cat.boxes.tolist(), len(nothing)) == ([[10, 20, 30, 35]], 0)
    assert cat.scores is not None
    assert cat.scores.tolist() == [np.float32(0.3)]
    if suffix == "csv":
        assert cat.masks is None
        assert "mask" not in path.read_text()
    else:
        assert cat.masks is not None
        assert cat.masks.runs(0) == Runs.drawn([SQUARE], (40, 60))


def test_a_file_of_boxes_has_no_masks(tmp_path: Path) -> None:
    boxes = [Objects(each.boxes, each.labels, scores=each.scores) for each in some_found()]
    for suffix in ("json", "jsonl", "parquet"):
        write_results(tmp_path / f"found.{suffix}", boxes, NAMES)
        assert read_results(tmp_path / f"found.{suffix}", NAMES)[0].masks is None
    assert "segmentation" not in (tmp_path / "found.json").read_text()


@pytest.mark.parametrize("form", ["polygons", "numbers", "text"])
def test_masks_of_other_programs_need_no_box(tmp_path: Path, form: str) -> None:
    counts = [10 * 40 + 20, *[15, 25] * 19, 15, 30 * 40 - 15 + 20 - 20]
    counts[-1] = 40 * 60 - sum(counts[:-1])
    encoded = coco_mask.frPyObjects({"size": [40, 60], "counts": counts}, 40, 60)
    segmentation: Any = {
        "polygons": [SQUARE.reshape(-1).tolist()],
        "numbers": {"size": [40, 60], "counts": counts},
        "text": {"size": [40, 60], "counts": encoded["counts"].decode()},
    }[form]
    dog, _ = read(tmp_path / "found.json", [{"segmentation": segmentation}])
    assert dog.masks is not None
    assert dog.boxes.tolist() == [[10, 20, 30, 35]]
    assert dog.masks.areas().tolist() == [300]


def test_a_result_without_a_mask_among_others_is_told(tmp_path: Path, capsys: Capture) -> None:
    polygons = [SQUARE.reshape(-1).tolist()]
    dogs, _ = read(tmp_path / "found.json", [{"segmentation": polygons}, {"bbox": [1, 2, 3, 4]}])
    assert dogs.masks is not None
    assert dogs.masks.areas().tolist() == [300, 0]
    assert "1 results without a mask among 1 with one: they cover no pixel" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"segmentation": {"size": [60, 40], "counts": [2400]}},
            "result 1 has a mask of 40×60 px, and its image has 60×40",
        ),
        ({"segmentation": {"size": [40, 60], "counts": [5]}}, "result 1 has runs of 5 pixels in all"),
        ({"segmentation": "?"}, "result 1 has '?' as segmentation"),
        ({"segmentation": [[1, 2, 3]]}, "result 1 has a polygon of 3 numbers"),
        ({}, "expected image_id, category_id, bbox and score"),
        ({"bbox": []}, "result 1 has the bbox []; expected four numbers"),
    ],
)
def test_bad_masks_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path / "found.json", [row])


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_masks(tmp_path_factory.mktemp("data") / "shapes", 4, 6))


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_a_file_gives_the_figures_of_the_detector(shapes: str, tmp_path: Path, suffix: str) -> None:
    path, model = tmp_path / f"found.{suffix}", tiny_detector(("disc", "square"), 32, TINY_MASKS)
    direct, again = evaluate(model, shapes, predictions=path), evaluate_results(path, shapes)
    assert direct.masks is not None
    assert direct.masks.num_found > 0
    assert sum(row.count for row in direct.masks.errors if row.kind == "place") > 0
    assert again == direct


def perfect(shapes: str, path: Path, shrink: float) -> str:
    """Write what a detector found that finds every octagon, each smaller by a factor."""
    document = json.loads(Path(shapes, "instances_test.json").read_text())
    rows = []
    for row in document["annotations"]:
        corners = np.array(row["segmentation"][0]).reshape(-1, 2)
        corners = corners.mean(axis=0) + shrink * (corners - corners.mean(axis=0))
        kept = {name: row[name] for name in ("image_id", "category_id", "bbox")}
        rows.append({**kept, "score": 0.9, "segmentation": [corners.reshape(-1).tolist()]})
    path.write_text(json.dumps(rows))
    return str(path)


def test_boxes_and_masks_stand_side_by_side(shapes: str, tmp_path: Path, capsys: Capture) -> None:
    """The boxes are right, and the masks a third as large as they should be."""
    file = perfect(shapes, tmp_path / "found.json", 0.6)
    assert main(["evaluate", file, shapes, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["ap"], document["ap50"]) == (1, 1)
    assert (document["mask_ap"], document["mask_ap50"]) == (0, 0)
    assert main(["evaluate", file, shapes, "--details"]) == 0
    out = capsys.readouterr().out
    for line in (
        r" boxes +100\.0 +100\.0 – 100\.0 +100\.0 +100\.0 ",
        r" disc +boxes +\d+ +100\.0 ",
        r"\n +masks +\d+ +0\.0 ",
        r" error +boxes +to gain +masks +to gain +detections",
        r" place +0 +\+0\.0 +[1-9] +\+100\.0 +near an object of its class",
        r"judged by their masks",
    ):
        assert re.search(line, out), line
    assert main(["evaluate", file, shapes, "--metric", "voc12"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"mAP 100\.0 \S+ by the rules of Pascal VOC 2012 .*; masks: mAP \d", out)
    assert "AP50" not in out


def test_two_files_are_compared_by_boxes_and_masks(shapes: str, tmp_path: Path, capsys: Capture) -> None:
    first, second = (perfect(shapes, tmp_path / f"{factor}.json", factor) for factor in (0.75, 1.0))
    assert main(["compare", first, second, shapes, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ap_difference"]["difference"] == 0
    assert document["mask_ap"][1] == 1
    assert document["mask_ap_difference"]["difference"] == 1 - document["mask_ap"][0]
    assert document["mask_ap_difference"]["interval"][0] > 0
    assert main(["compare", first, second, shapes]) == 0
    out = capsys.readouterr().out
    assert "difference of box AP +0.0 points" in out
    assert re.search(r"difference of mask AP \+\d", out)
    assert "by boxes: which is better cannot be told from these images" in out
    assert f"by masks: {second} is better" in out


def test_of_two_of_which_one_has_no_masks_boxes_are_compared(
    shapes: str, tmp_path: Path, capsys: Capture
) -> None:
    first = perfect(shapes, tmp_path / "first.json", 1.0)
    rows = [{**row, "segmentation": None} for row in json.loads(Path(first).read_text())]
    (tmp_path / "second.json").write_text(json.dumps(rows))
    assert main(["compare", first, str(tmp_path / "second.json"), shapes, "--json"]) == 0
    assert "mask_ap" not in json.loads(capsys.readouterr().out)
