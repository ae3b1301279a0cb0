"""``residual data``: data sets from one form into another. So far there is ``residual data shard``."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from deepresidual.cli.options import LocalPath
from deepresidual.cli.output import print_json, print_line, print_table

__all__ = ["data"]


def data(
    action: Annotated[tyro.conf.Positional[Literal["shard"]], tyro.conf.arg(metavar="shard")],  # noqa: ARG001
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")],
    destination: Annotated[tyro.conf.Positional[LocalPath], tyro.conf.arg(metavar="OUT")],
    /,
    *,
    max_samples: int = 10_000,
    max_mb: int = 1_000,
    seed: int = 0,
    in_order: bool = False,
    json: bool = False,
) -> int:
    """Write a data set as shards: tar files in the layout of WebDataset, with the images as they are.

    Args:
        action: The one thing that can be done so far.
        source: A data set, as for 'residual train'.
        destination: The folder to write; new or empty. It comes to be whole or not at all.
        max_samples: Samples in a shard at most.
        max_mb: Megabytes in a shard at most.
        seed: Decides the order of the samples.
        in_order: Keep the order of the data set instead.
        json: Print one JSON document.
    """
    from deepresidual.data.shard_writer import write_shards
    from deepresidual.data.source import open_source
    from deepresidual.runtime.console import ProgressBar, warn_each

    opened = open_source(source)
    warn_each(opened.ignored)
    total = sum(len(split) for split in opened.splits.values())
    with ProgressBar(total, label="writing") as bar:
        shards = write_shards(
            opened,
            destination,
            max_samples=max_samples,
            max_mb=max_mb,
            seed=None if in_order else seed,
            on_sample=lambda done: bar.update(done, "samples"),
        )
    if json:
        rows = [
            {"name": shard.name, "samples": shard.num_samples, "bytes": shard.num_bytes} for shard in shards
        ]
        print_json({"data": source, "destination": str(destination), "shards": rows})
        return 0
    print_table(
        ("shard", ">samples", ">MB"),
        [(shard.name, f"{shard.num_samples:,}", f"{shard.num_bytes / 1e6:,.1f}") for shard in shards],
    )
    print_line(f"wrote {destination}")
    return 0
