"""Holding out training samples: exactly as many of each class as asked for, always the same, none twice."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.base import fingerprint_of
from deepresidual.data.source.stratified import unit_of_group
from deepresidual.data.source.validation import Subset, hold_out
from deepresidual.errors import ConfigurationError
from tests.data.splits import smallest_hashes


@pytest.fixture
def source(photos: Path) -> SampleSource:
    """48 training pictures and 15 test pictures of three classes."""
    return open_source(photos)


def keys(source: SampleSource, split: str) -> list[str]:
    samples = source.split(split)
    return [samples.key(index) for index in range(len(samples))]


@pytest.mark.parametrize(("share", "count"), [(0.1, 6), (0.25, 12), (0.5, 24), (1 / 48, 3), (0.03, 3)])
def test_as_many_are_held_out_as_the_share_says(source: SampleSource, share: float, count: int) -> None:
    divided = hold_out(source, share)
    assert {name: len(split) for name, split in divided.splits.items()} == {
        "train": 48 - count,
        "val": count,
        "test": 15,
    }


def test_every_sample_is_on_one_side(source: SampleSource) -> None:
    divided = hold_out(source, 0.25)
    assert Counter(keys(divided, "train") + keys(divided, "val")) == Counter(keys(source, "train"))


def test_the_same_samples_are_held_out_every_time(photos: Path) -> None:
    first, second = (hold_out(open_source(photos), 0.2) for _ in range(2))
    assert keys(first, "val") == keys(second, "val")
    for name in first.splits:
        assert fingerprint_of(first.split(name)) == fingerprint_of(second.split(name))


def test_a_larger_share_holds_out_the_same_and_more(source: SampleSource) -> None:
    assert set(keys(hold_out(source, 0.1), "val")) < set(keys(hold_out(source, 0.3), "val"))


def test_these_samples_are_held_out_on_every_machine(source: SampleSource) -> None:
    names = keys(source, "train")
    classes = [[name for name in names if f"/{color}/" in name] for color in source.classes]
    assert set(keys(hold_out(source, 0.1), "val")) == {
        name
        for part in classes
        for name in part
        if name.rsplit("/")[-1] in smallest_hashes([name.rsplit("/")[-1] for name in part], 2)
    }


def test_of_samples_without_names_the_first_of_a_permutation_are_held_out() -> None:
    digits = open_source("digits")
    order = np.random.Generator(np.random.PCG64(0)).permutation(1446)
    names = keys(digits, "train")
    # He et al. 2015 hold out 5,000 of CIFAR's 50,000; runs of earlier versions held out these.
    assert keys(hold_out(digits, 0.1), "val") == [names[index] for index in sorted(order[:145])]


def test_both_sides_keep_the_order_of_the_split(source: SampleSource) -> None:
    divided, order = hold_out(source, 0.3), keys(source, "train")
    for name in ("train", "val"):
        places = [order.index(key) for key in keys(divided, name)]
        assert places == sorted(places)


def test_all_of_a_subset_belongs_together(source: SampleSource) -> None:
    whole, part = source.split("train"), hold_out(source, 0.3).split("val")
    rows = list(part.rows())
    assert len(rows) == len(part)
    for index in range(len(part)):
        sample = part.read(index)
        assert (sample.key, sample.target) == (part.key(index), part.labels[index])
        assert rows[index][0] == sample.key
        original = keys(source, "train").index(sample.key)
        assert whole.read(original).content == sample.content


def test_the_watched_split_is_the_held_out_one_and_the_last_figure_is_of_test(source: SampleSource) -> None:
    divided = hold_out(source, 0.1)
    assert (divided.validation_split, divided.evaluation_split) == ("val", "test")


def test_the_test_images_are_not_touched(source: SampleSource) -> None:
    assert hold_out(source, 0.1).split("test") is source.split("test")


def test_nothing_is_held_out_of_nothing_asked(source: SampleSource) -> None:
    assert hold_out(source, 0) is source


@pytest.mark.parametrize("share", [-0.1, 0.51, 1, float("nan")])
def test_a_share_out_of_range_is_refused(source: SampleSource, share: float) -> None:
    with pytest.raises(ConfigurationError, match=f"validation is {share}; expected a share from 0 to 0.5"):
        hold_out(source, share)


def test_a_single_image_of_each_class_cannot_be_held_out(source: SampleSource) -> None:
    first = Subset(source.split("train"), [0, 16, 32])
    single = dataclasses.replace(source, splits={"train": first})
    with pytest.raises(
        ConfigurationError,
        match=r"validation is 0.2 of 3 training images; expected at least one on each side",
    ):
        hold_out(single, 0.2)


def test_groups_are_held_out_whole(source: SampleSource) -> None:
    names = keys(source, "train")
    units = [unit_of_group(name[:-5]) for name in names]  # blue-000 to blue-009, blue-010 to blue-015
    divided = hold_out(dataclasses.replace(source, groups={"train": units}), 0.4)
    sides = {name: {key[:-5] for key in keys(divided, name)} for name in ("train", "val")}
    assert not sides["train"] & sides["val"]
    assert len(sides["train"]) == len(sides["val"]) == 3
    # As known as before, for what is held out of the rest.
    assert [len(set(divided.groups[name])) for name in ("train", "val")] == [3, 3]


def test_a_split_of_its_own_is_not_replaced(source: SampleSource) -> None:
    with pytest.raises(ConfigurationError, match="photos has a validation split already; leave out --valid"):
        hold_out(hold_out(source, 0.1), 0.1)


@given(st.sets(st.integers(0, 47), min_size=1))
def test_a_subset_of_a_subset_is_a_subset(chosen: set[int]) -> None:
    class Numbers:
        @property
        def labels(self) -> list[int]:
            return list(range(48))

        def __len__(self) -> int:
            return 48

        def key(self, index: int) -> str:
            return str(index)

    inner = Subset(Numbers(), np.array(sorted(chosen)))  # type: ignore[arg-type]  # what is asked of it
    outer = Subset(inner, np.arange(len(inner))[::2])
    assert outer.labels == sorted(chosen)[::2]
    assert [outer.key(index) for index in range(len(outer))] == [str(index) for index in sorted(chosen)[::2]]
