"""Random images with objects, and what a detector of some skill finds in them."""

from __future__ import annotations

import numpy as np

from deepresidual.data.objects import Objects

Images = list[Objects]


def scenes(
    seed: int,
    count: int,
    num_classes: int = 3,
    *,
    skill: float = 0.7,
    density: float = 4.0,
    crowds: float = 0.1,
    difficult: float = 0.0,
    levels: int = 20,
) -> tuple[Images, Images]:
    """Return what is found in random images and what they have; some are empty, and scores tie.

    Args:
        seed: Decides everything.
        count: Number of images.
        num_classes: Number of classes; the last one has no object.
        skill: How near the boxes found lie to objects, and how often their class is right, 0 to 1.
        density: Mean number of objects of an image.
        crowds: Share of the objects that are crowds.
        difficult: Share of the objects that are difficult.
        levels: How many different scores there are.
    """
    random = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(count):
        number = int(random.poisson(density)) if random.random() > 0.15 else 0
        boxes = _boxes(random, number)
        labels = random.integers(0, max(1, num_classes - 1), number)
        truth.append(
            Objects(
                boxes,
                labels,
                random.random(number) < crowds,
                random.random(number) < difficult,
                (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * random.uniform(0.4, 1, number),
            )
        )
        found.append(_found(random, boxes, labels, num_classes, skill, levels))
    return found, truth


def _boxes(random: np.random.Generator, number: int) -> np.ndarray:
    corners = random.uniform(0, 200, (number, 2))
    sides = np.exp(random.uniform(np.log(8), np.log(180), (number, 2)))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def _found(
    random: np.random.Generator,
    boxes: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    skill: float,
    levels: int,
) -> Objects:
    near = np.flatnonzero(random.random(len(boxes)) < 0.9)
    again = near[random.random(len(near)) < 0.3]
    chosen = np.concatenate([near, again])
    sides = np.tile(boxes[chosen, 2:] - boxes[chosen, :2], 2)
    moved = boxes[chosen] + random.normal(0, 0.3 * (1 - skill), (len(chosen), 4)) * sides
    named = np.where(
        random.random(len(chosen)) < skill, labels[chosen], random.integers(0, num_classes, len(chosen))
    )
    stray = int(random.poisson(2 * (1 - skill)))
    every = np.concatenate([moved, _boxes(random, stray)])
    every = np.concatenate(
        [np.minimum(every[:, :2], every[:, 2:]), np.maximum(every[:, :2], every[:, 2:])], 1
    )
    every = every.astype(np.float32)
    scores = random.integers(1, levels + 1, len(every)) / levels
    order = np.argsort(-scores, kind="stable")
    classes = np.concatenate([named, random.integers(0, num_classes, stray)]).astype(np.int64)
    return Objects(every[order], classes[order], scores=scores[order].astype(np.float32))
