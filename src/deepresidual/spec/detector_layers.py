"""The layers of a detector behind its backbone, and what they cost: parameters and multiply-adds.

Told from the spec alone, in the order of computation, as :mod:`deepresidual.spec.layers` does for networks.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepresidual.spec.detector import DetectorSpec


@dataclass(frozen=True)
class _Layer:
    """A layer behind the backbone.

    Attributes:
        outputs: Its channels.
        inputs: Those that it reads.
        kernel_px: Side of its kernel.
        norm: Whether BN takes the place of its bias.
    """

    outputs: int
    inputs: int
    kernel_px: int
    norm: bool = False

    @property
    def macs_a_place(self) -> int:
        """Multiply-adds for a place of its map."""
        return self.outputs * self.inputs * self.kernel_px**2

    @property
    def num_parameters(self) -> int:
        """Learned numbers: weights, and a bias or BN's two vectors."""
        return self.macs_a_place + self.outputs * (2 if self.norm else 1)


def num_parameters(spec: DetectorSpec) -> int:
    """Return the number of learned parameters, in closed form."""
    backbone = dataclasses.replace(spec.backbone, num_classes=0)
    return backbone.num_parameters + sum(
        layer.num_parameters for layer in (*_own_layers(spec), *_mask_layers(spec))
    )


def num_macs(spec: DetectorSpec, input_px: int) -> int:
    """Return the multiply-adds for a square image of ``input_px``, as many regions as there can be."""
    of_head = spec.read_stages[-1] != spec.backbone.stage_names[-1]
    shared = [
        layer
        for layer in dataclasses.replace(spec.backbone, num_classes=0).layers(input_px)
        if not (of_head and layer.name.startswith(f"{spec.backbone.stage_names[-1]}."))
    ]
    sides = [
        next(layer.out_px for layer in reversed(shared) if layer.name.startswith(f"{stage}."))
        for stage in spec.read_stages
    ]
    if spec.num_levels > len(sides):
        sides.append(-(-sides[-1] // 2))
    layers = [layer.macs_a_place for layer in _own_layers(spec)]
    lateral = 2 * spec.fpn_stages if spec.neck == "fpn" else 0
    proposals = lateral + spec.rpn_convs + 2
    convs = proposals + spec.regions.convs
    a_region = sum(layers[proposals:convs]) * spec.regions.bins**2 + sum(layers[convs:])
    a_region += _last_stage_macs(spec) if of_head else 0
    return (
        sum(layer.num_macs for layer in shared)
        + sum(layers[number] * sides[number // 2] ** 2 for number in range(lateral))
        + sum(layers[lateral:proposals]) * sum(side**2 for side in sides)
        + spec.proposals.after_nms * a_region
        + spec.detections.most * _mask_macs(spec)
    )


def _mask_macs(spec: DetectorSpec) -> int:
    """Return the multiply-adds for the mask of an object."""
    if spec.masks is None:
        return 0
    layers, bins = _mask_layers(spec), spec.mask_bins
    total = sum(layer.macs_a_place for layer in layers[:-1]) * bins**2
    total += layers[-1].macs_a_place * spec.mask_px**2
    return total + (_last_stage_macs(spec) if spec.neck == "c4" else 0)


def _last_stage_macs(spec: DetectorSpec) -> int:
    """Return the multiply-adds of the last stage for a region."""
    px, total = spec.regions.bins, 0
    for unit in spec.backbone.units():
        if unit.stage == spec.backbone.stage_names[-1]:
            total += sum(layer.num_macs for layer in spec.backbone.unit_layers(unit, px))
            px = -(-px // unit.stride)
    return total


def _own_layers(spec: DetectorSpec) -> list[_Layer]:
    """Return every layer behind the backbone but those of the masks, in order."""
    widths, layers = spec.backbone.widths, list[_Layer]()
    if spec.neck == "fpn":
        for width in widths[-spec.fpn_stages :]:
            layers += [
                _Layer(spec.fpn_channels, width * spec.backbone.expansion, 1, spec.fpn_norm),
                _Layer(spec.fpn_channels, spec.fpn_channels, 3, spec.fpn_norm),
            ]
    inputs = spec.map_channels
    for _ in range(spec.rpn_convs):
        outputs = spec.fpn_channels if spec.neck == "fpn" else spec.rpn_channels
        layers.append(_Layer(outputs, inputs, 3))
        inputs = outputs
    layers += [_Layer(spec.num_anchors, inputs, 1), _Layer(4 * spec.num_anchors, inputs, 1)]
    features = spec.backbone.out_channels
    if spec.neck == "fpn":
        features, width = spec.regions.hidden, spec.fpn_channels
        layers += [_Layer(width, width, 3, norm=True)] * spec.regions.convs
        layers.append(_Layer(features, width * spec.regions.bins**2, 1))
        layers += [] if spec.regions.convs else [_Layer(features, features, 1)]
    rows = spec.num_classes + 1
    return [*layers, _Layer(rows, features, 1), _Layer(4 * rows, features, 1)]


def _mask_layers(spec: DetectorSpec) -> list[_Layer]:
    """Return every layer of the masks, in order."""
    if spec.masks is None:
        return []
    inputs = spec.backbone.out_channels if spec.neck == "c4" else spec.fpn_channels
    widths = [inputs, *[spec.masks.channels] * spec.masks.convs]
    layers = [_Layer(after, before, 3, spec.masks.norm) for before, after in itertools.pairwise(widths)]
    layers.append(_Layer(spec.masks.channels, widths[-1], 2))
    return [*layers, _Layer(spec.num_classes + 1, spec.masks.channels, 1)]
