"""The tour behind ``make demo``: train on the bundled digits, evaluate, predict pictures. No download.

Usage: python examples/demo.py [--out FOLDER] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from deepresidual.cli import main as residual
from deepresidual.data.source import open_source

EXPECTED_TOP1 = 0.98  # every seed that was tried gave 0.99 (docs/results.md)


def run(*arguments: str) -> None:
    """Show a command as it would be typed, and run it."""
    print(f"\n$ residual {' '.join(arguments)}", flush=True)
    code = residual(arguments)
    if code:
        raise SystemExit(code)


def write_pictures(folder: Path, count: int) -> None:
    """Write some held-out digits as PNG files, named by what they show."""
    folder.mkdir(parents=True)
    source = open_source("digits")
    split = source.split("test")
    for index in range(count):
        sample = split.read(index)
        (folder / f"{index}-a-handwritten-{source.classes[sample.target]}.png").write_bytes(sample.content)


def main() -> None:
    """Train, evaluate, predict, and say what to do next."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out: Path = options.out
    if out.exists():
        if any(out.iterdir()) and not (out / "run" / "run.json").exists():
            raise SystemExit(f"error: {out} holds something else; choose another folder with --out")
        shutil.rmtree(out)

    started = time.monotonic()
    print("A ResNet-20 learns to read 1,446 handwritten digits and is tested on 351 others.")
    run("train", "digits", "--model", "resnet20", "--out", str(out / "run"), "--seed", str(options.seed))
    run("evaluate", str(out / "run"), "digits")
    top1 = json.loads((out / "run" / "evaluation.json").read_text())["top1"]
    if top1 < EXPECTED_TOP1:
        raise SystemExit(f"error: test accuracy is {top1:.4f}; expected at least {EXPECTED_TOP1}")
    write_pictures(out / "pictures", count=6)
    run("predict", str(out / "run"), str(out / "pictures"))

    program = "residual" if shutil.which("residual") else str(Path(sys.executable).parent / "residual")
    print(
        f"""
Done in {time.monotonic() - started:.0f} s.
  model   {out / "run" / "model"}
  report  {out / "run" / "report.html"}   (open it in a browser)

Next, on your own photos, sorted into one folder a class (photos/cats/*.jpg, photos/dogs/*.jpg, …):
  {program} train photos --out runs/mine
  {program} evaluate runs/mine photos
  {program} predict runs/mine some-photo.jpg"""
    )


if __name__ == "__main__":
    main()
