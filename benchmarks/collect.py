"""Take the results of experiments into the repository, for the documentation.

    python benchmarks/collect.py RESULTS…      # folders that `residual reproduce` wrote

Figures go to docs/images/reproduced, as PNG; results to benchmarks/reproduced, one file an experiment, with
everything but the curves of single runs. Then `python docs/update_tables.py` writes the verdicts into the
pages.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


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
    results = ROOT / "benchmarks" / "reproduced" / f"{document['experiment']}-{document['scale']}.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for name in document["figures"]:
        shutil.copyfile(folder / f"{name}.png", ROOT / "docs" / "images" / "reproduced" / f"{name}.png")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        collect(Path(argument))
