"""Preprocessing as an ONNX graph, against Preprocess: equal to the bit, or within the stated bound."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepresidual.errors import ConfigurationError
from deepresidual.exporting.resize_graph import OPSET, ResizeGraph, resize_model
from deepresidual.preprocess import Channels, Interpolation, Preprocess
from tests.conftest import examples
from tests.data.pictures import waves
from tests.golden.resized import picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FILTERS: tuple[Interpolation, ...] = get_args(Interpolation)
_CHANNELS: tuple[Channels, ...] = get_args(Channels)
# Side of the view and shorter side before it is cut: scales that binary numbers hold, and others.
_SIDES = ((224, 256), (96, 99), (28, 32), (32, 32), (7, 9), (1, 1))
# Height and width: photos, strips, single pixels, and such as have the size already.
_SIZES = (
    *((375, 500), (500, 375), (96, 97), (40, 30), (7, 5), (1, 1), (256, 256), (256, 300), (32, 48)),
    *((19, 2000), (2000, 19), (450, 3), (3, 450), (1, 3000), (3000, 1)),
)


def record(
    crop_px: int, resize_px: int, interpolation: Interpolation = "bilinear", channels: Channels = "rgb"
) -> Preprocess:
    count = 1 if channels == "gray" else 3
    return Preprocess(crop_px, resize_px, (0.5,) * count, (0.25,) * count, interpolation, channels)


@functools.cache
def session(preprocess: Preprocess, resize: ResizeGraph = "exact") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = resize_model(preprocess, resize)
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def in_the_graph(
    pixels: NDArray[np.uint8], preprocess: Preprocess, resize: ResizeGraph = "exact"
) -> NDArray[np.uint8]:
    (view,) = session(preprocess, resize).run(["pixels"], {"image": pixels})
    assert view.dtype == np.uint8
    found: NDArray[np.uint8] = np.asarray(view)[0]
    return found


def in_pillow(pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    return preprocess.center_view(np.ascontiguousarray(preprocess.to_channels(pixels)))


@pytest.mark.parametrize("interpolation", _FILTERS)
@pytest.mark.parametrize(("crop_px", "resize_px"), _SIDES)
def test_exact_is_pillow_to_the_bit(crop_px: int, resize_px: int, interpolation: Interpolation) -> None:
    rule = record(crop_px, resize_px, interpolation)
    differing = [
        size
        for size in _SIZES
        if not np.array_equal(in_the_graph(picture(*size), rule), in_pillow(picture(*size), rule))
    ]
    assert differing == []


@settings(max_examples=examples(100))
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    sides=st.sampled_from(_SIDES),
    interpolation=st.sampled_from(_FILTERS),
    channels=st.sampled_from(_CHANNELS),
    levels=st.sampled_from((2, 256)),
)
def test_exact_is_pillow_to_the_bit_for_any_size(
    size: tuple[int, int],
    sides: tuple[int, int],
    interpolation: Interpolation,
    channels: Channels,
    levels: int,
) -> None:
    """Black and white overshoot most; levels below 0 and above 255 are cut as Pillow cuts them."""
    pixels = picture(*size)
    if levels == 2:
        pixels = np.where(pixels > 127, 255, 0).astype(np.uint8)
    rule = record(*sides, interpolation, channels)
    np.testing.assert_array_equal(in_the_graph(pixels, rule), in_pillow(pixels, rule))


@pytest.mark.parametrize("channels", _CHANNELS)
def test_channels_are_made_before_the_resize(channels: Channels) -> None:
    rule = record(28, 32, "bicubic", channels)
    every_color = np.stack(np.meshgrid(*(np.arange(0, 256, 5),) * 3), axis=-1).reshape(52, -1, 3)
    pixels = every_color.astype(np.uint8)
    view = in_the_graph(pixels, rule)
    assert view.shape == (28, 28, rule.num_channels)
    np.testing.assert_array_equal(view, in_pillow(pixels, rule))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", _CHANNELS)
@pytest.mark.parametrize("size", [(375, 500), (500, 375), (300, 301), (60, 50)])
def test_fast_is_within_its_bound(
    size: tuple[int, int], interpolation: Interpolation, channels: Channels
) -> None:
    rule = record(224, 256, interpolation, channels)
    pixels = waves(*size)
    difference = np.abs(in_the_graph(pixels, rule, "fast").astype(int) - in_pillow(pixels, rule))
    assert difference.max() <= 2
    assert np.mean(difference > 0) <= 0.1


def test_fast_refuses_filters_that_resize_nodes_do_not_have() -> None:
    message = (
        "--resize fast does not know the filter lanczos; expected bilinear or bicubic; take --resize exact"
    )
    with pytest.raises(ConfigurationError, match=message):
        resize_model(record(28, 32, "lanczos"), "fast")


@pytest.mark.parametrize("resize", get_args(ResizeGraph))
def test_the_graph_says_what_it_reads_and_gives(resize: ResizeGraph) -> None:
    model = resize_model(record(28, 32, channels="gray"), resize)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert [_signature(value) for value in model.graph.input] == [("image", "UINT8", ["height", "width", 3])]
    assert [_signature(value) for value in model.graph.output] == [("pixels", "UINT8", [1, 28, 28, 1])]


def test_nodes_are_named_after_their_place() -> None:
    names = [node.name for node in resize_model(record(28, 32)).graph.node]
    assert all(name.startswith("resize/") for name in names)
    assert len(set(names)) == len(names)


def test_a_tap_is_visited_at_a_time() -> None:
    """A matrix of weights would be 8 GFLOP for 12 megapixels, and a gathered window a copy a tap."""
    model = resize_model(record(224, 256))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Loop") == 2
    assert "MatMul" not in kinds


def _signature(value: onnx.ValueInfoProto) -> tuple[str, str, list[Any]]:
    tensor = value.type.tensor_type
    dimensions = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return value.name, onnx.TensorProto.DataType.Name(tensor.elem_type), dimensions
