"""LabelMe: shapes become boxes and masks, groups one object, and what cannot be read is named."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from deepresidual.data.check import check
from deepresidual.data.source import open_source
from deepresidual.data.source.annotated.source import findings_of
from deepresidual.data.source.annotated.split import AnnotatedSplit, objects_of
from deepresidual.errors import DataError
from tests.data.annotations import HEIGHT, WIDTH, image
from tests.data.pictures import encode

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.data.objects import Objects


def _shape(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


BOX = _shape("cat", [[12, 20], [2.5, 4]], "rectangle")


def _file(path: Path, *shapes: Any, **changed: Any) -> Path:
    """Write a file of LabelMe beside its image."""
    image(path.with_suffix(".jpg"))
    document = {
        "version": "6.3.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": f"{path.stem}.jpg",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **changed,
    }
    path.write_text(json.dumps({name: value for name, value in document.items() if value != "left out"}))
    return path


def _objects(folder: Path, *shapes: Any, **changed: Any) -> Objects:
    """Return the objects of an image with some shapes, beside two that have boxes."""
    _file(folder / "a.json", *shapes, **changed)
    for name in ("b", "c"):
        _file(folder / f"{name}.json", BOX, _shape("dog", BOX["points"], "rectangle"))
    whole = open_source(folder).whole
    assert whole is not None
    return objects_of(whole, 0)


def test_rectangles_are_boxes_and_polygons_and_circles_are_masks(tmp_path: Path) -> None:
    triangle = [[5, 5], [20, 5], [12, 25]]
    objects = _objects(tmp_path, BOX, _shape("dog", triangle), _shape("cat", [[20, 15], [26, 23]], "circle"))
    assert objects.boxes.tolist() == [[2.5, 4, 12, 20], [5, 5, 20, 25], [10, 5, 30, 25]]
    assert objects.labels.tolist() == [0, 1, 0]
    assert objects.masks is not None
    assert objects.masks.known.tolist() == [False, True, True]
    assert objects.masks.polygons(1)[0].tolist() == triangle
    assert objects.areas[:2].tolist() == [9.5 * 16, 150]
    assert objects.areas[2] == pytest.approx(np.pi * 100, rel=0.002)


def test_an_oriented_rectangle_is_the_box_around_it(tmp_path: Path) -> None:
    objects = _objects(tmp_path, _shape("cat", [[10, 5], [20, 10], [18, 14], [8, 9]], "oriented_rectangle"))
    assert objects.boxes.tolist() == [[8, 5, 20, 14]]
    assert objects.masks is None


def test_shapes_of_one_group_are_one_object(tmp_path: Path) -> None:
    parts = [[[5, 5], [10, 5], [7, 9]], [[20, 5], [30, 5], [25, 25]]]
    objects = _objects(
        tmp_path,
        _shape("dog", parts[0], group_id=3),
        _shape("cat", parts[0], group_id=3),
        _shape("dog", parts[1], group_id=3),
        _shape("dog", parts[1]),
    )
    assert objects.boxes.tolist() == [[5, 5, 30, 25], [5, 5, 10, 9], [20, 5, 30, 25]]
    assert objects.masks is not None
    assert [len(objects.masks.polygons(row)) for row in range(3)] == [2, 1, 1]


def test_a_drawn_mask_lies_where_its_points_say_and_joins_polygons(tmp_path: Path) -> None:
    pixels = np.zeros((6, 4), np.uint8)
    pixels[1:5, 1:3] = 1
    drawn = base64.b64encode(encode(pixels, "PNG")).decode()
    mask = _shape("cat", [[10, 20], [13, 25]], "mask", mask=drawn, group_id=1)
    objects = _objects(tmp_path, mask, _shape("cat", [[0, 0], [4, 0], [4, 4], [0, 4]], group_id=1))
    assert objects.boxes.tolist() == [[0, 0, 13, 25]]
    assert objects.masks is not None
    crop = objects.masks.crop(0)
    assert crop.pixels[21:25, 11:13].all()
    assert crop.pixels.sum() == 8 + 16


def test_shapes_without_area_are_left_out_and_named(tmp_path: Path) -> None:
    objects = _objects(
        tmp_path, _shape("cat", [[1, 1]], "point"), _shape("eye", [[1, 1], [5, 5]], "line"), BOX
    )
    assert len(objects) == 1
    source = open_source(tmp_path)
    assert source.classes == ("cat", "dog")
    assert [str(finding) for finding in findings_of(source)] == [
        "shape 1 (cat) of a.json: a point has no area",
        "shape 2 (eye) of a.json: a line has no area",
    ]
    assert {finding.kind for finding in check(source).findings} >= {"shape-unused"}


def test_images_are_found_by_their_path_wherever_the_files_lie(tmp_path: Path) -> None:
    for split, names in (("train", "ab"), ("val", "c")):
        for name in names:
            file = _file(tmp_path / "labels" / split / f"{name}.json", BOX)
            (tmp_path / "images" / split).mkdir(parents=True, exist_ok=True)
            file.with_suffix(".jpg").rename(tmp_path / "images" / split / f"photo-{name}.jpg")
            text = file.read_text().replace(f'"{name}.jpg"', rf'"..\\..\\images\\{split}\\photo-{name}.jpg"')
            file.write_text(text)
    source = open_source(tmp_path)
    assert {name: len(part) for name, part in source.splits.items()} == {"train": 2, "val": 1}
    assert source.splits["val"].key(0) == "images/val/photo-c.jpg"
    assert source.classes == ("cat",)


def test_the_copy_of_the_photo_in_a_file_is_not_read(tmp_path: Path) -> None:
    assert len(_objects(tmp_path, BOX, imageData=base64.b64encode(b"no photo" * 99).decode())) == 1


def test_a_file_by_itself_and_a_prefix_open_its_folder(tmp_path: Path) -> None:
    _objects(tmp_path, BOX)
    image(tmp_path / "new.jpg")
    for data in (tmp_path / "a.json", f"labelme:{tmp_path}", f"labelme:{tmp_path / 'b.json'}"):
        source = open_source(data)
        assert isinstance(source.whole, AnnotatedSplit)
        assert len(source.whole) == 3
        assert [str(file) for file in source.ignored] == ["new.jpg is not used: it has no file of LabelMe"]


_PNG = base64.b64encode(encode(np.ones((6, 4), np.uint8), "PNG")).decode()


@pytest.mark.parametrize(
    ("shape", "changed", "message"),
    [
        (BOX, {"shapes": None}, r"^a.json has no list of shapes; expected 'shapes'"),
        (BOX, {"imagePath": ""}, r"^a.json has '' as imagePath; expected the path of its image$"),
        (
            BOX,
            {"imageWidth": "40"},
            r"^a.json has '40' × 30 as the size of its image; expected whole numbers",
        ),
        (7, {}, r"^a.json: shape 1 is an int; expected an object$"),
        (_shape("", [[1, 1]]), {}, r"^a.json: shape 1 has '' as label; expected the name of a class$"),
        (
            _shape("cat", [[1, 1], [2, 2]]),
            {},
            r"shape 1 \(cat\) is a polygon of 2 points; expected 3 or more$",
        ),
        (_shape("cat", [[1, 1]], "circle"), {}, r"shape 1 \(cat\) is a circle of 1 points; expected 2$"),
        (
            _shape("cat", [[1, "1"], [2, 2]], "circle"),
            {},
            r"has the points \[\[1, '1'\], \[2, 2\]\]; expected a",
        ),
        (_shape("cat", [[1, 1]], "cube"), {}, r"has the shape_type 'cube'; expected one of rectangle, "),
        (
            _shape("cat", [[1, 1], [4, 6]], "mask", mask="?"),
            {},
            r"has a mask that cannot be read; expected a PNG",
        ),
        (
            _shape("cat", [[1, 1], [4, 6]], "mask"),
            {},
            r"has a mask that cannot be read; expected a PNG in base64",
        ),
        (
            _shape("cat", [[38, 1], [42, 6]], "mask", mask=_PNG),
            {},
            r"has a mask of 4×6 px at 38, 1, and its image has 40×30; expected a mask inside of the image$",
        ),
        (
            _shape("cat", [[1, 1], [4, 6]], "mask", mask=_PNG),
            {"imageHeight": "left out"},
            r"is a mask, and the file does not say how large its image is; expected imageHeight and imageWid",
        ),
        (BOX, {"imagePath": "gone.jpg"}, None),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, shape: Any, changed: dict[str, Any], message: str | None
) -> None:
    if message is None:
        # The name of the file tells, where the path in it does not.
        assert len(_objects(tmp_path, shape, **changed)) == 1
        return
    with pytest.raises(DataError, match=message):
        _objects(tmp_path, shape, **changed)


def test_a_broken_file_and_a_missing_image_are_named(tmp_path: Path) -> None:
    file = _file(tmp_path / "a.json", BOX)
    _file(tmp_path / "b.json", BOX)
    file.write_text(file.read_text()[:-9])
    with pytest.raises(DataError, match=r"^a.json is not JSON in UTF-8 \(.*\); save it again$"):
        open_source(tmp_path)
    _file(tmp_path / "a.json", BOX)
    (tmp_path / "a.jpg").rename(tmp_path / "c.jpg")
    with pytest.raises(DataError, match=r"^a.json: the image a is not there; "):
        open_source(tmp_path)
    _file(tmp_path / "a.json", BOX, imagePath="b.jpg")
    with pytest.raises(DataError, match=r"^b.json and a.json are both of b.jpg; keep one$"):
        open_source(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r" has no file of LabelMe; expected a JSON file with 'shapes'"):
        open_source(f"labelme:{tmp_path / 'empty'}")
