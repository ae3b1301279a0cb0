"""Preprocessing as an ONNX graph: an upright RGB image of any size → the pixels that a network reads.

``exact`` computes what :meth:`Preprocess.to_channels` and :meth:`Preprocess.center_view` give, to the bit. It
follows Pillow (``precompute_coeffs`` and the two passes of ``Resample.c``, ``ImagingScaleAffine`` of
``Geometry.c``, both of ``src/libImaging``), over the width first and then over the height:

    box in float32 → taps and weights in float64 → weights as whole numbers of 22 bits → sums of whole numbers

Sums of whole numbers have no order, so every engine that computes float64 in full gives the same pixels. Each
pass visits one tap of the filter at a time, in a ``Loop``: the work grows with the taps and not with a matrix
that is zero nearly everywhere, and no copy of the image is made for every tap.

``fast`` is one ``Resize`` node with antialiasing, which rounds some pixels differently; engines that ignore
the attribute ``antialias`` give other pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript

from deepresidual.errors import ConfigurationError
from deepresidual.exporting.graph_parts import Value, scope
from deepresidual.preprocess import Interpolation, Preprocess

__all__ = ["OPSET", "ResizeGraph", "resize_model"]

ResizeGraph: TypeAlias = Literal["exact", "fast"]

OPSET = 18  # the first one whose Resize filters when it shrinks
_IR_VERSION = 8  # the one that came with the opset

_INT32, _INT64, _UINT8 = (ir.DataType[name].value for name in ("INT32", "INT64", "UINT8"))
_FLOAT, _DOUBLE = (ir.DataType[name].value for name in ("FLOAT", "DOUBLE"))

# Pillow's filters: how far they reach, in pixels of the target.
_RADIUS = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
# 32 bits less 8 of a level and 2 for what overshoots (PRECISION_BITS of Resample.c).
_WEIGHT_ONE = 1 << 22
# ITU-R 601 luma in 16 bits, as Pillow's convert("L") computes it (L24 of Convert.c).
_LUMA = (19_595, 38_470, 7_471)


def resize_model(preprocess: Preprocess, resize: ResizeGraph = "exact") -> onnx.ModelProto:
    """Build the graph that makes the central view of an image.

    Args:
        preprocess: Size, crop, filter and channels of the view. Mean and deviation are not applied here.
        resize: ``exact`` for Pillow's own arithmetic, or ``fast`` for one ``Resize`` node.

    Returns:
        A model of opset 18 from ``image`` uint8 ``(height, width, 3)`` to ``pixels`` uint8 ``(1, S, S, C)``.

    Raises:
        ConfigurationError: ``fast`` has no such filter.
    """
    if resize == "fast" and preprocess.interpolation not in _FAST_MODES:
        raise ConfigurationError(
            f"--resize fast does not know the filter {preprocess.interpolation}",
            expected=" or ".join(_FAST_MODES),
            remedy="take --resize exact",
        )
    image = ir.val("image", ir.DataType.UINT8, ["height", "width", 3])
    graph = ir.Graph([image], [], nodes=[], opset_imports={"": OPSET}, name="resize")
    builder = onnxscript.GraphBuilder(graph)
    with scope(builder.op, "resize") as op:
        view = (_exact if resize == "exact" else _fast)(op, image, preprocess)
        if preprocess.channels == "bgr":
            view = op.Gather(view, [2, 1, 0], axis=2)
        pixels = op.Unsqueeze(view, [0])
    side, channels = preprocess.crop_px, preprocess.num_channels
    pixels.type, pixels.shape = ir.TensorType(ir.DataType.UINT8), ir.Shape([1, side, side, channels])
    builder.add_output(pixels, "pixels")
    return ir.to_proto(ir.Model(graph, ir_version=_IR_VERSION))


# -- exact ---------------------------------------------------------------------------------------------------


class _Axis(NamedTuple):
    """What a view shows along one side of the image: from ``low`` on, ``scale`` pixels for one of its own."""

    side: Value
    low: Value
    scale: Value


def _exact(op: Any, image: Value, record: Preprocess) -> Value:
    """Resize as Pillow does: ``image`` uint8 ``(H, W, 3)`` → uint8 ``(S, S, C)``."""
    with scope(op, "box"):
        shape = op.Shape(image)
        height, width = (op.Gather(shape, axis, axis=0) for axis in (0, 1))
        shorter = op.Min(height, width)
        rows, columns = (_box(op, side, shorter, record) for side in (height, width))
    return (_nearest if record.interpolation == "nearest" else _filtered)(op, image, rows, columns, record)


def _box(op: Any, side: Value, shorter: Value, record: Preprocess) -> _Axis:
    """Return the part that the central crop shows along a side, as :meth:`Preprocess.center_box`."""
    resized = side * record.resize_px / shorter
    begin = op.Round(op.Cast(resized - record.crop_px, to=_DOUBLE) / 2.0)
    pixel = op.Cast(side, to=_DOUBLE) / op.Cast(resized, to=_DOUBLE)
    # Pillow keeps the edges of a box in float32 and takes their difference in it.
    low, high = (op.Cast(edge * pixel, to=_FLOAT) for edge in (begin, begin + float(record.crop_px)))
    scale = op.Cast(high - low, to=_DOUBLE) / float(record.crop_px)
    return _Axis(side, op.Cast(low, to=_DOUBLE), scale)


def _nearest(op: Any, image: Value, rows: _Axis, columns: _Axis, record: Preprocess) -> Value:
    """Take the nearest pixels of an image, as ``ImagingScaleAffine`` does."""

    def positions(axis: _Axis) -> Value:
        # Pillow adds up the steps, and its roundings.
        first = op.Reshape(axis.low + axis.scale * 0.5, [1])
        steps = op.Expand(op.Reshape(axis.scale, [1]), [record.crop_px])
        summed = op.CumSum(op.Concat(first, steps, axis=0), 0)
        return op.Cast(op.Slice(summed, [0], [record.crop_px], [0]), to=_INT64)

    view = op.Gather(op.Gather(image, positions(rows), axis=0), positions(columns), axis=1)
    return _to_channels(op, view, record)


def _filtered(op: Any, image: Value, rows: _Axis, columns: _Axis, record: Preprocess) -> Value:
    """Filter an image over the width, then over the height, as ``ImagingResample`` does."""
    with scope(op, "rows"):
        row_taps, row_weights = _taps(op, rows, record)
    with scope(op, "columns"):
        column_taps, column_weights = _taps(op, columns, record)
    # Rows that no tap of the second pass reads are left out of the first.
    with scope(op, "used"):
        first, last = (op.Reshape(edge(row_taps, keepdims=0), [1]) for edge in (op.ReduceMin, op.ReduceMax))
        used = _to_channels(op, op.Slice(image, first, last + 1, [0]), record)
        row_taps = row_taps - first

    # A pass adds up lines that lie one after the other in memory: columns first, then rows.
    side, channels = record.crop_px, record.num_channels
    with scope(op, "columns"):
        lines = op.Transpose(op.Flatten(used, axis=1), perm=[1, 0])  # (W · C, rows)
        lines = op.Reshape(lines, op.Concat(op.Reshape(columns.side, [1]), [-1], axis=0))  # (W, C · rows)
        lines = op.Reshape(_pass(op, lines, column_taps, column_weights), [side * channels, -1])
    with scope(op, "rows"):
        lines = op.Transpose(lines, perm=[1, 0])  # (rows, S · C)
        return op.Reshape(_pass(op, lines, row_taps, row_weights), [side, side, channels])


def _to_channels(op: Any, pixels: Value, record: Preprocess) -> Value:
    """Make ``(H, W, 3)`` uint8 gray where the network reads gray; ``bgr`` can wait for the end."""
    if record.channels != "gray":
        return pixels
    luma = ir.tensor(np.array(_LUMA, dtype=np.int32), name="luma")
    total = op.ReduceSum(op.Cast(pixels, to=_INT32) * luma, [-1], keepdims=1)
    return op.Cast((total + (1 << 15)) / (1 << 16), to=_UINT8)


def _taps(op: Any, axis: _Axis, record: Preprocess) -> tuple[Value, Value]:
    """Return positions int64 and weights int32 ``(taps, S)`` of a pass, as ``precompute_coeffs`` does."""
    stretch = op.Max(axis.scale, 1.0)
    reach = stretch * _RADIUS[record.interpolation]
    center = axis.low + (op.Cast(op.Range(0, record.crop_px, 1), to=_DOUBLE) + 0.5) * axis.scale
    first = op.Cast(op.Max(center - reach + 0.5, 0.0), to=_INT64)
    end = op.Min(op.Cast(center + reach + 0.5, to=_INT64), axis.side)
    most = op.Cast(op.Ceil(reach), to=_INT64) * 2 + 1
    position = first + op.Unsqueeze(op.Range(0, most, 1), [1])

    distance = (op.Cast(position, to=_DOUBLE) - center + 0.5) * (1.0 / stretch)
    weight = op.Where(op.Less(position, end), _FILTERS[record.interpolation](op, distance), 0.0)
    # CumSum adds in the order of Pillow's loop; ReduceSum may choose another.
    weight = weight / op.Gather(op.CumSum(weight, 0), -1, axis=0) * float(_WEIGHT_ONE)
    # The cast truncates, so this rounds half away from zero.
    return op.Min(position, axis.side - 1), op.Cast(weight + op.Sign(weight) * 0.5, to=_INT32)


def _pass(op: Any, lines: Value, taps: Value, weights: Value) -> Value:
    """Return the weighted sums of lines: uint8 ``(L, M)`` and ``(taps, S)`` → uint8 ``(S, M)``."""

    def add_tap(body: Any, tap: Value, go_on: Value, total: Value) -> list[Value]:
        with scope(body, "tap"):
            chosen = body.Gather(lines, body.Gather(taps, tap, axis=0), axis=0)
            weight = body.Unsqueeze(body.Gather(weights, tap, axis=0), [1])
            return [body.Identity(go_on), total + body.Cast(chosen, to=_INT32) * weight]

    body = op.builder.subgraph(
        add_tap,
        inputs=[
            ir.val("tap", ir.DataType.INT64, []),
            ir.val("go_on", ir.DataType.BOOL, []),
            ir.val("total", ir.DataType.INT32),
        ],
        outputs=[ir.val("go_on_out", ir.DataType.BOOL, []), ir.val("total_out", ir.DataType.INT32)],
        name="tap",
    )
    size = op.Concat(op.Shape(taps, start=1), op.Shape(lines, start=1), axis=0)
    half = ir.tensor(np.array(_WEIGHT_ONE // 2, dtype=np.int32), name="half_a_level")
    total = op.Loop(op.Gather(op.Shape(taps), 0, axis=0), None, op.Expand(half, size), body=body)
    total.dtype = ir.DataType.INT32
    # A division that truncates is Pillow's shift wherever the level is not below 0.
    return op.Cast(op.Clip(total / _WEIGHT_ONE, 0, 255), to=_UINT8)


def _bilinear(op: Any, distance: Value) -> Value:
    return op.Max(1.0 - op.Abs(distance), 0.0)


def _bicubic(op: Any, distance: Value) -> Value:
    x = op.Abs(distance)
    near = (x * 1.5 - 2.5) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return op.Where(op.Less(x, 1.0), near, op.Where(op.Less(x, 2.0), far, 0.0))


def _lanczos(op: Any, distance: Value) -> Value:
    def sinc(x: Value) -> Value:
        angle = x * float(np.pi)
        return op.Where(op.Equal(x, 0.0), 1.0, op.Sin(angle) / angle)

    inside = op.And(op.GreaterOrEqual(distance, -3.0), op.Less(distance, 3.0))
    return op.Where(inside, sinc(distance) * sinc(distance / 3.0), 0.0)


_FILTERS: dict[str, Callable[[Any, Value], Value]] = {
    "bilinear": _bilinear,
    "bicubic": _bicubic,
    "lanczos": _lanczos,
}


# -- fast ----------------------------------------------------------------------------------------------------

_FAST_MODES: dict[Interpolation, str] = {"bilinear": "linear", "bicubic": "cubic"}


def _fast(op: Any, image: Value, record: Preprocess) -> Value:
    """Resize with one node and cut the center: ``image`` uint8 ``(H, W, 3)`` → uint8 ``(S, S, C)``."""
    image = _to_channels(op, image, record)
    size = op.Shape(image, end=2)
    resized = size * record.resize_px / op.ReduceMin(size, keepdims=1)
    # Cubic weights are computed over two of four dimensions only. A policy that keeps the aspect ratio would
    # round the longer side up, and Pillow leaves out what lies beyond the edge.
    whole = op.Resize(
        op.Unsqueeze(image, [0]),
        None,
        None,
        op.Concat([1], resized, [record.num_channels], axis=0),
        mode=_FAST_MODES[record.interpolation],
        antialias=1,
        cubic_coeff_a=-0.5,
        exclude_outside=1,
    )
    begin = op.Cast(op.Round(op.Cast(resized - record.crop_px, to=_FLOAT) / 2.0), to=_INT64)
    return op.Slice(op.Squeeze(whole, [0]), begin, begin + record.crop_px, [0, 1])
