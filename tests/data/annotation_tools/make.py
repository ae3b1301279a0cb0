"""Make the files of annotations in this folder with the annotation tools themselves.

    python -m venv tools
    tools/bin/pip install labelImg==1.8.6 labelme==6.3.1 label-studio-sdk==2.1.2
    QT_QPA_PLATFORM=offscreen tools/bin/python tests/data/annotation_tools/make.py

They were made once, with these versions, since the packages are too heavy for the tests (Qt, pandas,
OpenCV). Only text is kept: tests draw the photos anew, of 40×30 and 60×50 px. ``tasks.json`` is what a
server of Label Studio exports as JSON; there was no server, so this script writes it, by the description of
that format.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

PHOTOS = {"a.jpg": (40, 30), "b.jpg": (60, 50), "c.jpg": (40, 30)}
"""Width and height of each photo."""

BOXES = {"a.jpg": [("dog", (5, 6, 21, 18)), ("cat", (24, 3, 38, 12))], "b.jpg": [("dog", (12, 10, 42, 35))]}
"""Left, top, right and bottom of the boxes of each; nothing is to be seen in c.jpg."""

TRIANGLE = [(10, 10), (30, 10), (20, 25)]
"""The corners of a polygon of a cat in b.jpg."""


# -- labelImg --------------------------------------------------------------------------------------------


def write_labelimg(photos: Path) -> None:
    """Write what labelImg saves, by the class that its window saves with."""
    from libs.labelFile import LabelFile  # type: ignore[import-not-found]
    from PyQt5.QtGui import QColor, QImage  # type: ignore[import-not-found]

    color = QColor(0, 0, 0, 0)
    for kind in ("voc", "yolo", "createml"):
        folder = HERE / f"labelimg-{kind}"
        folder.mkdir(exist_ok=True)
        classes: list[str] = []
        for name in PHOTOS:
            shapes = [
                {
                    "label": label,
                    "line_color": color.getRgb(),
                    "fill_color": color.getRgb(),
                    "points": [(left, top), (right, top), (right, bottom), (left, bottom)],
                    "difficult": label == "cat",
                }
                for label, (left, top, right, bottom) in BOXES.get(name, [])
            ]
            picture = QImage(str(photos / name))
            target = str(folder / Path(name).stem)
            file = LabelFile()
            match kind:
                case "voc":
                    file.save_pascal_voc_format(f"{target}.xml", shapes, f"photos/{name}", picture)
                case "yolo":
                    file.save_yolo_format(f"{target}.txt", shapes, f"photos/{name}", picture, classes)
                case "createml":
                    file.save_create_ml_format(f"{target}.json", shapes, f"photos/{name}", picture, classes)


# -- LabelMe ---------------------------------------------------------------------------------------------


def write_labelme(photos: Path) -> None:
    """Write what LabelMe saves."""
    import numpy as np
    from labelme import utils  # type: ignore[import-not-found]
    from labelme._label_file import LabelFile  # type: ignore[import-not-found]

    folder = HERE / "labelme"
    folder.mkdir(exist_ok=True)
    drawn = np.zeros((5, 4), np.uint8)
    drawn[1:4, 1:3] = 1

    def shape(label: str, points: Any, kind: str, **more: Any) -> dict[str, Any]:
        common: dict[str, Any] = {"group_id": None, "description": "", "flags": {}, "mask": None}
        return {"label": label, "points": points, "shape_type": kind, **common, **more}

    for name, (width, height) in PHOTOS.items():
        shapes = [
            shape(label, [[left, top], [right, bottom]], "rectangle")
            for label, (left, top, right, bottom) in BOXES.get(name, [])
        ]
        if name == "b.jpg":
            shapes.append(shape("cat", [list(corner) for corner in TRIANGLE], "polygon"))
            shapes.append(shape("dog", [[45.5, 40], [50, 40]], "circle"))
            shapes.append(shape("cat", [[3, 40], [6, 44]], "mask", mask=utils.img_arr_to_b64(drawn)))
            shapes.append(shape("dog", [[1, 1], [9, 9]], "line"))
        LabelFile().save(
            filename=str(folder / f"{Path(name).stem}.json"),
            shapes=shapes,
            image_path=name,
            image_height=height,
            image_width=width,
            image_data=(photos / name).read_bytes() if name == "a.jpg" else None,
        )


# -- Label Studio ----------------------------------------------------------------------------------------

CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image"><Label value="dog"/><Label value="cat"/></RectangleLabels>
  <PolygonLabels name="polygon" toName="image"><Label value="cat"/></PolygonLabels>
</View>
"""


def _tasks() -> list[dict[str, Any]]:
    tasks = []
    for number, (name, (width, height)) in enumerate(PHOTOS.items(), start=1):
        common = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": "image"}
        result = [
            {
                **common,
                "id": f"r{place}",
                "from_name": "label",
                "type": "rectanglelabels",
                "origin": "manual",
                "value": {
                    "x": 100 * left / width,
                    "y": 100 * top / height,
                    "width": 100 * (right - left) / width,
                    "height": 100 * (bottom - top) / height,
                    "rotation": 0,
                    "rectanglelabels": [label],
                },
            }
            for place, (label, (left, top, right, bottom)) in enumerate(BOXES.get(name, []))
        ]
        if name == "b.jpg":
            points = [[100 * across / width, 100 * down / height] for across, down in TRIANGLE]
            value = {"points": points, "closed": True, "polygonlabels": ["cat"]}
            result.append(
                {**common, "id": "p", "from_name": "polygon", "type": "polygonlabels", "value": value}
            )
        annotation = {
            "id": 100 + number,
            "completed_by": 1,
            "result": result,
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": "2026-11-30T10:00:00.000000Z",
            "updated_at": "2026-11-30T10:00:00.000000Z",
            "lead_time": 3.5,
        }
        tasks.append(
            {
                "id": number,
                "annotations": [annotation],
                "file_upload": f"0a1b2c3d-{name}",
                "predictions": [],
                "data": {"image": f"/data/upload/7/0a1b2c3d-{name}"},
                "project": 7,
            }
        )
    return tasks


def write_label_studio(photos: Path) -> None:
    """Write what Label Studio exports, by its converter."""
    from label_studio_sdk.converter import Converter  # type: ignore[import-not-found]

    folder = HERE / "label-studio"
    folder.mkdir(exist_ok=True)
    tasks = folder / "tasks.json"
    tasks.write_text(json.dumps(_tasks(), indent=1) + "\n")
    uploads = photos.parent / "uploads"
    (uploads / "7").mkdir(parents=True)
    for name in PHOTOS:
        shutil.copy(photos / name, uploads / "7" / f"0a1b2c3d-{name}")
    for kind in ("JSON_MIN", "COCO", "VOC", "YOLO"):
        out = photos.parent / kind
        converter = Converter(CONFIG, str(photos.parent), upload_dir=str(uploads), download_resources=False)
        converter.convert(str(tasks), str(out), kind, is_dir=False)
        target = folder / kind.lower().replace("_", "-")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(out, target, ignore=shutil.ignore_patterns("*.jpg"))


def _photos(folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    for name, size in PHOTOS.items():
        Image.new("RGB", size, (90, 120, 60)).save(folder / name)
    return folder


if __name__ == "__main__":
    place = _photos(Path(tempfile.mkdtemp()) / "photos")
    write_labelimg(place)
    write_labelme(place)
    write_label_studio(place)
