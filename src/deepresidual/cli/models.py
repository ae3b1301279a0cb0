"""``residual models``: list the networks, or show the layers of one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from deepresidual import zoo
from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line, print_table
from deepresidual.errors import ConfigurationError
from deepresidual.models.bundled import names as bundled_names
from deepresidual.models.source import list_weights as list_learned
from deepresidual.runtime.console import note
from deepresidual.zoo.detectors import KINDS, list_detectors
from deepresidual.zoo.published import published
from deepresidual.zoo.released import default_release, num_released, released_names
from deepresidual.zoo.table import Stage, stages
from deepresidual.zoo.verified import verified

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["models"]

# What the lines above the table of layers say in words of their own, or the table itself.
_SHOWN = {"unit", "depths", "widths", "stem", "shortcut", "stride_on", "num_classes", "in_channels"}


def models(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = "*",
    /,
    *,
    weights: bool = False,
    image_px: Maybe[Annotated[int, tyro.conf.arg(metavar="N")]] = None,
    figure: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FILE")]] = None,
    json: bool = False,
) -> int:
    """List the networks, or show one with its layers and published results.

    Args:
        name: A network, a detector such as 'resnet18-fpn', a pattern such as 'resnet*' or '*-c4', or the name
            of learned weights. Default: all networks.
        weights: List learned weights instead, bundled and released ones, by name or network.
        image_px: Side of the input image in pixels, which sizes of maps and MACs are for. Default: the
            usual one of the network.
        figure: Draw the network into this file, .svg or .png; beside its plain twin where there is one.
        json: Print one JSON document.
    """
    is_of_weights = name in list_learned() or name in released_names()
    if weights or (name not in zoo.list_models() and is_of_weights):
        from deepresidual.cli.weights_table import list_weights

        for option, value in (("--image-px", image_px), ("--figure", figure)):
            if value is not None:
                raise ConfigurationError(f"{option} is given with --weights", expected="one of them")
        list_weights(name, json=json)
        return 0
    detectors = [] if zoo.list_models(name) else list_detectors(name)
    if detectors:
        from deepresidual.cli.detector_table import print_detectors

        if figure is not None:
            raise ConfigurationError(f"--figure is given for {detectors[0]}", expected="a network")
        print_detectors(detectors, image_px, json=json)
        return 0
    entries = [zoo.entry(found) for found in zoo.list_models(name)] or [zoo.entry(name)]
    rows = [_row(entry, entry.preprocess.crop_px if image_px is None else image_px) for entry in entries]
    if figure is not None:
        _draw(entries, figure, image_px)
        note(f"wrote {figure}")
    if json:
        print_json({"models": rows})
    elif len(rows) == 1:
        _print_one(rows[0], entries[0])
    else:
        if name == "*":
            from deepresidual.cli.weights_table import print_bundled

            print_bundled()
            print_line("Networks, to train or to begin with released weights of:")
        print_table(
            ("name", ">layers", ">parameters", ">MACs", ">input", ">error", "source"),
            (
                (
                    row["name"],
                    f"{row['layers']:,}",
                    f"{row['parameters']:,}",
                    f"{row['macs'] / 1e6:,.1f} M",
                    f"{row['input_px']} px",
                    _first_error(row["name"]),
                    row["source"],
                )
                for row in rows
            ),
        )
        print_line("Errors are top-1, as published; 'residual models NAME' says by which protocol, and more.")
        kinds = ", ".join(f"NETWORK-{kind}" for kind in KINDS)
        print_line(f"Each has detectors: {kinds}; such as 'residual models resnet18-fpn'.")
        print_line(
            f"Learned weights: 'residual models --weights' lists {len(bundled_names())} that come with "
            f"Residual and {num_released()} that are had by name."
        )
    return 0


def _draw(entries: list[zoo.ZooEntry], path: Path, input_px: int | None) -> None:
    if len(entries) > 1:
        raise ConfigurationError(
            f"{len(entries)} networks match", expected="one for a figure", remedy="give its full name"
        )
    from deepresidual.analysis.architecture_figure import draw_architecture

    draw_architecture(entries[0], path, input_px)


def _row(entry: zoo.ZooEntry, input_px: int) -> dict[str, Any]:
    spec = entry.spec
    table = stages(spec, input_px)
    return {
        "name": entry.name,
        "layers": spec.num_layers,
        "parameters": spec.num_parameters,
        "macs": sum(stage.num_macs for stage in table),
        "input_px": input_px,
        "num_classes": spec.num_classes,
        "source": entry.source,
        "spec": spec.to_dict(),
        "stages": [dataclasses.asdict(stage) for stage in table],
        "published": [_without_network(result) for result in published(entry.name)],
        "verified": [_without_network(comparison) for comparison in verified(entry.name)],
    }


def _without_network(value: Any) -> dict[str, Any]:
    fields = dataclasses.asdict(value)
    del fields["network"]
    return fields


def _first_error(name: str) -> str:
    first = next(iter(published(name)), None)
    return str(dataclasses.replace(first, top5_error=None)) if first else ""


def _print_one(row: dict[str, Any], entry: zoo.ZooEntry) -> None:
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
    if peculiarities := ", ".join(_peculiarities(entry)):
        print_line(f"  besides     {peculiarities}")
    print_line(f"  verified    {_verified(row['name'])}")
    if release := default_release(row["name"]):
        print_line(f"  weights     {release}; 'residual models {row['name']} --weights' lists all")
    print_table(
        ("stage", ">output", ">stride", "layers", ">parameters", ">MACs", "shortcut"),
        _layer_table(stages(entry.spec, row["input_px"])),
    )
    if results := published(row["name"]):
        print_table(
            ("published error", "data", "protocol", "source"),
            ((str(result), result.data, result.protocol, result.source) for result in results),
        )


def _peculiarities(entry: zoo.ZooEntry) -> Iterator[str]:
    """Yield the fields of the spec that differ from their defaults."""
    for field in dataclasses.fields(entry.spec):
        value = getattr(entry.spec, field.name)
        if field.name not in _SHOWN and value != field.default:
            yield f"{field.name.replace('_', ' ')} {value}"


def _verified(name: str) -> str:
    versions = dict.fromkeys(str(comparison) for comparison in verified(name))
    return f"against {', '.join(versions)}" if versions else "not yet compared with another library"


def _layer_table(table: tuple[Stage, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of the table; a stage has as many as its units have layers, like the paper's."""
    for stage in table:
        names = [stage.name, stage.paper_name]
        layers = list(stage.layers)
        if stage.num_units > 1:
            # The sign of repetition stands in the middle, a column behind the widest layer.
            width, middle = max(map(len, layers)), (len(layers) - 1) // 2
            layers[middle] = f"{layers[middle]:<{width}}  × {stage.num_units}"
        shortcuts = _shortcuts(stage.shortcuts)
        for line in range(max(len(layers), len(shortcuts))):
            first = line == 0
            yield (
                _at(names, line),
                f"{stage.output_px} × {stage.output_px}" if first else "",
                f"{stage.stride}" if first else "",
                _at(layers, line),
                f"{stage.num_parameters:,}" if first else "",
                f"{stage.num_macs / 1e6:,.1f} M" if first else "",
                _at(shortcuts, line),
            )
    parameters = sum(stage.num_parameters for stage in table)
    macs = sum(stage.num_macs for stage in table)
    yield ("total", "", "", "", f"{parameters:,}", f"{macs / 1e6:,.1f} M", "")


def _shortcuts(counts: Mapping[str, int]) -> list[str]:
    return [f"{count} {form}" for form, count in counts.items()]


def _at(texts: list[str], position: int) -> str:
    return texts[position] if position < len(texts) else ""
