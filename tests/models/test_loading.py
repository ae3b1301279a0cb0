"""``load_detector``: detectors, typed as such."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import pytest

import deepresidual
from deepresidual.errors import ModelFileError
from tests.detectors import tiny_detector


def test_a_detector_is_loaded_as_one(tmp_path: Path) -> None:
    deepresidual.save(tiny_detector(), tmp_path / "model")
    model = deepresidual.load_detector(tmp_path / "model")
    assert_type(model, deepresidual.TorchDetector)
    assert isinstance(model, deepresidual.TorchDetector)
    assert model.label_names == tiny_detector().label_names


def test_a_classifier_is_refused() -> None:
    sentence = (
        r"resnet20-digits finds no objects; expected a detector; load other models with deepresidual.load"
    )
    with pytest.raises(ModelFileError, match=sentence):
        deepresidual.load_detector("resnet20-digits")
