"""Make screenshots of pages at three widths, by day and by night, to be looked at.

Without pages those of three evaluations: made ones of 2 and of 100 classes, and the bundled digits.

Example::

    python -m tests.reporting.screenshots PAGE... --out FOLDER
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from deepresidual.evaluation import EvaluationSetup
from deepresidual.reporting import Measurement, write_evaluation
from deepresidual.tasks.evaluation_report import report_evaluation
from tests.reporting.browser import run_browser

WIDTHS = (1280, 768, 390)

# A window is never narrower than 500 px, so the page stands in a frame of the width.
_FRAME = """<!doctype html><meta charset="utf-8"><style>html, body {{ margin: 0; background: #888 }}
iframe {{ border: 0; width: {width}px; height: {height}px; display: block }}</style>
<iframe src="{page}"></iframe>"""


def picture(page: Path, destination: Path, width: int, height: int, *, dark: bool = False) -> None:
    """Write a PNG of the top of a page on a screen of a width, in CSS pixels."""
    with tempfile.TemporaryDirectory() as name:
        frame = Path(name) / "frame.html"
        frame.write_text(_FRAME.format(page=page.resolve().as_uri(), width=width, height=height))
        run_browser(
            Path(name),
            frame,
            f"--screenshot={destination}",
            f"--window-size={max(width, 500)},{height}",
            "--hide-scrollbars",
            "--allow-file-access-from-files",
            "--virtual-time-budget=5000",
            dark=dark,
        )


def example_pages(folder: Path) -> list[Path]:
    """Write the pages of three evaluations: of 2, of 10 and of 100 classes."""
    pages = []
    for names in (["ants", "bees"], [f"a kind of thing, number {number}" for number in range(100)]):
        size = len(names)
        random = np.random.default_rng(size)
        counts = random.multinomial(15, [1 / size] * size, size=size) + 50 * np.eye(size, dtype=int)
        confusions = [[*place, int(counts[place])] for place in np.ndindex(size, size) if counts[place]]
        count = int(counts.sum())
        evaluation = {
            "split": "test",
            "top1": float(np.trace(counts)) / count,
            "top5": 1.0,
            "loss": 0.7,
            "count": count,
            "classes": names,
            "confusions": confusions,
            "mistakes": [],
            "best": [],
            "bins": [],
        }
        page = folder / f"classes-{size}.html"
        pages.append(write_evaluation(Measurement("runs/mine", "photos", "one", evaluation, {}), page))
    setup = EvaluationSetup.open(["resnet20-digits"], "digits")
    digits = folder / "classes-10.html"
    pages.append(report_evaluation(setup, setup.evaluate(), ["resnet20-digits"], "digits", digits))
    return pages


def main() -> None:
    """Read the command line and make the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--height", type=int, default=6000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for page in options.pages or example_pages(options.out):
        for width in WIDTHS:
            for dark in (False, True):
                name = f"{page.stem}-{width}{'-dark' if dark else ''}.png"
                picture(page, options.out / name, width, options.height, dark=dark)


if __name__ == "__main__":
    main()
