"""COCO: categories and their ids, where images lie, boxes, crowds, what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deepresidual.data.source import open_source
from deepresidual.data.source.annotated.json_file import read_coco_document
from deepresidual.data.source.annotated.source import findings_of
from deepresidual.data.source.annotated.split import category_ids_of, image_id_of, objects_of
from deepresidual.data.source.validation import Subset
from deepresidual.errors import DataError
from tests.data.annotations import coco_document, coco_file, image

if TYPE_CHECKING:
    from pathlib import Path


def _two_splits(root: Path, **changed: Any) -> Path:
    """Write the layout of the COCO data sets with the same images in both splits."""
    for split in ("train", "val"):
        document = coco_document(**changed)
        coco_file(root / "annotations" / f"instances_{split}2017.json", document, root / f"{split}2017")
    return root


# -- layouts ---------------------------------------------------------------------------------------------


def test_the_layout_of_coco(tmp_path: Path) -> None:
    _two_splits(tmp_path)
    (tmp_path / "annotations" / "captions_train2017.json").write_text('{"images": [], "annotations": []}')
    source = open_source(tmp_path)
    assert (source.task, source.classes) == ("detection", ("cat", "dog"))
    train = source.splits["train"]
    assert [train.key(index) for index in range(2)] == ["train2017/a.jpg", "train2017/b.jpg"]
    sample = train.read(0)
    assert sample.content == (tmp_path / "train2017" / "a.jpg").read_bytes()
    objects = sample.target
    assert (objects.boxes.tolist(), objects.labels.tolist()) == ([[1, 2, 11, 22]], [1])
    assert objects.areas.tolist() == [150]
    assert len(objects_of(train, 1)) == 0
    assert source.notes == (
        "2 images have no objects, and teach what the background looks like",
        "no training image has an object of cat",
    )


def test_the_ids_of_images_and_categories_stay_with_their_split(tmp_path: Path) -> None:
    _two_splits(tmp_path)
    other = [{"id": "x", "name": "cat"}, {"id": 0, "name": "dog"}, {"id": 90, "name": "emu"}]
    notes = [{"id": 0, "image_id": "nine", "category_id": "x", "bbox": [0, 0, 5, 5]}]
    images = [{"id": "nine", "file_name": "a.jpg"}]
    file = tmp_path / "annotations" / "instances_val2017.json"
    coco_file(file, coco_document(categories=other, annotations=notes, images=images), tmp_path / "val2017")
    (tmp_path / "val2017" / "b.jpg").unlink()
    source = open_source(tmp_path)
    assert source.classes == ("cat", "dog", "emu")
    assert category_ids_of(source.splits["train"]) == (3, 5, None)
    assert category_ids_of(source.splits["val"]) == ("x", 0, 90)
    assert objects_of(source.splits["val"], 0).labels.tolist() == [0]
    assert image_id_of(source.splits["val"], 0) == "nine"
    part = Subset(source.splits["train"], [1])
    assert (image_id_of(part, 0), category_ids_of(part)) == (9, (3, 5, None))


@pytest.mark.parametrize(
    "file",
    ["{}/_annotations.coco.json", "{}/{}.json", "annotations/{}.json", "annotations_{}.json"],
)
def test_other_layouts_are_found(tmp_path: Path, file: str) -> None:
    for split in ("train", "valid"):
        coco_file(tmp_path / file.format(split, split), coco_document(), tmp_path / split)
    source = open_source(tmp_path)
    assert {name: len(part) for name, part in source.splits.items()} == {"train": 2, "val": 2}
    assert source.splits["val"].key(0) == "valid/a.jpg"


@pytest.mark.parametrize("inside", ["images", "", "data"])
@pytest.mark.parametrize("written", ["{}", "images/{}", "C:\\photos\\{}", "/home/x/images/{}"])
def test_images_are_found_whatever_their_names_start_from(tmp_path: Path, inside: str, written: str) -> None:
    names = [f"{number}.jpg" for number in range(10)]
    for name in names:
        image(tmp_path / inside / name)
    images = [{"id": number, "file_name": written.format(name)} for number, name in enumerate(names)]
    boxes = [
        {"id": number, "image_id": number, "category_id": 3, "bbox": [1, 1, 9, 9]} for number in range(10)
    ]
    file = tmp_path / "result.json"
    file.write_text(json.dumps(coco_document(images=images, annotations=boxes)))
    for data in (tmp_path, file, f"coco:{file}"):
        source = open_source(data)
        assert source.held_out
        assert {name: len(part) for name, part in source.splits.items()} == {"train": 8, "test": 2}
        assert source.whole is not None
        assert source.whole.key(3) == f"{inside}/3.jpg".removeprefix("/")


def test_images_that_no_file_lists_are_named(tmp_path: Path) -> None:
    image(_two_splits(tmp_path) / "train2017" / "more.jpg")
    assert [str(file) for file in open_source(tmp_path).ignored] == [
        "train2017/more.jpg is not used: 1 image file is in no list of images"
    ]


# -- objects ---------------------------------------------------------------------------------------------


def test_the_dummy_category_of_roboflow_is_no_class(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "dog", "supercategory": "pets"},
    ]
    box = {"id": 0, "image_id": 7, "category_id": 1, "bbox": [1, 1, 9, 9]}
    source = open_source(_two_splits(tmp_path, categories=categories, annotations=[box]))
    assert source.classes == ("dog",)
    assert category_ids_of(source.splits["train"]) == (1,)
    assert (
        "the category 'pets' is the supercategory of others and has no object: it is no class" in source.notes
    )


def test_boxes_crowds_and_areas(tmp_path: Path) -> None:
    objects: list[dict[str, Any]] = [
        {
            "bbox": [0, 0, 5.5, 5],
            "iscrowd": 1,
            "segmentation": {"counts": [1, 9, 1190], "size": [30, 40]},
            "area": 9,
        },
        {"bbox": [35, 20, 10, 20], "segmentation": [[1, 2, 3, 4.5e1, -1, 2], [1, 2]]},
        {"bbox": [3, 3, -2, 4]},
        {"bbox": [50, 3, 2, 4]},
        {"bbox": [39.9, 3, 0.3, 4], "id": 1},
    ]
    entries = [{"id": place, "image_id": 7, "category_id": 3, **one} for place, one in enumerate(objects)]
    source = open_source(_two_splits(tmp_path, annotations=entries))
    found = objects_of(source.splits["train"], 0)
    assert found.crowd.tolist() == [True, False, False]
    assert found.areas[:2].tolist() == [9, 50]
    assert found.boxes[:2].tolist() == [[0, 0, 5.5, 5], [35, 20, 40, 30]]
    first = [finding for finding in findings_of(source) if "train" in finding.path]
    assert {(finding.kind, finding.subject, finding.is_used) for finding in first} == {
        ("id-twice", "annotation 1 (cat)", True),
        ("box-outside", "annotation 1 (cat)", True),
        ("box-empty", "annotation 2 (cat)", False),
        ("box-outside", "annotation 3 (cat)", False),
        ("mask-empty", "annotation 1 (cat)", True),
    }
    assert str(source.ignored[0]) == (
        "annotation 2 (cat) of annotations/instances_train2017.json is not used: its left and right are "
        "exchanged (bbox 3, 3, -2, 4)"
    )


def test_polygons_become_text_before_parsing_and_nothing_else_does(tmp_path: Path) -> None:
    text = json.dumps(
        coco_document(
            annotations=[
                {
                    "segmentation": [[1.5, 2, 3e1, -4]],
                    "note": 'is "segmentation": [[1, 2]] here',
                    "id": 1,
                    "image_id": 7,
                    "category_id": 3,
                    "bbox": [1, 2, 3, 4],
                },
                {"id": 2, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2]]},
            ]
        )
    )
    file = tmp_path / "x.json"
    file.write_text(text)
    expected = json.loads(text)
    for entry, polygons in zip(expected["annotations"], ("[[1.5, 2, 3e1, -4]]", "[[1, 2]]"), strict=True):
        entry["segmentation"] = polygons
    text = text.replace("30.0", "3e1")
    file.write_text(text)
    assert read_coco_document(file, "x.json") == expected


# -- what is refused -------------------------------------------------------------------------------------

_BOX = {"id": 4, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}


def _without(entry: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != field}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", r"x\.json is not JSON in UTF-8 \("),
        ("[1]", r"x\.json holds a list; expected an object with images, annotations, categories"),
        (_without(coco_document(), "categories"), r"x\.json has no categories; expected the lists images"),
        (_without(coco_document(), "annotations"), r"x\.json has no annotations; expected the lists images"),
        (coco_document(images={}), r"x\.json has a dict as images; expected the lists"),
        (coco_document(images=[]), r"x\.json lists no images; expected at least one"),
        (coco_document(categories=[]), r"x\.json has no categories; expected at least one"),
        (coco_document(categories=[{"id": 1}]), r"category 1 has no name; expected its name"),
        (
            coco_document(categories=[{"name": "cat"}]),
            r"category 1 has no id; expected a whole number or text",
        ),
        (coco_document(categories=[{"id": 1.5, "name": "cat"}]), r"category 1 has 1\.5 as id; expected"),
        (
            coco_document(categories=[{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]),
            r"has the category id 3 twice \(cat, dog\)",
        ),
        (
            coco_document(categories=[{"id": 3, "name": "cat"}, {"id": 5, "name": "cat"}]),
            r"has two categories called 'cat'; give both the same id",
        ),
        (
            coco_document(annotations=[_BOX | {"category_id": 4}]),
            r"annotation 4 has the category_id 4, which 'cat",
        ),
        (
            coco_document(annotations=[_BOX | {"image_id": 8}]),
            r"annotation 4 has the image_id 8, which 'images' ",
        ),
        (
            coco_document(annotations=[_without(_BOX, "bbox")]),
            r"annotation 4 has no bbox; expected left, top",
        ),
        (
            coco_document(annotations=[_BOX | {"bbox": [1, 2, 3]}]),
            r"annotation 4 has 3 numbers in its bbox \(\[1, 2",
        ),
        (
            coco_document(annotations=[_BOX | {"bbox": [1, 2, 3, "4"]}]),
            r"annotation 4 has \[1, 2, 3, '4'\] as bbox",
        ),
        (
            coco_document(annotations=[_BOX | {"bbox": [1, 2, 3, None]}]),
            r"annotation 4 has \[1, 2, 3, None\] as bb",
        ),
        (
            coco_document(annotations=[_BOX | {"area": "9"}]),
            r"annotation 4 has '9' as area; expected a number",
        ),
        (
            coco_document(annotations=[_BOX | {"id": [4]}]),
            r"annotation 1 has \[4\] as id; expected a whole num",
        ),
        (
            coco_document(annotations=[_BOX | {"area": -9}]),
            r"annotation 4 \(cat\) has a box or an area that no im",
        ),
        (
            coco_document(annotations=[_BOX | {"bbox": [1, 2, 1e30, 4]}]),
            r"annotation 4 \(cat\) has a box or an area that no image has \(bbox 1, 2, 1e\+30, 4\)",
        ),
        (coco_document(annotations=[3]), r"annotation 1 is an int; expected an object"),
        (
            json.dumps(coco_document(annotations=[_BOX | {"bbox": [1, 2, float("nan"), 4]}])),
            r"x\.json is not JSON in UTF-8 \(NaN is no JSON\), at .*bbox.*1, 2, NaN, 4",
        ),
        (
            coco_document(images=[{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}]),
            r"x\.json has the image id 7 twice \(a\.jpg, b\.jpg\)",
        ),
        (
            coco_document(images=[{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "a.jpg"}]),
            r"the images a\.jpg and a\.jpg are both of the file a\.jpg",
        ),
        (
            coco_document(images=[{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "./a.jpg"}]),
            r"the images a\.jpg and \./a\.jpg are both of the file a\.jpg",
        ),
        (
            coco_document(images=[{"id": 7, "file_name": "a.jpg", "width": "x"}]),
            r"the width of a\.jpg is 'x'",
        ),
    ],
)
def test_a_bad_document_is_named(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(coco_file(tmp_path / "x.json", document))


def test_an_image_that_lists_no_file_name_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps(coco_document(images=[{"id": 7}])))
    with pytest.raises(DataError, match=r"the image with the id 7 has no file_name"):
        open_source(file)


@pytest.mark.parametrize("name", ["export.json", "instances_train.json", "train/_annotations.coco.json"])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, name: str) -> None:
    file = coco_file(tmp_path / name, coco_document(), tmp_path / "images")
    file.write_text(file.read_text()[:100])
    with pytest.raises(DataError, match=f"{name} is (cut off|not JSON)"):
        open_source(tmp_path)


def test_of_images_that_are_all_copies_nothing_is_held_out(tmp_path: Path) -> None:
    coco_file(tmp_path / "export.json", coco_document(annotations=[]), tmp_path / "images")
    (tmp_path / "images" / "b.jpg").write_bytes((tmp_path / "images" / "a.jpg").read_bytes())
    with pytest.raises(
        DataError, match="nothing can be held out for testing, since its images are copies of one"
    ):
        open_source(tmp_path)


def test_missing_images_are_counted_and_the_nearest_is_named(tmp_path: Path) -> None:
    file = coco_file(tmp_path / "x.json", coco_document())
    (tmp_path / "a.jpg").rename(tmp_path / "a.jpeg")
    with pytest.raises(DataError, match=r"^x\.json: the image a\.jpg is not there; the nearest is a\.jpeg$"):
        open_source(file)
    (tmp_path / "a.jpeg").unlink()
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(
        DataError, match=r"^x\.json: the image a\.jpg is not there, and 1 more of 2; copy the im"
    ):
        open_source(file)


def test_a_name_does_not_lead_out_of_the_data(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    file = tmp_path / "set" / "x.json"
    file.parent.mkdir()
    file.write_text(json.dumps(coco_document(images=[{"id": 7, "file_name": "../a.jpg"}])))
    with pytest.raises(DataError, match=r"the image \.\./a\.jpg is not there"):
        open_source(file)


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    _two_splits(tmp_path)
    coco_file(tmp_path / "annotations" / "instances_train2014.json", coco_document(), tmp_path / "train2014")
    with pytest.raises(
        DataError, match=r"has two files of annotations for train \(.*2014.* and .*2017.*\); keep"
    ):
        open_source(tmp_path)
