"""Train as `residual train PHOTOS` does without a network, on several splits of all photos of a folder.

    python benchmarks/offline_splits.py PHOTOS --splits 5 --steps 60 --out FILE

One split of few photos tells little: of 153 photos the 95 % interval of an accuracy is 14 points wide. So all
photos, whatever folder of train/, val/ or test/ they lie in, are divided anew by each seed, class by class,
and what is measured is the mean over the seeds with its interval. Nothing is chosen by the test photos: the
probe's penalty is by cross-validation on training photos, the rest is fixed. CPU seconds are those of the
process; features of photos that an earlier split has seen come from the cache, so those of the first split
alone count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from deepresidual.cli.output import flush_output, print_line
from deepresidual.data.formats import EXTENSIONS
from deepresidual.runs.statistics import summarize
from deepresidual.runtime.provenance import now, versions
from deepresidual.training.launch import train

WEIGHTS, IMAGE_PX, TEST_SHARE = "resnet56-cifar10", 96, 0.385


def photos_of(root: Path) -> dict[str, list[Path]]:
    """Return the photos of each class, wherever they lie below ``root``, in the order of their names."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in EXTENSIONS:
            found.setdefault(path.parent.name, []).append(path)
    return found


def write_split(photos: dict[str, list[Path]], folder: Path, seed: int) -> None:
    """Link the photos into ``train/`` and ``test/`` below ``folder``."""
    dice = random.Random(seed)  # noqa: S311  # divides photos
    for name, paths in photos.items():
        order = dice.sample(paths, len(paths))
        num_test = round(TEST_SHARE * len(order))
        for part, chosen in (("test", order[:num_test]), ("train", order[num_test:])):
            place = folder / part / name
            place.mkdir(parents=True)
            for number, path in enumerate(sorted(chosen)):
                (place / f"{number:05d}{path.suffix.lower()}").symlink_to(path.resolve())


def measured(split: Path, out: Path, seed: int, recipe: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Train and return what the run's test photos say."""
    started = time.process_time()
    result = train(
        split, None, out, weights=WEIGHTS, image_px=IMAGE_PX, recipe=recipe, changes=changes, seed=seed,
        precision="fp32", compile="no", device="cpu", num_workers=1,
    )  # fmt: skip
    assert result.evaluation is not None  # noqa: S101  # a finished run has one
    return {**result.evaluation.summary(), "cpu_seconds": round(time.process_time() - started, 1)}


def main() -> None:
    """Measure, print a table and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    photos = photos_of(asked.photos)
    finetune = {"steps": asked.steps, "warmup_steps": max(1, asked.steps // 10), "evaluate_every": 1e5}
    rows: dict[str, list[dict[str, Any]]] = {"probe": [], "finetune": []}
    with tempfile.TemporaryDirectory() as place:
        os.environ["RESIDUAL_CACHE"] = f"{place}/cache"
        for seed in range(asked.splits):
            write_split(photos, Path(place, f"split-{seed}"), seed)
            for recipe, changes in (("probe", {}), ("finetune", finetune)):
                out = Path(place, f"{recipe}-{seed}")
                rows[recipe].append(measured(Path(place, f"split-{seed}"), out, seed, recipe, changes))
                print_line(f"{recipe} {seed} {rows[recipe][-1]}")
                flush_output()
    document = {
        "what": "offline-splits",
        "photos": {name: len(paths) for name, paths in photos.items()},
        "steps": asked.steps,
        "date": now(),
        "versions": versions(),
        "rows": rows,
    }
    for recipe, found in rows.items():
        summary = summarize([row["top1"] for row in found])
        interval = "" if summary.low is None else f" ({summary.low:.1%} – {summary.high:.1%})"
        print_line(f"{recipe:<9} {summary.mean:.1%}{interval}, n = {len(found)}")
    if asked.out:
        asked.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
