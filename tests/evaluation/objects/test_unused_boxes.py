"""Boxes without area are told of as one, and only where they are in the split that is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deepresidual.data.source.validation import Subset
from deepresidual.evaluation.objects.unused_boxes import warn_of_unused_boxes
from deepresidual.evaluation.opened_data import opened_data
from deepresidual.evaluation.options import EvaluationOptions
from tests.data.annotations import voc_xml, voc_year

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.data.source import SampleSource

    Capture = pytest.CaptureFixture[str]

GOOD, NO_AREA = ("cat", (1, 1, 9, 9)), ("cat", (7, 7, 7, 9))


@pytest.fixture
def source(tmp_path: Path, capsys: Capture) -> SampleSource:
    """Data whose training image "b" has two boxes without area."""
    xml = {"a": voc_xml(GOOD), "b": voc_xml(GOOD, NO_AREA, NO_AREA), "v": voc_xml(GOOD)}
    folder = voc_year(tmp_path, {"train": ["a", "b"], "val": ["v"]}, xml)
    opened, split = opened_data(folder, EvaluationOptions(), [])
    assert split == "val"
    assert "not used" not in capsys.readouterr().err
    return opened


def test_the_boxes_of_a_split_are_one_warning(source: SampleSource, capsys: Capture) -> None:
    warn_of_unused_boxes(source.split("train"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 2 boxes have no area, and are not used; 'residual check' lists")


def test_boxes_of_other_images_are_not_told_of(source: SampleSource, capsys: Capture) -> None:
    warn_of_unused_boxes(source.split("val"))
    warn_of_unused_boxes(Subset(source.split("train"), [0]))
    assert capsys.readouterr().err == ""
    warn_of_unused_boxes(Subset(source.split("train"), [1]))
    assert "2 boxes" in capsys.readouterr().err
