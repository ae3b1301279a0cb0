"""The zoo's door: names, patterns, lookups."""

from __future__ import annotations

import dataclasses

import pytest

from deepresidual import zoo
from deepresidual.errors import UnknownNameError


def test_unknown_names_get_the_nearest_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'resnet5O' \(nearest: .*resnet50.*\)"):
        zoo.entry("resnet5O")


def test_a_name_like_nothing_gets_the_list() -> None:
    with pytest.raises(UnknownNameError, match="expected one of resnet18, resnet18.a, "):
        zoo.entry("zzz")


def test_patterns_select_names() -> None:
    assert zoo.list_models("plain*") == [f"plain{n}" for n in (18, 34, 20, 32, 44, 56, 110, 1202)]
    assert len(zoo.list_models()) == len({entry.name for entry in zoo.entries()}) == 80


@pytest.mark.parametrize("entry", zoo.entries(), ids=lambda entry: entry.name)
def test_an_architecture_knows_its_name_whatever_its_head(entry: zoo.ZooEntry) -> None:
    assert zoo.name_of(dataclasses.replace(entry.spec, num_classes=7, in_channels=1)) == entry.name


def test_an_architecture_of_ones_own_has_no_name() -> None:
    assert zoo.name_of(dataclasses.replace(zoo.entry("resnet18").spec, depths=(1, 2, 3, 4))) is None
