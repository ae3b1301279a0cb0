"""The pages in a real browser: at the width of a phone and of a desktop, by day and by night."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import axe_playwright_python
import numpy as np
import pytest
from PIL import Image

from deepresidual.evaluation.comparison import compare_results
from deepresidual.reporting import write_report, write_side_by_side
from deepresidual.reporting.comparison_page import Comparison, write_comparison
from deepresidual.reporting.evaluation_page import Measurement, write_evaluation
from tests.reporting.browser import inspected, measured, screenshot
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


@pytest.fixture(scope="module")
def pages(finished: Path, comparison: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of every kind: of a run, of runs side by side, of two models, and of many classes."""
    folder = tmp_path_factory.mktemp("pages")
    classes = [f"class {number} of a hundred" for number in range(100)]
    confusions = [[row, (row + step) % 100, 9 - 4 * step] for row in range(100) for step in range(3)]
    right = sum(count for true, said, count in confusions if true == said)
    evaluation = {
        "split": "test",
        "top1": right / 1500,
        "top5": 0.9,
        "loss": 1.0,
        "count": 1500,
        "classes": classes,
        "confusions": confusions,
        "mistakes": [],
        "best": [],
        "bins": [],
    }
    many = write_evaluation(Measurement("model", "data", "one", evaluation, {}), folder / "many.html")
    results = {f"{number}.jpg": ("ants", "ants" if number % 3 else "bees") for number in range(30)}
    others = {f"{number}.jpg": ("ants", "ants" if number % 5 else "bees") for number in range(30)}
    two = write_comparison(
        Comparison(
            ("a.csv", "b.csv"), "", results, others, compare_results(results, others, "", "").to_dict()
        ),
        folder / "two.html",
    )
    return {"report": with_findings(finished, folder / "run"), "runs": comparison, "many": many, "two": two}


def with_findings(finished: Path, run: Path) -> Path:
    """Return the report of a copy of a run with labels to look at and a learning curve."""
    shutil.copytree(finished, run)
    shutil.copytree(run / "best", run / "label-errors")
    classes = json.loads((run / "evaluation.json").read_text())["classes"]
    rows = [
        {
            "path": f"{split}/a rather long name of a folder/{number}.jpg",
            "split": split,
            "label": classes[0],
            "suggested": classes[1],
            "probability": 0.04,
            "suggested_probability": 0.9,
        }
        for split in ("train", "test")
        for number in range(14)
    ]
    names = ("path", "split", "label")
    conflict = {**{name: rows[0][name] for name in names}, "twin": "train/b/7.jpg", "twin_label": classes[2]}
    labels = {"reason": "", "num_images": 60, "top1": 0.9, "trust": 8, "rows": rows, "conflicts": [conflict]}
    (run / "label-errors.json").write_text(json.dumps(labels))
    points = [{"count": count, "error": error} for count, error in ((20, 0.3), (40, 0.25), (80, 0.2))]
    curve = {
        "reason": "",
        "points": points,
        "gain": "a lot",
        "doubling": 0.18,
        "doubling_interval": [0.1, 0.3],
    }
    (run / "learning-curve.json").write_text(json.dumps(curve))
    return write_report(run)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("page", ["report", "runs", "many", "two"])
def test_axe_finds_nothing(pages: dict[str, Path], tmp_path: Path, page: str, width: int, dark: bool) -> None:
    axe = Path(axe_playwright_python.__file__).parent / "axe.min.js"
    found = inspected(pages[page], axe, tmp_path, width, dark=dark)
    assert found["violations"] == []
    assert found["passes"] > 20


@pytest.mark.parametrize("page", ["report", "runs", "many", "two"])
def test_the_narrowest_phone_need_not_scroll_sideways(
    pages: dict[str, Path], tmp_path: Path, page: str
) -> None:
    axe = Path(axe_playwright_python.__file__).parent / "axe.min.js"
    assert inspected(pages[page], axe, tmp_path, 320)["width"] <= 320


def test_pages_are_small(pages: dict[str, Path]) -> None:
    assert pages["report"].stat().st_size < 500_000
    assert pages["many"].stat().st_size < 1_000_000


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
    with Image.open(screenshot(finished / "report.html", tmp_path, DESKTOP, 4500)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (4500, DESKTOP, 3)
    for color in ((0x3B, 0x7D, 0xC4), (0xD2, 0x62, 0x2A)):
        assert (np.abs(pixels - color).max(axis=2) < 12).sum() > 50, color
    assert (pixels.min(axis=2) > 250).mean() > 0.5
