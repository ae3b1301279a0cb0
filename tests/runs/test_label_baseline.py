"""What several labels an image are worth beside giving every label to every image."""

from __future__ import annotations

import pytest

from deepresidual.runs.label_baseline import beside_every_label, loses_to_always_yes


@pytest.mark.parametrize(
    ("interval", "how"),
    [
        ((0.79, 0.88), "worse than"),
        ((0.79, 0.91), "not shown to be better than"),
        ((0.884, 0.91), "not shown to be better than"),
        ((0.89, 0.91), "better than"),
    ],
)
def test_the_lower_end_of_the_interval_decides(interval: tuple[float, float], how: str) -> None:
    assert beside_every_label(interval, 0.884) == f"{how} giving every label to every image"


def test_a_label_as_good_as_always_yes_loses_and_one_without_images_does_not() -> None:
    assert loses_to_always_yes(0.5, 0.5, 10)
    assert not loses_to_always_yes(0.6, 0.5, 10)
    assert not loses_to_always_yes(0.0, 0.0, 0)
