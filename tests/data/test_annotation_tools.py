"""Files that annotation tools wrote, by ``annotation_tools/make.py``, and those that CVAT describes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepresidual.data.check import check
from deepresidual.data.source import open_source
from deepresidual.data.source.annotated.find import find_format, open_annotated
from deepresidual.data.source.annotated.source import findings_of
from deepresidual.data.source.annotated.split import AnnotatedSplit, objects_of
from deepresidual.data.source.base import SampleSource
from deepresidual.errors import DataError
from tests.data.annotation_tools.make import BOXES, PHOTOS, TRIANGLE
from tests.data.annotations import image

MADE = Path(__file__).parent / "annotation_tools"


def _copied(folder: str, to: Path, photos: str = "", called: str = "{}") -> Path:
    """Copy what a tool wrote, and draw the photos that it was about."""
    shutil.copytree(MADE / folder, to, dirs_exist_ok=True)
    for name, (width, height) in PHOTOS.items():
        image(to / photos / called.format(name), height, width)
    return to


def _whole(source: SampleSource) -> AnnotatedSplit:
    assert isinstance(source.whole, AnnotatedSplit)
    return source.whole


def _found(folder: Path) -> dict[str, list[tuple[str, list[float]]]]:
    """Return class and box of every object by the last part of each image's name."""
    kind = find_format(folder)
    assert kind is not None
    source = open_annotated(kind, folder)
    whole = _whole(source)
    found = {}
    for index in range(len(whole)):
        objects = objects_of(whole, index)
        names = [source.classes[label] for label in objects.labels]
        key = whole.key(index).rsplit("/", 1)[-1].removeprefix("0a1b2c3d-")
        found[key] = list(zip(names, objects.boxes.round(3).tolist(), strict=True))
    return found


def _drawn(shift: int = 0) -> dict[str, list[tuple[str, list[float]]]]:
    return {
        name: [
            (label, [left - shift, top - shift, right, bottom])
            for label, (left, top, right, bottom) in BOXES.get(name, [])
        ]
        for name in PHOTOS
    }


# -- what the tools wrote --------------------------------------------------------------------------------


# XML counts pixels from 1, by its definition; what labelImg and Label Studio write as 5 they drew at 5.
@pytest.mark.parametrize(
    ("folder", "shift"), [("labelimg-voc", 1), ("labelimg-yolo", 0), ("labelimg-createml", 0)]
)
def test_labelimg(tmp_path: Path, folder: str, shift: int) -> None:
    assert _found(_copied(folder, tmp_path / folder)) == _drawn(shift)
    if folder == "labelimg-voc":
        source = open_annotated("voc", tmp_path / folder)
        difficult = [objects_of(_whole(source), index).difficult.tolist() for index in range(2)]
        assert difficult == [[False, True], [False]]


def test_labelme(tmp_path: Path) -> None:
    folder = _copied("labelme", tmp_path / "labelme")
    found = _found(folder)
    assert {name: found[name] for name in ("a.jpg", "c.jpg")} == {
        name: _drawn()[name] for name in ("a.jpg", "c.jpg")
    }
    assert found["b.jpg"][1:] == [
        ("cat", [10, 10, 30, 25]),
        ("dog", [41, 35.5, 50, 44.5]),
        ("cat", [4, 41, 6, 44]),
    ]
    masks = objects_of(_whole(open_annotated("labelme", folder)), 1).masks
    assert masks is not None
    assert masks.known.tolist() == [False, True, True, True]
    assert masks.polygons(1)[0].tolist() == [list(corner) for corner in TRIANGLE]
    assert masks.crop(3).pixels.sum() == 6


@pytest.mark.parametrize("called", ["{}", "0a1b2c3d-{}"])
@pytest.mark.parametrize("kind", ["tasks.json", "json-min", "coco"])
def test_label_studio(tmp_path: Path, kind: str, called: str) -> None:
    folder = tmp_path / "studio"
    if kind == "tasks.json":
        folder.mkdir()
        shutil.copy(MADE / "label-studio" / kind, folder)
        _copied("label-studio/json-min", tmp_path / "other")
        for name, (width, height) in PHOTOS.items():
            image(folder / called.format(name), height, width)
    else:
        _copied(f"label-studio/{kind}", folder, "images", called)
    found = _found(folder)
    polygon = ("cat", [10, 10, 30, 25])
    assert found == {**_drawn(), "b.jpg": [*_drawn()["b.jpg"], polygon]}
    kind_found = find_format(folder)
    assert kind_found == ("coco" if kind == "coco" else "label-studio")
    masks = objects_of(_whole(open_annotated(kind_found, folder)), 1).masks
    assert masks is not None
    assert masks.known.tolist() == [False, True]
    np.testing.assert_allclose(masks.polygons(1)[0], TRIANGLE, atol=1e-9)


def test_label_studio_exports_of_voc_and_yolo(tmp_path: Path) -> None:
    voc = _copied("label-studio/voc", tmp_path / "voc", "images", "0a1b2c3d-{}")
    # It writes no file for an image without objects, which is then not annotated.
    assert _found(voc) == {name: boxes for name, boxes in _drawn(1).items() if name != "c.jpg"}
    yolo = _found(_copied("label-studio/yolo", tmp_path / "yolo", "images", "0a1b2c3d-{}"))
    assert yolo == {**_drawn(), "b.jpg": [*_drawn()["b.jpg"], ("cat", [10, 10, 30, 25])]}


# -- Label Studio ----------------------------------------------------------------------------------------


def _region(value: dict[str, Any], kind: str = "rectanglelabels", **more: Any) -> dict[str, Any]:
    size = {"original_width": 40, "original_height": 30, "image_rotation": 0}
    return {"id": "r", "from_name": "label", "to_name": "image", "type": kind, **size, "value": value, **more}


def _task(*result: Any, name: str = "a.jpg", number: int = 1, **annotation: Any) -> dict[str, Any]:
    entry = {
        "result": list(result),
        "was_cancelled": False,
        "updated_at": "2026-01-01T00:00:00Z",
        **annotation,
    }
    return {"id": number, "data": {"image": f"/data/upload/1/{name}"}, "annotations": [entry]}


BOX = _region({"x": 25, "y": 20, "width": 50, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]})


def _studio(folder: Path, *tasks: Any) -> SampleSource:
    """Open a folder with three photos and these tasks."""
    for name in "abc":
        image(folder / f"{name}.jpg")
    (folder / "export.json").write_text(json.dumps(list(tasks)))
    return open_annotated("label-studio", folder / "export.json")


def _objects(folder: Path, *result: Any) -> tuple[list[list[float]], SampleSource]:
    source = _studio(folder, _task(*result))
    return objects_of(_whole(source), 0).boxes.round(3).tolist(), source


def test_a_turned_rectangle_is_the_box_around_it(tmp_path: Path) -> None:
    value = {"x": 50, "y": 20, "width": 25, "height": 40, "rotation": 90, "rectanglelabels": ["cat"]}
    boxes, source = _objects(tmp_path, _region(value))
    # 10×12 px, turned about its upper left corner at 20, 6: to the left of it, and 10 px high.
    assert boxes == [[8, 6, 20, 16]]
    assert objects_of(_whole(source), 0).masks is None


def test_ellipses_are_masks_and_several_labels_several_objects(tmp_path: Path) -> None:
    value = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 20, "rotation": 0, "ellipselabels": ["cat", "dog"]}
    boxes, source = _objects(tmp_path, _region(value))
    assert boxes == [[10, 9, 30, 21]] * 2
    objects = objects_of(_whole(source), 0)
    assert objects.labels.tolist() == [0, 1]
    assert objects.areas[0] == pytest.approx(np.pi * 60, rel=0.002)


def test_shapes_and_labels_of_separate_tags_are_one_region(tmp_path: Path) -> None:
    shape = {"x": 25, "y": 20, "width": 50, "height": 40, "rotation": 0}
    result = [_region(shape, "rectangle"), _region({**shape, "labels": ["cat"]}, "labels")]
    boxes, _ = _objects(tmp_path, *result, {"id": "c", "type": "choices", "value": {"choices": ["blurred"]}})
    assert boxes == [[10, 6, 30, 18]]


def test_what_is_no_box_is_left_out_and_named(tmp_path: Path) -> None:
    brush = _region({"format": "rle", "rle": [0, 1], "brushlabels": ["cat"]}, "brushlabels", id="b")
    point = _region({"x": 5, "y": 5, "width": 1, "keypointlabels": ["eye"]}, "keypointlabels", id="k")
    blank = _region({"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 0}, "rectangle", id="n")
    boxes, source = _objects(tmp_path, brush, point, blank, BOX)
    assert (boxes, source.classes) == ([[10, 6, 30, 18]], ("cat",))
    photo = "/data/upload/1/a.jpg of export.json"
    brushes = "brush strokes are not read: export 'Brush labels to COCO' for them"
    assert [str(finding) for finding in findings_of(source)] == [
        f"region b of {photo.replace(' of', ' (cat) of')}: {brushes}",
        f"region k of {photo.replace(' of', ' (eye) of')}: a point or a line has no area",
        f"region n of {photo}: it has no label",
    ]
    assert {finding.kind for finding in findings_of(source)} == {"shape-unused"}


def test_the_newest_annotation_counts_and_cancelled_ones_do_not(tmp_path: Path) -> None:
    task = _task(BOX)
    older = {**task["annotations"][0], "result": [], "updated_at": "2025-01-01T00:00:00Z"}
    cancelled = {**older, "was_cancelled": True, "updated_at": "2027-01-01T00:00:00Z"}
    task["annotations"] = [older, *task["annotations"], cancelled]
    empty, none = _task(name="b.jpg", number=2), {**_task(name="c.jpg", number=3), "annotations": []}
    source = _studio(tmp_path, task, empty, none)
    whole = _whole(source)
    assert [len(objects_of(whole, index)) for index in range(len(whole))] == [1, 0]
    assert source.notes[0] == "1 image has several annotations in export.json: the newest of each is used"
    assert [(finding.kind, finding.subject) for finding in findings_of(source)] == [
        ("not-annotated", "/data/upload/1/c.jpg")
    ]


@pytest.mark.parametrize(
    "address",
    [
        "/data/local-files/?d=photos/my%20a.jpg",
        "s3://bucket/x/my a.jpg",
        "https://x.org/my%20a.jpg?Expires=9&X=a/b",
    ],
)
def test_photos_are_found_whatever_address_they_had(tmp_path: Path, address: str) -> None:
    folder = "photos" if "d=" in address else "images"
    image(tmp_path / folder / "my a.jpg")
    task = _task(BOX)
    task["data"] = {"text": "note", "image": address}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    whole = _whole(open_annotated("label-studio", tmp_path / "export.json"))
    assert whole.key(0) == f"{folder}/my a.jpg"


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (7, r"^export.json: task 1 is an int; expected an object; export it again as JSON or JSON-MIN$"),
        (
            [_task(BOX, name="a.wav")],
            r"^export.json: task 1 names no image \(\{'image': '/data/upload/1/a.wav'\}\)",
        ),
        ([_task(BOX, name="d.jpg")], r"^export.json: the image /data/upload/1/d.jpg is not there"),
        ([{**_task(BOX), "annotations": 7}], r"task 1 has an int as annotations; expected a list"),
        (
            [{**_task(BOX), "annotations": [7]}],
            r"task 1 has an annotation without a result; expected a list of re",
        ),
        ([_task(7, BOX)], r"^export.json: task 1: region 1 is an int; expected an object$"),
        (
            [_task({**BOX, "image_rotation": 90})],
            r"task 1: the image was turned by 90° to annotate it; expected images as they are; turn the",
        ),
        (
            [_task({**BOX, "original_width": "x"})],
            r"a.jpg has 'x' × 30 as its size; expected original_width and",
        ),
        (
            [_task({key: value for key, value in BOX.items() if "original" not in key})],
            r"region r of /data/upload/1/a.jpg is in percent; expected original_width and original_heig",
        ),
        (
            [_task(_region({**BOX["value"], "x": "25"}))],
            r"region r of .*a.jpg has '25' as x; expected a number$",
        ),
        (
            [_task(_region({"points": [[1, 1], [2, 2]], "polygonlabels": ["cat"]}))],
            r"region r of .*a.jpg has the points \[\[1, 1\], \[2, 2\]\]; expected three or more \[x, y\]$",
        ),
    ],
)
def test_bad_tasks_are_named(tmp_path: Path, tasks: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _studio(tmp_path, *(tasks if isinstance(tasks, list) else [tasks]))


# -- CVAT ------------------------------------------------------------------------------------------------

_LABELS = "<label><name>dog</name></label><label><name>cat</name></label><label><name>emu</name></label>"


def _cvat(folder: Path, shapes: str, extra: str = "", name: str = "a.jpg") -> SampleSource:
    """Open a folder with a file of CVAT, in which one image has these shapes."""
    image(folder / "images" / "a.jpg")
    image(folder / "images" / "b.jpg")
    (folder / "annotations.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f"<meta><task><labels>{_LABELS}</labels></task></meta>\n"
        f'<image id="0" name="{name}" width="40" height="30" {extra}>{shapes}</image>\n'
        '<image id="1" name="b.jpg" width="40" height="30"/>\n</annotations>\n'
    )
    return open_annotated("cvat", folder)


CVAT_BOX = (
    '<box label="cat" source="manual" occluded="0" xtl="2.50" ytl="3.00" xbr="20.00" ybr="9.00" z_order="0"/>'
)


def test_cvat_for_images(tmp_path: Path) -> None:
    source = _cvat(
        tmp_path,
        f"""{CVAT_BOX}<tag label="dog" source="manual"/>
        <box label="dog" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90.00"/>
        <polygon label="dog" points="5.00,5.00;20.00,5.00;12.00,25.00" z_order="0"/>
        <ellipse label="cat" cx="20.00" cy="15.00" rx="10.00" ry="5.00"/>
        <mask label="cat" rle="1, 2, 2, 1" left="30" top="20" width="3" height="2"/>
        <points label="cat" points="1,1"/>""",
    )
    assert find_format(tmp_path) == "cvat"
    assert source.classes == ("dog", "cat", "emu")
    objects = objects_of(_whole(source), 0)
    assert objects.labels.tolist() == [1, 0, 0, 1, 1]
    assert objects.boxes.round(3).tolist() == [
        [2.5, 3, 20, 9],
        [13, 7, 17, 17],
        [5, 5, 20, 25],
        [10, 10, 30, 20],
        [31, 20, 33, 22],
    ]
    assert objects.masks is not None
    assert objects.masks.known.tolist() == [False, False, True, True, True]
    assert objects.masks.crop(4).pixels.tolist() == [[1, 1], [0, 1]]
    assert [str(finding) for finding in findings_of(source)] == [
        "points 6 of a.jpg (cat) of annotations.xml: a points is no box and has no mask"
    ]
    assert len(objects_of(_whole(source), 1)) == 0


def test_groups_of_cvat_are_one_object_and_subsets_are_splits(tmp_path: Path) -> None:
    part = '<polygon label="cat" group_id="{}" points="{},5;20,5;12,25"/>'
    shapes = "".join(part.format(group, left) for group, left in ((3, 5), (3, 2), (0, 8), (0, 8)))
    _cvat(tmp_path, shapes)
    file = tmp_path / "annotations.xml"
    whole = file.read_text().replace('height="30" >', 'height="30" subset="Train">')
    file.write_text(whole.replace('height="30"/>', 'height="30" subset="Validation"/>'))
    source = open_source(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 1, "val": 1}
    assert objects_of(source.splits["train"], 0).boxes[:, 0].tolist() == [2, 8, 8]
    file.write_text(file.read_text().replace('subset="Validation"', ""))
    with pytest.raises(
        DataError, match=r"^annotations.xml does not say which split images/b.jpg belongs to, and"
    ):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            '<box label="cow" xtl="1" ytl="1" xbr="2" ybr="2"/>',
            r"box 1 of a.jpg has the label 'cow'; expected one",
        ),
        (
            '<box xtl="1" ytl="1" xbr="2" ybr="2"/>',
            r"^annotations.xml: box 1 of a.jpg has no label; expected label",
        ),
        (
            '<box label="cat" xtl="1" ytl="1" xbr="2"/>',
            r"box 1 of a.jpg has None as ybr; expected a number of pix",
        ),
        (
            '<box label="cat" xtl="nan" ytl="1" xbr="2" ybr="3"/>',
            r"has 'nan' as xtl; expected a number of pixels$",
        ),
        (
            '<polygon label="cat" points="1,1;2,2"/>',
            r"has the points '1,1;2,2'; expected three or more as x,y;x,y",
        ),
        (
            '<polygon label="cat" points="1,1;2,2;3"/>',
            r"has the points '1,1;2,2;3'; expected three or more as x,y",
        ),
        (
            '<cube label="cat"/>',
            r"cube 1 of a.jpg is a <cube>; expected one of box, polygon, ellipse, mask, poin",
        ),
        (
            '<mask label="cat" rle="1, 2" left="0" top="0" width="3" height="2"/>',
            r"has runs of 3 pixels in all, and its box of 3×2 has 6; expected as many$",
        ),
        (
            '<mask label="cat" rle="1, 5" left="38" top="0" width="3" height="2"/>',
            r"has a mask of 3×2 px at 38, 0, and its image has 40×30; expected a mask inside of the image$",
        ),
        (
            '<mask label="cat" rle="6" left="-1" top="0" width="3" height="2"/>',
            r"has '-1' as left; expected a who",
        ),
    ],
)
def test_bad_shapes_of_cvat_are_named(tmp_path: Path, shapes: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _cvat(tmp_path, shapes)


def test_other_files_of_cvat_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^annotations.xml: the image gone.jpg is not there; "):
        _cvat(tmp_path, CVAT_BOX, name="gone.jpg")
    file = tmp_path / "annotations.xml"
    file.write_text(file.read_text().replace('width="40"', 'width="4e9"'))
    with pytest.raises(
        DataError, match=r"^annotations.xml: gone.jpg has '4e9' as width; expected a whole number"
    ):
        open_annotated("cvat", tmp_path)
    file.write_text("<annotations><version>1.1</version><track id='0'/><image /></annotations>")
    with pytest.raises(
        DataError, match=r"annotations.xml is of a video, with <track> instead of <image>; expect"
    ):
        open_annotated("cvat", tmp_path)
    file.write_text("<annotations><version>1.1</version><image ")
    with pytest.raises(
        DataError, match=r"^annotations.xml: the file is cut off or broken at line 1; expected XML"
    ):
        open_annotated("cvat", tmp_path)
    file.write_text("<annotation/>")
    with pytest.raises(
        DataError, match=r"has no file of annotations of cvat; expected a .xml file in it, or cvat"
    ):
        open_annotated("cvat", tmp_path)
    with pytest.raises(
        DataError, match=r"^annotations.xml holds <annotation>; expected <annotations>, as CVAT wr"
    ):
        open_annotated("cvat", file)


# -- Create ML -------------------------------------------------------------------------------------------

CREATEML_BOX = {"label": "cat", "coordinates": {"x": 10, "y": 8, "width": 4, "height": 6}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, r"^boxes.json holds a dict; expected a list of images, as of Create ML$"),
        ([{}], r"^boxes.json: image 1 has no image; expected the name of its file as 'image'$"),
        ([{"image": "a.jpg"}], r"^boxes.json: image 1 has None as annotations; expected a list of boxes$"),
        (
            [{"image": "a.jpg", "annotations": [7]}],
            r"^boxes.json: box 1 of a.jpg has None as label; expected the",
        ),
        (
            [{"image": "a.jpg", "annotations": [{**CREATEML_BOX, "coordinates": {"x": 1}}]}],
            r"^boxes.json: box 1 of a.jpg has the coordinates \{'x': 1\}; expected numbers as x, y, wid",
        ),
        ([{"image": "z.jpg", "annotations": [CREATEML_BOX]}], r"^boxes.json: the image z.jpg is not there; "),
        ("[", r"^boxes.json is not JSON in UTF-8 \(.*\); export it again$"),
    ],
)
def test_bad_files_of_create_ml_are_named(tmp_path: Path, document: Any, message: str) -> None:
    image(tmp_path / "a.jpg")
    file = tmp_path / "boxes.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(DataError, match=message):
        open_annotated("createml", file)


def test_create_ml_of_several_splits(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        image(tmp_path / split / "a.jpg")
        file = tmp_path / split / "_annotations.createml.json"
        file.write_text(json.dumps([{"image": "a.jpg", "annotations": [CREATEML_BOX]}]))
    source = open_source(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 1, "val": 1}
    assert objects_of(source.splits["val"], 0).boxes.tolist() == [[8, 5, 12, 11]]
    assert {finding.kind for finding in check(source).findings} <= {"few-samples", "leak", "duplicate-file"}


def test_two_tools_in_one_folder_are_told_apart_by_a_prefix(tmp_path: Path) -> None:
    _copied("labelme", tmp_path)
    _copied("labelimg-voc", tmp_path)
    with pytest.raises(DataError, match=r"in 2 formats \(voc, labelme\); say which: voc:.* or labelme:"):
        open_source(tmp_path)
    assert len(_whole(open_annotated("labelme", tmp_path))) == 3


@pytest.mark.parametrize(
    "folder", ["labelme", "labelimg-voc", "labelimg-yolo", "labelimg-createml", "label-studio/coco"]
)
def test_a_zip_of_annotations_says_that_it_has_to_be_unpacked(tmp_path: Path, folder: str) -> None:
    _copied(folder, tmp_path / "export")
    shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path, "export")
    message = r"export.zip holds annotations of boxes, which are read from folders alone; unpack it$"
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "export.zip")
