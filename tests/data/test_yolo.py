"""YOLO: data.yaml and folders, rows, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deepresidual.data.source import open_source
from deepresidual.data.source.annotated.source import findings_of
from deepresidual.data.source.annotated.split import objects_of
from deepresidual.errors import DataError
from tests.data.annotations import image, yolo_split

if TYPE_CHECKING:
    from pathlib import Path

_YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
_ROW = "1 0.5 0.5 0.25 0.5\n"


def _data(root: Path, rows: str = _ROW, yaml: str | None = _YAML) -> Path:
    yolo_split(root, {"a": rows, "b": None}, "train")
    yolo_split(root, {"c": "0 0.5 0.5 0.1 0.1"}, "val")
    if yaml is not None:
        (root / "data.yaml").write_text(yaml)
    return root


# -- layouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "yaml",
    [
        _YAML,
        "path: ../sets/pets\ntrain: images/train\nval: images/val\ntest:\nnames: {1: dog, 0: cat}\nnc: 2\n",
        "train: [/home/x/images/train]\nval: ../images/val\ntest: ../test/images\nnames:\n- cat\n- dog\n",
        "names: [cat, dog]\n",
    ],
)
def test_a_description_names_classes_and_splits(tmp_path: Path, yaml: str) -> None:
    _data(tmp_path, yaml=yaml)
    for data in (tmp_path, tmp_path / "data.yaml", f"yolo:{tmp_path}"):
        source = open_source(data)
        assert (source.task, source.classes) == ("detection", ("cat", "dog"))
        assert {name: len(part) for name, part in source.splits.items()} == {"train": 2, "val": 1}
    objects = objects_of(source.splits["train"], 0)
    # Pixels of an image of 40×30.
    assert (objects.boxes.tolist(), objects.labels.tolist()) == ([[15, 7.5, 25, 22.5]], [1])
    assert objects.areas.tolist() == [150]
    assert len(objects_of(source.splits["train"], 1)) == 0


def test_a_test_split_that_was_not_handed_out_is_named(tmp_path: Path) -> None:
    _data(tmp_path, yaml=_YAML + "test: images/test\n")
    assert [str(file) for file in open_source(tmp_path).ignored] == [
        "test of data.yaml is not used: images/test is not there"
    ]


def test_folders_of_splits_with_a_list_of_names(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        yolo_split(tmp_path / split, {"a": _ROW})
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    source = open_source(tmp_path)
    assert {name: part.key(0) for name, part in source.splits.items()} == {
        "train": "train/images/a.jpg",
        "val": "valid/images/a.jpg",
    }


def test_labels_may_lie_beside_images_and_lists_may_name_these(tmp_path: Path) -> None:
    for number in range(10):
        image(tmp_path / f"{number}.jpg").with_suffix(".txt").write_text(_ROW)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert {name: len(part) for name, part in open_source(tmp_path).splits.items()} == {"train": 8, "test": 2}
    (tmp_path / "train.txt").write_text("./1.jpg\n/home/x/2.jpg\n")
    (tmp_path / "val.txt").write_text("3.jpg\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    source = open_source(tmp_path / "data.yaml")
    assert [source.splits["train"].key(index) for index in range(2)] == ["1.jpg", "2.jpg"]


def test_a_description_may_lie_elsewhere_and_a_copy_beside_it_counts_first(tmp_path: Path) -> None:
    _data(tmp_path / "sets" / "pets", yaml=None)
    (tmp_path / "work").mkdir()
    file = tmp_path / "work" / "pets.yaml"
    file.write_text("path: ../sets/pets\n" + _YAML)
    source = open_source(file)
    assert source.name == "pets"
    assert source.splits["train"].key(0) == "images/train/a.jpg"
    assert source.notes[0] == f"images are read from {tmp_path / 'sets' / 'pets'}, which pets.yaml names"
    _data(tmp_path / "copy", yaml=f"path: {tmp_path / 'sets' / 'pets'}\n{_YAML}")
    (tmp_path / "copy" / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n" * 3)
    assert len(objects_of(open_source(tmp_path / "copy").splits["train"], 0)) == 3


def test_the_export_of_cvat(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "obj_train_data" / f"{name}.jpg").with_suffix(".txt").write_text(_ROW)
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "obj.data").write_text("classes = 2\nnames = data/obj.names\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/a.jpg\n")
    source = open_source(tmp_path)
    assert (source.classes, len(source.splits["train"])) == (("cat", "dog"), 2)
    with pytest.raises(DataError, match=r"has only a training split; .* with --validation 0\.2"):
        source.require_training_splits()


def test_training_images_that_are_measured_on_are_told(tmp_path: Path) -> None:
    _data(tmp_path, yaml="train: images/train\nval: images/train\nnames: [cat, dog]\n")
    assert open_source(tmp_path).notes[0] == (
        "data.yaml has images/train as train and as val: what is measured there was trained on"
    )


# -- rows ------------------------------------------------------------------------------------------------


def test_polygons_become_boxes_and_poses_lose_their_points(tmp_path: Path) -> None:
    _data(tmp_path, "0 0.1 0.2 0.5 0.2 0.5 0.4 0.1 0.4\n")
    objects = objects_of(open_source(tmp_path).splits["train"], 0)
    assert objects.boxes.round(4).tolist() == [[4, 6, 20, 12]]
    (tmp_path / "data.yaml").write_text(_YAML + "kpt_shape: [2, 2]\n")
    objects = objects_of(open_source(tmp_path).splits["train"], 0)
    assert objects.boxes.round(4).tolist() == [[0, 3, 14, 9]]


def test_what_reaches_over_an_edge_is_cut_and_what_has_no_area_is_left_out(tmp_path: Path) -> None:
    _data(tmp_path, "0 0.9 0.5 0.4 0.5\n0 0.5 0.5 0 0.1\n\n1 0.9995 0.5 0.002 1\n1 1.5 0.5 0.2 0.2\n")
    (tmp_path / "labels" / "train" / "gone.txt").write_text(_ROW)
    source = open_source(tmp_path)
    objects = objects_of(source.splits["train"], 0)
    assert objects.boxes[0].round(4).tolist() == [28, 7.5, 40, 22.5]
    assert objects.labels.tolist() == [0, 1]
    assert [(finding.kind, finding.place, finding.is_used) for finding in findings_of(source)] == [
        ("without-image", "labels/train/gone.txt", False),
        ("box-outside", "row 1 (cat) of labels/train/a.txt", True),
        ("box-empty", "row 2 (cat) of labels/train/a.txt", False),
        ("box-outside", "row 5 (dog) of labels/train/a.txt", False),
    ]


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "1 0.5 0.5 0.1",
            r"^row 1 of labels/train/a\.txt has 4 numbers; expected class, x, y, width and height",
        ),
        ("1 0.5 0.5 0.1 0.1 0.9", r"^row 1 of labels/train/a\.txt has 6 numbers; expected"),
        (
            "\n2 0.5 0.5 0.1 0.1",
            r"^row 2 of labels/train/a\.txt has the class 2; expected 0 to 1, as in data\.yaml",
        ),
        ("cat 0.5 0.5 0.1 0.1", r"^row 1 of labels/train/a\.txt has 'cat'; expected numbers"),
        ("0 nan 0.5 0.1 0.1", r"^row 1 of labels/train/a\.txt has 'nan'; expected numbers"),
        ("1.5 0.5 0.5 0.1 0.1", r"^row 1 of labels/train/a\.txt has the class 1\.5"),
        (
            "1 20 15 10 10",
            r"^row 1 of labels/train/a\.txt has '20 15 10 10', which looks like pixels; expected fra",
        ),
        ("1 0.5,0.5", r"^row 1 of labels/train/a\.txt has '0\.5,0\.5'; expected numbers"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(_data(tmp_path, rows))


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (None, r"does not name its classes; expected data\.yaml with 'names', or classes\.txt"),
        (
            "train: images/train\n",
            r"^data\.yaml has no names; expected 'names' with the names of the classes",
        ),
        ("train: [\n", r"^data\.yaml is not YAML \("),
        ("- a\n", r"^data\.yaml holds a list; expected names"),
        (_YAML + "nc: 3\n", r"^data\.yaml has 3 as nc and 2 names; correct one of them"),
        (
            "names: [cat, no]\n",
            r"^data\.yaml has False as the name of class 1; expected text; put it in quotes",
        ),
        ("names: {a: cat}\n", r"^data\.yaml has the class number 'a'; expected whole numbers from 0"),
        ("names: cat\n", r"^data\.yaml has 'cat' as names; expected a list"),
        (
            _YAML.replace("images/train", "image/train"),
            r"has image/train as train, which is not there; .*is images",
        ),
        (
            _YAML.replace("images/val", "{}") + "valid: {a: 1}",
            r"^data\.yaml has \{'a': 1\} as valid; expected a fo",
        ),
        (
            "names: !!python/object/apply:os.system ['true']\n",
            r"^data\.yaml is not YAML \(could not determine",
        ),
    ],
)
def test_a_bad_description_is_named(tmp_path: Path, yaml: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(f"yolo:{_data(tmp_path, yaml=yaml)}")


def test_images_without_any_labels_are_refused(tmp_path: Path) -> None:
    yolo_split(tmp_path, {"a": None}, "train")
    (tmp_path / "data.yaml").write_text(_YAML)
    image(tmp_path / "images" / "val" / "b.jpg")
    with pytest.raises(
        DataError, match=r"has no labels of its images; expected a file such as labels/train/a\.txt"
    ):
        open_source(tmp_path)
