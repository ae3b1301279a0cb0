"""Names and rows of a detector's tensors in detectron2, by their names here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from torch import Tensor

from deepresidual.conversion.region_rows import rows_there
from deepresidual.conversion.translation import Rule
from deepresidual.spec import DetectorSpec, Neck

RPN = "proposal_generator.rpn_head."
PREDICTOR = "roi_heads.box_predictor."

# Parts of a backbone: torchvision's name → detectron2's.
_PARTS = {
    **{f"conv{number}": f"conv{number}" for number in (1, 2, 3)},
    **{f"bn{number}": f"conv{number}.norm" for number in (1, 2, 3)},
    "downsample.0": "shortcut",
    "downsample.1": "shortcut.norm",
}
_OURS = {theirs: ours for ours, theirs in _PARTS.items()}
_UNIT = re.compile(r"layer(\d)\.(\d+)\.(.+)\.(\w+)")
_THEIR_UNIT = re.compile(r"res(\d)\.(\d+)\.(.+)\.(\w+)")


def body_prefix(neck: Neck) -> str:
    """Return what stands before the names of the backbone."""
    return "backbone.bottom_up." if neck == "fpn" else "backbone."


def of_last(name: str) -> str:
    """Return the name inside the backbone of a tensor of C4's head, its last stage; nothing for others."""
    return name.removeprefix("roi_heads.") if name.startswith("roi_heads.res5.") else ""


def to_ours(name: str) -> str:
    """Return torchvision's name of a tensor of a backbone; nothing for what is none."""
    if name.startswith("stem.conv1."):
        rest = name.removeprefix("stem.conv1.")
        return f"bn1.{rest.removeprefix('norm.')}" if rest.startswith("norm.") else f"conv1.{rest}"
    if not (match := _THEIR_UNIT.fullmatch(name)):
        return ""
    stage, unit, part, value = match.groups()
    return f"layer{int(stage) - 1}.{unit}.{_OURS.get(part, part)}.{value}"


def _body_name(name: str, spec: DetectorSpec) -> str:
    """Return detectron2's name of a tensor of the backbone."""
    prefix = body_prefix(spec.neck)
    if not (match := _UNIT.fullmatch(name)):
        return f"{prefix}stem.{name}" if name.startswith("conv1") else f"{prefix}stem.conv1.norm.{name[4:]}"
    stage, unit, part, value = match.groups()
    is_head = spec.neck == "c4" and f"layer{stage}" == spec.backbone.stage_names[-1]
    return f"{'roi_heads.' if is_head else prefix}res{int(stage) + 1}.{unit}.{_PARTS[part]}.{value}"


def _heads(spec: DetectorSpec) -> list[tuple[str, Callable[[re.Match[str]], str]]]:
    """Return for each name behind the backbone its pattern here and what it is there."""
    strides = spec.backbone.stage_strides[-spec.fpn_stages :]
    single, convs = spec.rpn_convs == 1, spec.regions.convs

    def of_level(kind: str) -> Callable[[re.Match[str]], str]:
        return lambda m: f"backbone.fpn_{kind}{round(math.log2(strides[int(m[1])]))}{_norm(m[2])}.{m[3]}"

    return [
        (r"backbone\.fpn\.inner_blocks\.(\d+)\.([01])\.(\w+)", of_level("lateral")),
        (r"backbone\.fpn\.layer_blocks\.(\d+)\.([01])\.(\w+)", of_level("output")),
        (
            r"rpn\.head\.conv\.(\d+)\.0\.(\w+)",
            lambda m: f"{RPN}conv.{m[2]}" if single else f"{RPN}conv.conv{m[1]}.{m[2]}",
        ),
        (r"rpn\.head\.cls_logits\.(\w+)", lambda m: f"{RPN}objectness_logits.{m[1]}"),
        (r"rpn\.head\.bbox_pred\.(\w+)", lambda m: f"{RPN}anchor_deltas.{m[1]}"),
        (r"roi_heads\.box_head\.fc([67])\.(\w+)", lambda m: f"roi_heads.box_head.fc{int(m[1]) - 5}.{m[2]}"),
        (
            r"roi_heads\.box_head\.(\d+)\.([01])\.(\w+)",
            lambda m: f"roi_heads.box_head.conv{int(m[1]) + 1}{_norm(m[2])}.{m[3]}",
        ),
        # Behind the convolutions a layer that flattens has a number.
        (rf"roi_heads\.box_head\.{convs + 1}\.(\w+)", lambda m: f"roi_heads.box_head.fc1.{m[1]}"),
        (r"roi_heads\.box_predictor\.(\w+\.\w+)", lambda m: f"{PREDICTOR}{m[1]}"),
        (
            r"roi_heads\.mask_head\.(\d+)\.([01])\.(\w+)",
            lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}{_norm(m[2])}.{m[3]}",
        ),
        (r"roi_heads\.mask_predictor\.conv5_mask\.(\w+)", lambda m: f"roi_heads.mask_head.deconv.{m[1]}"),
        (
            r"roi_heads\.mask_predictor\.mask_fcn_logits\.(\w+)",
            lambda m: f"roi_heads.mask_head.predictor.{m[1]}",
        ),
    ]


def _norm(place: str) -> str:
    return ".norm" if place == "1" else ""


def rule_of(name: str, spec: DetectorSpec, there: Mapping[str, Tensor]) -> Rule:
    """Return where a tensor comes from, and in which order its rows."""
    if name.startswith("backbone.body."):
        return Rule(name, _body_name(name.removeprefix("backbone.body."), spec))
    source = next(
        make(match) for pattern, make in _heads(spec) if (match := re.fullmatch(pattern, name)) is not None
    )
    return Rule(name, source, rows=rows_there(name, spec, there.get(source), sizes_first=True))
