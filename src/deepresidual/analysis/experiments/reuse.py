"""Find runs that another experiment has trained already: ``depth`` and ``lesions`` need ``degradation``'s.

A run is a function of its network, recipe, images, seed, precision, versions and hardware. Where an
experiment in a folder beside this one has finished a run that agrees in all of these, training it again would
give the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepresidual.errors import ModelFileError
from deepresidual.recipe import with_new_names
from deepresidual.runs.read import read_run_record
from deepresidual.runtime.strict_json import read_record


def reusable_run(
    path: Path, setting: Mapping[str, Any], precision: str, frame: Mapping[str, Any]
) -> Path | None:
    """Return the folder of a finished run that is the one asked for; ``None`` where there is none.

    Args:
        path: Folder of the experiment; the folders beside it are searched.
        setting: Network, recipe, size, seed and data, as JSON types.
        precision: Precision of training; ``auto`` is not known beforehand, so no run is returned.
        frame: ``versions`` and ``hardware`` of this experiment.
    """
    if precision == "auto":
        return None
    own = path.resolve()
    for file in sorted(own.parent.glob(f"*/arms/*/seed-{setting['seed']}.json")):
        run = file.with_suffix("")
        if own in file.parents or not run.is_dir():
            continue
        try:
            measured = read_record(file, {"setting": dict})
            trained = read_run_record(run)
        except (FileNotFoundError, ModelFileError):
            continue  # damaged or of another form: its own experiment will say so
        agrees = (
            with_new_names(measured["setting"]) == setting
            and trained["status"] == "finished"
            and trained["plan"]["precision"] == precision
            and all(trained[name] == frame[name] for name in ("versions", "hardware"))
        )
        if agrees:
            # As the experiments lie to each other, so that their common folder can be moved.
            return path / os.path.relpath(run, own)
    return None
