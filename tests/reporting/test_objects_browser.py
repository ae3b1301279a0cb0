"""The report of a detector in a real browser: on a phone and on a desktop, by day and by night."""

from __future__ import annotations

from pathlib import Path

import axe_playwright_python
import pytest

from deepresidual.reporting import write_report
from tests.reporting.browser import inspected, measured
from tests.reporting.objects import an_evaluation, detector_run

PHONE, DESKTOP = 390, 1200

pytestmark = pytest.mark.test_all


@pytest.fixture(scope="module")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(detector_run(finished, tmp_path_factory.mktemp("page") / "run", an_evaluation()))


@pytest.mark.parametrize(("width", "dark"), [(PHONE, True), (DESKTOP, False), (320, False)])
def test_axe_finds_nothing_and_nobody_scrolls_sideways(
    page: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    axe = Path(axe_playwright_python.__file__).parent / "axe.min.js"
    found = inspected(page, axe, tmp_path, width, dark=dark)
    assert found["violations"] == []
    assert found["passes"] > 10
    assert found["width"] <= width


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_charts_and_pictures_fit_the_screen(page: Path, tmp_path: Path, width: int) -> None:
    seen = measured(page, tmp_path, width, 3000)
    assert seen["outside"] == []
    assert seen["requests"] == []
    assert all(side > 0 for side in seen["images"])
    assert seen["cut"] == []
    assert seen["smallest_text"] >= 9


def test_the_page_is_small(page: Path) -> None:
    assert page.stat().st_size < 500_000
