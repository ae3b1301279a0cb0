"""Data sets with boxes in other formats: they are read again as they were, or what is lost is said."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import label

from deepresidual.data.masks import Crop, Masks, Polygon, Runs
from deepresidual.data.object_writer.conversion import plan_conversion, write_conversion
from deepresidual.data.object_writer.losses import Format
from deepresidual.data.object_writer.outline import outline_of
from deepresidual.data.object_writer.voc import whole_pixels
from deepresidual.data.objects import Objects
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.annotated.split import category_ids_of, image_id_of, objects_of
from deepresidual.data.source.base import DETECTION, EncodedSample, LabelledSplit, fingerprint_of
from deepresidual.errors import ConfigurationError, DataError, RunError
from tests.data.annotations import coco_document, coco_file, image, voc_xml, voc_year, yolo_split
from tests.data.pictures import encode, noise

WIDTH, HEIGHT = 97, 61
PHOTO = encode(noise(HEIGHT, WIDTH, seed=5), "PNG")
CLASSES = ("dog", "cat", "emu")
USUAL = Objects(np.array([[1, 2, 30, 40]], np.float32), np.array([0]))


class _Images(LabelledSplit):
    """Images in memory, each with its objects."""

    def __init__(self, *objects: Objects, keys: str = "{}.png") -> None:
        super().__init__(np.zeros(len(objects), np.int64))
        self._objects_of, self._keys = objects, keys

    def key(self, index: int) -> str:
        return self._keys.format(index)

    def objects(self, index: int) -> Objects:
        return self._objects_of[index]

    def image_id(self, index: int) -> int:
        return index

    def read(self, index: int) -> EncodedSample:
        return EncodedSample(self.key(index), PHOTO, self.objects(index))


def _source(*objects: Objects, classes: tuple[str, ...] = CLASSES, **fields: Any) -> SampleSource:
    splits = {"train": _Images(*objects), "val": _Images(USUAL, keys="v{}.png")}
    return SampleSource("pets", classes, splits, task=DETECTION, **fields)


def _again(source: SampleSource, to: Format) -> tuple[SampleSource, list[str]]:
    """Return a data set as it is read after it was written, and what the format could not hold."""
    folder = Path(tempfile.mkdtemp()) / "pets"
    conversion = plan_conversion(source, to)
    write_conversion(conversion, folder)
    found = open_source(folder)
    assert {name: len(split) for name, split in found.splits.items()} == {
        name: len(split) for name, split in source.splits.items()
    }
    return found, list(conversion.losses)


def _train(source: SampleSource) -> list[Objects]:
    return [objects_of(source.splits["train"], index) for index in range(len(source.splits["train"]))]


@st.composite
def _boxes(draw: st.DrawFn, *, whole: bool) -> Objects:
    count = draw(st.integers(0, 4))
    # The furthest edge is at 2 · 29 + 2, within the photo.
    number = st.integers(0, 10_000) if not whole else st.integers(0, 29)
    rows = []
    for _ in range(count):
        across, down, width, height = (draw(number) for _ in range(4))
        scale = 1 if whole else 29 / 10_000
        rows.append(
            (
                across * scale,
                down * scale,
                across * scale + width * scale + 2,
                down * scale + height * scale + 2,
            )
        )
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    labels = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    crowd, difficult = draw(flags), draw(flags)
    return Objects(boxes, np.array(labels, np.int64), np.array(crowd, bool), np.array(difficult, bool))


@given(objects=_boxes(whole=False), areas=st.floats(0, 1e6, width=32))
def test_coco_holds_boxes_to_the_bit(objects: Objects, areas: float) -> None:
    given_ = replace(objects, areas=np.full(len(objects), areas, np.float32))
    found, losses = _again(_source(given_, USUAL), "coco")
    assert found.classes == CLASSES
    read = _train(found)[0]
    for name in ("boxes", "labels", "crowd", "areas"):
        np.testing.assert_array_equal(getattr(read, name), getattr(given_, name))
    assert len(losses) == bool((objects.difficult & ~objects.crowd).any())


@given(objects=_boxes(whole=True))
def test_voc_holds_whole_pixels(objects: Objects) -> None:
    found, losses = _again(_source(objects, USUAL, classes=("cat", "dog", "emu")), "voc")
    read = _train(found)[0]
    np.testing.assert_array_equal(read.boxes, objects.boxes)
    np.testing.assert_array_equal(read.difficult, objects.difficult | objects.crowd)
    names = [found.classes[label] for label in read.labels]
    assert names == [("cat", "dog", "emu")[label] for label in objects.labels]
    assert not any("rounded" in loss for loss in losses)
    assert any("crowds" in loss for loss in losses) == objects.crowd.any()


@given(boxes=arrays.arrays(np.float32, (3, 4), elements=st.floats(0, 61, width=32)))
def test_voc_rounds_by_half_a_pixel_and_leaves_two(boxes: np.ndarray[Any, Any]) -> None:
    boxes = np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1
    )
    pixels = whole_pixels(boxes, (HEIGHT, WIDTH))
    assert (pixels[:, 2:] - pixels[:, :2] >= 2).all()
    assert (pixels >= 0).all()
    assert (pixels <= (WIDTH, HEIGHT, WIDTH, HEIGHT)).all()
    large = (boxes[:, 2:] - boxes[:, :2] >= 3).all(axis=1)
    assert (np.abs(pixels - boxes)[large] <= 0.5).all()


@given(objects=_boxes(whole=False))
def test_yolo_holds_boxes_to_a_thousandth_of_a_pixel(objects: Objects) -> None:
    found, losses = _again(_source(objects, USUAL), "yolo")
    assert found.classes == CLASSES
    kept = objects[~objects.crowd]
    read = _train(found)[0]
    np.testing.assert_allclose(read.boxes, kept.boxes, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(read.labels, kept.labels)
    assert any("crowds" in loss for loss in losses) == objects.crowd.any()


# -- masks -----------------------------------------------------------------------------------------------

TRIANGLE = np.array([(5.25, 5), (20, 5), (12, 25.125)])
SQUARE = np.array([(40, 30), (50, 30), (50, 45), (40, 45.0)])


def _masked(*masks: list[Polygon] | Runs | None) -> Objects:
    boxes = np.tile(np.array([[5, 5, 20, 25]], np.float32), (len(masks), 1))
    return Objects(boxes, np.zeros(len(masks), np.int64), masks=Masks.of(masks).on((HEIGHT, WIDTH)))


def _runs() -> Runs:
    pixels = np.random.default_rng(3).integers(0, 2, (12, 9), dtype=np.uint8)
    return Runs.of_crop(Crop(4, 7, pixels), (HEIGHT, WIDTH))


def test_coco_holds_polygons_runs_and_objects_without_a_mask() -> None:
    objects = _masked([TRIANGLE], [TRIANGLE, SQUARE], _runs(), None)
    found, losses = _again(_source(objects), "coco")
    assert losses == []
    masks = _train(found)[0].masks
    assert masks is not None
    assert masks.known.tolist() == [True, True, True, False]
    for row in (0, 1):
        for polygon, wanted in zip(masks.polygons(row), [TRIANGLE, SQUARE], strict=False):
            np.testing.assert_array_equal(polygon, wanted)
    assert (len(masks.polygons(0)), len(masks.polygons(1))) == (1, 2)
    assert masks.runs(2) == _runs()


def test_yolo_holds_one_polygon_an_object_and_says_what_it_cannot() -> None:
    objects = _masked([TRIANGLE], [SQUARE], [TRIANGLE, SQUARE], _runs())
    found, losses = _again(_source(objects), "yolo")
    read = _train(found)[0]
    assert losses == [
        "YOLO has masks of one polygon alone: of 2 objects in parts or with holes the box is kept",
        "YOLO has a polygon or a box, not both: 1 object with the box around the polygon now",
    ]
    assert read.masks is not None
    assert read.masks.known.tolist() == [True, True, False, False]
    np.testing.assert_allclose(read.masks.polygons(0)[0], TRIANGLE, atol=1e-5)
    np.testing.assert_allclose(read.boxes[1], [40, 30, 50, 45], atol=1e-5)
    np.testing.assert_allclose(read.boxes[2:], objects.boxes[2:], atol=1e-5)


def test_yolo_holds_drawn_masks_that_one_polygon_draws() -> None:
    pixels = np.zeros((12, 15), np.uint8)
    pixels[2:9, 1:4] = pixels[5:8, 3:14] = pixels[1:12, 9:12] = 1
    runs = Runs.of_crop(Crop(4, 7, pixels), (HEIGHT, WIDTH))
    holed = pixels.copy()
    holed[6, 10] = 0
    objects = _masked(runs, Runs.of_crop(Crop(4, 7, holed), (HEIGHT, WIDTH)))
    found, losses = _again(_source(objects), "yolo")
    masks = _train(found)[0].masks
    assert masks is not None
    assert masks.known.tolist() == [True, False]
    assert masks.runs(0) == runs
    assert losses[0] == (
        "YOLO has masks of one polygon alone: of 1 object in parts or with holes the box is kept"
    )


@given(pixels=arrays.arrays(np.uint8, (5, 6), elements=st.integers(0, 1)))
def test_an_outline_draws_the_same_pixels_or_there_is_none(pixels: np.ndarray[Any, Any]) -> None:
    runs = Runs.of_crop(Crop(3, 2, pixels), (9, 11))
    outline = outline_of(runs)
    parts = label(pixels)[1]
    around = np.pad(1 - pixels, 1, constant_values=1)
    outside = label(around, np.ones((3, 3)))[1]
    if outline is None:
        # In parts, with a hole, or touching at a corner.
        touching = label(around)[1] > outside
        assert parts != 1 or outside > 1 or touching or label(pixels, np.ones((3, 3)))[1] < parts
    else:
        assert (parts, outside) == (1, 1)
        assert Runs.drawn([outline], (9, 11)) == runs


def test_every_loss_of_pascal_voc_is_one_sentence() -> None:
    objects = replace(
        _masked([TRIANGLE], _runs(), None),
        boxes=np.array([[1.5, 2, 30, 40], [3, 3, 4, 9], [1, 1, 5, 5]], np.float32),
        crowd=np.array([False, False, True]),
    )
    losses = plan_conversion(_source(objects), "voc").losses
    assert losses == [
        "Pascal VOC has no masks in its XML: of 2 objects the box alone is kept",
        "Pascal VOC has no crowds: 1 object marked as difficult instead",
        "Pascal VOC has whole pixels: the edges of 2 of 4 objects are rounded",
        "Pascal VOC takes a box of one pixel for a slip: 1 object widened to two",
        "Pascal VOC names classes by their objects alone, and there are none of cat, emu",
        "Pascal VOC does not keep the order of classes: they are sorted by name when it is read",
    ]


# -- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_photos_stay_byte_for_byte_and_boxes_stay_on_their_pixels(
    tmp_path: Path, to: Format, orientation: int
) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    document = coco_document(annotations=[])
    document["annotations"] = [
        {"id": number, "image_id": number, "category_id": 3, "bbox": [2, 3, 10, 8]} for number in (7, 9)
    ]
    for split in ("train", "val"):
        coco_file(
            tmp_path / "in" / "annotations" / f"instances_{split}.json", document, tmp_path / "in" / split
        )
        for name in ("a.jpg", "b.jpg"):
            picture = Image.fromarray(noise(30, 40, seed=1))
            picture.save(tmp_path / "in" / split / name, exif=exif)
    source = open_source(tmp_path / "in")
    conversion = plan_conversion(source, to)
    assert any("EXIF" in note for note in conversion.notes) == (orientation > 1)
    write_conversion(conversion, tmp_path / "out")
    found = open_source(tmp_path / "out")
    for split in ("train", "val"):
        ours, theirs = found.splits[split], source.splits[split]
        assert [ours.read(index).content for index in range(2)] == [
            theirs.read(index).content for index in range(2)
        ]
        for index in range(2):
            np.testing.assert_allclose(
                objects_of(ours, index).boxes, objects_of(theirs, index).boxes, atol=1e-5
            )


def test_ids_of_coco_stay_and_the_fingerprint_with_them(tmp_path: Path) -> None:
    categories = [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}]
    annotations = [{"id": 1, "image_id": 9, "category_id": 18, "bbox": [1, 2, 10, 20], "area": 150}]
    for split in ("train", "val"):
        document = coco_document(categories=categories, annotations=annotations)
        coco_file(
            tmp_path / "in" / "annotations" / f"instances_{split}.json", document, tmp_path / "in" / split
        )
    source = open_source(tmp_path / "in")
    write_conversion(plan_conversion(source, "coco"), tmp_path / "out")
    found = open_source(tmp_path / "out")
    assert category_ids_of(found.splits["val"]) == (3, 18)
    assert [image_id_of(found.splits["val"], index) for index in range(2)] == [7, 9]
    assert [fingerprint_of(found.splits[name]) for name in ("train", "val")] == [
        fingerprint_of(source.splits[name]) for name in ("train", "val")
    ]


def test_data_without_splits_is_divided_as_before(tmp_path: Path) -> None:
    rows: dict[str, str | None] = {f"{number}": "1 0.5 0.5 0.25 0.5\n" for number in range(10)}
    (yolo_split(tmp_path / "in", rows) / "classes.txt").write_text("zebra\ncat\n")
    source = open_source(tmp_path / "in")
    for to in ("yolo", "coco", "voc"):
        conversion = plan_conversion(source, to)
        assert conversion.notes == ["in has no splits of its own, and so none are written"]
        write_conversion(conversion, tmp_path / to)
        found = open_source(tmp_path / to)
        assert found.classes == (("zebra", "cat") if to != "voc" else ("cat",))
        for name in ("train", "test"):
            keys = [found.splits[name].key(index) for index in range(len(found.splits[name]))]
            wanted = [source.splits[name].key(index) for index in range(len(source.splits[name]))]
            assert [key.rsplit("/", 1)[-1] for key in keys] == [key.rsplit("/", 1)[-1] for key in wanted]


def test_equal_names_get_their_folders(tmp_path: Path) -> None:
    voc_year(tmp_path / "in" / "VOC2007", {"train": ["a", "b"], "val": ["c"]})
    voc_year(tmp_path / "in" / "VOC2012", {"train": ["a"], "val": ["b"]})
    source = open_source(tmp_path / "in")
    names = plan_conversion(source, "yolo").names
    assert names == {
        "train": ["JPEGImages-a.jpg", "b.jpg", "VOC2012-JPEGImages-a.jpg"],
        "val": ["c.jpg", "b.jpg"],
    }
    conversion = plan_conversion(source, "voc")
    assert conversion.names["val"] == ["c.jpg", "VOC2012-JPEGImages-b.jpg"]
    assert conversion.notes == ["4 images are renamed: VOC2007/JPEGImages/a.jpg is JPEGImages-a.jpg"]
    write_conversion(conversion, tmp_path / "out")
    assert {name: len(split) for name, split in open_source(tmp_path / "out").splits.items()} == {
        "train": 3,
        "val": 2,
    }


def test_names_that_a_list_would_not_hold_are_changed(tmp_path: Path) -> None:
    for name in ("photo.jpg.png", "two.dots.png"):
        path = image(tmp_path / "in" / "train" / name)
        path.with_suffix(".xml").write_text(voc_xml(("cat", (1, 1, 10, 20))))
    path = image(tmp_path / "in" / "val" / "v.png")
    path.with_suffix(".xml").write_text(voc_xml(("cat", (1, 1, 10, 20))))
    source = open_source(tmp_path / "in")
    write_conversion(plan_conversion(source, "voc"), tmp_path / "out")
    assert (tmp_path / "out" / "ImageSets" / "Main" / "train.txt").read_text() == "photo_jpg\ntwo.dots\n"
    assert len(open_source(tmp_path / "out").splits["train"]) == 2


def test_files_are_linked_where_that_is_asked_for(tmp_path: Path) -> None:
    voc_year(tmp_path / "in", {"train": ["a"], "val": ["b"]})
    conversion = plan_conversion(open_source(tmp_path / "in"), "coco")
    assert write_conversion(conversion, tmp_path / "linked", link=True) == 2
    assert write_conversion(conversion, tmp_path / "copied") == 0
    original = tmp_path / "in" / "JPEGImages" / "a.jpg"
    assert (tmp_path / "linked" / "train" / "a.jpg").samefile(original)
    assert not (tmp_path / "copied" / "train" / "a.jpg").samefile(original)


def test_digit_scenes_are_written_with_the_bytes_that_are_made(tmp_path: Path) -> None:
    from deepresidual.data.source.annotated.digit_scenes import open_digit_scenes
    from deepresidual.data.source.validation import Subset

    whole = open_digit_scenes()
    few = replace(whole, splits={name: Subset(split, [0, 1]) for name, split in whole.splits.items()})
    write_conversion(plan_conversion(few, "coco"), tmp_path / "out")
    found = open_source(tmp_path / "out")
    for name, split in few.splits.items():
        for index in range(2):
            assert found.splits[name].read(index).content == split.read(index).content
            np.testing.assert_array_equal(
                objects_of(found.splits[name], index).boxes, objects_of(split, index).boxes
            )


# -- what cannot be written ------------------------------------------------------------------------------


def test_what_cannot_be_converted_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="^digits has one class an image; expected boxes of objects, to write"
    ):
        plan_conversion(open_source("digits"), "coco")
    with pytest.raises(ConfigurationError, match="^the format is 'kitti'; expected one of coco, voc, yolo$"):
        plan_conversion(_source(USUAL), "kitti")  # type: ignore[arg-type]
    odd = plan_conversion(_source(USUAL, classes=("a\x01b", "cat", "dog")), "voc")
    with pytest.raises(
        DataError, match=r"^the class 'a\\x01b' has a character that XML has no place for; ren"
    ):
        write_conversion(odd, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ConfigurationError, match="full is not empty; expected a new or an empty folder$"):
        write_conversion(odd, tmp_path / "full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_nothing_is_left_where_an_image_is_gone_or_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voc_year(tmp_path / "in", {"train": ["a"], "val": ["b"]})
    conversion = plan_conversion(open_source(tmp_path / "in"), "yolo")
    (tmp_path / "in" / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(RunError, match=r"^cannot write .*out \(No such file or directory\)"):
        write_conversion(conversion, tmp_path / "out")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(RunError, match=r"out \(No space left on device; .* bytes are free there\)"):
        write_conversion(conversion, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_file_of_coco_has_what_other_programs_ask_for(tmp_path: Path) -> None:
    from pycocotools import mask
    from pycocotools.coco import COCO

    write_conversion(plan_conversion(_source(_masked([TRIANGLE], _runs(), None)), "coco"), tmp_path / "out")
    file = tmp_path / "out" / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    assert [entry["id"] for entry in document["annotations"]] == [1, 2, 3]
    assert all({"area", "iscrowd", "segmentation", "bbox"} <= set(entry) for entry in document["annotations"])
    coco = COCO(file)
    assert [int(mask.area(coco.annToRLE(coco.anns[number]))) for number in (1, 2)] == [
        Runs.drawn([TRIANGLE], (HEIGHT, WIDTH)).area,
        _runs().area,
    ]
