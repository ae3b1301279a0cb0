"""Explaining files: which class, what is drawn, and what becomes of files that cannot be used."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.explanation import Explanation, activation_maps, draw_explanation, explain_files, overlay
from deepresidual.explanation.files import class_row
from deepresidual.models import TorchClassifier, create
from deepresidual.preprocess import Channels, Preprocess
from deepresidual.reporting.text import _characters, fitting, font_of, width_of
from tests.conftest import SMALL_INPUT, TINY


def explained(model: TorchClassifier, files: list[str], **options: str) -> list[Explanation]:
    results = list(explain_files(model, files, **options))  # type: ignore[arg-type]
    assert [result.path for result in results] == files
    return [result.explanation for result in results if result.explanation is not None]


def test_it_explains_what_predict_says(tiny_model: TorchClassifier, photos: Path) -> None:
    files = [str(path) for path in sorted((photos / "test").rglob("*.png"))]
    said = tiny_model.predict(files)
    for explanation, prediction in zip(explained(tiny_model, files), said, strict=True):
        assert explanation.label == explanation.predicted == prediction.classes[0]
        assert explanation.probability == pytest.approx(prediction.probabilities[0], rel=1e-5)
        assert explanation.view.shape == (8, 8, 3)
        assert explanation.view.dtype == np.uint8


def test_predicted_and_explained_are_one_class_where_probabilities_are_equal(photos: Path) -> None:
    model = TorchClassifier(create(TINY, seed=0), ("red", "green", "blue"), SMALL_INPUT)
    higher = float(np.nextafter(np.float32(0.1), np.float32(1)))
    with torch.no_grad():
        model.network.fc.weight.zero_()
        # The float32 probabilities of the first two are equal, their logits are not.
        model.network.fc.bias.copy_(torch.tensor([0.1, higher, -1.0]))
    (explanation,) = explained(model, [str(next((photos / "test").rglob("*.png")))])
    assert explanation.probability == explanation.predicted_probability
    assert explanation.label == explanation.predicted == "green"


def test_the_map_is_that_of_the_pixels_that_were_seen(tiny_model: TorchClassifier, photos: Path) -> None:
    file = str(next((photos / "test").rglob("*.png")))
    (explanation,) = explained(tiny_model, [file], layer="layer1", method="grad-cam++", class_name="green")
    assert explanation.label == "green"
    view = torch.from_numpy(explanation.view.copy())[None]
    maps = activation_maps(tiny_model, view, layer="layer1", method="grad-cam++", rows=[1])
    torch.testing.assert_close(explanation.values, maps.values[0])


@pytest.mark.parametrize("channels", ["bgr", "gray"])
def test_the_view_is_shown_in_rgb(channels: Channels, photos: Path) -> None:
    count = 1 if channels == "gray" else 3
    preprocess = dataclasses.replace(
        SMALL_INPUT, channels=channels, mean=SMALL_INPUT.mean[:count], std=SMALL_INPUT.std[:count]
    )
    model = TorchClassifier(create(TINY, in_channels=count), ("a", "b", "c"), preprocess)
    file = next((photos / "test" / "red").glob("*.png"))
    (explanation,) = explained(model, [str(file)])
    pixels = np.asarray(Image.open(file).convert("RGB"))
    expected = SMALL_INPUT.center_view(pixels)
    if channels == "gray":
        gray = np.asarray(Image.open(file).convert("RGB").convert("L"))[:, :, None]
        expected = Preprocess(8, 8, (0.5,), (0.2,), channels="gray").center_view(gray).repeat(3, axis=2)
    np.testing.assert_array_equal(explanation.view, expected)


def test_a_bad_file_does_not_stop_the_others(
    tiny_model: TorchClassifier, photos: Path, damage: Callable[[Path], None]
) -> None:
    files = sorted((photos / "test" / "red").glob("*.png"))[:3]
    damage(files[1])
    results = list(explain_files(tiny_model, [str(path) for path in files], batch_size=2))
    assert [result.explanation is None for result in results] == [False, True, False]
    assert "damaged PNG" in results[1].error


def test_a_class_is_a_name_or_else_a_number(tiny_model: TorchClassifier) -> None:
    assert class_row(tiny_model.label_names, "red") == 2
    assert class_row(tiny_model.label_names, "1") == 1
    digits = TorchClassifier(create(TINY), ("2", "0", "1"), SMALL_INPUT)
    assert [class_row(digits.label_names, name) for name in ("2", "0", "1")] == [0, 1, 2]  # names come first
    for unknown in ("3", "-1", "1.0", "²", "rde"):
        with pytest.raises(UnknownNameError, match=r"unknown class .*by its number from 0 to 2"):
            class_row(tiny_model.label_names, unknown)


def test_what_cannot_be_is_said_before_a_file_is_read(tiny_model: TorchClassifier) -> None:
    nowhere = ["/nowhere.png"]
    with pytest.raises(ConfigurationError, match="unknown layer 'layer9'"):
        explain_files(tiny_model, nowhere, layer="layer9")
    with pytest.raises(UnknownNameError, match="unknown class 'mauve'"):
        explain_files(tiny_model, nowhere, class_name="mauve")
    with pytest.raises(ConfigurationError, match="batch_size is 0; expected 1 or more"):
        explain_files(tiny_model, nowhere, batch_size=0)
    with pytest.raises(UnknownNameError, match="unknown method 'cam'"):
        explain_files(tiny_model, nowhere, method="cam")  # type: ignore[arg-type]


# -- the picture -------------------------------------------------------------------------------------------


def explanation_of(**changes: object) -> Explanation:
    view = np.zeros((8, 8, 3), np.uint8)
    view[:, :4] = (200, 30, 30)
    base = Explanation(
        view, torch.tensor([[0.0, 0.0], [0.0, 2.0]]), "red", 0.75, "red", 0.75, "grad-cam", "last"
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def drawn(explanation: Explanation) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(draw_explanation(explanation))))


def panels(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the view and the overlay, each 224 px a side, found by the view's own colour."""
    top, left = (int(place[0]) for place in np.nonzero((picture == (200, 30, 30)).all(axis=2)))
    beside = left + 224 + 14
    return picture[top : top + 224, left : left + 224], picture[top : top + 224, beside : beside + 224]


def test_the_picture_holds_the_view_and_the_heat_beside_it() -> None:
    photo, heat = panels(drawn(explanation_of()))
    np.testing.assert_array_equal(photo[::28, ::28], explanation_of().view)
    gray = heat.astype(float).mean(axis=2)
    assert gray[200:, 200:].min() > gray[:100, 112:].max() + 60  # readable without its colours
    assert gray[-1, -1] == gray[:, 112:].max()  # behind the heat the right half is black


def test_a_map_without_evidence_is_dark_and_says_so() -> None:
    empty = explanation_of(values=torch.zeros(2, 2))
    _, heat = panels(drawn(empty))
    assert len(np.unique(heat[:, 112:].reshape(-1, 3), axis=0)) == 1
    assert not np.array_equal(drawn(empty)[-30:], drawn(explanation_of())[-30:])


def test_the_title_tells_class_probability_and_what_was_predicted() -> None:
    title = drawn(explanation_of())[:60]
    for change in (
        {"label": "rot", "predicted": "rot"},
        {"probability": 0.5},
        {"predicted": "blue"},
        {"method": "score-cam"},
        {"layer": "layer1"},
    ):
        assert not np.array_equal(drawn(explanation_of(**change))[:60], title), change
    assert draw_explanation(explanation_of()) == draw_explanation(explanation_of())


def test_a_long_name_is_cut_and_the_probability_stays() -> None:
    text = fitting("a very long name of a class " * 20, "  12.3%", 20, 500)
    assert text.endswith("…  12.3%")
    assert 460 < width_of(text, 20) <= 500
    picture = drawn(explanation_of(label="x" * 4000, predicted="y" * 4000))
    assert picture.shape == drawn(explanation_of()).shape
    assert (picture[:, -10:] == 255).all()


def test_names_in_any_script_and_with_control_characters_are_drawn() -> None:
    greek = font_of("μέλισσα", 20)
    assert "DejaVuSans" in str(greek.path)
    assert set(map(ord, "μέλισσα")) <= _characters(str(greek.path))
    for name in ("蚂蚁", "\x1b[31mred\n", "$a_b$", "\ud800", ""):
        assert drawn(explanation_of(label=name)).shape == drawn(explanation_of()).shape


def test_larger_views_are_drawn_as_they_are() -> None:
    view = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    picture = drawn(explanation_of(view=view))
    rows = np.flatnonzero((picture[:, 16:316] == view[0]).all(axis=(1, 2)))
    np.testing.assert_array_equal(picture[rows[0] : rows[0] + 300, 16:316], view)


def test_heat_decides_the_lightness_of_the_overlay() -> None:
    photo = np.full((1, 256, 3), 128, np.uint8)
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    gray = np.asarray(Image.fromarray(overlay(photo, ramp)).convert("L"), int)[0]
    assert (np.diff(gray) >= -1).all()  # rounding
    assert gray[-1] - gray[0] > 140
