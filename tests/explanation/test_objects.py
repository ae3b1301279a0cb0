"""Explaining objects: which one, what is drawn of it, and what is said where there is none."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from deepresidual.backends.detector import TorchDetector
from deepresidual.errors import ConfigurationError, DataError, ModelFileError, UnknownNameError
from deepresidual.explanation import (
    ObjectExplanation,
    draw_object,
    draw_stages,
    explain_object,
    explain_object_files,
)
from deepresidual.explanation.object_drawing import objects_on, painted
from deepresidual.explanation.panels import panel_of
from deepresidual.explanation.stage_drawing import _Way
from deepresidual.models import create
from deepresidual.reporting.boxes import class_color
from deepresidual.spec import MaskHead
from tests.detectors import tiny_detector

TOP, LEFT, GAP = 70, 16, 14  # of the panels in a picture


def photo_of(width: int = 48, height: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def with_changes(detector: TorchDetector, **changes: Any) -> TorchDetector:
    """Return a detector with first weights whose spec differs in some fields."""
    network = create(dataclasses.replace(detector.spec, **changes), seed=1)
    return TorchDetector(network, detector.label_names, detector.preprocess)


@pytest.fixture(scope="module")
def detector() -> TorchDetector:
    return tiny_detector()


@pytest.fixture(scope="module")
def masked(detector: TorchDetector) -> TorchDetector:
    return with_changes(detector, masks=MaskHead(bins=4, convs=1, channels=8))


# -- which object ------------------------------------------------------------------------------------------


def test_it_explains_what_predict_finds(masked: TorchDetector) -> None:
    photo = photo_of(90, 60)
    (said,) = masked.predict(photo, min_score=0.0)
    assert len(said) > 3
    for number in (1, 3):
        explanation = explain_object(masked, photo, number=number)
        assert explanation.detected.to_dict() == said.to_dict()
        assert explanation.row == number - 1
        row = said.objects.to_dict(said.label_names)[number - 1]
        assert (explanation.label, explanation.score) == (row["label"], row["score"])
        assert list(explanation.box) == row["box"]
        assert tuple(explanation.values.shape) == explanation.window.filled
    assert f"object 3 of {len(said)}" in repr(explanation)


def test_a_class_is_counted_by_itself(detector: TorchDetector) -> None:
    photo = photo_of()
    labels = explain_object(detector, photo).detected.objects.labels
    rare = int(np.bincount(labels).nonzero()[0][-1])
    rows = np.flatnonzero(labels == rare)
    name = detector.label_names[rare]
    assert explain_object(detector, photo, class_name=name).row == rows[0]
    assert explain_object(detector, photo, class_name=str(rare), number=len(rows)).row == rows[-1]
    with pytest.raises(
        DataError, match=f"object {len(rows) + 1} is asked for, and .* of class '{name}'; exp"
    ):
        explain_object(detector, photo, class_name=name, number=len(rows) + 1)


def test_where_nothing_is_found_the_highest_score_is_told(detector: TorchDetector) -> None:
    strict = with_changes(detector, detections=dataclasses.replace(detector.spec.detections, min_score=0.9))
    scores = explain_object(detector, photo_of()).detected.objects.scores
    assert scores is not None
    said = rf"no object is found: the highest score there was is {scores[0]:.3f}, of '\w+', and .* above 0\.9"
    with pytest.raises(DataError, match=said):
        explain_object(strict, photo_of())
    with pytest.raises(
        DataError, match=r"no object of class 'dog' is found: the highest .* is 0\.\d{3}, and"
    ):
        explain_object(strict, photo_of(), class_name="dog")


def test_what_cannot_be_is_said_before_a_file_is_read(detector: TorchDetector) -> None:
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"number": 0}, ConfigurationError, "the number of the object is 0; expected 1 for the surest"),
        ({"class_name": "cow"}, UnknownNameError, "unknown class 'cow'; expected one of cat"),
        ({"layer": "layer9"}, ConfigurationError, "unknown layer 'layer9'"),
        ({"method": "cam"}, UnknownNameError, "unknown method of a detector 'cam'"),
        ({"num_workers": -1}, ConfigurationError, "num_workers is -1"),
    ]
    for options, kind, message in cases:
        with pytest.raises(kind, match=message):
            explain_object_files(detector, ["/nowhere.png"], **options)


def test_a_bad_file_does_not_stop_the_others(
    detector: TorchDetector, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        Image.fromarray(photo_of(seed=number)).save(file)
    damage(files[1])
    names = [str(file) for file in files]
    for workers in (0, 2):
        results = list(explain_object_files(detector, names, num_workers=workers))
        assert [result.path for result in results] == names
        assert [result.explanation is None for result in results] == [False, True, False]
        assert "damaged PNG" in results[1].error
    with pytest.raises(DataError, match=r"1\.png: .*damaged PNG"):
        draw_object(results[1])


def test_outputs_that_are_not_finite_are_said(tmp_path: Path) -> None:
    broken = tiny_detector()
    with torch.no_grad():
        broken.network.roi_heads.box_predictor.cls_score.bias.fill_(float("nan"))
    with pytest.raises(ModelFileError, match="not finite"):
        explain_object(broken, photo_of())
    Image.fromarray(photo_of()).save(tmp_path / "a.png")
    (result,) = explain_object_files(broken, [str(tmp_path / "a.png")])
    assert result.explanation is None
    assert "not finite" in result.error


# -- the picture of the heat ---------------------------------------------------------------------------------


def drawn(file: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("size", [(48, 32), (64, 640), (900, 60), (1400, 1000)])
def test_pictures_of_any_photo_fit_a_screen(masked: TorchDetector, size: tuple[int, int]) -> None:
    explanation = explain_object(masked, photo_of(*size))
    for file in (draw_object(explanation), draw_stages(explanation)):
        height, width, _ = drawn(file).shape
        assert 200 < width <= 1600
        assert height <= 3400


def test_the_photo_has_the_object_and_the_heat_its_outline(masked: TorchDetector) -> None:
    explanation = explain_object(masked, photo_of(), number=2)
    panel = panel_of(explanation.photo, 3)
    np.testing.assert_array_equal(panel[5::10, 5::10], explanation.photo)  # enlarged tenfold
    height, width = panel.shape[:2]
    picture = drawn(draw_object(explanation))
    shown = [
        picture[TOP : TOP + height, left : left + width]
        for left in (LEFT + column * (width + GAP) for column in range(3))
    ]
    one = objects_on(explanation, panel)[np.array([1])]
    np.testing.assert_allclose(one.boxes[0], np.array(explanation.box) * 10, rtol=1e-5)
    np.testing.assert_array_equal(shown[0], painted(panel, one, explanation))
    left, top, right, bottom = one.boxes[0].round().astype(int).clip(1, (width - 2, height - 2) * 2)
    for heat in shown[1:]:
        assert (heat[(top + bottom) // 2, left] == 255).all()
        assert (heat[bottom, (left + right) // 2] == 255).all()
    assert explanation.mask_values is not None
    assert one.masks is not None
    assert one.masks.areas()[0] > 0


def test_heat_is_lightest_where_the_evidence_is_most(detector: TorchDetector) -> None:
    base = explain_object(detector, np.zeros((32, 48, 3), np.uint8))
    values = torch.zeros(32, 48)
    values[24:, 40:] = 2.0
    values[24:, :8] = 1.0
    panel = panel_of(base.photo, 2)
    height, width = panel.shape[:2]

    def lightness(explanation: ObjectExplanation) -> NDArray[np.floating[Any]]:
        left = LEFT + width + GAP
        picture = drawn(draw_object(explanation))[TOP : TOP + height, left : left + width]
        return np.asarray(picture.mean(axis=2))

    light = lightness(dataclasses.replace(base, values=values))
    assert light[-2, -2] > light[-2, 2] + 30 > light[2, 2] + 50
    empty = dataclasses.replace(base, values=torch.zeros(32, 48))
    assert lightness(empty)[2, 2] == lightness(empty)[-2, -2] == light[2, 2]
    assert not np.array_equal(drawn(draw_object(empty))[-40:], drawn(draw_object(base))[-40:])


def test_a_notebook_shows_the_picture(detector: TorchDetector) -> None:
    explanation = explain_object(detector, photo_of())
    assert explanation._repr_png_() == draw_object(explanation)


# -- the picture of the stages -------------------------------------------------------------------------------


def test_the_object_can_be_followed_through_the_panels(detector: TorchDetector) -> None:
    explanation = explain_object(detector, photo_of(90, 60), number=2)
    panel = panel_of(explanation.photo, 2)
    way, stages = _Way(explanation, panel), explanation.stages
    proposal = int(stages.regions[1])
    anchor = torch.cat(stages.anchors)[stages.proposal_anchors[proposal]]
    scale = panel.shape[1] / 90
    color = np.array(tuple(bytes.fromhex(class_color(int(stages.found.labels[1]))[1:])))
    places = (
        (way.anchors(), anchor),
        (way.proposals(), stages.proposals[proposal]),
        (way.candidates(), stages.found.boxes[1]),
        (way.kept(), stages.found.boxes[1]),
    )
    for shown, box in places:
        left, top, right, bottom = (box.numpy() * scale * 90 / explanation.window.filled[1]).tolist()
        height, width = shown.pixels.shape[:2]
        edges = [(left, (top + bottom) / 2), (right, (top + bottom) / 2), ((left + right) / 2, bottom)]
        inside = [(x, y) for x, y in edges if 2 < x < width - 2 and 2 < y < height - 2]
        assert inside
        for x, y in inside:
            near = shown.pixels[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].reshape(-1, 3)
            assert (np.abs(near.astype(int) - color).max(axis=1) < 12).any()


def test_captions_count_what_there_is(detector: TorchDetector) -> None:
    explanation = explain_object(detector, photo_of(90, 60))
    way, stages = _Way(explanation, panel_of(explanation.photo, 2)), explanation.stages
    total = sum(map(len, stages.anchors))
    assert f"{total:,} anchors on 4 levels" in way.anchors().captions[0]
    assert f"{len(stages.proposals):,} proposals" in way.proposals().captions[0]
    assert f"{len(stages.candidates.boxes):,} boxes" in way.candidates().captions[0]
    kept = way.kept()
    assert f"{len(stages.kept):,} kept" in kept.captions[0]
    assert kept.captions[1].endswith("and the object")  # of a detector that is sure of nothing


def test_pictures_are_the_same_each_time(masked: TorchDetector) -> None:
    one, two = (explain_object(masked, photo_of()) for _ in range(2))
    assert draw_object(one) == draw_object(two)
    assert draw_stages(one) == draw_stages(two)
