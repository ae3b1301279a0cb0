"""The pages in a real browser: at the width of a phone and of a desktop, by day and by night."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepresidual.reporting import write_side_by_side
from tests.reporting.browser import measured, screenshot
from tests.reporting.page import Page

PHONE, DESKTOP = 390, 1200

pytestmark = pytest.mark.test_all


def contrast(first: str, second: str) -> float:
    """Return the contrast of two CSS colours as WCAG 2 defines it, 1 to 21."""
    lightness = []
    for color in (first, second):
        shares = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        lightness.append(float(np.dot(linear, (0.2126, 0.7152, 0.0722))))
    low, high = sorted(lightness)
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def comparison(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    shutil.copytree(finished, folder / "a run whose name is rather long, as names of runs are")
    return write_side_by_side([finished, *folder.iterdir()], folder / "comparison.html")


@pytest.mark.parametrize(
    ("page", "width", "rows"),
    [("report", PHONE, 2), ("report", DESKTOP, 1), ("comparison", PHONE, 4), ("comparison", DESKTOP, 2)],
)
def test_a_page_fits_its_screen(
    finished: Path, comparison: Path, tmp_path: Path, page: str, width: int, rows: int
) -> None:
    path = finished / "report.html" if page == "report" else comparison
    seen = measured(path, tmp_path, width, 3000)
    assert seen["headings"] == Page(path.read_text()).texts("h2")
    assert seen["width"] <= width
    assert seen["outside"] == []  # tables scroll by themselves
    assert seen["requests"] == []
    assert len(seen["images"]) == (len(Page(path.read_text()).all("img")))
    assert all(side > 0 for side in seen["images"])
    assert seen["cut"] == []
    assert seen["smallest_text"] >= 9
    assert seen["chart_rows"] == rows  # on a phone they stand below each other


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_by_day_and_by_night(finished: Path, tmp_path: Path, dark: bool) -> None:
    seen = measured(finished / "report.html", tmp_path, DESKTOP, 3000, dark=dark)
    paper = [int(part) for part in re.findall(r"\d+", seen["paper"])[:3]]
    assert (max(paper) < 60) if dark else (min(paper) > 240)
    for ink in ("ink", "chart_ink", "soft"):
        assert contrast(seen[ink], seen["paper"]) >= 4.5, ink  # what WCAG 2 asks of text


def test_a_screenshot_shows_the_curves(finished: Path, tmp_path: Path) -> None:
    """What is drawn is seen: the curves' two colours lie on the page, and much of it is paper."""
    with Image.open(screenshot(finished / "report.html", tmp_path, DESKTOP, 900)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (900, DESKTOP, 3)
    for color in ((0x3B, 0x7D, 0xC4), (0xD2, 0x62, 0x2A)):
        assert (np.abs(pixels - color).max(axis=2) < 12).sum() > 50, color
    assert (pixels.min(axis=2) > 250).mean() > 0.5
