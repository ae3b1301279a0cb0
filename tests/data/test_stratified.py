"""The rule that chooses what is held out: exact shares, whole groups, few moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.data.source.stratified import held_out, num_held_out, unit_of, unit_of_group
from tests.data.splits import smallest_hashes

FIFTH = 1 / 5


def units(names: list[str]) -> list[bytes]:
    return [unit_of(name) for name in names]


def test_exactly_a_fifth_is_held_out_of_a_class_of_any_size() -> None:
    for count in range(1, 1001):
        names = [f"{number}.jpg" for number in range(count)]
        chosen = held_out(units(names), [0] * count, FIFTH)
        assert chosen.sum() == (max(1, round(count / 5)) if count > 1 else 0), count
        if count > 1:
            assert {names[index] for index in np.flatnonzero(chosen)} == smallest_hashes(names)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_every_class_is_divided_as_if_it_were_alone(labels: list[int], share: float) -> None:
    names = [f"{number}.jpg" for number in range(len(labels))]
    chosen = held_out(units(names), labels, share)
    for label in set(labels):
        members = [index for index, other in enumerate(labels) if other == label]
        alone = held_out(units([names[index] for index in members]), [0] * len(members), share)
        assert chosen[members].tolist() == alone.tolist()
        assert alone.sum() == num_held_out(len(members), share)


@given(st.data())
def test_no_group_is_on_both_sides_and_every_class_keeps_a_training_sample(data: st.DataObject) -> None:
    samples = data.draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.booleans()), min_size=1, max_size=80)
    )
    share = data.draw(st.floats(0.05, 0.5))
    labels = [label for label, _, _ in samples]
    grouped = [
        unit_of(f"{number}.jpg") if alone else unit_of_group(str(group))
        for number, (_, group, alone) in enumerate(samples)
    ]
    chosen = held_out(grouped, labels, share)
    sides: dict[bytes, set[bool]] = {unit: set() for unit in grouped}
    for unit, side in zip(grouped, chosen.tolist(), strict=True):
        sides[unit].add(side)
    assert all(len(side) == 1 for side in sides.values())
    trained = {label for label, side in zip(labels, chosen.tolist(), strict=True) if not side}
    assert trained == set(labels)
    assert chosen.tolist() == held_out(grouped, labels, share).tolist()


@given(st.lists(st.integers(1, 30), min_size=2, max_size=40))
def test_of_groups_in_one_class_some_are_held_out_and_some_are_not(sizes: list[int]) -> None:
    names = [f"group-{number}" for number, size in enumerate(sizes) for _ in range(size)]
    chosen = held_out([unit_of_group(name) for name in names], [0] * len(names), FIFTH)
    assert chosen.any()
    assert not chosen.all()
    wanted = num_held_out(len(names), FIFTH)
    if len({name for name, side in zip(names, chosen, strict=True) if side}) > 1:
        assert abs(chosen.sum() - wanted) < wanted


def test_groups_are_taken_in_the_order_of_their_hashes_up_to_the_first_that_is_too_many() -> None:
    order = sorted((f"g{number}" for number in range(20)), key=unit_of_group)
    sizes = dict.fromkeys(order, 10) | {order[0]: 15, order[1]: 15, order[2]: 40}
    names = [name for name, size in sizes.items() for _ in range(size)]  # of 240 48 are wanted
    chosen = held_out([unit_of_group(name) for name in names], [0] * 240, FIFTH)
    assert {name for name, side in zip(names, chosen, strict=True) if side} == set(order[:2])


def test_single_samples_fill_up_what_a_group_leaves() -> None:
    assert held_out([bytes([unit]) for unit in b"abbcdefghi"], [0] * 10, FIFTH).nonzero()[0].tolist() == [
        0,
        3,
    ]


def test_a_group_over_several_classes_is_taken_where_that_brings_their_sum_nearer() -> None:
    # Ten patients with two pictures of each class; two of them are a fifth of both.
    patients = [f"p{number}" for number in range(10) for _ in range(4)]
    chosen = held_out([unit_of_group(name) for name in patients], [0, 0, 1, 1] * 10, FIFTH)
    assert {name for name, side in zip(patients, chosen, strict=True) if side} == set(
        sorted(set(patients), key=unit_of_group)[:2]
    )


def test_of_two_large_groups_one_is_held_out() -> None:
    names = ["a"] * 50 + ["b"] * 50
    assert held_out([unit_of_group(name) for name in names], [0] * 100, FIFTH).sum() == 50
    assert not held_out([unit_of_group("a")] * 100, [0] * 100, FIFTH).any()


def moved(count: int, share_added: float, draw: int) -> float:
    """Return which share of ``count`` samples changes side when others come."""
    more = count + round(share_added * count)
    names = [f"{draw}-{number}.jpg" for number in range(more)]
    before = held_out(units(names[:count]), [0] * count, FIFTH)
    after = held_out(units(names), [0] * more, FIFTH)[:count]
    return float((before != after).mean())


@pytest.mark.parametrize(("count", "bound"), [(10, 0.04), (400, 0.01)])
def test_a_fifth_more_files_move_few_of_the_old_ones(count: int, bound: float) -> None:
    assert np.mean([moved(count, 0.2, draw) for draw in range(100)]) <= bound


def test_equal_names_in_several_folders_are_ordered_by_their_path() -> None:
    names = [f"{number:03}/image.jpg" for number in range(40)]
    chosen = held_out(units(names), [0] * 40, FIFTH)
    assert {names[index] for index in np.flatnonzero(chosen)} == smallest_hashes(names)
