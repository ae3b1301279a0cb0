"""``residual models``: what networks there are."""

from __future__ import annotations

from typing import Annotated, Any

import tyro

from residual import zoo
from residual.cli.output import print_json, print_line, print_table

__all__ = ["models"]


def models(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = "*",
    /,
    *,
    json: bool = False,
) -> int:
    """List the networks, or show one.

    Args:
        name: A network, or a pattern such as 'resnet*'; all where left out.
        json: Print one JSON document.
    """
    rows = [_row(zoo.entry(found)) for found in zoo.list_models(name)] or [_row(zoo.entry(name))]
    if json:
        print_json({"models": rows})
    elif len(rows) == 1:
        _print_one(rows[0])
    else:
        print_table(
            ("name", ">layers", ">parameters", ">MACs", ">input", "source"),
            (
                (
                    row["name"],
                    f"{row['layers']:,}",
                    f"{row['parameters']:,}",
                    f"{row['macs'] / 1e6:,.1f} M",
                    f"{row['input_px']} px",
                    row["source"],
                )
                for row in rows
            ),
        )
    return 0


def _row(entry: zoo.ZooEntry) -> dict[str, Any]:
    spec = entry.spec
    return {
        "name": entry.name,
        "layers": spec.num_layers,
        "parameters": spec.num_parameters,
        "macs": entry.num_macs,
        "input_px": entry.preprocess.crop_px,
        "num_classes": spec.num_classes,
        "source": entry.source,
        "spec": spec.to_dict(),
    }


def _print_one(row: dict[str, Any]) -> None:
    spec = row["spec"]
    print_line(f"{row['name']}: {row['source']}")
    print_line(f"  layers      {row['layers']:,}")
    print_line(f"  parameters  {row['parameters']:,} ({row['num_classes']:,} classes)")
    print_line(f"  MACs        {row['macs']:,} at {row['input_px']} px")
    print_line(
        f"  units       {' + '.join(map(str, spec['depths']))} {spec['unit']}, widths {spec['widths']}"
    )
    print_line(f"  stem        {spec['stem']}")
    print_line(f"  shortcut    {spec['shortcut']}")
    if spec["unit"] == "bottleneck":
        print_line(f"  stride on   {spec['stride_on']}")
