"""What is said of the number of images before anything is trained."""

from __future__ import annotations

import pytest

from deepresidual.data.expectation import counts_in_words, expectation, images_a_class, label_expectation


def test_classes_without_images_are_counted() -> None:
    assert images_a_class([0, 2, 2], 4) == [1, 0, 2, 0]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([120, 124], "244 images, 120 to 124 a class"),
        ([5000] * 10, "50,000 images, 5,000 a class"),
        ([1, 0], "1 image, 0 to 1 a class"),
        ([], "0 images"),
    ],
)
def test_counts_in_words(counts: list[int], words: str) -> None:
    assert counts_in_words(counts) == words


def test_few_images_are_few_from_scratch_and_learned_weights_help() -> None:
    for count in (2, 10, 120, 999):
        said = expectation([count, count], "scratch")
        assert said.startswith(
            f"{2 * count:,} images, {count:,} a class: too few photos to learn from scratch"
        )
        assert "--weights" in said
    assert "--weights" not in expectation([120, 124], "released")
    assert "ImageNet" in expectation([120, 124], "bundled")
    assert "depends on which they are" in expectation([4, 5], "released")


def test_many_images_are_enough() -> None:
    for beginning in ("scratch", "bundled", "released"):
        assert "enough to learn from scratch" in expectation([5000] * 10, beginning)


@pytest.mark.parametrize("counts", [[7], [0, 7], [0, 0], []])
def test_of_one_class_nothing_can_be_learned(counts: list[int]) -> None:
    assert expectation(counts, "scratch").endswith(": nothing can be learned from one class alone")


@pytest.mark.parametrize(
    ("num_images", "counts", "words"),
    [
        (205, [117, 197, 204], "205 images with 518 labels, 117 to 204 images a label: too few photos"),
        (9, [5, 5], "9 images with 10 labels, 5 images a label: too few photos"),
        (3_000, [2_000, 1_500], "3,000 images with 3,500 labels, 1,500 to 2,000 images a label: enough"),
        (1, [1], "1 image with 1 label, 1 image a label: too few photos"),
        (4, [0, 0], "4 images with 0 labels: nothing can be learned without any label"),
    ],
)
def test_images_and_labels_are_told_apart(num_images: int, counts: list[int], words: str) -> None:
    assert label_expectation(num_images, counts, "scratch").startswith(words)
