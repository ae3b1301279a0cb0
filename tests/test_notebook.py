"""What a session in Python or a notebook shows of results: a line each, and pictures and tables."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import deepresidual
from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.data.source import open_source
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation.result import Evaluation
from deepresidual.explanation import draw_explanation, explain_files
from deepresidual.explanation.files import FileExplanation
from deepresidual.fields import field_types
from deepresidual.recipe import setting_homes
from deepresidual.training.loop import RunResult
from deepresidual.training.options import OTHER_NAMES, TrainOptions, with_keywords

EVALUATION = Evaluation(
    "val",
    0.75,
    1.0,
    0.5,
    153,
    ("<ants>", "bees"),
    ((0, 0, 40), (0, 1, 30), (1, 0, 9), (1, 1, 74)),
    (),
)


def test_an_evaluation_is_a_line_with_interval_and_baseline() -> None:
    assert repr(EVALUATION) == (
        "Evaluation(val: 114 of 153 right, 75.0% (67.1% to 80.8%); always 'bees': 54.2%)"
    )
    empty = dataclasses.replace(EVALUATION, count=0, confusions=())
    assert repr(empty) == "Evaluation(val: no samples)"


def test_a_notebook_shows_the_confusions_of_few_classes_and_no_markup_of_their_names() -> None:
    shown = EVALUATION._repr_html_()
    assert "114 of 153 right" in shown
    assert re.findall(r"<td>(\d+)</td>", shown) == ["40", "30", "9", "74"]
    assert "<ants>" not in shown
    assert "&lt;ants&gt;" in shown
    many = dataclasses.replace(EVALUATION, classes=tuple(map(str, range(100))))
    assert "<table" not in many._repr_html_()
    result = RunResult(Path("runs/<a>"), "finished", 0, EVALUATION)
    assert 'href="runs/&lt;a&gt;/report.html"' in result._repr_html_()
    assert "114 of 153" in result._repr_html_()
    assert len(repr(result)) < 250
    assert "report" in RunResult(Path("runs/a"), "interrupted", 130, None)._repr_html_()


def test_models_and_data_are_a_line(tiny_model: TorchClassifier, photos: Path) -> None:
    assert repr(tiny_model) == (
        "TorchClassifier(a network of its own, 3 classes (blue, green, red), "
        f"{tiny_model.spec.num_parameters:,} parameters, 8 px, on cpu)"
    )
    assert repr(deepresidual.load("resnet20-digits")).startswith(
        "TorchClassifier(resnet20, 10 classes (0, 1, 2 and 7 more), "
    )
    assert repr(open_source(photos)) == (
        f"SampleSource({photos.name}: 48 train, 15 test; 3 classes (blue, green, red))"
    )


def test_explanations_are_pictures_in_a_notebook(tiny_model: TorchClassifier, photos: Path) -> None:
    file = str(next((photos / "test" / "red").glob("*.png")))
    good, bad = explain_files(tiny_model, [file, "/nowhere.png"])
    picture = good._repr_png_()
    assert picture is not None
    assert picture == draw_explanation(good)
    assert np.asarray(Image.open(io.BytesIO(picture))).ndim == 3
    assert len(repr(good)) < 300
    assert bad._repr_png_() is None
    with pytest.raises(DataError, match=r"/nowhere\.png: the file cannot be read"):
        draw_explanation(bad)
    assert isinstance(bad, FileExplanation)


# -- keywords -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"epochs": 1}, "train has no keyword 'epochs'; it is a field of the recipe: changes={'epochs': 1}"),
        ({"lr": 0.1}, "no keyword 'lr'; it is a field of the recipe: changes={'learning_rate': 0.1}"),
        ({"imgsz": 96}, "no keyword 'imgsz'; here it is image_px"),
        (
            {"pretrained": True},
            "no keyword 'pretrained'; here it is weights, and learned ones",
        ),
        ({"num_worker": 1}, "no keyword 'num_worker'; expected one of num_workers"),
        ({"validation_data": []}, "here it is a mapping {'train': …, 'val': …} as data"),
    ],
)
def test_keywords_of_other_libraries_are_answered(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        deepresidual.train("digits", **keywords)


def test_options_of_train_among_the_changes_are_told_apart() -> None:
    for changes, remedy in (
        ({"image_px": 32}, "it is an option of train: image_px=32"),
        ({"imgsz": 32}, "it is an option of train: image_px=32"),
        ({"out": "run"}, "it is an option of train: out='run'"),
    ):
        with pytest.raises(ConfigurationError, match=f"no field of the recipe; {remedy}"):
            deepresidual.train("digits", changes=changes)


def test_answers_name_what_there_is() -> None:
    words = {re.split(r"[,(]", answer)[0] for answer in OTHER_NAMES.values() if " as data" not in answer}
    assert words <= {*field_types(TrainOptions), *setting_homes(), "out"}
    assert not OTHER_NAMES.keys() & {*field_types(TrainOptions), *setting_homes()}
    assert with_keywords(TrainOptions(seed=3), {"minutes": 2.0}) == TrainOptions(seed=3, minutes=2.0)


def test_evaluate_names_the_nearest_keyword() -> None:
    with pytest.raises(ConfigurationError, match="no keyword 'batchsize'; expected one of batch_size"):
        deepresidual.evaluate("resnet20-digits", "digits", batchsize=4)  # type: ignore[call-overload]


# -- networks with a classifier of one's own ----------------------------------------------------------------


def test_a_classifier_that_was_put_into_a_network_is_saved(tmp_path: Path) -> None:
    network = deepresidual.create("resnet20")
    network.fc = torch.nn.Linear(64, 3)
    deepresidual.save(network, tmp_path / "model", label_names=["a", "b", "c"])
    loaded = deepresidual.load(tmp_path / "model")
    assert loaded.label_names == ("a", "b", "c")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(loaded.network(images), network.eval()(images), atol=1e-5)
    with pytest.raises(ConfigurationError, match="there are 2 label names for a classifier of 3 rows"):
        deepresidual.save(network, tmp_path / "other", label_names=["a", "b"])


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (
            torch.nn.Linear(64, 3, bias=False),
            r"fc is a Linear without a bias; expected torch.nn.Linear\(64,",
        ),
        (torch.nn.Sequential(torch.nn.Linear(64, 3)), "fc is a Sequential; .*holds one linear classifier"),
        (torch.nn.Linear(32, 3), "fc reads 32 features and the network gives 64; expected the same"),
    ],
)
def test_a_classifier_that_a_model_folder_cannot_hold_is_refused(
    classifier: Any, message: str, tmp_path: Path
) -> None:
    network = deepresidual.create("resnet20")
    network.fc = classifier
    with pytest.raises(ConfigurationError, match=message):
        deepresidual.save(network, tmp_path / "model")
    assert not (tmp_path / "model").exists()
