"""Write COCO's layout: ``annotations/instances_SPLIT.json``, and the images of each split in its folder.

Left, top, width and height are written with all their digits, so a box is read again to the bit. Polygons
are written as they are, and drawn masks as COCO's text of runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepresidual.data.object_writer.image import WrittenImage
from deepresidual.data.objects import Objects
from deepresidual.data.source.annotated.split import CategoryId
from deepresidual.runtime.files import write_text


class CocoWriter:
    """Write a data set in the layout of COCO.

    Args:
        folder: The folder.
        classes: Names of the classes.
        category_ids: What the files of each split called them, where it was COCO's format.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], category_ids: Mapping[str | None, Sequence[CategoryId]]
    ) -> None:
        self._folder = folder
        self._ids = _ids(len(classes), category_ids)
        self._categories = [
            {"id": number, "name": name} for number, name in zip(self._ids, classes, strict=True)
        ]
        self._images: dict[str | None, list[WrittenImage]] = {}

    def image_folder(self, split: str | None) -> Path:
        """Return the folder of the images of a split."""
        return self._folder / (split or "images")

    def add(self, image: WrittenImage) -> None:
        """Keep the annotations of an image."""
        self._images.setdefault(image.split, []).append(image)

    def finish(self) -> None:
        """Write a file for each split."""
        (self._folder / "annotations").mkdir()
        for split, images in self._images.items():
            name = f"instances_{split}.json" if split else "instances.json"
            text = json.dumps(self._document(images), ensure_ascii=False, allow_nan=False)
            write_text(self._folder / "annotations" / name, text + "\n")

    def _document(self, images: Sequence[WrittenImage]) -> dict[str, Any]:
        own = [image.image_id for image in images]
        are_numbers = all(type(one) is int for one in own) and len(set(own)) == len(own)
        ids = own if are_numbers else range(1, len(images) + 1)
        entries, annotations = [], list[dict[str, Any]]()
        for number, image in zip(ids, images, strict=True):
            height, width = image.size
            entries.append({"id": number, "file_name": image.name, "width": width, "height": height})
            for row in range(len(image.objects)):
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # a 0 counts as no match in COCO's evaluation
                        "image_id": number,
                        "category_id": self._ids[int(image.objects.labels[row])],
                        **_written(image.objects, row),
                    }
                )
        return {"images": entries, "annotations": annotations, "categories": self._categories}


def _ids(count: int, given: Mapping[str | None, Sequence[CategoryId]]) -> list[int]:
    """Return the ids of the categories: those that all splits agree on, in order; else from 1."""
    kept = {tuple(ids) for ids in given.values()}
    if len(kept) == 1:
        numbers = [number for number in kept.pop() if type(number) is int]
        if len(numbers) == count and numbers == sorted(set(numbers)):
            return numbers
    return list(range(1, count + 1))


def _written(objects: Objects, row: int) -> dict[str, Any]:
    left, top, right, bottom = objects.boxes[row].tolist()
    masks = objects.masks
    segmentation: Any = []
    if masks is not None and masks.known[row]:
        polygons = [polygon.reshape(-1).tolist() for polygon in masks.polygons(row)]
        segmentation = polygons or masks.runs(row).to_dict()
    return {
        "bbox": [left, top, right - left, bottom - top],
        "area": float(objects.areas[row]),
        "iscrowd": int(objects.crowd[row]),
        "segmentation": segmentation,
    }
