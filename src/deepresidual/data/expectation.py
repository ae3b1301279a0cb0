"""Say how many images a class there are, and what so many usually give, before anything is trained.

No figure is promised: how good a classifier becomes depends on the photos. What holds for most is that
learned weights give more than none, and the more so the fewer images there are.

Example:
    >>> expectation([120, 124], "scratch")
    '244 images, 120 to 124 a class: …'
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from deepresidual.errors import misspelled
from deepresidual.recipe.balance import few

BeginsWith: TypeAlias = Literal["scratch", "bundled", "released"]
"""What training begins with: random weights, a bundled model's, or released ones."""

# From so many a class on, training from scratch is what the papers do: CIFAR-10 has 5,000, ImageNet 1,300.
_MANY = 1_000
# Scenes of digits, 870 objects a class, are learned from scratch; photos of boards, 43 a class, are not.
_MANY_OBJECTS = 500
# Fewer images of a class than this: the choice of anything by held-out images is a matter of luck.
_FEW = 10
# A name that is written wrongly comes once or twice beside the right one.
_MANY_TIMES = 10


def images_a_class(labels: Iterable[int], num_classes: int) -> list[int]:
    """Return the number of images of every class, 0 of one that has none."""
    counts = [0] * num_classes
    for label in labels:
        counts[label] += 1
    return counts


def counts_in_words(num_images_per_class: Sequence[int]) -> str:
    """Return the total and the smallest and largest count: ``"244 images, 120 to 124 a class"``."""
    total = sum(num_images_per_class)
    images = f"{total:,} {'image' if total == 1 else 'images'}"
    if not total:
        return images
    low, high = min(num_images_per_class), max(num_images_per_class)
    return f"{images}, {low:,} a class" if low == high else f"{images}, {low:,} to {high:,} a class"


def expectation(num_images_per_class: Sequence[int], begins_with: BeginsWith) -> str:
    """Return how many images there are, and what so many usually give, in a sentence.

    Args:
        num_images_per_class: Training images of every class.
        begins_with: What training begins with.
    """
    counts = counts_in_words(num_images_per_class)
    present = [count for count in num_images_per_class if count]
    if len(present) < 2:
        return f"{counts}: nothing can be learned from one class alone"
    return f"{counts}: {_usual(statistics.median(present), begins_with)}"


def label_expectation(num_images: int, num_images_per_label: Sequence[int], begins_with: BeginsWith) -> str:
    """Return how many images and labels there are, where an image may have several, and what so many give.

    Args:
        num_images: Training images, each counted once.
        num_images_per_label: Training images that have each label.
        begins_with: What training begins with.
    """
    total = sum(num_images_per_label)
    labels = f"{total:,} {'label' if total == 1 else 'labels'}"
    counts = f"{num_images:,} {'image' if num_images == 1 else 'images'} with {labels}"
    present = [count for count in num_images_per_label if count]
    if not present:
        return f"{counts}: nothing can be learned without any label"
    low, high = min(num_images_per_label), max(num_images_per_label)
    span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    images = "image" if high == 1 else "images"
    return f"{counts}, {span} {images} a label: {_usual(statistics.median(present), begins_with)}"


def object_expectation(num_images: int, num_objects_per_class: Sequence[int]) -> str:
    """Return how many images and objects there are, where images have boxes, and what so many give.

    Args:
        num_images: Training images.
        num_objects_per_class: Their objects of every class.
    """
    total = sum(num_objects_per_class)
    objects = f"{total:,} {'object' if total == 1 else 'objects'}"
    counts = f"{num_images:,} {'image' if num_images == 1 else 'images'} with {objects}"
    present = [count for count in num_objects_per_class if count]
    if not present:
        return f"{counts}: nothing can be learned without any object"
    low, high = min(num_objects_per_class), max(num_objects_per_class)
    span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    if statistics.median(present) >= _MANY_OBJECTS:
        return f"{counts}, {span} a class: enough to learn from scratch"
    return f"{counts}, {span} a class: learned weights (--weights) or more objects usually help"


def few_in_words(classes: Sequence[str], counts: Sequence[int]) -> str:
    """Return which classes have few images beside the others, and what to try; empty where there are none.

    Args:
        classes: Names of the classes.
        counts: Training images of each.
    """
    rare = [classes[row] for row in few(counts)]
    if not rare:
        return ""
    names = ", ".join(rare[:4]) + (", …" if len(rare) > 4 else "")
    return f"{names} {'is' if len(rare) == 1 else 'are'} few: consider --class-prior equal"


def other_spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the classes that may be slips of the pen, each with the class that may be meant.

    Such a class has fewer than 10 objects and a name that is nearly that of one with ten times as many.

    Args:
        counts: Objects of every class.
    """
    found = {}
    for name, count in counts.items():
        if count < _FEW:
            frequent = [other for other, many in counts.items() if many >= _MANY_TIMES * max(1, count)]
            if meant := misspelled(name, frequent):
                found[name] = meant
    return found


def _usual(typical: float, begins_with: BeginsWith) -> str:
    """Return what ``typical`` images a class usually give."""
    if begins_with == "scratch":
        if typical >= _MANY:
            return "enough to learn from scratch"
        return "too few photos to learn from scratch; learned weights (--weights) or more images usually help"
    if typical < _FEW:
        return "so few that the result depends on which they are; more images would help most"
    if typical >= _MANY:
        return "enough to learn from scratch, which takes longer than from learned weights"
    weights = (
        "the bundled weights give more than none, and those of ImageNet usually much more"
        if begins_with == "bundled"
        else "learned weights usually give much more than none"
    )
    return f"too few photos to learn from scratch; {weights}"
