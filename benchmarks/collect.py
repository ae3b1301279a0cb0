"""Take the results of experiments into the repository, for the documentation.

    python benchmarks/collect.py [RESULTS…]    # folders that `residual reproduce` wrote

Figures go to docs/images/reproduced, as PNG; results to benchmarks/reproduced, one file an experiment, with
everything but the curves of single runs. Then all that is there is judged by the claims of today:
measurements stay as they are, and a verdict whose claim was put right is put right with it.
`python docs/update_tables.py` writes the verdicts into the pages.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from deepresidual.analysis.experiments import experiment
from deepresidual.analysis.experiments.record import judged_again

ROOT = Path(__file__).parents[1]
REPRODUCED = ROOT / "benchmarks" / "reproduced"


def collect(folder: Path) -> None:
    """Take over one experiment, which must have been finished."""
    document = json.loads((folder / "results.json").read_text("utf-8"))
    if document["status"] != "finished":
        raise SystemExit(f"{folder} is {document['status']}; finish it with --resume")
    # Without the places where data and results lay.
    document["command"] = [Path(word).name if "/" in word else word for word in document["command"]]
    for arm in document["arms"]:
        for run in arm["runs"]:
            del run["series"]
    REPRODUCED.mkdir(exist_ok=True)
    write(REPRODUCED / f"{document['experiment']}-{document['scale']}.json", document)
    for name in document["figures"]:
        shutil.copyfile(folder / f"{name}.png", ROOT / "docs" / "images" / "reproduced" / f"{name}.png")


def judge_again(file: Path) -> None:
    """Put today's verdicts beside the measurements of a file."""
    document = json.loads(file.read_text("utf-8"))
    write(file, judged_again(experiment(document["experiment"]), document))


def write(file: Path, document: dict[str, Any]) -> None:
    """Write a document for people to read, too."""
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        collect(Path(argument))
    for stored in sorted(REPRODUCED.glob("*.json")):
        judge_again(stored)
