"""Which values a network can have: finite floats of float32's range, variances of 0 or more, counters."""

from __future__ import annotations

import pytest
import torch

from deepresidual.conversion.values import checked
from deepresidual.errors import ModelFileError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_become_those_of_the_network(dtype: torch.dtype) -> None:
    value = checked(torch.tensor([0.5, -2.0], dtype=dtype), torch.float32, "x.pth", "fc.bias", "fc.bias")
    assert value.dtype == torch.float32
    assert value.tolist() == [0.5, -2.0]


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.bool, torch.uint8, torch.int8),
        *(torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64),
    ],
)
def test_other_types_are_refused_by_name(dtype: torch.dtype) -> None:
    tensor = torch.ones(2).to(dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(
        ModelFileError,
        match=f"x.pth: tensor a.weight is of type {name}; expected float16, bfloat16, float32 or float64",
    ):
        checked(tensor, torch.float32, "x.pth", "a.weight", "conv1.weight")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_counters_are_whole_numbers(dtype: torch.dtype) -> None:
    value = checked(torch.tensor(7, dtype=dtype), torch.int64, "x", "n", "bn1.num_batches_tracked")
    assert (value.dtype, value.item()) == (torch.int64, 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint64])
def test_other_counters_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ModelFileError, match="tensor n is of type .*; expected whole numbers"):
        checked(torch.ones(()).to(dtype), torch.int64, "x", "n", "bn1.num_batches_tracked")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([float("nan"), 1.0], "has 1 values that are not finite"),
        ([float("inf"), -float("inf")], "has 2 values that are not finite"),
        (
            [1e300, 1.0],
            r"has values up to 1e\+300 in float64; expected at most 3.4e\+38, the largest of float32",
        ),
        ([1.0, -1e39], r"has values up to 1e\+39 in float64"),
    ],
)
def test_what_is_not_finite_here_or_there_is_refused(value: list[float], text: str) -> None:
    with pytest.raises(ModelFileError, match=f"x: tensor fc.bias {text}"):
        checked(torch.tensor(value, dtype=torch.float64), torch.float32, "x", "fc.bias", "fc.bias")


def test_the_largest_of_float32_is_allowed() -> None:
    largest = torch.finfo(torch.float32).max
    value = torch.tensor([largest, -largest], dtype=torch.float64)
    assert checked(value, torch.float32, "x", "a", "fc.bias").tolist() == [largest, -largest]


def test_a_negative_variance_is_refused_and_a_negative_mean_is_not() -> None:
    value = torch.tensor([-1.0, 0.0, -2.0])
    with pytest.raises(
        ModelFileError, match="x: tensor bn/var has 2 negative values; expected a variance of 0"
    ):
        checked(value, torch.float32, "x", "bn/var", "bn1.running_var")
    checked(value, torch.float32, "x", "bn/mean", "bn1.running_mean")
