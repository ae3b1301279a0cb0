"""Make a bundled model of a finished run: weights in half precision, measured as they are shipped.

    python benchmarks/bundle.py RUN NAME DATA "DESCRIPTION OF THE DATA, WITH ITS LICENCE"

The figures on its card are of the rounded weights on every image of the test split of DATA.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import deepresidual
from deepresidual.models import bundled
from deepresidual.recipe import Recipe
from deepresidual.runs.read import read_run_record


def main(run: str, name: str, data: str, described: str) -> None:
    """Write the folder, evaluate it, and write it again with what was measured."""
    folder = Path(bundled.__file__).parent / name
    deepresidual.save(deepresidual.load(run), folder, half=True)
    model = deepresidual.load(folder)
    found = deepresidual.evaluate(model, data, split="test")
    document = read_run_record(Path(run))
    # The command without the places where data and run lay.
    words = [Path(word).name if "/" in word else word for word in document["command"]]
    model.metrics = {
        "test": {"top1": found.top1, "top5": found.top5, "loss": found.loss, "count": found.count}
    }
    usual = Recipe(name="").to_dict()
    chosen = {
        field: value
        for field, value in document["plan"]["recipe"].items()
        if field != "name" and value != usual.get(field)
    }
    model.provenance |= {
        "data": described,
        "command": shlex.join(words),
        # In full: a named recipe may change from one version to the next.
        "recipe_fields": json.dumps(chosen),
        "hardware": f"{document['hardware']['name']}, {document['hardware']['threads']} threads",
        "licence": "Apache-2.0, as Residual",
    }
    deepresidual.save(model, folder, half=True)
    print(f"{folder.name}: {found.top1:.4f} of {found.count:,}")  # noqa: T201  # what this program is for


if __name__ == "__main__":
    main(*sys.argv[1:])
