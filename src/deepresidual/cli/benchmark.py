"""``residual benchmark``: measure speed and memory; in a checkout, beside other libraries."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line, print_table

__all__ = ["benchmark"]


def benchmark(
    what: Annotated[
        tyro.conf.Positional[Literal["train", "data", "machine"]], tyro.conf.arg(metavar="train|data|machine")
    ],
    data: Annotated[
        tyro.conf.Positional[LocalPath | None], tyro.conf.arg(metavar="DATA", help_behavior_hint="")
    ] = None,
    /,
    *,
    rows: tuple[str, ...] = (),
    repetitions: int = 5,
    out: Maybe[LocalPath] = None,
    json: bool = False,
) -> int:
    """Measure this installation; in a checkout of the repository against its peers, both sides in turn.

    Args:
        what: train: updates, memory, and an epoch of photos; data: decoding and loading of photos;
            machine: idle threads beside other programs, and the precision that auto chooses.
        data: A folder of photos by class, for the rows that read files.
        rows: Names of rows. Default: all.
        repetitions: Pairs a row, after a warm-up; published figures have 5 or more.
        out: Also write the result to this JSON file.
        json: Print one JSON document.
    """
    from deepresidual.benchmarks.machine import benchmark_machine
    from deepresidual.benchmarks.peers import benchmark_data, benchmark_training
    from deepresidual.errors import ConfigurationError

    if what == "train":
        result = benchmark_training(data, rows=rows, repetitions=repetitions)
    elif what == "machine":
        result = benchmark_machine(rows=rows, repetitions=repetitions)
    elif data is None:
        raise ConfigurationError("the benchmark of data has no photos", remedy="name a folder of them")
    else:
        result = benchmark_data(data, rows=rows, repetitions=repetitions)
    if out is not None:
        result.save(out)
    if json:
        print_json(result.to_dict())
        return 0
    hardware = f"{result.hardware['name']}, {result.threads} threads, torch {result.versions['torch']}"
    print_line(f"{result.benchmark} at {result.commit[:10]} on {hardware}")
    print_table(
        ("row", "against", ">ratio", ">target", "result"),
        [
            (
                row.name,
                row.against or "–",
                str(row.ratio) if row.ratio else "–",
                "–" if row.target is None else f"{'≤' if row.at_most else '≥'} {row.target:g}",
                {True: "met", False: "missed", None: row.reason}[row.is_met]
                if row.ours is None or row.target is not None
                else f"{row.ours:,.4g} {row.unit}, {row.reason}",
            )
            for row in result.rows
        ],
    )
    return 0
