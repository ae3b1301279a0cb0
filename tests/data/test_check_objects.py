"""Checking data with boxes: every bad annotation is named, no good one is, and objects are counted."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image

from deepresidual import zoo
from deepresidual.data import check_objects
from deepresidual.data.check import KINDS, CheckReport, check
from deepresidual.data.check_kinds import OBJECT_KINDS
from deepresidual.data.check_masks import JudgedMasks, judge_masks
from deepresidual.data.masks import Masks
from deepresidual.data.near_copies import are_alike, small_picture
from deepresidual.data.objects import Objects
from deepresidual.data.source import open_source
from deepresidual.recipe.recipes import named_recipe
from tests.data.annotations import HEIGHT, WIDTH, image, voc_xml, voc_year, yolo_split
from tests.data.pictures import encode, waves
from tests.data.test_near_copies import a_picture

Document: TypeAlias = dict[str, Any]
CAT, DOG = 3, 5


@pytest.fixture(autouse=True)
def _few_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the few objects of these tests pass for enough to measure by; tests/cli has the warning."""
    monkeypatch.setattr("deepresidual.data.check_objects._FEW_MEASURED", 0)


def documents() -> dict[str, Document]:
    """Return the documents of COCO of a data set without faults: each image has a cat and a dog."""
    found = {}
    for split, count in (("train", 16), ("val", 3)):
        names = [f"{split}-{number:02d}.jpg" for number in range(count)]
        found[split] = {
            "images": [
                {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
                for number, name in enumerate(names)
            ],
            "annotations": [
                annotation(2 * number + place, number, category, box)
                for number in range(count)
                for place, (category, box) in enumerate([(CAT, [1, 2, 10, 20]), (DOG, [20, 2, 15, 20])])
            ],
            "categories": [{"id": DOG, "name": "dog"}, {"id": CAT, "name": "cat"}],
        }
    return found


def annotation(number: int, image_id: int, category: int, box: Sequence[float], crowd: int = 0) -> Document:
    area = box[2] * box[3]
    entry = {"id": number, "image_id": image_id, "category_id": category, "bbox": box, "area": area}
    return {**entry, "bbox": list(box), "iscrowd": crowd, "segmentation": []}


def written(folder: Path, contents: dict[str, Document]) -> Path:
    """Write documents, and the images that they list and that are not there yet."""
    for split, document in contents.items():
        for entry in document["images"]:
            if not (path := folder / split / entry["file_name"]).exists():
                image(path)
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    return folder


def found(report: CheckReport) -> list[tuple[str, str, str]]:
    return [(finding.kind, finding.split, finding.key) for finding in report.findings]


def test_good_boxes_are_nothing_to_find_fault_with(tmp_path: Path) -> None:
    report = check(written(tmp_path / "data", documents()), num_workers=0)
    assert report.findings == ()
    assert report.images_per_class == {"cat": 16, "dog": 16}


@pytest.mark.test_all
def test_the_scenes_of_digits_are_without_fault() -> None:
    source = open_source("digit-scenes")
    report = check(source)
    assert found(report) == []
    assert {name: counts.images for name, counts in report.objects.items()} == {
        name: len(split) for name, split in source.splits.items()
    }


# -- one fault at a time ----------------------------------------------------------------------------------


def _add(*fields: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["annotations"].append(annotation(*fields))

    return change


def _set(place: int, what: str = "annotations", **fields: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document[what][place].update(fields)

    return change


def _without_objects(document: Document) -> None:
    document["annotations"] = [entry for entry in document["annotations"] if entry["image_id"] > 5]


def _without_dogs(document: Document) -> None:
    document["annotations"] = [entry for entry in document["annotations"] if entry["category_id"] == CAT]


def _with_few_dogs(document: Document) -> None:
    document["annotations"] = [
        entry for entry in document["annotations"] if entry["category_id"] == CAT or entry["image_id"] < 4
    ]


def _with_crowds(document: Document) -> None:
    for entry in document["annotations"][:5]:
        entry["iscrowd"] = 1


def _tiny(document: Document) -> None:
    for entry in document["annotations"][:5]:
        entry["bbox"][2] = 0.7


def test_a_rare_class_is_asked_about_by_the_name_that_may_be_meant(tmp_path: Path) -> None:
    contents = documents()
    contents["train"]["categories"].append({"id": 91, "name": "Dog."})
    contents["train"]["annotations"][1]["category_id"] = 91
    report = check(written(tmp_path / "data", contents), num_workers=0)
    assert [(finding.kind, finding.split, finding.key, finding.detail) for finding in report.findings] == [
        ("missing-class", "val", "Dog.", "no object of this class"),
        ("few-samples", "train", "Dog.", "only 1 object to learn from; did you mean dog?"),
    ]


FILE = "annotations/instances_train.json"
FAULTS: list[tuple[Callable[[Document], None], str, str, str]] = [
    (
        _add(99, 4, CAT, [1.2, 2, 10, 20]),
        "box-twice",
        "train/train-04.jpg",
        "one cat has two boxes (1.2, 2, 11.2, 22)",
    ),
    (
        _add(99, 4, DOG, [1, 2, 10, 20]),
        "box-two-classes",
        "train/train-04.jpg",
        "one box is of cat and of dog (1, 2, 11, 22)",
    ),
    (_set(8, bbox=[1, 2, 0, 20]), "box-empty", "annotation 8 (cat) of " + FILE, "its box has no area"),
    (_set(8, bbox=[30, 2, 20, 20]), "box-outside", "annotation 8 (cat) of " + FILE, "reaches over the edge"),
    (_set(8, bbox=[50, 2, 9, 20]), "box-outside", "annotation 8 (cat) of " + FILE, "lies outside of the im"),
    (_set(8, id=9), "id-twice", "annotation 9 (dog) of " + FILE, "id"),
    (
        _set(4, "images", width=80, height=60),
        "size-differs",
        "train/train-04.jpg",
        "its annotations are for 80×60 px, and the file has 40×30: its boxes lie elsewhere",
    ),
    (
        _set(4, "images", width=80, height=30),
        "size-differs",
        "train/train-04.jpg",
        "its annotations are for 80×30 px, and the file has 40×30, which is of another shape: its boxes lie",
    ),
    (_without_objects, "no-objects", "", "6 of 16 images have no objects; where they were not annotated, ta"),
    (_without_dogs, "missing-class", "dog", "no object of this class"),
    (_with_few_dogs, "few-samples", "dog", "only 4 objects to learn from"),
    (_with_crowds, "crowd-share", "", "5 of 32 objects are crowds, which are neither learned nor measured"),
    (
        _tiny,
        "tiny-objects",
        "",
        "5 of 32 objects are narrower than 8 px where images have 416 px; consider --image-px 832",
    ),
]


@pytest.mark.parametrize(
    ("change", "kind", "key", "detail"), FAULTS, ids=[f"{fault[1]}-{row}" for row, fault in enumerate(FAULTS)]
)
def test_a_fault_is_named_and_nothing_else(
    tmp_path: Path, change: Callable[[Document], None], kind: str, key: str, detail: str
) -> None:
    contents = documents()
    change(contents["train"])
    report = check(written(tmp_path / "data", contents), num_workers=0)
    (finding,) = report.findings
    assert (finding.kind, finding.severity, finding.key) == (kind, "warning", key)
    assert detail in finding.detail
    assert report.ok


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            _set(0, category_id=90),
            "unknown-category",
            "has the category_id 90, which 'categories' do not",
        ),
        (_set(0, image_id=90), "missing-image", "has the image_id 90, which 'images' do not have"),
        (_set(0, bbox=[1, 2, 3]), "structure", "has 3 numbers in its bbox"),
    ],
)
def test_what_training_stops_at_is_an_error_of_its_kind(
    tmp_path: Path, change: Callable[[Document], None], kind: str, message: str
) -> None:
    contents = documents()
    change(contents["train"])
    report = check(written(tmp_path / "data", contents), num_workers=0)
    (finding,) = report.findings
    assert (finding.kind, finding.severity) == (kind, "error")
    assert message in finding.detail
    assert not report.ok


def test_an_image_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    data = written(tmp_path / "data", documents())
    (data / "train" / "train-04.jpg").unlink()
    (finding,) = check(data, num_workers=0).findings
    assert (finding.kind, finding.severity) == ("missing-image", "error")
    assert "train-04.jpg is not there" in finding.detail


def test_a_class_beyond_the_names_of_yolo_is_an_error(tmp_path: Path) -> None:
    for split in ("train", "val"):
        yolo_split(tmp_path / split, {f"{split}{row}": "0 0.5 0.5 0.2 0.2\n" for row in range(3)})
    (tmp_path / "data.yaml").write_text("train: train/images\nval: val/images\nnames: [cat]\n")
    (tmp_path / "train/labels/train1.txt").write_text("4 0.5 0.5 0.2 0.2\n")
    (finding,) = check(tmp_path, num_workers=0).findings
    assert (finding.kind, finding.severity) == ("unknown-category", "error")


# -- beside the pixels ------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_decoded_is_an_error_as_of_photos(tmp_path: Path) -> None:
    data = written(tmp_path / "data", documents())
    path = data / "train" / "train-04.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    (data / "train" / "train-05.jpg").write_bytes(b"")
    report = check(data, num_workers=0)
    assert found(report) == [
        ("empty", "train", "train/train-05.jpg"),
        ("truncated", "train", "train/train-04.jpg"),
    ]
    assert report.objects["train"].images == 14


@pytest.mark.parametrize(
    ("orientation", "size", "is_ambiguous"), [(3, True, True), (6, False, True), (6, True, False)]
)
def test_a_turned_image_is_named_where_its_boxes_may_not_be_turned(
    tmp_path: Path, orientation: int, size: bool, is_ambiguous: bool
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(waves(HEIGHT, WIDTH)).save(file, "JPEG", exif=exif)
    xml = voc_xml(("cat", (2, 2, 10, 12)), size=(HEIGHT, WIDTH) if size else None)
    stems = [f"a{number:02d}" for number in range(12)]
    data = voc_year(tmp_path / "data", {"train": stems, "val": ["v0"]}, {"a03": xml})
    (data / "JPEGImages" / "a03.jpg").write_bytes(file.getvalue())
    report = check(data, num_workers=0)
    expected = [("exif-ambiguous", "train", "JPEGImages/a03.jpg")] if is_ambiguous else []
    assert found(report) == expected


def test_what_counts_from_0_and_what_has_no_image_is_named(tmp_path: Path) -> None:
    xml = {"a03": voc_xml(("cat", (0, 1, 10, 12)))}
    data = voc_year(tmp_path / "data", {"train": [f"a{row:02d}" for row in range(12)], "val": ["v0"]}, xml)
    assert found(check(data, num_workers=0)) == [
        ("counted-from-0", "", "object 1 (cat) of Annotations/a03.xml")
    ]


def test_an_image_without_its_file_of_boxes_is_named_once(tmp_path: Path) -> None:
    for split, count in (("train", 12), ("test", 2)):
        for row in range(count):
            picture = image(tmp_path / split / f"{split}{row:02d}.jpg")
            picture.with_suffix(".xml").write_text(voc_xml(("cat", (2, 2, 10, 12))))
    (tmp_path / "train" / "train04.xml").unlink()
    assert found(check(tmp_path, num_workers=0)) == [("not-annotated", "", "train/train04.jpg")]


def test_the_same_picture_with_other_boxes_is_told_with_what_each_has(tmp_path: Path) -> None:
    contents = documents()
    contents["train"]["annotations"] = contents["train"]["annotations"][:-1]  # the last image has no dog
    data = written(tmp_path / "data", contents)
    shutil.copy(data / "train" / "train-02.jpg", data / "train" / "train-15.jpg")
    (finding,) = check(data, num_workers=0).findings
    assert (finding.kind, finding.split, finding.key) == ("two-labels", "train", "train/train-15.jpg")
    assert finding.detail == "1 cat here, and 1 cat and 1 dog as train/train-02.jpg: the same picture"


def test_a_picture_of_training_in_another_split_is_a_leak(tmp_path: Path) -> None:
    data = written(tmp_path / "data", documents())
    shutil.copy(data / "train" / "train-02.jpg", data / "val" / "val-01.jpg")
    (finding,) = check(data, num_workers=0).findings
    assert (finding.kind, finding.split, finding.key) == ("leak", "val", "val/val-01.jpg")
    assert finding.detail == "training sees the same picture as train/train-02.jpg"


def test_objects_are_tiny_at_the_size_that_detectors_learn_at() -> None:
    assert vars(check_objects)["_USUAL_PX"] == named_recipe("detect", zoo.entry("resnet18").spec).crop_px


def test_a_smaller_copy_is_a_near_copy(tmp_path: Path) -> None:
    contents = documents()
    picture = a_picture(3, (160, 120))
    (tmp_path / "data" / "train").mkdir(parents=True)
    for number, (width, height) in ((3, (160, 120)), (4, (120, 90))):
        contents["train"]["images"][number].update(width=width, height=height)
        name = contents["train"]["images"][number]["file_name"]
        picture.resize((width, height)).save(tmp_path / "data" / "train" / name)
    report = check(written(tmp_path / "data", contents), num_workers=0)
    kinds = {finding.kind for finding in report.findings} - {"tiny-objects"}
    assert kinds == {"near-copy"}


def test_of_pictures_with_like_hashes_only_those_with_like_pixels_are_copies() -> None:
    one, other = a_picture(3), a_picture(4)
    same, mirrored = one.resize((100, 75)), one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    small = [small_picture(encode(picture, "PNG")) for picture in (one, same, mirrored, other)]
    assert [are_alike(small[0], each) for each in small] == [True, True, True, False]


# -- counts -----------------------------------------------------------------------------------------------


def test_objects_are_counted_by_split_class_and_size(tmp_path: Path) -> None:
    contents = documents()
    contents["train"]["annotations"][0]["iscrowd"] = 1
    contents["val"]["annotations"] = contents["val"]["annotations"][:1]
    report = check(written(tmp_path / "data", contents), num_workers=0)
    train, val = report.objects["train"], report.objects["val"]
    assert (train.images, train.empty, train.objects, train.crowd, train.difficult) == (16, 0, 32, 1, 0)
    assert train.per_class == {"cat": 15, "dog": 16}  # a crowd is none
    assert train.images_per_class == {"cat": 15, "dog": 16}
    assert (val.images, val.empty, val.objects, val.per_class) == (3, 2, 1, {"cat": 1, "dog": 0})
    assert (train.small, train.medium, train.large) == (1, 0, 0)
    assert train.side_px == (14.1, 15.7, 17.3)  # √200, √300, and between
    assert report.summary()["objects"]["val"]["per_class"] == {"cat": 1, "dog": 0}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_any_number_of_processes_finds_the_same_objects(tmp_path: Path, num_workers: int) -> None:
    contents = documents()
    for change, *_ in FAULTS[:7]:
        change(contents["train"])
    data = written(tmp_path / "data", contents)
    assert check(data, num_workers=num_workers) == check(data, num_workers=0)


def test_a_report_without_boxes_has_no_objects(tmp_path: Path) -> None:
    report = check(open_source("digits"), num_workers=0)
    assert report.objects == {}
    assert "objects" not in report.summary()


def test_kinds_of_boxes_are_kinds() -> None:
    assert set(OBJECT_KINDS) <= set(KINDS)


# -- masks -------------------------------------------------------------------------------------------------

Corners: TypeAlias = list[tuple[float, float]]


def diamond(left: float, top: float, width: float, height: float) -> Corners:
    across, down = left + width / 2, top + height / 2
    return [(left, down), (across, top), (left + width, down), (across, top + height)]


def with_masks(shape: Callable[[float, float, float, float], Corners] = diamond) -> dict[str, Document]:
    """Return documents in which every object has a mask."""
    contents = documents()
    for document in contents.values():
        for row in document["annotations"]:
            left, top, width, height = row["bbox"]
            row["segmentation"] = [[value for corner in shape(left, top, width, height) for value in corner]]
    return contents


def rectangle(left: float, top: float, width: float, height: float) -> Corners:
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


def test_good_masks_are_nothing_to_find_fault_with(tmp_path: Path) -> None:
    report = check(written(tmp_path / "data", with_masks()), num_workers=0)
    assert report.findings == ()
    assert report.objects is not None
    assert (report.objects["train"].masks, report.objects["val"].masks) == (32, 6)


CAT_BOX = "(1, 2, 11, 22)"


@pytest.mark.parametrize(
    ("polygon", "detail"),
    [
        ([1, 2, 16, 2, 16, 22, 1, 22], f"the mask of one cat reaches 5 px out of its box {CAT_BOX}"),
        ([1, 2, 5, 2, 5, 9, 1, 9], f"the mask of one cat spans 4×7 px, and its box 10×20 {CAT_BOX}"),
        ([1, 2, 2, 2, 11, 22, 10.5, 22], ""),  # thin
        ([1.2, 2, 1.4, 2, 1.4, 2.2, 1.2, 2.2], f"the mask of one cat covers no pixel {CAT_BOX}"),
        ([0.2, 1.2, 11.8, 1.2, 11.8, 22.8, 0.2, 22.8], ""),  # rounded
    ],
)
def test_a_mask_apart_from_its_box_is_named(tmp_path: Path, polygon: list[float], detail: str) -> None:
    contents = with_masks()
    contents["train"]["annotations"][8]["segmentation"] = [polygon]
    report = check(written(tmp_path / "data", contents), num_workers=0)
    assert [(finding.kind, finding.key, finding.detail) for finding in report.findings] == (
        [("mask-box-differs", "train/train-04.jpg", detail)] if detail else []
    )
    assert report.ok


def test_a_line_in_a_large_box_is_named() -> None:
    lines = [np.array(corners, np.float64) for corners in ([(0, 0), (2, 0), (200, 198), (200, 200)],)]
    objects = Objects(
        np.array([[0, 0, 200, 200]]), np.zeros(1, np.int64), masks=Masks.of([lines]).on((200, 200))
    )
    ((row, clause),) = judge_masks(objects).differing
    assert (row, clause[:6], clause[-11:]) == (0, "fills ", " of its box")


def test_objects_without_masks_are_counted_where_others_have_one(tmp_path: Path) -> None:
    contents = with_masks()
    for row in contents["train"]["annotations"][:3]:
        row["segmentation"] = []
    contents["train"]["annotations"][3].update(segmentation=[], iscrowd=1)
    (finding,) = check(written(tmp_path / "data", contents), num_workers=0).findings
    assert (finding.kind, finding.split, finding.detail) == (
        "mask-missing",
        "train",
        "3 of 31 objects have no mask, and the others have one; of these only boxes are learned and measured",
    )


def test_masks_that_are_boxes_are_suspected_where_most_are(tmp_path: Path) -> None:
    (finding,) = check(written(tmp_path / "data", with_masks(rectangle)), num_workers=0).findings
    assert (finding.kind, finding.split) == ("mask-is-box", "train")
    assert finding.detail == (
        "32 of 32 masks cover their whole box, as boxes do that were exported as polygons; --task detect "
        "learns boxes alone"
    )


def test_counts_of_images_are_added_up() -> None:
    assert JudgedMasks(3, 2, 1, ((0, "covers no pixel"),)) + JudgedMasks(4, 4, 0) == JudgedMasks(7, 6, 1)
