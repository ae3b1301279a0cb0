"""A finished run whose names are hostile, for all tests of reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from deepresidual.reporting import charts, classification, report, side_by_side
from deepresidual.training.launch import train
from tests.conftest import write_photos

HOSTILE = "<script>alert(1)<"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that no test changes; a class of its data is called like a script."""
    root = tmp_path_factory.mktemp("report")
    photos = root / "photos"
    write_photos(photos / "train", 6)
    write_photos(photos / "test", 4)
    for part in ("train", "test"):
        (photos / part / "red").rename(photos / part / HOSTILE)
    train(
        photos,
        "resnet20",
        root / "run",
        changes={"epochs": 2.0, "batch_size": 6},
        image_px=8,
        num_workers=0,
        precision="fp32",
    )
    return root / "run"


@pytest.fixture(autouse=True, scope="session")
def _charts_are_drawn_once() -> Iterator[None]:
    """Draw each chart once in all: most tests look at the page around it. Charts have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (report, "draw_curves"),
            (classification, "draw_reliability"),
            (side_by_side, "draw_curves"),
        ):
            patch.setattr(module, name, _remembered(getattr(charts, name)))
        yield


def _remembered(draw: Callable[..., Markup]) -> Callable[..., Markup]:
    drawn: dict[str, Markup] = {}

    def remember(*arguments: Any) -> Markup:
        key = repr(arguments)
        if key not in drawn:
            drawn[key] = draw(*arguments)
        return drawn[key]

    return remember
