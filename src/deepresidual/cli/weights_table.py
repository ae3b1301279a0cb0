"""The table of ``residual models --weights``: learned weights that come along or are to be had by name."""

from __future__ import annotations

import fnmatch
from typing import Any

from deepresidual import zoo
from deepresidual.cli.output import print_json, print_line, print_table
from deepresidual.conversion.hub import HubId
from deepresidual.errors import UnknownNameError
from deepresidual.models import bundled
from deepresidual.models.conversions import needs_no_network
from deepresidual.models.source import CONFIG, WEIGHTS, ModelSource
from deepresidual.runtime.strict_json import read_object
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.released import ReleasedWeights, list_released, released, released_names

__all__ = ["list_weights", "print_bundled"]


def list_weights(pattern: str, *, json: bool) -> None:
    """Print the weights whose name, alias or network matches the shell ``pattern``.

    Raises:
        UnknownNameError: There are none.
    """
    rows = [row for row in _rows() if any(fnmatch.fnmatchcase(name, pattern) for name in row["names"])]
    if not rows:
        names = [*bundled.names(), *released_names()]
        raise UnknownNameError("weights", pattern, names, remedy="list all with 'residual models --weights'")
    if json:
        print_json({"weights": [{key: row[key] for key in row if key != "names"} for row in rows]})
        return
    print_table(
        ("name", "network", "trained on", "licence", ">top-1", ">at", ">size", "here"),
        [
            (
                row["name"],
                row["network"],
                row["data"],
                row["licence"] or "none recorded",
                _accuracy(row),
                f"{row['input_px']} px",
                f"{row['bytes'] / 1e6:,.0f} MB" if row["bytes"] >= 1e6 else f"{row['bytes'] / 1e6:.1f} MB",
                "yes" if row["here"] else "",
            )
            for row in rows
        ],
    )
    print_line(
        "Top-1 as published, at this size of image; of weights without a classifier (dino, swav and others) "
        "that of a linear one. AP: of a detector's boxes, on COCO val2017."
    )
    print_line("CC-BY-NC-4.0 forbids commercial use; such weights are taken only by their full name.")
    if all(row["source"] == "bundled" for row in rows):
        print_line("'residual predict NAME PHOTO' names what is in photos, without a network.")
        return
    print_line("'residual fetch NAME' fetches, 'residual train PHOTOS --weights NAME' trains from them.")


def print_bundled() -> None:
    """Print the models that come with Residual, by what they tell apart."""
    print_line("Trained models that come with Residual ('residual predict NAME PHOTO', without a network):")
    print_table(
        ("name", ">classes", "trained on", ">top-1", ">at"),
        [
            (
                row["name"],
                str(row["num_classes"]),
                row["data"],
                "" if row["top1"] is None else f"{row['top1']:.2%}",
                f"{row['input_px']} px",
            )
            for row in map(_bundled, bundled.names())
        ],
    )


def _accuracy(row: dict[str, Any]) -> str:
    if row["box_ap"] is not None:
        return f"AP {row['box_ap']:.1%}"
    return "" if row["top1"] is None else f"{row['top1']:.2%}"


def _rows() -> list[dict[str, Any]]:
    """Return the bundled models, then the released weights."""
    return [*map(_bundled, bundled.names()), *(_released(released(name)) for name in list_released())]


def _bundled(name: str) -> dict[str, Any]:
    folder = bundled.folder_of(name)
    assert folder is not None  # noqa: S101  # for mypy
    config = read_object(folder / CONFIG)["residual"]
    network = zoo.name_of(ResNetSpec.from_dict(config["spec"])) or "custom"
    figures: dict[str, float] = next(iter(config["metrics"].values()), {})
    return {
        "names": [name, network],
        "name": name,
        "network": network,
        "data": str(config["provenance"].get("data", "")).partition(" (")[0],
        "licence": "Apache-2.0",
        "commercial": "yes",
        "top1": figures.get("top1"),
        "top5": figures.get("top5"),
        "box_ap": None,
        "mask_ap": None,
        "input_px": config["preprocess"]["crop_px"],
        "num_classes": config["spec"]["num_classes"],
        "bytes": (folder / WEIGHTS).stat().st_size,
        "here": True,
        "source": "bundled",
        "hub_id": "",
        "url": "",
        "aliases": [],
        "paper": "",
        "note": "",
    }


def _released(row: ReleasedWeights) -> dict[str, Any]:
    where = HubId(row.hub_id) if row.hub_id else None
    return {
        "names": [row.name, row.network, *row.aliases],
        "name": row.name,
        "network": row.network,
        "data": row.data,
        "licence": row.licence,
        "commercial": row.commercial,
        "top1": None if row.top1 is None else round(row.top1 / 100, 5),
        "top5": None if row.top5 is None else round(row.top5 / 100, 5),
        "box_ap": None if row.box_ap is None else round(row.box_ap / 100, 5),
        "mask_ap": None if row.mask_ap is None else round(row.mask_ap / 100, 5),
        "input_px": row.preprocess.crop_px,
        "num_classes": row.num_classes,
        "bytes": row.num_bytes,
        "here": needs_no_network(ModelSource(row.name, "released", None, where, row.url, row)),
        "source": row.source,
        "hub_id": row.hub_id,
        "url": row.url,
        "aliases": list(row.aliases),
        "paper": row.paper,
        "note": row.note,
    }
