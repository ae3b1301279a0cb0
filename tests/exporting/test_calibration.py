"""Calibration takes training images only, of all classes alike, and the same ones on every machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.data.source import open_source
from deepresidual.errors import DataError
from deepresidual.exporting.calibration import calibration_order, calibration_views
from deepresidual.models import load

samples = st.dictionaries(st.text(max_size=8), st.integers(0, 4), min_size=1, max_size=40)


@given(samples, st.integers(0, 40))
def test_every_class_has_as_many_as_any_other_until_it_has_no_more(
    labels: dict[str, int], count: int
) -> None:
    keys, classes = list(labels), list(labels.values())
    order = calibration_order(keys, classes)
    assert sorted(order) == list(range(len(keys)))
    whole, taken = Counter(classes), Counter(classes[index] for index in order[:count])
    most = max(taken.values(), default=0)
    assert all(taken[label] >= min(size, most - 1) for label, size in whole.items())


@given(samples, st.randoms())
def test_the_choice_knows_names_and_not_places(labels: dict[str, int], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(labels.items())
    random.shuffle(shuffled)
    chosen = [
        [keys[index] for index in calibration_order(keys, classes)]
        for keys, classes in (
            (list(labels), list(labels.values())),
            tuple(map(list, zip(*shuffled, strict=True))),
        )
    ]
    assert chosen[0] == chosen[1]


def test_no_held_out_image_is_among_them() -> None:
    source, model = open_source("digits"), load("resnet20-digits")
    views = calibration_views(source, model.preprocess, 50)
    train, test = (
        {source.split(name).key(index) for index in range(len(source.split(name)))}
        for name in ("train", "test")
    )
    assert len(set(views.keys)) == 50
    assert set(views.keys) <= train - test
    index = [source.split("train").key(index) for index in range(len(source.split("train")))].index(
        views.keys[0]
    )
    from deepresidual.data.decode import decode

    pixels = decode(source.split("train").read(index).content)
    expected = model.preprocess.center_view(model.preprocess.to_channels(pixels))
    assert np.array_equal(views.pixels[0], expected)


def test_data_without_training_images_cannot_calibrate() -> None:
    source = open_source("digits")
    only = replace(source, splits={"test": source.split("test")})
    with pytest.raises(DataError, match="digits has no training split, and int8 is calibrated on training"):
        calibration_views(only, load("resnet20-digits").preprocess, 10)
