"""Train detectors from nothing as a user would, with several seeds, and keep what they reach on test images.

Each argument is a name, or ``NAME=PATH``, and is trained by ``residual train`` with the default recipe, or
with ``--minutes`` where ``@MINUTES`` follows. The test images are measured once, at the end::

    python benchmarks/detectors.py digit-scenes bccd=PATH@12 --seeds 5 6 7 --out benchmarks/results/FILE.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from deepresidual.benchmarks.commands import cost_of, residual_command
from deepresidual.benchmarks.measurement import Row, make_result
from deepresidual.cli.output import print_line
from deepresidual.runs.read import read_plan

_FIGURES = ("ap", "ap50", "ap75", "mask_ap", "mask_ap50")  # those of masks where the data has them


def main() -> None:
    """Train, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = [_row(*_parts(each), given.seeds) for each in given.data]
    words = ["python", "benchmarks/detectors.py", *map(_without_place, given.data)]
    result = dataclasses.replace(
        make_result("detectors", rows, len(given.seeds), torch.device("cpu"), ("torchvision",)),
        command=[*words, "--seeds", *map(str, given.seeds)],
    )
    if given.out is not None:
        result.save(given.out)


def _without_place(argument: str) -> str:
    """Return an argument without the folder that the data lay in."""
    name, data, minutes = _parts(argument)
    place = "" if data == name else f"={Path(data).name}"
    return f"{name}{place}" + (f"@{minutes}" if minutes else "")


def _parts(argument: str) -> tuple[str, str, str]:
    """Return name, data and minutes; no minutes: the recipe says how long."""
    name, _, place = argument.partition("=")
    data, _, minutes = (place or name).partition("@")
    return name.partition("@")[0], data, minutes


def _row(name: str, data: str, minutes: str, seeds: list[int]) -> Row:
    """Train once for each seed."""
    runs = [_trained(name, data, minutes, seed) for seed in seeds]
    for run in runs:
        print_line(
            f"{name} seed {run['seed']}: AP {run['ap']:.3f}, AP50 {run['ap50']:.3f}, {run['wall_s']:.0f} s"
        )
    spread: dict[str, Any] = {
        figure: {
            "mean": statistics.fmean(run[figure] for run in runs),
            "range": [min(run[figure] for run in runs), max(run[figure] for run in runs)],
        }
        for figure in _FIGURES
        if figure in runs[0]
    }
    details: dict[str, Any] = {"figures": spread, "runs": runs, "minutes": minutes or "of the recipe"}
    return Row(
        name,
        f"test AP50 of residual train {name}, mean of {len(seeds)} seeds",
        unit="AP50",
        ours=spread["ap50"]["mean"],
        reason="measured alone",
        details=details,
    )


def _trained(name: str, data: str, minutes: str, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        length = ["--minutes", minutes] if minutes else []
        words = ["train", data, "--out", str(run), "--seed", str(seed), *length]
        cost = cost_of(residual_command(*words))
        plan, _ = read_plan(run)
        evaluation = json.loads((run / "evaluation.json").read_text())
        return {
            "seed": seed,
            **{figure: evaluation[figure] for figure in _FIGURES if figure in evaluation},
            "ap_interval": evaluation["ap_interval"],
            "mask_ap_interval": evaluation.get("mask_ap_interval"),
            "split": evaluation["split"],
            "count": evaluation["count"],
            "wall_s": cost.wall_s,
            "cpu_s": cost.cpu_s,
            "peak_bytes": cost.peak_bytes,
            "model": plan.model,
            "steps": plan.total_steps,
            "batch_size": plan.recipe.batch_size,
            "recipe": plan.recipe.name,
            "precision": plan.precision,
            "image_px": plan.preprocess.crop_px,
            "name": name,
        }


if __name__ == "__main__":
    main()
