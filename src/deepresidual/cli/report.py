"""``residual report``: write the page of a run, or one that compares several, from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line
from deepresidual.errors import ConfigurationError

__all__ = ["report"]

_SIDE_BY_SIDE = Path("comparison.html")


def report(
    runs: Annotated[tyro.conf.Positional[list[LocalPath]], tyro.conf.arg(metavar="RUN...")],
    /,
    *,
    out: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FILE")]] = None,
    json: bool = False,
) -> int:
    """Write the report of a run again from its files; of several runs, a page that compares them.

    Training writes the report of its run by itself. A page loads nothing from elsewhere and runs no script.

    Args:
        runs: Run folders.
        out: The file. Default: report.html in the folder of the run; of several runs, comparison.html here.
        json: Print one JSON document.
    """
    if not runs:
        raise ConfigurationError("there is no RUN", expected="one or more run folders")
    from deepresidual.reporting import write_report, write_side_by_side

    path = write_report(runs[0], out) if len(runs) == 1 else write_side_by_side(runs, out or _SIDE_BY_SIDE)
    if json:
        print_json({"report": str(path), "runs": [str(run) for run in runs]})
    else:
        print_line(str(path))
    return 0
