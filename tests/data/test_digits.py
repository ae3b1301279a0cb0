"""The bundled digits: real, complete, labelled right, and the same split everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from deepresidual.data.decode import decode
from deepresidual.data.formats import sniff
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.base import fingerprint_of


@pytest.fixture(scope="module")
def digits() -> SampleSource:
    return open_source("digits")


def test_the_digits_are_complete(digits: SampleSource) -> None:
    assert digits.name == "digits"
    assert digits.classes == tuple("0123456789")
    assert {name: len(split) for name, split in digits.splits.items()} == {"train": 1446, "test": 351}
    assert digits.ignored == ()


def test_every_digit_is_the_picture_and_the_label_of_scikit_learn(digits: SampleSource) -> None:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    seen = set()
    for split in digits.splits.values():
        for index in range(len(split)):
            sample = split.read(index)
            number = int(sample.key.removeprefix("digit-").removesuffix(".png"))
            seen.add(number)
            assert sample.target == split.labels[index] == bundle.target[number]
            # 16 counts of ink are white
            picture = np.rint(bundle.images[number] / 16 * 255)
            np.testing.assert_array_equal(decode(sample.content), np.stack([picture] * 3, axis=-1))
    assert seen == set(range(1797))


def test_the_digits_go_the_way_of_every_other_image(digits: SampleSource) -> None:
    assert sniff(digits.splits["test"].read(0).content) == "PNG"


def test_the_first_test_digits_are_these_on_every_machine(digits: SampleSource) -> None:
    keys = [digits.splits["test"].read(index).key for index in range(5)]
    assert keys == ["digit-0002.png", "digit-0004.png", "digit-0007.png", "digit-0023.png", "digit-0024.png"]


def test_every_class_is_in_both_splits(digits: SampleSource) -> None:
    for split in digits.splits.values():
        assert set(split.labels) == set(range(10))


def test_the_fingerprint_is_the_same_each_time_and_differs_between_the_splits(digits: SampleSource) -> None:
    again = open_source("digits")
    for name, split in digits.splits.items():
        assert fingerprint_of(split) == fingerprint_of(again.splits[name])
    assert fingerprint_of(digits.splits["train"]) != fingerprint_of(digits.splits["test"])


def test_training_watches_the_test_digits(digits: SampleSource) -> None:
    assert digits.validation_split == digits.evaluation_split == "test"
