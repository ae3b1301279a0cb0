"""``residual fetch``: fetch weights and convert them, for later use or for another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line
from deepresidual.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.models import ResolvedWeights

__all__ = ["fetch"]


def fetch(
    weights: Annotated[tyro.conf.Positional[list[str]], tyro.conf.arg(metavar="WEIGHTS...")],
    /,
    *,
    to: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FOLDER")]] = None,
    json: bool = False,
) -> int:
    """Fetch weights and convert them, to be used later without a network, here or on another machine.

    What was fetched stays in the cache; every command then finds it under the same name.

    Args:
        weights: Released weights by name (see 'residual models'), owner/name on the Hugging Face Hub,
            or URLs.
        to: Also write the model folder here, to carry to another machine.
        json: Print one JSON document.
    """
    from deepresidual.models.source import find_source

    if not weights:
        raise ConfigurationError("there is no name", expected="one or more, see 'residual models --weights'")
    if to is not None and len(weights) > 1:
        raise ConfigurationError(f"--to is given for {len(weights)} names", expected="one name")
    for given in weights:
        find_source(given)  # a mistyped name is told before anything is fetched
    from deepresidual.models.weights import copy_model, resolve_weights

    rows = []
    for given in weights:
        resolved = resolve_weights(given)
        if to is not None:
            copy_model(resolved, to)
        row = _row(resolved, to)
        rows.append(row)
        if not json:
            _print(row)
    if json:
        print_json({"weights": rows})
    return 0


def _row(resolved: ResolvedWeights, copy: Path | None) -> dict[str, Any]:
    from deepresidual.models.source import CONFIG
    from deepresidual.runtime.strict_json import read_object

    provenance = read_object(resolved.path / CONFIG)["residual"]["provenance"]
    return {
        "name": resolved.name,
        "description": resolved.description,
        "licence": resolved.licence,
        "notes": list(resolved.notes),
        "version": resolved.version,
        "certificate": provenance.get("certificate", ""),
        "provenance": provenance,
        "path": str(resolved.path if copy is None else copy),
    }


def _print(row: dict[str, Any]) -> None:
    print_line(row["description"])
    for note in row["notes"]:
        print_line(f"  note        {note}")
    for name, value in (
        ("licence", row["licence"]),
        ("version", row["version"]),
        ("certificate", row["certificate"]),
        ("model", row["path"]),
    ):
        if value:
            print_line(f"  {name:<11} {value}")
