"""Translations are strict both ways and lose no bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.conversion.region_rows import anchor_rows, box_rows, class_rows
from deepresidual.conversion.translation import (
    Rule,
    Translation,
    num_batches_tracked,
    read_tensors,
    write_tensors,
)
from deepresidual.errors import ModelFileError

TARGET = {"conv.weight": torch.empty(2, 3, 5, 5), "fc.weight": torch.empty(4, 2), "n": torch.tensor(0)}
RULES = (Rule("conv.weight", "kernel", "conv-hwio"), Rule("fc.weight", "dense", "linear-io"))
TRANSLATION = Translation(RULES, dropped={"step": "counts steps"}, filled={"n": "is not stored there"})


def source() -> dict[str, torch.Tensor]:
    return {"kernel": torch.randn(5, 5, 3, 2), "dense": torch.randn(2, 4), "step": torch.tensor(7)}


def test_axes_are_permuted_and_come_back_to_the_bit() -> None:
    there = source()
    here = read_tensors(TRANSLATION, there, TARGET, "x")
    assert list(here) == list(TARGET)
    assert here["conv.weight"][1, 2, 3, 4] == there["kernel"][3, 4, 2, 1]
    assert here["fc.weight"][3, 1] == there["dense"][1, 3]
    assert here["n"] == 0
    back = write_tensors(TRANSLATION, here)
    assert set(back) == {"kernel", "dense"}
    assert all(torch.equal(back[name], there[name]) for name in back)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": None}, r"x does not fit the network \(missing −, extra \+, other shape ±\): − kernel$"),
        ({"more": torch.ones(3)}, r"\+ more \(3,\)$"),
        ({"dense": torch.ones(4, 2)}, r"± dense \(4, 2\) for fc.weight \(4, 2\)$"),
        ({"dense": torch.full((2, 4), torch.nan)}, "x: tensor dense has 8 values that are not finite"),
    ],
)
def test_both_sides_of_a_mismatch_are_named(change: dict[str, torch.Tensor | None], message: str) -> None:
    changed = {**source(), **change}
    given = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(ModelFileError, match=message):
        read_tensors(TRANSLATION, given, TARGET, "x")


def test_rows_change_places_and_come_back() -> None:
    """The background is the last class there and the first here; boxes have no row for it there."""
    target = {"cls.weight": torch.empty(4, 2), "box.bias": torch.empty(16), "agnostic": torch.empty(16)}
    rules = (
        Rule("cls.weight", "cls", rows=class_rows(3)),
        Rule("box.bias", "box", rows=box_rows(3, 12)),
        Rule("agnostic", "one", rows=box_rows(3, 4)),
    )
    there = {"cls": torch.randn(4, 2), "box": torch.arange(12.0), "one": torch.arange(4.0)}
    here = read_tensors(Translation(rules), there, target, "x")
    assert torch.equal(here["cls.weight"], there["cls"][[3, 0, 1, 2]])
    assert here["box.bias"].tolist() == [0.0] * 4 + list(range(12))
    assert here["agnostic"].tolist() == [0.0] * 4 + [0, 1, 2, 3] * 3
    back = write_tensors(Translation(rules), here)
    assert all(torch.equal(back[name], there[name]) for name in there)
    with pytest.raises(ModelFileError, match=r"± box \(16,\) for box.bias \(16,\)"):
        read_tensors(Translation(rules), {**there, "box": torch.ones(16)}, target, "x")


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 4]))
def test_anchors_with_sizes_first_find_their_rows(sizes: int, ratios: int, values: int) -> None:
    there = [
        (size, ratio, value) for size in range(sizes) for ratio in range(ratios) for value in range(values)
    ]
    here = [
        (size, ratio, value) for ratio in range(ratios) for size in range(sizes) for value in range(values)
    ]
    rows = anchor_rows(sizes, ratios, values)
    assert (there if rows is None else [there[row] for row in rows]) == here


def test_a_target_that_nothing_fills_is_named() -> None:
    with pytest.raises(ModelFileError, match=r"nothing for n \(\)"):
        read_tensors(Translation(RULES, dropped={"step": ""}), source(), TARGET, "x")


def test_at_most_ten_differences_are_listed() -> None:
    extra = {f"t{n}": torch.ones(1) for n in range(25)}
    with pytest.raises(ModelFileError, match=r"\+ t9 \(1,\) and 15 more$"):
        read_tensors(TRANSLATION, {**source(), **extra}, TARGET, "x")


def test_a_divisor_is_applied_and_zero_means_zeros() -> None:
    translation = Translation((Rule("mean", "blob", "flat", divisor="factor"),))
    target = {"mean": torch.empty(3)}
    blob = torch.tensor([2.0, 4.0, 6.0]).reshape(1, 1, 1, 3)
    halved = read_tensors(translation, {"blob": blob, "factor": torch.tensor([2.0])}, target, "x")
    assert halved["mean"].tolist() == [1, 2, 3]
    nothing = read_tensors(translation, {"blob": blob, "factor": torch.tensor([0.0])}, target, "x")
    assert nothing["mean"].tolist() == [0, 0, 0]


def test_counters_of_batches_are_found() -> None:
    assert list(num_batches_tracked(["bn.num_batches_tracked", "bn.weight"])) == ["bn.num_batches_tracked"]
