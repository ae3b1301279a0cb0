"""Objects of files as COCO's results, which COCO's own reader takes, and as rows of shards."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from deepresidual.backends.detected import Detected, FileDetected
from deepresidual.data.masks import Masks
from deepresidual.data.objects import Objects
from deepresidual.errors import ConfigurationError
from deepresidual.prediction import ComputeSettings, ObjectOutputs
from deepresidual.prediction.object_rows import coco_results
from tests.detectors import TINY_MASKS, tiny_detector

NAMES = ("cat", "dog")


def result(path: str, *boxes: tuple[float, float, float, float]) -> FileDetected:
    """Return a file in which some dogs were found."""
    scores = np.linspace(0.987654321, 0.5, len(boxes), dtype=np.float32)
    objects = Objects(np.array(boxes, np.float32), np.ones(len(boxes), np.int64), scores=scores)
    return FileDetected(path, Detected(objects, NAMES, 480, 640))


def test_a_file_is_read_by_coco_itself(tmp_path: Path) -> None:
    outputs = ObjectOutputs(tiny_detector(), settings=ComputeSettings())
    files = [result("val/000000000139.jpg", (10.123, 20, 110.456, 220)), result("val/000000000285.jpg")]
    with outputs.opened(tmp_path / "found.json", 2) as write:
        for each in files:
            write(each)
    truth = {
        "images": [{"id": 139}, {"id": 285}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "found.json"))
    (found,) = read.loadAnns(read.getAnnIds())
    assert (found["image_id"], found["category_id"], found["score"]) == (139, 2, 0.987654)
    assert found["bbox"] == [10.12, 20.0, 100.34, 200.0]


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (["7.jpg", "3.jpg"], [7, 3]),
        (["7.jpg", "cat.jpg"], [1, 2]),
        (["a/7.jpg", "b/7.jpg"], [1, 2]),
        (["a/7.jpg", "b/07.jpg"], [1, 2]),
        (["٣.jpg", "4.jpg"], [1, 2]),
    ],
)
def test_images_are_called_by_their_numbers_or_counted(paths: list[str], ids: list[int]) -> None:
    found = coco_results([result(path, (0, 0, 5, 5)) for path in paths])
    assert [row["image_id"] for row in found] == ids


def test_a_file_that_could_not_be_used_keeps_its_number() -> None:
    found = coco_results([FileDetected("a.jpg", None, "the file is empty"), result("b.jpg", (0, 0, 5, 5))])
    assert [row["image_id"] for row in found] == [2]


def test_the_file_is_not_there_where_something_failed(tmp_path: Path) -> None:
    outputs = ObjectOutputs(tiny_detector(), settings=ComputeSettings())
    with pytest.raises(ZeroDivisionError, match="division"), outputs.opened(tmp_path / "found.json", 1):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_large_jpegs_are_not_decoded_at_a_reduced_size() -> None:
    with pytest.raises(ConfigurationError, match="fast_decode is asked for; expected False for a detector"):
        ObjectOutputs(tiny_detector(), settings=ComputeSettings(fast_decode=True))


def test_what_decides_the_boxes_is_in_the_fingerprint() -> None:
    outputs = ObjectOutputs(tiny_detector(), min_score=0.3, settings=ComputeSettings())
    same = ObjectOutputs(tiny_detector(), min_score=0.3, settings=ComputeSettings(batch_size=2))
    other = ObjectOutputs(tiny_detector(("cat", "dog", "cow")), min_score=0.3, settings=ComputeSettings())
    assert outputs.fingerprint() == same.fingerprint()
    assert outputs.fingerprint() != other.fingerprint()
    assert outputs.fingerprint()["min_score"] == 0.3


def with_masks(path: str) -> FileDetected:
    """Return a file of 480 × 640 pixels in which a dog was found, with a mask, and a cat without one."""
    corners = np.array([(10, 20), (110, 20), (110, 220), (10, 220)], np.float64)
    objects = Objects(
        np.array([(10, 20, 110, 220), (300, 300, 310, 320)], np.float32),
        np.array([1, 0]),
        scores=np.array([0.9, 0.8]),
        masks=Masks.of([[corners], None]).on((480, 640)),
    )
    return FileDetected(path, Detected(objects, NAMES, 480, 640))


def test_masks_are_in_all_files_but_csv(tmp_path: Path) -> None:
    outputs = ObjectOutputs(tiny_detector(spec=TINY_MASKS), settings=ComputeSettings())
    files = [with_masks("7.jpg"), result("9.jpg"), FileDetected("11.jpg", None, "the file is empty")]
    for suffix in ("json", "jsonl", "parquet", "csv"):
        with outputs.opened(tmp_path / f"found.{suffix}", len(files)) as write:
            for each in files:
                write(each)
    dog, cat = json.loads((tmp_path / "found.json").read_text())
    assert coco_mask.area(dog["segmentation"]) == 100 * 200
    assert coco_mask.toBbox(dog["segmentation"]).tolist() == dog["bbox"] == [10, 20, 100, 200]
    assert "segmentation" not in cat
    line = json.loads((tmp_path / "found.jsonl").read_text().splitlines()[0])
    assert [row.get("mask") for row in line["objects"]] == [dog["segmentation"], None]
    table = pq.read_table(tmp_path / "found.parquet").to_pylist()
    assert [row["mask"] for row in table] == [dog["segmentation"], None, None, None]
    assert [row["error"] for row in table] == ["", "", "", "the file is empty"]
    assert "mask" not in (tmp_path / "found.csv").read_text()


def test_a_table_of_a_detector_of_boxes_has_no_column_of_masks(tmp_path: Path) -> None:
    outputs = ObjectOutputs(tiny_detector(), settings=ComputeSettings())
    with outputs.opened(tmp_path / "found.parquet", 1) as write:
        write(result("7.jpg", (0, 0, 5, 5)))
    assert "mask" not in pq.read_table(tmp_path / "found.parquet").column_names
