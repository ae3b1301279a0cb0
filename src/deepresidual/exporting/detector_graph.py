"""A detector as one ONNX graph: an image → boxes, labels, scores and masks of its objects.

Layers come from ``torch.onnx.export`` (:mod:`.detector_parts`); what chooses boxes is built here of ONNX's
own operators, in the order and with the arithmetic of :mod:`deepresidual.nn.detection`:

    pixels → trunk → of each level the best anchors, decoded, clipped, suppressed → proposals
      → RoIAlign or RoI pooling on the level of their size → scores and codes of every class
      → decoded, clipped, suppressed class by class → the best → their masks

``TopK`` takes the lower index of equal scores first, as its specification says, so the order is by (−score,
place) throughout, as in PyTorch. ``NonMaxSuppression`` suppresses from above the threshold on, as
torchvision's does, and a score of −1 keeps what is too small out of it. There are no loops and no
conditions, and no operators of other domains than ONNX's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript

from deepresidual.exporting.graph_parts import Value, put_in, scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from deepresidual.nn.detection.boxes import BoxWeights
    from deepresidual.preprocess import Preprocess
    from deepresidual.spec import DetectorSpec, Regions

OPSET = 18
_IR_VERSION = 8  # the one that came with the opset

_INT64, _FLOAT = (ir.DataType[name].value for name in ("INT64", "FLOAT"))
_NO_WEIGHTS: BoxWeights = (1.0, 1.0, 1.0, 1.0)
_TOO_SMALL = -1.0
# torchvision's: a region of 224 px is read at stride 16, with a margin against rounding.
_USUAL_PX, _USUAL_EXPONENT, _MARGIN = 224.0, 4, 1e-6


@dataclass(frozen=True)
class Parts:
    """The layers of a detector, exported.

    Attributes:
        trunk: ``(1, C, H, W)`` → maps of the regions; logits, and codes, of the anchors of each level.
        region_head: Pooled regions → scores and codes.
        masks: Pooled regions → logits of their masks; ``None`` of a detector of boxes.
    """

    trunk: ir.Model
    region_head: ir.Model
    masks: ir.Model | None


class _Size(NamedTuple):
    """Height and width, int64 scalars of the graph."""

    rows: Value
    columns: Value


def detector_model(
    spec: DetectorSpec, preprocess: Preprocess, parts: Parts, around: Sequence[NDArray[np.float32]]
) -> onnx.ModelProto:
    """Build the graph of a detector.

    Args:
        spec: The detector.
        preprocess: The record whose normalization becomes part of it.
        parts: Its layers.
        around: The anchors of a place on each level, around (0, 0), ``(a, 4)``.

    Returns:
        A model of opset 18 from ``pixels`` uint8 ``(height, width, C)`` of any size to ``boxes`` float32
        ``(objects, 4)`` in pixels of the input, ``labels`` int64, ``scores`` float32, and of a detector with
        masks ``masks`` float32 ``(objects, m, m)``; the surest first.
    """
    pixels = ir.val("pixels", ir.DataType.UINT8, ["height", "width", preprocess.num_channels])
    graph = ir.Graph([pixels], [], nodes=[], opset_imports={"": OPSET}, name="detector")
    builder = onnxscript.GraphBuilder(graph)
    op: Any = builder.op
    with scope(op, "image"):
        image, size, padded = _image(op, pixels, spec, preprocess)
    outputs = put_in(op, parts.trunk, [image], "trunk")
    num_maps, num_levels = len(spec.read_stages), spec.num_levels
    maps, logits, codes = (
        outputs[first:last]
        for first, last in (
            (0, num_maps),
            (num_maps, num_maps + num_levels),
            (num_maps + num_levels, num_maps + 2 * num_levels),
        )
    )
    with scope(op, "proposals"):
        shapes = _map_sizes(op, spec, maps)
        levels = list(zip(logits, codes, shapes, around, strict=True))
        regions = _proposals(op, spec, levels, size, padded)
    with scope(op, "regions"):
        scores, region_codes = _by_level(
            op,
            spec,
            maps,
            regions,
            spec.regions,
            lambda pooled: put_in(op, parts.region_head, [pooled], "head"),
        )
        boxes, labels, sure = _detections(op, spec, scores, region_codes, regions, size)
    found: dict[str, tuple[Value, ir.DataType, list[int | str]]] = {
        "boxes": (boxes, ir.DataType.FLOAT, ["objects", 4]),
        "labels": (labels, ir.DataType.INT64, ["objects"]),
        "scores": (sure, ir.DataType.FLOAT, ["objects"]),
    }
    if parts.masks is not None:
        with scope(op, "masks"):
            masks = _masks(op, spec, parts.masks, maps, boxes, labels)
        found["masks"] = (masks, ir.DataType.FLOAT, ["objects", spec.mask_px, spec.mask_px])
    for name, (value, dtype, shape) in found.items():
        value.type, value.shape = ir.TensorType(dtype), ir.Shape(shape)
        builder.add_output(value, name)
    return ir.to_proto(ir.Model(graph, ir_version=_IR_VERSION))


def _image(op: Any, pixels: Value, spec: DetectorSpec, record: Preprocess) -> tuple[Value, _Size, _Size]:
    """Normalize an image, then pad it with zeros to whole pixels after every stride."""
    mean, std = (
        ir.tensor((np.array(values, np.float32) * np.float32(255)).astype(np.float32), name=name)
        for name, values in (("mean", record.mean), ("std", record.std))
    )
    normal = (op.Cast(pixels, to=_FLOAT) - mean) / std
    image = op.Transpose(op.Unsqueeze(normal, [0]), perm=[0, 3, 1, 2])
    multiple = spec.size_divisor or max(spec.backbone.stage_strides)
    sides = op.Shape(pixels, end=2)
    whole = (sides + (multiple - 1)) / multiple * multiple
    image = op.Pad(image, op.Concat([0, 0, 0, 0, 0, 0], whole - sides, axis=0))
    size, padded = (_Size(*(op.Gather(both, axis, axis=0) for axis in (0, 1))) for both in (sides, whole))
    return image, size, padded


# -- proposals -----------------------------------------------------------------------------------------------


def _map_sizes(op: Any, spec: DetectorSpec, maps: Sequence[Value]) -> list[_Size]:
    """Return the size of the map of each level; one beyond the pyramid's has half of the last, rounded up."""
    sizes = []
    for features in maps:
        shape = op.Shape(features, start=2)
        sizes.append(_Size(*(op.Gather(shape, axis, axis=0) for axis in (0, 1))))
    if spec.num_levels > len(sizes):
        sizes.append(_Size(*((side + 1) / 2 for side in sizes[-1])))
    return sizes


def _proposals(
    op: Any,
    spec: DetectorSpec,
    levels: Sequence[tuple[Value, Value, _Size, NDArray[np.float32]]],
    size: _Size,
    padded: _Size,
) -> Value:
    """Return the proposals ``(k, 4)``, the best first, as :class:`ProposalNetwork` makes them."""
    settings = spec.proposals
    boxes, scores = [], []
    for number, (logits, codes, shape, around) in enumerate(levels):
        with scope(op, f"level{number}"):
            best, places = _best(op, logits, settings.before_nms)
            stride = spec.strides[number] if spec.anchors.exact else None
            apart = tuple(stride or whole / side for whole, side in zip(padded, shape, strict=True))
            anchors = _anchors_at(op, places, shape, _Size(*apart), around)
            found = _clipped(op, _decoded(op, op.Gather(codes, places), anchors, _NO_WEIGHTS), size)
            score = op.Sigmoid(best)
            kept = _suppressed(
                op,
                op.Unsqueeze(op.Concat(*found, axis=1), [0]),
                op.Unsqueeze(_score_of_large(op, score, found, settings.min_px), [0, 1]),
                settings.nms_iou,
                settings.before_nms,
                _TOO_SMALL / 2,
            )
            kept = op.Gather(kept, 2, axis=1)
            boxes.append(op.Gather(op.Concat(*found, axis=1), kept))
            scores.append(op.Gather(score, kept))
    all_boxes, all_scores = (
        values[0] if len(values) == 1 else op.Concat(*values, axis=0) for values in (boxes, scores)
    )
    _, order = _best(op, all_scores, settings.after_nms)
    return op.Gather(all_boxes, order)


def _anchors_at(
    op: Any, places: Value, shape: _Size, apart: _Size, around: NDArray[np.float32]
) -> tuple[Value, ...]:
    """Return the edges ``(k, 1)`` of anchors by their number: rows, columns, then those of a place."""
    count = len(around)
    kinds, cells = places - places / count * count, places / count
    row = cells / shape.columns
    column = cells - row * shape.columns
    y, x = (
        op.Unsqueeze(op.Cast(cell * step, to=_FLOAT), [1])
        for cell, step in ((row, apart.rows), (column, apart.columns))
    )
    edges = _edges(op, op.Gather(ir.tensor(around, name="anchors"), kinds))
    return edges[0] + x, edges[1] + y, edges[2] + x, edges[3] + y


# -- boxes ---------------------------------------------------------------------------------------------------


def _edges(op: Any, boxes: Value) -> tuple[Value, ...]:
    """Return the four columns of ``(..., 4)``, each ``(..., 1)``."""
    return tuple(op.Split(boxes, axis=-1, num_outputs=4, _outputs=4))


def _decoded(op: Any, codes: Value, anchors: tuple[Value, ...], weights: BoxWeights) -> tuple[Value, ...]:
    """Return the edges of boxes as :func:`deepresidual.nn.detection.boxes.decode` does."""
    from deepresidual.nn.detection.boxes import MAX_LOG_RATIO

    left, top, right, bottom = anchors
    width, height = right - left, bottom - top
    x, y = left + width * 0.5, top + height * 0.5
    dx, dy, dw, dh = (
        code if weight == 1 else code / float(weight)
        for code, weight in zip(_edges(op, codes), weights, strict=True)
    )
    half_width, half_height = (
        op.Exp(op.Min(change, MAX_LOG_RATIO)) * side * 0.5 for change, side in ((dw, width), (dh, height))
    )
    center_x, center_y = dx * width + x, dy * height + y
    return center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height


def _clipped(op: Any, edges: tuple[Value, ...], size: _Size) -> tuple[Value, ...]:
    """Return edges within the image."""
    height, width = (op.Cast(side, to=_FLOAT) for side in size)
    limits = (width, height, width, height)
    return tuple(op.Min(op.Max(edge, 0.0), limit) for edge, limit in zip(edges, limits, strict=True))


def _score_of_large(op: Any, scores: Value, edges: tuple[Value, ...], min_px: float) -> Value:
    """Return the scores of boxes whose sides are at least so long; of others one below every threshold."""
    left, top, right, bottom = edges
    enough = float(np.float32(min_px))
    is_large = op.And(op.GreaterOrEqual(right - left, enough), op.GreaterOrEqual(bottom - top, enough))
    return op.Where(op.Squeeze(is_large, [-1]), scores, _TOO_SMALL)


def _suppressed(op: Any, boxes: Value, scores: Value, max_iou: float, most: int, min_score: float) -> Value:
    """Return ``(n, 3)`` int64: group, 0 and place of the boxes that no better one of their group suppresses.

    Args:
        op: The builder's operators.
        boxes: ``(groups, n, 4)``.
        scores: ``(groups, 1, n)``.
        max_iou: Overlap above which the worse of two goes.
        most: How many of a group remain at most.
        min_score: Score above which a box is one.
    """
    threshold = np.float32(max_iou)
    if threshold > max_iou:  # torchvision compares in double precision
        threshold = np.nextafter(threshold, np.float32(0))
    return op.NonMaxSuppression(
        boxes,
        scores,
        ir.tensor(np.array([most], np.int64), name="most"),
        ir.tensor(np.array([threshold], np.float32), name="max_iou"),
        ir.tensor(np.array([min_score], np.float32), name="min_score"),
    )


def _best(op: Any, scores: Value, most: int) -> tuple[Value, Value]:
    """Return the ``most`` highest of ``(n,)`` scores and their places, sorted by (−score, place)."""
    count = op.Min(op.Shape(scores), ir.tensor(np.array([most], np.int64), name=f"most_{most}"))
    highest, places = op.TopK(scores, count, axis=0, largest=1, sorted=1, _outputs=2)
    return highest, places


# -- regions -------------------------------------------------------------------------------------------------


def _by_level(
    op: Any,
    spec: DetectorSpec,
    maps: Sequence[Value],
    boxes: Value,
    settings: Regions,
    compute: Callable[..., Sequence[Value]],
    *others: Value,
) -> list[Value]:
    """Return what is computed of pooled regions, in the order of the boxes.

    Args:
        op: The builder's operators.
        spec: The detector.
        maps: The maps that regions are read from.
        boxes: ``(n, 4)``.
        settings: How they are pooled.
        compute: Makes outputs of what is pooled, and of ``others`` in the same order.
        others: Values of each box, ``(n, …)``.
    """
    strides = spec.strides[: len(maps)]
    if len(maps) == 1:
        return list(compute(_pooled(op, maps[0], boxes, strides[0], settings), *others))
    # Sorted by level before they are computed, and back after it: what comes out is smaller.
    left, top, right, bottom = _edges(op, boxes)
    side = op.Squeeze(op.Sqrt((right - left) * (bottom - top)), [1])
    exponents = [round(math.log2(stride)) for stride in strides]
    limits = [_USUAL_PX * 2.0 ** (exponent - _USUAL_EXPONENT - _MARGIN) for exponent in exponents[1:]]
    places, pooled = [], []
    for number, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        is_here = None
        if number:
            is_here = op.GreaterOrEqual(side, limits[number - 1])
        if number < len(limits):
            is_below = op.Less(side, limits[number])
            is_here = is_below if is_here is None else op.And(is_here, is_below)
        here = op.Reshape(op.NonZero(is_here), [-1])
        places.append(here)
        pooled.append(_pooled(op, features, op.Gather(boxes, here), stride, settings))
    order = op.Concat(*places, axis=0)
    outputs = compute(op.Concat(*pooled, axis=0), *(op.Gather(each, order) for each in others))
    _, back = op.TopK(order, op.Shape(order), axis=0, largest=0, sorted=1, _outputs=2)
    return [op.Gather(each, back) for each in outputs]


def _pooled(op: Any, features: Value, boxes: Value, stride: int, settings: Regions) -> Value:
    """Return ``(n, C, bins, bins)`` of boxes on one map."""
    bins = settings.bins
    first = op.Mul(op.Gather(boxes, 0, axis=1), 0.0)  # of the only image
    if settings.pooling == "pool":
        rows = op.Concat(op.Unsqueeze(first, [1]), boxes, axis=1)
        return op.MaxRoiPool(features, rows, pooled_shape=[bins, bins], spatial_scale=1 / stride)
    return op.RoiAlign(
        features,
        boxes,
        op.Cast(first, to=_INT64),
        mode="avg",
        output_height=bins,
        output_width=bins,
        sampling_ratio=settings.sampling,
        spatial_scale=1 / stride,
        coordinate_transformation_mode="half_pixel"
        if settings.pooling == "align-v2"
        else "output_half_pixel",
    )


def _detections(
    op: Any, spec: DetectorSpec, scores: Value, codes: Value, regions: Value, size: _Size
) -> tuple[Value, Value, Value]:
    """Return boxes ``(n, 4)``, labels and scores ``(n,)`` of the objects, the surest first."""
    from deepresidual.nn.detection.regions import MIN_DETECTION_PX

    settings, classes = spec.detections, spec.num_classes
    # Row 0 is the background's.
    of_classes = op.Slice(scores, [1], [classes + 1], [1])
    codes = op.Slice(op.Reshape(codes, [-1, classes + 1, 4]), [1], [classes + 1], [1])
    anchors = tuple(op.Unsqueeze(edge, [1]) for edge in _edges(op, regions))
    edges = _clipped(op, _decoded(op, codes, anchors, spec.regions.box_weights), size)
    boxes = op.Concat(*edges, axis=2)  # (regions, classes, 4)
    large = _score_of_large(op, of_classes, edges, MIN_DETECTION_PX)
    kept = _suppressed(
        op,
        op.Transpose(boxes, perm=[1, 0, 2]),
        op.Unsqueeze(op.Transpose(large, perm=[1, 0]), [1]),
        settings.nms_iou,
        settings.most,
        settings.min_score,
    )
    # Of equal scores that of the first region comes first, and of its classes the first.
    number = op.Gather(kept, 2, axis=1) * classes + op.Gather(kept, 0, axis=1)
    number, _ = op.TopK(number, op.Shape(number), axis=0, largest=0, sorted=1, _outputs=2)
    best, order = _best(op, op.Gather(op.Reshape(of_classes, [-1]), number), settings.most)
    number = op.Gather(number, order)
    labels = number - number / classes * classes
    return op.Gather(op.Reshape(boxes, [-1, 4]), number), labels, best


def _masks(
    op: Any, spec: DetectorSpec, part: ir.Model, maps: Sequence[Value], boxes: Value, labels: Value
) -> Value:
    """Return the mask ``(n, m, m)`` of each box, of its class."""
    settings = spec.regions if spec.neck == "c4" else replace(spec.regions, bins=spec.mask_bins)
    px, rows = spec.mask_px, spec.num_classes + 1

    def compute(pooled: Value, label: Value) -> list[Value]:
        (logits,) = put_in(op, part, [pooled], "mask_head")
        number = op.Range(0, op.Squeeze(op.Shape(label), [0]), 1) * rows + label + 1
        of_class = op.Gather(op.Reshape(logits, [-1, px, px]), number)
        return [op.Sigmoid(of_class)]

    (masks,) = _by_level(op, spec, maps, boxes, settings, compute, labels)
    return masks
