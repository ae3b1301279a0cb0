"""What ``residual check`` prints of data with boxes: how many objects there are of what, and how large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.cli.output import print_line, print_table
from deepresidual.data.expectation import object_expectation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deepresidual.data.check_objects import ObjectCounts

# How many classes the table shows; --json has all.
_SHOWN = 20


def print_objects(objects: Mapping[str, ObjectCounts]) -> None:
    """Print a table of the splits, one of the classes, and what so many objects usually give."""
    columns = ("split", ">images", ">empty", ">objects", ">an image", ">crowd", ">difficult", ">side in px")
    print_table(
        columns,
        [
            (
                name,
                f"{counts.images:,}",
                f"{counts.empty:,}",
                f"{counts.objects:,}",
                f"{counts.objects / max(1, counts.images):.1f}",
                f"{counts.crowd:,}",
                f"{counts.difficult:,}",
                " · ".join(f"{side:.0f}" for side in counts.side_px),
            )
            for name, counts in objects.items()
        ],
    )
    if any(counts.masks for counts in objects.values()):
        parts = [
            f"{counts.masks:,} of {counts.objects - counts.crowd:,} in {name}"
            for name, counts in objects.items()
        ]
        print_line(f"objects with a mask: {', '.join(parts)}")
    _print_classes(objects)
    if "train" in objects:
        counts = objects["train"]
        print_line(f"train: {object_expectation(counts.images, list(counts.per_class.values()))}")


def _print_classes(objects: Mapping[str, ObjectCounts]) -> None:
    """Print the objects of every class in every split; of many classes the rarest."""
    first = next(iter(objects.values()))
    classes = list(first.per_class)
    if len(classes) > _SHOWN:
        classes = sorted(classes, key=lambda name: first.per_class[name])[: _SHOWN - 1]
    rows = [(name, *(f"{counts.per_class[name]:,}" for counts in objects.values())) for name in classes]
    if hidden := len(first.per_class) - len(classes):
        rows.append((f"and {hidden:,} classes with more", *("" for _ in objects)))
    print_table(("class", *(f">{name}" for name in objects)), rows)
