"""Masks of COCO and YOLO: what is read, what is left out, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepresidual.data.masks import Masks, Runs
from deepresidual.data.source import open_source
from deepresidual.data.source.annotated.for_task import for_task, has_masks
from deepresidual.data.source.annotated.source import findings_of
from deepresidual.data.source.annotated.split import objects_of
from deepresidual.errors import DataError
from tests.data.annotations import HEIGHT, WIDTH, coco_document, coco_file, yolo_split

POLYGON = [1, 2, 11, 2, 11, 22, 1, 22]
BOX = {"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 2, 10, 20], "area": 150}
NUMBERS = [32, 20, *[10, 20] * 9, HEIGHT * WIDTH - 322]


def written(root: Path, *segmentations: Any) -> Path:
    """Write a data set whose first image has an object for each of these."""
    rows = [
        {**BOX, "id": number, **({} if value is None else {"segmentation": value})}
        for number, value in enumerate(segmentations, start=1)
    ]
    coco_file(root / "instances_train.json", coco_document(annotations=rows))
    return root


def masks_of(root: Path) -> Masks:
    source = open_source(root)
    split = source.splits["train"]
    for index in range(len(split)):
        objects = objects_of(split, index)
        if len(objects):
            assert objects.masks is not None
            return objects.masks
    raise AssertionError("no objects")


def test_polygons_and_runs_are_read(tmp_path: Path) -> None:
    text = Runs.of(NUMBERS, (HEIGHT, WIDTH)).counts.decode()
    size = [HEIGHT, WIDTH]
    masks = masks_of(
        written(
            tmp_path,
            [POLYGON],
            POLYGON,
            [POLYGON, [20, 2, 30, 2, 25, 9]],
            {"size": size, "counts": NUMBERS},
            {"size": size, "counts": text},
            [],
            None,
        )
    )
    assert masks.known.tolist() == [True] * 5 + [False] * 2
    assert masks.drawn.tolist() == [False] * 3 + [True] * 2 + [False] * 2
    assert masks.areas().tolist()[:2] == [200, 200]
    assert masks.areas().tolist()[3:5] == [200, 200]


def test_a_polygon_of_two_corners_is_left_out_and_said(tmp_path: Path) -> None:
    source = open_source(written(tmp_path, [[1, 2, 3, 4], POLYGON], [[1, 2, 3, 4]]))
    found = [finding for finding in findings_of(source) if finding.kind == "mask-empty"]
    assert [finding.subject for finding in found] == ["annotation 1 (dog)", "annotation 2 (dog)"]
    assert "fewer than 3 corners and is left out" in str(found[0])
    assert masks_of(tmp_path).known.tolist() == [True, False]


BAD = [
    ("polygon", "'polygon'"),
    (7, "as segmentation"),
    ([[1, 2, 3, 4, 5, 6, 7]], "a polygon of 7 numbers"),
    ([[1, 2, "3", 4, 5, 6]], "has a polygon"),
    ([POLYGON, 4], "has a polygon 4"),
    ({"counts": NUMBERS}, "runs with None as size"),
    ({"size": [HEIGHT], "counts": NUMBERS}, r"as size"),
    ({"size": [WIDTH, HEIGHT], "counts": NUMBERS}, "a mask of 30×40 px, and its image has 40×30"),
    ({"size": [HEIGHT, WIDTH], "counts": [3, 4]}, "runs of 7 pixels in all"),
    ({"size": [HEIGHT, WIDTH], "counts": [-3, 4]}, "whole numbers of pixels"),
    ({"size": [HEIGHT, WIDTH], "counts": [0.5]}, "whole numbers of pixels"),
    ({"size": [HEIGHT, WIDTH], "counts": []}, "as counts"),
    ({"size": [HEIGHT, WIDTH]}, "runs with None as counts"),
    ({"size": [HEIGHT, WIDTH], "counts": "hallo you"}, "COCO's text of runs"),
    ({"size": [HEIGHT, WIDTH], "counts": "\N{WHITE SMILING FACE}"}, "COCO's text of runs"),
    ({"size": [HEIGHT, WIDTH], "counts": "P"}, "COCO's text of runs"),
    ({"size": [HEIGHT, WIDTH], "counts": "52"}, "pixels in all"),
]


@pytest.mark.parametrize(("value", "message"), BAD)
def test_bad_masks_are_named(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as told:
        open_source(written(tmp_path, [POLYGON], value))
    assert told.value.found.startswith("instances_train.json: annotation 2 ")


def test_a_mask_of_another_size_than_the_file_names_the_image(tmp_path: Path) -> None:
    """The document says the same wrong size as the runs."""
    document = coco_document(
        images=[{"id": 7, "file_name": "a.jpg", "width": 8, "height": 5}],
        annotations=[{**BOX, "bbox": [0, 0, 4, 4], "segmentation": {"size": [5, 8], "counts": [0, 40]}}],
    )
    coco_file(tmp_path / "instances_train.json", document)
    source = open_source(tmp_path)
    split = source.splits["train"]
    with pytest.raises(DataError, match=r"a\.jpg: a mask is of an image of 8×5 px, and the image has 40×30"):
        split.read(0)


def test_rows_of_yolo_with_polygons_are_masks(tmp_path: Path) -> None:
    yolo_split(tmp_path / "train", {"a": "0 0.25 0.2 0.5 0.2 0.5 0.6 0.25 0.6\n0 0.5 0.5 0.2 0.2\n"})
    (tmp_path / "classes.txt").write_text("cat\n")
    masks = masks_of(tmp_path)
    assert masks.known.tolist() == [True, False]
    np.testing.assert_allclose(masks.polygons(0)[0][2], (0.5 * WIDTH, 0.6 * HEIGHT))


def test_masks_are_learned_where_there_are_some_and_boxes_alone_when_asked(tmp_path: Path) -> None:
    source = open_source(written(tmp_path, [POLYGON], []))
    assert has_masks(source)
    assert for_task(source, "segment") is source
    boxes = for_task(source, "detect")
    assert not has_masks(boxes)
    split = boxes.splits["train"]
    before = source.splits["train"]
    assert [split.key(index) for index in range(len(split))] == [
        before.key(index) for index in range(len(before))
    ]
    assert list(split.rows()) != list(before.rows())


def test_a_crowd_alone_is_no_mask_to_learn_from(tmp_path: Path) -> None:
    crowd = {**BOX, "iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": NUMBERS}}
    coco_file(tmp_path / "instances_train.json", coco_document(annotations=[crowd, {**BOX, "id": 2}]))
    source = open_source(tmp_path)
    assert not has_masks(source)
    with pytest.raises(DataError, match="has boxes and no masks") as told:
        for_task(source, "segment")
    assert "--task segment" in told.value.remedy


def test_a_task_of_objects_is_refused_of_data_without() -> None:
    with pytest.raises(DataError, match="digits has no boxes of objects"):
        for_task(open_source("digits"), "detect")


def test_a_moved_corner_changes_the_fingerprint(tmp_path: Path) -> None:
    rows = []
    for number, last in enumerate((22, 21)):
        root = tmp_path / str(number)
        root.mkdir()
        split = open_source(written(root, [[*POLYGON[:-1], last]])).splits["train"]
        rows.append([row[1] for row in split.rows()])
    assert rows[0] != rows[1]
