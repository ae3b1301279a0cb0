"""Boxes lie on the upright image, whichever way up the program that wrote them saw it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from deepresidual.data.decode import decode
from deepresidual.data.masks import Crop, Masks, Runs
from deepresidual.data.objects import Objects
from deepresidual.data.readers import ImageHeader, upright
from deepresidual.data.source import open_source
from deepresidual.data.source.annotated.split import AnnotatedSplit, Annotation, Annotations, objects_of
from deepresidual.data.source.annotated.upright import is_ambiguous, turned, upright_objects
from tests.data.annotations import coco_document, coco_file, voc_xml, voc_year, yolo_split
from tests.data.pictures import encode, stored

_ORIENTATIONS = range(1, 9)


@st.composite
def _boxes(draw: st.DrawFn) -> tuple[ImageHeader, tuple[int, int, int, int]]:
    """Draw an image as it is stored, and a box of whole pixels in it."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))
    return ImageHeader(height, width, draw(st.integers(0, 9))), box


def _painted(box: NDArray[Any] | tuple[int, ...], height: int, width: int) -> NDArray[np.uint8]:
    """Return pixels that are white in a box and black around it."""
    left, top, right, bottom = (int(edge) for edge in box)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[top:bottom, left:right] = 255
    return pixels


@given(_boxes())
def test_boxes_are_turned_with_the_pixels(drawn: tuple[ImageHeader, tuple[int, int, int, int]]) -> None:
    header, box = drawn
    pixels = upright(_painted(box, header.height, header.width), header.orientation)
    assert pixels.shape[:2] == header.upright
    moved = turned(np.array([box], np.float64), header)[0]
    np.testing.assert_array_equal(_painted(moved, *header.upright), pixels)


@given(_boxes(), st.sampled_from(["stored", "upright", "absent", "other"]))
def test_the_size_that_a_format_says_decides_what_its_boxes_are_of(
    drawn: tuple[ImageHeader, tuple[int, int, int, int]], says: str
) -> None:
    header, box = drawn
    of_stored = says == "stored" and header.upright != (header.height, header.width)
    sizes = {
        "stored": (header.height, header.width),
        "upright": header.upright,
        "absent": None,
        "other": (100, 200),
    }
    objects = Objects(np.array([box], np.float32), np.array([0]))
    found = upright_objects(Annotation("a.jpg", objects, sizes[says]), header)
    height, width = header.upright
    expected = turned(np.array([box], np.float64), header)[0] if of_stored else np.array(box, np.float64)
    expected = np.clip(expected, 0, (width, height, width, height))
    visible = expected[2] > expected[0] and expected[3] > expected[1]
    assert found.boxes.tolist() == ([expected.tolist()] if visible else [])
    is_turned = header.orientation in range(2, 9)
    told = says == "stored" or says == "upright"
    assert is_ambiguous(sizes[says], header) == (
        is_turned and not (told and header.upright != (header.height, header.width))
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", _ORIENTATIONS)
@pytest.mark.parametrize("says", ["stored", "upright", "absent", "relative"])
def test_boxes_of_files_lie_where_their_pixels_do(
    tmp_path: Path, kind: str, orientation: int, says: Literal["stored", "upright", "absent", "relative"]
) -> None:
    box, height, width = (8, 16, 24, 24), 32, 48
    pixels = _painted(box, height, width)
    turned_pixels = stored(pixels, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a").write_bytes(encode(turned_pixels, kind, exif=exif))
    size = {"stored": turned_pixels.shape[:2], "upright": (height, width)}.get(says)
    written = np.array([box], np.float32)
    if says == "stored" and turned_pixels.shape != pixels.shape:
        rows, columns = np.nonzero(turned_pixels[:, :, 0])
        written = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    elif says == "relative":
        written = (written / np.array([width, height, width, height], np.float32)).astype(np.float32)
    objects = Objects(written, np.array([0]))
    split = AnnotatedSplit(tmp_path, Annotations(["a"], objects, [1], [size], relative=says == "relative"), 1)
    sample = split.read(0)
    np.testing.assert_allclose(sample.target.boxes, [box], atol=1e-4)
    np.testing.assert_allclose(split.objects(0).boxes, [box], atol=1e-4)
    left, top, right, bottom = sample.target.boxes[0].round().astype(int)
    assert decode(sample.content)[top:bottom, left:right].mean() > 250


def test_an_image_that_cannot_be_decoded_is_read_and_its_header_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xffbroken")
    split = AnnotatedSplit(tmp_path, Annotations(["a.jpg"], Objects.none(), [0], [None]), 1)
    assert split.read(0).content == b"\xff\xd8\xffbroken"
    with pytest.raises(Exception, match=r"^a\.jpg: damaged JPEG"):
        split.objects(0)


@given(
    st.lists(
        # From 2 px: equal corners of Pascal VOC count as no area.
        st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(2, 10), st.integers(2, 10)),
        max_size=4,
    )
)
@settings(max_examples=6, deadline=None)
def test_the_three_formats_give_the_same_objects(boxes: list[tuple[int, int, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        corners = [(x, y, x + width, y + height) for x, y, width, height in boxes]
        voc = voc_xml(
            *(("cat", (x0 + 1, y0 + 1, x1, y1)) for x0, y0, x1, y1 in corners), ("cat", (1, 1, 40, 30))
        )
        voc_year(root / "voc", {"train": ["a"], "val": ["b"]}, {"a": voc})
        entries = [
            {"id": place, "image_id": 7, "category_id": 3, "bbox": box}
            for place, box in enumerate([*boxes, (0, 0, 40, 30)])
        ]
        for split in ("train", "val"):
            document = coco_document(annotations=entries, categories=[{"id": 3, "name": "cat"}])
            coco_file(root / "coco" / split / "x.coco.json", document)
        rows = "".join(
            f"0 {(x0 + x1) / 80:.9f} {(y0 + y1) / 60:.9f} {(x1 - x0) / 40:.9f} {(y1 - y0) / 30:.9f}\n"
            for x0, y0, x1, y1 in [*corners, (0, 0, 40, 30)]
        )
        yolo_split(root / "yolo", {"a": rows}, "train")
        yolo_split(root / "yolo", {"b": "0 0.5 0.5 0.1 0.1"}, "val")
        (root / "yolo" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
        for kind in ("voc", "coco", "yolo"):
            objects = objects_of(open_source(root / kind).splits["train"], 0)
            np.testing.assert_allclose(objects.boxes, [*corners, (0, 0, 40, 30)], atol=1e-4)
            np.testing.assert_allclose(objects.areas, [w * h for _, _, w, h in boxes] + [1200], rtol=1e-4)


@given(_boxes(), st.booleans())
def test_masks_are_turned_with_the_pixels(
    drawn: tuple[ImageHeader, tuple[int, int, int, int]], as_polygons: bool
) -> None:
    """A mask of a box without its first pixel, so that every orientation looks different."""
    header, (left, top, right, bottom) = drawn
    size = (header.height, header.width)
    pixels = _painted((left, top, right, bottom), *size)[:, :, 0] // 255
    if not as_polygons and pixels.sum() > 1:
        pixels[top, left] = 0
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    mask = [corners] if as_polygons else Runs.of_crop(Crop(0, 0, pixels), size)
    objects = Objects(np.array([(left, top, right, bottom)]), np.zeros(1, np.int64), masks=Masks.of([mask]))
    of_stored = header.upright != size
    found = upright_objects(Annotation("a.jpg", objects, size), header)
    assert found.masks is not None
    crop = found.masks.crop(0)
    expected = upright(pixels[:, :, None], header.orientation)[:, :, 0] if of_stored else pixels
    there = np.zeros(header.upright, np.uint8)
    rows, columns = crop.pixels.shape
    there[crop.top : crop.top + rows, crop.left : crop.left + columns] = crop.pixels
    np.testing.assert_array_equal(there, expected)
