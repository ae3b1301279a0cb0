"""Say of the objects in training images how many there are, and how large the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.decode import read_header
from deepresidual.data.expectation import other_spellings
from deepresidual.data.objects import Objects
from deepresidual.data.source import Split
from deepresidual.errors import DataError
from deepresidual.preprocess import Preprocess

_MOST_READ = 1000  # images; their files are read, and as many give every share to a few points
_MOST_CLASSES = 6  # whose counts stand in a line
_TINY_PX, _MANY_TINY = 8, 0.1  # of so few pixels, two steps of most maps, few are found


@dataclass(frozen=True)
class ObjectStatistics:
    """What is known of the objects of some images.

    Attributes:
        num_images: Images that were read.
        is_all: Whether these are all of the split.
        counts: ``(N,)``: objects of each image, crowds left out.
        by_class: ``(K,)``: objects of each class.
        sizes_px: Root of the area of every object as the network sees it, in pixels of its input.
        num_masks: Objects that have a mask.
    """

    num_images: int
    is_all: bool
    counts: NDArray[np.int64]
    by_class: NDArray[np.int64]
    sizes_px: NDArray[np.float64]
    num_masks: int = 0


def object_statistics(split: Split, num_classes: int, preprocess: Preprocess) -> ObjectStatistics:
    """Read up to 1,000 images of a split, evenly over it, and count their objects.

    Images that cannot be read are left out: training meets them, and says so.

    Args:
        split: Images with objects.
        num_classes: How many classes there are.
        preprocess: How the network sees them.
    """
    chosen = np.unique(np.linspace(0, len(split) - 1, min(_MOST_READ, len(split))).round().astype(int))
    counts, labels, sizes, num_masks = [], [np.empty(0, np.int64)], [np.empty(0)], 0
    for index in chosen.tolist():
        try:
            sample = split.read(index)
            header = read_header(sample.content)
        except DataError:
            continue
        if not isinstance(sample.target, Objects):
            continue
        objects = sample.target[~sample.target.crowd]
        # Turned or not, the scale of a whole image is the same.
        seen = preprocess.whole_size(header.height, header.width)
        scale = np.sqrt(seen[0] * seen[1] / (header.height * header.width))
        sides = np.maximum(objects.boxes[:, 2:] - objects.boxes[:, :2], 0)
        counts.append(len(objects))
        labels.append(objects.labels)
        num_masks += 0 if objects.masks is None else int(objects.masks.known.sum())
        sizes.append(scale * np.sqrt(sides.prod(axis=1)))
    return ObjectStatistics(
        len(counts),
        len(counts) == len(split),
        np.array(counts, np.int64),
        np.bincount(np.concatenate(labels), minlength=num_classes),
        np.concatenate(sizes),
        num_masks,
    )


def objects_in_words(
    statistics: ObjectStatistics, classes: Sequence[str], preprocess: Preprocess, images: str
) -> list[str]:
    """Return the statistics in a few lines.

    Args:
        statistics: What was counted.
        classes: Names of the classes.
        preprocess: How the network sees the images.
        images: What images are called: ``photos``.
    """
    total = int(statistics.counts.sum())
    if not total:
        return [f"none of the {images} has an object"]
    among = "" if statistics.is_all else f" in {statistics.num_images:,} of the {images}"
    lines = [f"{total:,} objects{among}: {_by_class(classes, statistics.by_class.tolist())}"]
    by_name = dict(zip(classes, statistics.by_class.tolist(), strict=True))
    lines += [
        f"{name} has {by_name[name]}: did you mean {meant}?"
        for name, meant in other_spellings(by_name).items()
        if by_name[name]
    ]
    lines.append(f"{statistics.counts.mean():.1f} in each, {int(statistics.counts.max()):,} at most")
    if statistics.num_masks:
        lines.append(_masks_in_words(total - statistics.num_masks, total))
    low, middle, high = np.percentile(statistics.sizes_px, [5, 50, 95])
    lines.append(
        f"seen at {_sides(preprocess)} they are {low:.0f} to {high:.0f} px large, half of them over "
        f"{middle:.0f}"
    )
    tiny = float((statistics.sizes_px < _TINY_PX).mean())
    if tiny >= _MANY_TINY:
        lines.append(
            f"{tiny:.0%} are below {_TINY_PX} px, and few of such are found; --image-px shows them larger"
        )
    return lines


def _masks_in_words(num_without: int, total: int) -> str:
    if not num_without:
        return "their masks are learned, too; --task detect learns boxes alone"
    teach = "teaches its box" if num_without == 1 else "teach their boxes"
    return f"their masks are learned, too; {num_without:,} of {total:,} objects have none and {teach} alone"


def _sides(preprocess: Preprocess) -> str:
    shorter, longer = preprocess.resize_px, preprocess.crop_px
    return f"{longer} px" if shorter >= longer else f"{shorter} px, or the longer side at {longer:,} px,"


def _by_class(classes: Sequence[str], counts: Sequence[int]) -> str:
    if len(classes) <= _MOST_CLASSES:
        return ", ".join(f"{name} {count:,}" for name, count in zip(classes, counts, strict=True))
    low, high = min(counts), max(counts)
    rarest = classes[counts.index(low)]
    return f"{low:,} ({rarest}) to {high:,} ({classes[counts.index(high)]}) of a class"
