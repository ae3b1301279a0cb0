"""Pascal VOC and the same XML beside images: which lists are which split, what a box is, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deepresidual.data.check import check
from deepresidual.data.source import open_source
from deepresidual.data.source.annotated.source import findings_of
from deepresidual.data.source.annotated.split import image_id_of, objects_of
from deepresidual.data.source.annotated.xml import parse_xml
from deepresidual.data.source.base import fingerprint_of
from deepresidual.data.source.division import divide
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import DataError
from tests.data.annotations import image, voc_xml, voc_year

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def _keys(source: object, split: str) -> list[str]:
    part = source.splits[split]  # type: ignore[attr-defined]
    return [part.key(index).rsplit("/", 1)[-1] for index in range(len(part))]


# -- splits ----------------------------------------------------------------------------------------------


def test_trainval_is_trained_on_where_there_is_a_test_list(tmp_path: Path) -> None:
    voc_year(tmp_path, {"train": ["a"], "val": ["b"], "trainval": ["a", "b"], "test": ["c"]})
    source = open_source(tmp_path)
    assert source.task == "detection"
    assert (_keys(source, "train"), _keys(source, "test")) == (["a.jpg", "b.jpg"], ["c.jpg"])
    assert list(source.splits) == ["train", "test"]
    assert "--validation" in source.notes[0]
    assert sorted(_keys(hold_out(source, 0.5), "train") + _keys(hold_out(source, 0.5), "val")) == [
        "a.jpg",
        "b.jpg",
    ]


@pytest.mark.parametrize(
    ("lists", "splits"),
    [
        ({"train": "ab", "val": "c", "trainval": "abc"}, {"train": "ab", "val": "c"}),
        ({"train": "ab", "val": "c", "test": "d"}, {"train": "ab", "val": "c", "test": "d"}),
        ({"trainval": "abc"}, {"train": "abc"}),
        ({"trainval": "abc", "val": "c"}, {"train": "abc"}),
        ({"training": "ab", "valid": "c", "testing": "d"}, {"train": "ab", "val": "c", "test": "d"}),
        ({"trainval": "ab", "test": "c", "cat_train": "a"}, {"train": "ab", "test": "c"}),
    ],
)
def test_lists_become_splits(tmp_path: Path, lists: dict[str, Sequence[str]], splits: dict[str, str]) -> None:
    source = open_source(voc_year(tmp_path, lists))
    assert {name: "".join(key[0] for key in _keys(source, name)) for name in source.splits} == splits


def test_years_are_joined_and_the_secret_test_set_is_named(tmp_path: Path) -> None:
    voc_year(tmp_path / "VOCdevkit" / "VOC2007", {"trainval": ["a"], "test": ["b"]})
    later = voc_year(tmp_path / "VOCdevkit" / "VOC2012", {"train": ["c"], "trainval": ["c"], "test": ["d"]})
    (later / "Annotations" / "d.xml").unlink()
    source = open_source(tmp_path)
    assert (_keys(source, "train"), _keys(source, "test")) == (["a.jpg", "c.jpg"], ["b.jpg"])
    assert [str(file) for file in source.ignored] == [
        "VOCdevkit/VOC2012/ImageSets/Main/test.txt is not used: none of its images has annotations"
    ]


def test_folders_may_be_links_to_others(tmp_path: Path) -> None:
    for number in range(5):
        image(tmp_path / "elsewhere" / "photos" / f"{number}.jpg")
        (tmp_path / "elsewhere" / "xml").mkdir(exist_ok=True)
        (tmp_path / "elsewhere" / "xml" / f"{number}.xml").write_text(voc_xml(("cat", (1, 1, 5, 5))))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "elsewhere" / "photos")
    (tmp_path / "set" / "annotations").symlink_to(tmp_path / "elsewhere" / "xml")
    (tmp_path / "set" / "up").symlink_to(tmp_path)
    source = open_source(tmp_path / "set")
    assert source.whole is not None
    assert [source.whole.key(index) for index in range(5)] == [f"images/{number}.jpg" for number in range(5)]


def test_xml_lies_beside_images_in_folders_of_splits_or_is_divided(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 1)):
        for number in range(count):
            path = image(tmp_path / "split" / part / f"{part}{number}.jpg")
            path.with_suffix(".xml").write_text(voc_xml(("cat", (1, 1, 5, 5))))
    image(tmp_path / "split" / "train" / "new.jpg")
    source = open_source(tmp_path / "split")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 3, "test": 1}
    assert [str(file) for file in source.ignored] == ["train/new.jpg is not used: it has no XML file"]
    for number in range(10):
        image(tmp_path / "apart" / "images" / f"{number}.png")
        (tmp_path / "apart" / "annotations").mkdir(exist_ok=True)
        (tmp_path / "apart" / "annotations" / f"{number}.xml").write_text(voc_xml(("cat", (1, 1, 5, 5))))
    divided = open_source(tmp_path / "apart")
    assert {name: len(split) for name, split in divided.splits.items()} == {"train": 8, "test": 2}
    assert divided.held_out


# -- boxes -----------------------------------------------------------------------------------------------


def test_corners_count_from_one_and_lie_inside_of_the_box(tmp_path: Path) -> None:
    xml = voc_xml(
        ("dog", (1, 2, 40, 30)), ("cat", (0, 5, 10.5, 50)), ("cat", (7, 7, 7, 7)), ("cat", (50, 1, 60, 9))
    )
    source = open_source(voc_year(tmp_path, {"train": ["a"], "val": ["b"]}, {"a": xml}))
    assert source.classes == ("cat", "dog")
    objects = objects_of(source.splits["train"], 0)
    assert objects.boxes.tolist() == [[0, 1, 40, 30], [0, 4, 10.5, 30]]
    assert objects.labels.tolist() == [1, 0]
    assert image_id_of(source.splits["train"], 0) == "a"
    assert [(finding.kind, finding.subject, finding.is_used) for finding in findings_of(source)] == [
        ("counted-from-0", "object 2 (cat)", True),
        ("box-outside", "object 2 (cat)", True),
        ("box-empty", "object 3 (cat)", False),
        ("box-outside", "object 4 (cat)", False),
    ]
    assert [str(file) for file in source.ignored] == [
        f"object {subject} of Annotations/a.xml is not used: its box {what}"
        for subject, what in (
            ("3 (cat)", "has no area (xmin 7, ymin 7, xmax 7, ymax 7)"),
            ("4 (cat)", "lies outside of the image of 40×30 px (xmin 50, ymin 1, xmax 60, ymax 9)"),
        )
    ]
    first = "object 2 (cat) of Annotations/a.xml"
    assert source.notes == (
        f"1 box reaches over the image's edge, cut there: {first}",
        f"1 box has a 0 where pixels are counted from 1, taken as the image's edge: {first}",
    )


def test_difficult_objects_and_parts_and_images_without_objects(tmp_path: Path) -> None:
    part = "<difficult>1</difficult><part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"
    xml = voc_xml(("person", (3, 3, 9, 9)), extra=part)
    source = open_source(voc_year(tmp_path, {"train": ["a", "e"], "val": ["b"]}, {"a": xml, "e": voc_xml()}))
    objects = objects_of(source.splits["train"], 0)
    assert (objects.difficult.tolist(), objects.boxes.tolist()) == ([True], [[2, 2, 9, 9]])
    assert len(objects_of(source.splits["train"], 1)) == 0
    assert source.notes == (
        "1 image has no objects, and teaches what the background looks like",
        "no training image has an object of cat",
    )


def test_a_fingerprint_changes_with_a_box(tmp_path: Path) -> None:
    before = open_source(voc_year(tmp_path, {"train": ["a"], "val": ["b"]}))
    (tmp_path / "Annotations" / "a.xml").write_text(voc_xml(("cat", (1, 1, 10, 21))))
    after = open_source(tmp_path)
    assert fingerprint_of(before.splits["val"]) == fingerprint_of(after.splits["val"])
    assert fingerprint_of(before.splits["train"]) != fingerprint_of(after.splits["train"])


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", r"^Annotations/a\.xml: the file is cut off or broken at line 1; expected XML"),
        (
            "<annotation><object>",
            r"^Annotations/a\.xml: the file is cut off or broken at line 1; expected XML",
        ),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", r"^Annotations/a\.xml: the file has a document type"),
        ("<html/>", r"^Annotations/a\.xml: the file holds <html>; expected <annotation>"),
        (voc_xml(("", (1, 1, 5, 5))), r"^Annotations/a\.xml: object 1 has no name"),
        (
            voc_xml(("cat", (1, 1, 5, "nan"))),
            r"^Annotations/a\.xml: ymax of object 1 \(cat\) is 'nan'; expected",
        ),
        (voc_xml(("cat", (1, 1, 5, ""))), r"^Annotations/a\.xml: ymax of object 1 \(cat\) is ''; expected"),
        (voc_xml(("cat", (1, 1, 5, 5)), size=None).replace("xmax", "right"), r"object 1 \(cat\) has no xmax"),
        (
            voc_xml(("cat", (1, 1, 5, 5))).replace("bndbox", "box"),
            r"object 1 \(cat\) has no box; expected <bndb",
        ),
        (voc_xml(size=("x", 3)), r"^Annotations/a\.xml: its size is '3' × 'x'; expected whole numbers"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, xml: str, message: str) -> None:
    voc_year(tmp_path, {"train": ["a"], "val": ["b"]}, {"a": xml})
    with pytest.raises(DataError, match=message):
        open_source(tmp_path)


def test_masks_of_the_same_name_are_no_images_and_a_file_name_may_differ(tmp_path: Path) -> None:
    for number in range(5):
        image(tmp_path / "JPEGImages" / f"{number}.jpg")
        image(tmp_path / "SegmentationClass" / f"{number}.png")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{number}.xml").write_text(voc_xml(("cat", (1, 1, 5, 5))))
    image(tmp_path / "JPEGImages" / "x-9.jpg")
    other = voc_xml(("cat", (1, 1, 5, 5))).replace("wrong.jpg", "C:\\photos\\x-9.jpg")
    (tmp_path / "Annotations" / "9.xml").write_text(other)
    source = open_source(tmp_path)
    assert source.whole is not None
    names = [f"JPEGImages/{name}.jpg" for name in ("0", "1", "2", "3", "4", "x-9")]
    assert sorted(source.whole.key(index) for index in range(6)) == names
    assert source.ignored == ()


def test_other_xml_is_no_annotation(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(5):
            image(tmp_path / name / f"{number}.jpg")
    (tmp_path / "sitemap.xml").write_text("<urlset/>")
    assert open_source(tmp_path).task == "classification"


def test_all_faults_are_met_and_the_first_is_told_with_their_number(tmp_path: Path) -> None:
    for name in "abcd":
        image(tmp_path / f"{name}.jpg")
        (tmp_path / f"{name}.xml").write_text(voc_xml(("cat", (1, 1, 9, 9))))
    (tmp_path / "a.xml").write_text("<annotation>")
    (tmp_path / "c.jpg").unlink()
    (tmp_path / "d.xml").write_text(voc_xml(("", (1, 1, 9, 9))))
    told = r"^a\.xml: the file is cut off or broken at line 1; .*; 'residual check' lists 2 more faults$"
    with pytest.raises(DataError, match=told):
        open_source(tmp_path)
    report = check(tmp_path)
    assert not report.ok
    assert [(finding.kind, finding.detail.partition(":")[0]) for finding in report.findings] == [
        ("structure", "a.xml"),
        ("missing-image", "c.xml"),
        ("structure", "d.xml"),
    ]


def test_a_photo_of_another_number_is_no_hint(tmp_path: Path) -> None:
    voc_year(tmp_path, {"train": ["img_0012", "img_0013"], "val": ["b"]})
    (tmp_path / "JPEGImages" / "img_0012.jpg").unlink()
    with pytest.raises(DataError, match=r"the image img_0012 is not there in JPEGImages; copy the images th"):
        open_source(tmp_path)


def test_a_single_image_without_objects_is_no_class_that_lacks_a_test(tmp_path: Path) -> None:
    for name in "abcdefgh":
        image(tmp_path / f"{name}.jpg")
        objects = [] if name == "a" else [("cat", (1, 1, 9, 9))]
        (tmp_path / f"{name}.xml").write_text(voc_xml(*objects))
    notes = divide(open_source(tmp_path)).notes
    assert "1 image has no objects, and teaches what the background looks like" in notes
    assert not [note for note in notes if "label" in note or "cannot be tested" in note]


def test_missing_files_are_named_with_the_nearest(tmp_path: Path) -> None:
    voc_year(tmp_path, {"train": ["photo_1", "other_2"], "val": ["b"]})
    (tmp_path / "JPEGImages" / "photo_1.jpg").rename(tmp_path / "JPEGImages" / "photo-1.jpg")
    with pytest.raises(
        DataError, match=r"the image photo_1 is not there in JPEGImages; the nearest is JPEGI.*o-1"
    ):
        open_source(tmp_path)
    (tmp_path / "JPEGImages" / "photo-1.jpg").rename(tmp_path / "JPEGImages" / "photo_1.jpg")
    (tmp_path / "Annotations" / "other_2.xml").unlink()
    with pytest.raises(
        DataError, match=r"train\.txt names other_2, which has no annotations; expected the file"
    ):
        open_source(tmp_path)


@pytest.mark.parametrize("entities", [True, False])
def test_entities_are_not_expanded(entities: bool) -> None:
    bomb = (
        b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 1000 + b'">]>'
        if entities
        else b'<!DOCTYPE a SYSTEM "file:///x">'
    )
    with pytest.raises(DataError, match="document type"):
        parse_xml(bomb + b"<a>&b;</a>")
