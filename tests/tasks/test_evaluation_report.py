"""``residual evaluate --report`` for a detector, on data whose classes have another order than its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepresidual import save
from deepresidual.cli import main
from tests.detectors import tiny_detector, write_shapes
from tests.reporting.page import Page


def test_a_detector_on_other_data_has_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, page = tmp_path / "model", tmp_path / "page.html"
    save(tiny_detector(("square", "hen", "disc"), side_px=32), model)
    shapes = write_shapes(tmp_path / "shapes", 4, 6)
    arguments = ["evaluate", str(model), str(shapes), "--report", str(page), "--json"]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["report"] == str(page)
    found = Page(page.read_text())
    assert found.texts("h2") == [
        "How good",
        "What goes wrong",
        "The surest false ones",
        "Whole images",
        "Use it",
        "How it was made",
    ]
    pictures = len(document["false"]) + len(document["missed"]) + 2 * document["count"]
    assert len(found.all("img")) == pictures
    classes = {row[0]: row[1] for row in found.rows(found.all("table")[0])[1:]}
    assert classes["hen"] == "no objects"
    assert {name for name, cell in classes.items() if " of " in cell} == {"square", "disc"}
    assert f"residual predict {model} NEW-IMAGES" in found.text
    assert "whole images, 32 px" in found.text


def test_a_page_of_the_users_own_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.html"
    own.write_text("<p>mine</p>")
    save(tiny_detector(("square", "disc"), side_px=32), tmp_path / "model")
    shapes = write_shapes(tmp_path / "shapes", 2, 2)
    assert main(["evaluate", str(tmp_path / "model"), str(shapes), "--report", str(own)]) == 2
    assert "is no page of this command and would be overwritten" in capsys.readouterr().err
    assert own.read_text() == "<p>mine</p>"
