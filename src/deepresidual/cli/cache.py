"""``residual cache``: show what Residual keeps to be faster the next time, and delete it."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from deepresidual.cli.output import print_json, print_line, print_table
from deepresidual.errors import ConfigurationError, MachineError

__all__ = ["cache"]


def cache(
    action: Annotated[
        tyro.conf.Positional[Literal["list", "clear"]], tyro.conf.arg(metavar="[clear]")
    ] = "list",
    kind: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[KIND]")] = "all",
    /,
    *,
    json: bool = False,
) -> int:
    """List what is kept to be faster the next time (weights, features, measurements), or delete it.

    All of it can be deleted at any time: it is fetched or computed again. The folder is $RESIDUAL_CACHE,
    $XDG_CACHE_HOME/residual or ~/.cache/residual.

    Args:
        action: Delete what is kept. Default: only list it.
        kind: What to delete: downloads, models, features, precision, or all.
        json: Print one JSON document.
    """
    from deepresidual.runtime.cache import CACHE_KINDS, cache_folder, cache_kinds, clear_cache

    folder = cache_folder()
    if folder is None:
        raise MachineError("there is no home folder to keep a cache in", remedy="set RESIDUAL_CACHE")
    if action == "list" and kind != "all":
        raise ConfigurationError(
            f"KIND is {kind!r} for a list of all", expected="it after 'residual cache clear'"
        )
    kinds = cache_kinds() if action == "list" else clear_cache(None if kind == "all" else kind)
    if json:
        rows = [{"kind": each.name, "files": each.num_files, "bytes": each.num_bytes} for each in kinds]
        print_json({"folder": str(folder), "cleared": action == "clear", "kinds": rows})
        return 0
    total = sum(each.num_bytes for each in kinds)
    if action == "clear":
        files = sum(each.num_files for each in kinds)
        print_line(f"deleted {files:,} files, {_megabytes(total)} MB, from {folder}")
        return 0
    print_table(
        ("kind", "what", ">files", ">MB"),
        [
            (each.name, CACHE_KINDS[each.name], f"{each.num_files:,}", _megabytes(each.num_bytes))
            for each in kinds
        ],
    )
    print_line(f"{folder}: {_megabytes(total)} MB; 'residual cache clear [KIND]' deletes it")
    return 0


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f}"
