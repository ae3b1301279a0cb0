"""``residual data``: data sets from one form into another, as shards or as boxes of another format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line, print_table
from deepresidual.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.data.object_writer.losses import Format

__all__ = ["data"]

_OF_SHARDS = {"max_samples": 10_000, "max_mb": 1_000, "seed": 0}


def data(
    action: Annotated[tyro.conf.Positional[Literal["shard", "convert"]], tyro.conf.arg(metavar="ACTION")],
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")],
    destination: Annotated[tyro.conf.Positional[LocalPath], tyro.conf.arg(metavar="OUT")],
    /,
    *,
    to: Maybe[Literal["coco", "voc", "yolo"]] = None,
    link: bool = False,
    max_samples: Maybe[int] = None,
    max_mb: Maybe[int] = None,
    seed: Maybe[int] = None,
    in_order: bool = False,
    json: bool = False,
) -> int:
    """Write a data set in another form: as shards, or its boxes in the layout of another format.

    The files of the images stay as they are.

    Args:
        action: 'shard' writes tar files in the layout of WebDataset; 'convert' writes boxes and masks in the
            layout of COCO, Pascal VOC or YOLO.
        source: A data set, as for 'residual train'.
        destination: The folder to write; new or empty. It comes to be whole or not at all.
        to: Of 'convert': the format. What it cannot hold is said before anything is written.
        link: Of 'convert': link the files of images (hard links) instead of copying them, where the file
            system can.
        max_samples: Of 'shard': samples in a shard at most. Default: 10,000.
        max_mb: Of 'shard': megabytes in a shard at most. Default: 1,000.
        seed: Of 'shard': decides the order of the samples. Default: 0.
        in_order: Of 'shard': keep the order of the data set instead.
        json: Print one JSON document.
    """
    given = {"max_samples": max_samples, "max_mb": max_mb, "seed": seed}
    foreign = (
        [name for name, value in given.items() if value is not None] + ["in_order"] * in_order
        if action == "convert"
        else ["to"] * (to is not None) + ["link"] * link
    )
    if foreign:
        other = "shard" if action == "convert" else "convert"
        raise ConfigurationError(
            f"residual data {action} has no option --{foreign[0].replace('_', '-')}",
            remedy=f"it is one of 'residual data {other}'",
        )
    if action == "convert":
        if to is None:
            raise ConfigurationError("there is no format to convert to", expected="--to coco, voc or yolo")
        return _convert(source, destination, to, link=link, json=json)
    filled = {name: _OF_SHARDS[name] if value is None else value for name, value in given.items()}
    return _shard(source, destination, filled, in_order=in_order, json=json)


def _shard(source: str, destination: Path, options: dict[str, int], *, in_order: bool, json: bool) -> int:
    """Write shards."""
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
            max_samples=options["max_samples"],
            max_mb=options["max_mb"],
            seed=None if in_order else options["seed"],
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


def _convert(source: str, destination: Path, to: Format, *, link: bool, json: bool) -> int:
    """Write boxes in another format."""
    from deepresidual.data.object_writer.conversion import plan_conversion, write_conversion
    from deepresidual.data.source import open_source
    from deepresidual.runtime.console import ProgressBar, note, warn, warn_each
    from deepresidual.runtime.files import refuse_filled

    refuse_filled(destination)
    opened = open_source(source)
    warn_each(opened.ignored)
    total = sum(len(split) for split in opened.splits.values())
    with ProgressBar(total, label="reading") as bar:
        conversion = plan_conversion(opened, to, lambda done: bar.update(done, "images"))
    for loss in conversion.losses:
        warn(loss)
    for sentence in conversion.notes:
        note(sentence)
    with ProgressBar(conversion.num_images, label="writing") as bar:
        linked = write_conversion(
            conversion, destination, link=link, on_image=lambda done: bar.update(done, "images")
        )
    rows = [
        (name, len(split), conversion.num_objects.get(name, 0)) for name, split in conversion.parts.items()
    ]
    if json:
        print_json(
            {
                "data": source,
                "destination": str(destination),
                "to": to,
                "classes": list(conversion.classes),
                "splits": [
                    {"split": name, "images": images, "objects": objects} for name, images, objects in rows
                ],
                "linked": linked,
                "losses": list(conversion.losses),
                "notes": list(conversion.notes),
            }
        )
        return 0
    print_table(
        ("split", ">images", ">objects"),
        [(name or "no splits", f"{images:,}", f"{objects:,}") for name, images, objects in rows],
    )
    print_line(f"wrote {destination}")
    return 0
