"""A tiny detector, and a few scenes of digits and folders of boxes for it to learn from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepresidual.backends.detector import TorchDetector
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.validation import Subset
from deepresidual.models import create
from deepresidual.preprocess import Preprocess
from deepresidual.spec import Anchors, DetectorSpec, MaskHead, Proposals, Regions, ResNetSpec

BODY = ResNetSpec(unit="basic", depths=(1, 1, 1), widths=(4, 8, 8), stem="cifar", shortcut="A", num_classes=0)
TINY_DETECTOR = DetectorSpec(
    BODY,
    num_classes=10,
    neck="c4",
    rpn_channels=8,
    anchors=Anchors(sizes=((6.0, 12.0),)),
    proposals=Proposals(
        samples=16, before_nms_train=40, after_nms_train=20, before_nms=40, after_nms=20, min_px=1.0
    ),
    regions=Regions(pooling="pool", bins=4, samples=8, smooth_l1_beta=1.0),
)
"""4,000 parameters, for scenes of 32 px; an update of 12 takes 0.1 s."""

TINY_PYRAMID = dataclasses.replace(
    TINY_DETECTOR,
    neck="fpn",
    fpn_channels=8,
    fpn_stages=3,
    anchors=Anchors(sizes=((6.0,), (8.0,), (12.0,), (24.0,))),
    regions=Regions(bins=4, hidden=8, samples=8),
)

TINY_MASKS = dataclasses.replace(TINY_PYRAMID, masks=MaskHead(bins=4, convs=1, channels=8))
TINY_C4_MASKS = dataclasses.replace(TINY_DETECTOR, masks=MaskHead(convs=0, channels=8))

SHAPES = {"disc": (200, 60, 40), "square": (40, 60, 200)}


def few_scenes(num_train: int = 24, num_test: int = 10) -> SampleSource:
    """Return the first scenes of digits, of which one in nine is empty."""
    opened = open_source("digit-scenes")
    counts = {"train": num_train, "test": num_test}
    splits = {name: Subset(opened.split(name), np.arange(count)) for name, count in counts.items()}
    return dataclasses.replace(opened, name="scenes", splits=splits)


def write_shapes(root: Path, num_train: int = 24, num_test: int = 8, *, height: int = 24) -> Path:
    """Write pictures of one, two or no coloured squares in the layout of Pascal VOC, wider than high."""
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    drawn = _draw_squares(root / "JPEGImages", num_train + num_test, height)
    for name, (width, squares) in drawn.items():
        objects = ""
        for label, (left, top, right, bottom) in squares:
            edges = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
            places = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges.items())
            objects += f"<object><name>{label}</name><bndbox>{places}</bndbox></object>"
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.png</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text)
    names = [*drawn]
    for split, of_split in (("trainval", names[:num_train]), ("test", names[num_train:])):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(of_split) + "\n")
    return root


def write_masks(root: Path, num_train: int = 24, num_test: int = 8, *, height: int = 24) -> Path:
    """Write pictures as :func:`write_shapes` does, in the layout of COCO: an octagon in each square."""
    drawn = list(_draw_squares(root / "images", num_train + num_test, height).items())
    for split, part in (("train", drawn[:num_train]), ("test", drawn[num_train:])):
        images: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        for number, (name, (width, squares)) in enumerate(part):
            images.append({"id": number, "file_name": f"{name}.png", "width": width, "height": height})
            for label, (left, top, right, bottom) in squares:
                side = right - left
                corners = [(x * side / 3 + left, y * side / 3 + top) for x, y in _OCTAGON]
                rows.append(
                    {
                        "id": len(rows) + 1,
                        "image_id": number,
                        "category_id": [*SHAPES].index(label),
                        "bbox": [left, top, side, bottom - top],
                        "area": side**2 * 7 / 9,
                        "segmentation": [[value for corner in corners for value in corner]],
                    }
                )
        categories = [{"id": place, "name": label} for place, label in enumerate(SHAPES)]
        document = {"images": images, "annotations": rows, "categories": categories}
        (root / f"instances_{split}.json").write_text(json.dumps(document))
    return root


_OCTAGON = ((1, 0), (2, 0), (3, 1), (3, 2), (2, 3), (1, 3), (0, 2), (0, 1))


def _draw_squares(
    folder: Path, count: int, height: int
) -> dict[str, tuple[int, list[tuple[str, tuple[int, int, int, int]]]]]:
    """Write pictures of coloured squares; return the width of each, and the boxes of its squares."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    drawn = {}
    for number in range(count):
        width = height + 8 * (number % 2)
        pixels = generator.integers(90, 160, (height, width, 3))
        squares = []
        for label in [*SHAPES][: number % 3]:
            side = int(generator.integers(7, 12))
            left, top = (int(generator.integers(length - side)) for length in (width, height))
            pixels[top : top + side, left : left + side] = SHAPES[label]
            squares.append((label, (left, top, left + side, top + side)))
        name = f"{number:04d}"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
        drawn[name] = (width, squares)
    return drawn


def tiny_detector(
    label_names: tuple[str, ...] = ("cat", "dog", "hen"), side_px: int = 64, spec: DetectorSpec = TINY_PYRAMID
) -> TorchDetector:
    """Return a detector with first weights, which finds something everywhere and is sure of nothing."""
    network = create(dataclasses.replace(spec, num_classes=len(label_names)), seed=1)
    mean = std = (0.5, 0.5, 0.5)
    return TorchDetector(network, label_names, Preprocess(side_px, side_px, mean, std, fit="whole"))
