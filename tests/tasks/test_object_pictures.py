"""Pictures of what a detector missed and found: which images, which part of them, and which boxes."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deepresidual.backends.detector import TorchDetector
from deepresidual.cli.training_summary import print_training
from deepresidual.data.masks import Masks
from deepresidual.data.objects import Objects
from deepresidual.data.source import Split
from deepresidual.evaluation.objects import DetectionEvaluation, measure
from deepresidual.preprocess import Preprocess
from deepresidual.runs.read import read_run
from deepresidual.tasks.object_pictures import crops_of, scenes_of
from deepresidual.training.launch import train
from tests.annotated_photos import Photos
from tests.detectors import TINY_DETECTOR, write_shapes
from tests.nn.detection.networks import detector, spec_of

NAMES = ("cat", "dog", "emu")
ORANGE, BLUE = (255, 106, 19), (61, 155, 255)
BOX = (100.0, 60.0, 180.0, 120.0)


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def colored(png: bytes, color: tuple[int, int, int]) -> NDArray[np.int64]:
    """Return rows and columns of the pixels of a colour."""
    return np.argwhere((pixels_of(png) == color).all(axis=2))


@pytest.fixture
def split() -> Photos:
    """Fifteen photos of 640×480 pixels, but for the last, which is small."""
    return Photos([(640, 480)] * 14 + [(64, 48)], [BOX] * 14 + [(10, 6, 18, 12)])


def evaluated(split: Split, found: list[Objects]) -> DetectionEvaluation:
    truth = [split.read(index).target for index in range(len(found))]
    return measure("test", found, truth, NAMES, keys=[split.key(index) for index in range(len(found))])


def found(box: tuple[float, ...], label: int, score: float = 0.9) -> Objects:
    return Objects(np.array([box], np.float32), np.array([label]), scores=np.array([score], np.float32))


def test_a_crop_shows_the_detection_and_the_object_that_it_overlaps(split: Photos) -> None:
    crops = crops_of(split, evaluated(split, [found((110, 60, 190, 120), 1)]))
    assert list(crops) == ["mistakes/false-00"]
    pixels = pixels_of(crops["mistakes/false-00"])
    assert pixels.shape == (240, 240, 3)
    # Both boxes are 90 px wide, and as much as half of it is around them: 180 px become 240.
    rows, columns = colored(crops["mistakes/false-00"], ORANGE).T
    assert (columns.min(), columns.max()) == pytest.approx(((110 - 55) * 4 / 3, (190 - 55) * 4 / 3), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((60 * 4 / 3, 120 * 4 / 3), abs=2)
    assert len(colored(crops["mistakes/false-00"], BLUE))


def test_a_missed_object_is_dashed(split: Photos) -> None:
    crops = crops_of(split, evaluated(split, [Objects.none()]))
    assert list(crops) == ["mistakes/missed-00"]
    _, columns = colored(crops["mistakes/missed-00"], ORANGE).T
    assert 0 < len(np.unique(columns)) < columns.max() - columns.min() + 1
    assert len(colored(crops["mistakes/missed-00"], BLUE)) == 0


def test_a_crop_at_the_edge_stays_within_the_image(split: Photos) -> None:
    crops = crops_of(split, evaluated(split, [found((0, 0, 40, 30), 2)]))
    assert pixels_of(crops["mistakes/false-00"]).shape == (240, 240, 3)
    assert colored(crops["mistakes/false-00"], ORANGE).min() <= 1


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    only = Photos([(64, 48)], [(10, 6, 18, 12)])
    crops = crops_of(only, evaluated(only, [Objects.none()]))
    assert pixels_of(crops["mistakes/missed-00"]).shape == (32 * 8, 32 * 8, 3)


@pytest.fixture
def model() -> TorchDetector:
    whole = Preprocess(crop_px=64, resize_px=64, mean=(0.5,) * 3, std=(0.25,) * 3, fit="whole")
    return TorchDetector(detector(spec_of("fpn")), NAMES, whole)


def test_a_dozen_images_are_shown_with_what_is_annotated_and_what_is_found(
    split: Photos, model: TorchDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is found, beside a sure false one and one below its class's threshold; others are missed."""
    results = [found(BOX, 0, 0.7)] + [Objects.none()] * 14
    evaluation = evaluated(split, results)
    assert evaluation.per_class[0].threshold is not None
    shown = Objects(
        np.array([BOX, (300, 300, 400, 400), (500, 20, 600, 60)], np.float32),
        np.array([0, 1, 0]),
        scores=np.array([0.7, 0.6, 0.6], np.float32),
    )
    monkeypatch.setattr(
        model, "detections", lambda _pixels, windows: [shown] + [Objects.none()] * (len(windows) - 1)
    )
    scenes = scenes_of(model, split, evaluation)
    assert list(scenes) == [
        f"scene-{number:02d}-{name}" for number in range(12) for name in ("annotated", "found")
    ]
    assert pixels_of(scenes["scene-00-found"]).shape == (360, 480, 3)
    assert len(colored(scenes["scene-00-annotated"], BLUE))
    assert not len(colored(scenes["scene-00-annotated"], ORANGE))
    rows, columns = colored(scenes["scene-00-found"], ORANGE).T
    assert (rows.max(), columns.max()) == pytest.approx((300, 300), abs=2)
    assert len(colored(scenes["scene-01-annotated"], ORANGE))
    assert pixels_of(scenes["scene-11-found"]).shape == (48 * 8, 64 * 8, 3)


def test_a_panorama_is_shown_in_a_size_that_a_page_holds(model: TorchDetector) -> None:
    panorama = Photos([(3000, 400)], [(0, 0, 300, 200)])
    scenes = scenes_of(model, panorama, evaluated(panorama, [Objects.none()]))
    assert pixels_of(scenes["scene-00-annotated"]).shape == (136, 1020, 3)


def test_drawing_disturbs_neither_the_network_nor_its_mode(split: Photos, model: TorchDetector) -> None:
    evaluation = evaluated(split, [Objects.none()] * 15)
    model.network.train()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    first = scenes_of(model, split, evaluation)
    assert model.network.training
    assert all((before[name] == tensor).all() for name, tensor in model.network.state_dict().items())
    assert scenes_of(model, split, evaluation) == first


# -- in a run ----------------------------------------------------------------------------------------------


def test_a_run_has_pictures_a_report_and_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_shapes(tmp_path / "shapes")
    network = dataclasses.replace(TINY_DETECTOR, num_classes=2)
    changes = {"epochs": 1.0, "batch_size": 12}
    result = train(data, network, tmp_path / "run", changes=changes, image_px=32, num_workers=0)
    introduced = capsys.readouterr().err
    assert "24 objects: disc 16, square 8" in introduced
    assert "1.0 in each, 2 at most" in introduced
    evaluation = read_run(result.path).evaluation
    assert evaluation is not None
    files = {path.relative_to(result.path).as_posix() for path in result.path.rglob("*.png")}
    kinds = [("mistakes/false", len(evaluation["false"])), ("mistakes/missed", len(evaluation["missed"]))]
    assert files == {f"{kind}-{number:02d}.png" for kind, count in kinds for number in range(count)} | {
        f"heat-maps/scene-{number:02d}-{name}.png" for number in range(8) for name in ("annotated", "found")
    }
    assert "Whole images" in (result.path / "report.html").read_text()
    print_training(result, str(data))
    said = capsys.readouterr().out
    assert said.startswith(f"test        AP50 {100 * evaluation['ap50']:.1f} % (")
    assert f"residual predict {result.path} {data} " in said
    assert f"--draw {result.path / 'drawn'}" in said


# -- masks -------------------------------------------------------------------------------------------------


def triangle(objects: Objects, size: tuple[int, int] = (480, 640)) -> Objects:
    """Return objects with masks: the lower left halves of their boxes."""
    rows = [[np.array([(x0, y0), (x1, y1), (x0, y1)], float)] for x0, y0, x1, y1 in objects.boxes.tolist()]
    return dataclasses.replace(objects, masks=Masks.of(rows).on(size))


class Masked(Photos):
    """Photos whose objects have masks."""

    def objects(self, index: int) -> Objects:
        return triangle(super().objects(index))


@pytest.fixture
def masked() -> Masked:
    return Masked([(640, 480)] * 2, [BOX] * 2)


def test_a_crop_shows_the_masks_of_the_detection_and_of_the_object(masked: Masked) -> None:
    wrong = triangle(found((110, 60, 190, 120), 1))
    crops = crops_of(masked, evaluated(masked, [wrong, triangle(found(BOX, 0))]))
    assert list(crops) == ["mistakes/false-00"]
    png = crops["mistakes/false-00"]
    rows, columns = colored(png, ORANGE).T
    assert (columns.min(), rows.max()) == pytest.approx(((110 - 55) * 4 / 3, 120 * 4 / 3), abs=2)
    # The upper right half of the box is bare, and the mask has a surface.
    bare, inside, away = (
        pixels_of(png)[round(y * 4 / 3), round((x - 55) * 4 / 3)].tolist()
        for x, y in ((185, 65), (120, 112), (60, 10))
    )
    assert bare == away
    assert inside != bare
    assert len(colored(png, BLUE))


def test_a_missed_object_is_a_line(masked: Masked) -> None:
    crops = crops_of(masked, evaluated(masked, [Objects.none(), triangle(found(BOX, 0))]))
    png = crops["mistakes/missed-00"]
    lines = len(colored(png, ORANGE))
    assert 0 < lines < 2000
    shades = np.unique(pixels_of(png).reshape(-1, 3), axis=0)
    assert len(shades) == 3  # photo, line and its dark edge


def test_whole_images_are_judged_by_masks(
    masked: Masked, model: TorchDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box is that of the object, and the mask the other half of it."""
    other = found(BOX, 0)
    x0, y0, x1, y1 = BOX
    upper = Masks.of([[np.array([(x0, y0), (x1, y0), (x1, y1)], float)]]).on((480, 640))
    results = [dataclasses.replace(other, masks=upper), triangle(found(BOX, 0))]
    evaluation = evaluated(masked, results)
    assert evaluation.masks is not None
    assert (evaluation.ap50, evaluation.masks.ap50 < 1) == (1, True)
    monkeypatch.setattr(model, "detections", lambda _pixels, windows: results[: len(windows)])
    scenes = scenes_of(model, masked, evaluation)
    for name in ("annotated", "found"):
        assert len(colored(scenes[f"scene-00-{name}"], ORANGE))
        assert not len(colored(scenes[f"scene-01-{name}"], ORANGE))
        assert len(colored(scenes[f"scene-01-{name}"], BLUE))
