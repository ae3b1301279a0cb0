"""``residual models`` of detectors: the list of them, or one with its levels and anchors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepresidual import zoo
from deepresidual.cli.output import print_json, print_line, print_table
from deepresidual.zoo.detectors import backbone_name, detector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deepresidual.spec import DetectorSpec

__all__ = ["print_detectors"]

_ABOUT = {
    "c4": "Faster R-CNN as He et al. 2015 have it (appendix A): the last stage is the head of each region",
    "fpn": "Faster R-CNN with a feature pyramid (Lin et al. 2017), as torchvision has it",
    "fpn-slim": "a feature pyramid for CPUs: a quarter as wide, few regions, small anchors",
    "fpn-tiny": "fpn-slim on half the width, to be trained from nothing on a CPU",
}
# Classes that parameters are counted for: of COCO, and of the digits.
_CLASSES, _SMALL_CLASSES = 80, 10
_PX, _SMALL_PX = 800, 64


def print_detectors(names: Sequence[str], image_px: int | None, *, json: bool) -> None:
    """Print some detectors, or all there is to say of one.

    Args:
        names: Names of detectors.
        image_px: Side of a square image; ``None``: the usual one.
        json: Whether to print a JSON document.
    """
    rows = [_row(name, image_px) for name in names]
    if json:
        print_json({"models": [{key: value for key, value in row.items() if key != "value"} for row in rows]})
    elif len(rows) == 1:
        _print_one(rows[0])
    else:
        print_table(
            ("name", ">parameters", ">MACs", ">input", ">levels", ">anchors"),
            (
                (
                    row["name"],
                    f"{row['parameters']:,}",
                    f"{row['macs'] / 1e6:,.1f} M",
                    f"{row['input_px']} px",
                    f"{len(row['levels'])}",
                    f"{sum(level['num_anchors'] for level in row['levels']):,}",
                )
                for row in rows
            ),
        )
        print_line(
            "'residual models NAME' shows one with its levels; 'residual train DATA --model NAME' trains it."
        )


def _row(name: str, image_px: int | None) -> dict[str, Any]:
    network = zoo.entry(backbone_name(name))
    is_small = network.spec.stem == "cifar"
    num_classes = _SMALL_CLASSES if is_small else _CLASSES
    spec = detector(name, num_classes)
    side = image_px or (_SMALL_PX if is_small else _PX)
    return {
        "name": name,
        "network": network.name,
        "about": _ABOUT[name.removeprefix(f"{network.name}-")],
        "parameters": spec.num_parameters,
        "macs": spec.num_macs(side),
        "backbone_macs": spec.backbone.num_macs(side),
        "input_px": side,
        "num_classes": num_classes,
        "levels": list(_levels(spec, side)),
        "spec": spec.to_dict(),
        "value": spec,
    }


def _levels(spec: DetectorSpec, side: int) -> Iterator[dict[str, Any]]:
    extra = [f"half of {spec.read_stages[-1]}"] if spec.num_levels > len(spec.read_stages) else []
    for name, stride, sizes in zip(
        (*spec.read_stages, *extra), spec.strides, spec.anchors.sizes, strict=True
    ):
        map_px = -(-side // stride)
        yield {
            "name": name,
            "stride": stride,
            "map_px": map_px,
            "anchor_px": list(sizes),
            "num_anchors": map_px**2 * spec.num_anchors,
        }


def _print_one(row: dict[str, Any]) -> None:
    spec: DetectorSpec = row["value"]
    regions, found = spec.regions, spec.detections
    pooling = "RoI pooling" if regions.pooling == "pool" else "RoIAlign"
    head = f"two layers of {regions.hidden:,}" if spec.neck == "fpn" else spec.backbone.stage_names[-1]
    print_line(f"{row['name']}: {row['about']}")
    print_line(f"  network     {row['network']}")
    print_line(f"  parameters  {row['parameters']:,} ({row['num_classes']} classes)")
    print_line(f"  MACs        {row['macs']:,} at {row['input_px']} px")
    if spec.neck == "fpn":
        print_line(f"  pyramid     {spec.fpn_channels} channels")
    ratios = ", ".join(f"{ratio:g}" for ratio in spec.anchors.ratios)
    print_line(f"  anchors     {spec.num_anchors} at each place, height to width {ratios}")
    print_line(f"  proposals   {spec.proposals.after_nms:,} an image, NMS at {spec.proposals.nms_iou:g}")
    print_line(f"  regions     {pooling} to {regions.bins} × {regions.bins}, then {head}")
    print_line(
        f"  detections  {found.most} an image at most, scores from {found.min_score:g} on, "
        f"NMS at {found.nms_iou:g}"
    )
    print_table(
        ("level", ">stride", ">map", ">anchors of", ">anchors"),
        (
            (
                level["name"],
                f"{level['stride']}",
                f"{level['map_px']} × {level['map_px']}",
                ", ".join(f"{size:g}" for size in level["anchor_px"]) + " px",
                f"{level['num_anchors']:,}",
            )
            for level in row["levels"]
        ),
    )
    print_line(f"Train it on your boxes: 'residual train DATA --model {row['name']}'.")
