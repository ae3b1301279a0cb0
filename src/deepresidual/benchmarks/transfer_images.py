"""Choose the images of a transfer benchmark: few a class to train on, and fixed ones to measure on.

Classes that the learned weights know by name are left out: of a network that was trained on five classes of
CIFAR-10 the target is the other five. The seed decides which images are trained on, and those of fewer images
a class are among those of more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepresidual.data.formats import ACCEPTED, sniff, suffix_of
from deepresidual.data.source import SampleSource, Split
from deepresidual.errors import ConfigurationError, DataError

_TEST_SEED = 2**20  # far from those that are counted from 0


@dataclass(frozen=True)
class TransferImages:
    """A data set and the classes of it that are to be learned.

    Attributes:
        source: The data set.
        labels: The labels of the classes, in order.
    """

    source: SampleSource
    labels: tuple[int, ...]

    @classmethod
    def unknown_to(cls, names: Collection[str], source: SampleSource) -> TransferImages:
        """Return the classes that are not among ``names``, those of the learned weights.

        Raises:
            DataError: Fewer than two are left, or there is no split to train or to measure on.
        """
        source.require_training_splits()
        labels = tuple(row for row, name in enumerate(source.classes) if name not in names)
        if len(labels) < 2:
            raise DataError(
                f"{source.name} has {len(labels)} classes that the weights do not know",
                expected="two or more to learn",
                remedy="name other data, or weights of other classes",
            )
        return cls(source, labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.source.classes[label] for label in self.labels)

    @property
    def num_available(self) -> int:
        """Training images of the class that has the fewest."""
        places = _places(self.source.split("train"), self.labels)
        return min(len(found) for found in places.values())

    def write(self, folder: Path, num_images_per_class: int, seed: int) -> None:
        """Write training images, and one test image a class, as an image folder.

        Training only measures itself on the latter; the figure that counts is that of :meth:`write_test`.

        Raises:
            ConfigurationError: A class has fewer training images than that.
        """
        if num_images_per_class > self.num_available:
            raise ConfigurationError(
                f"{num_images_per_class} training images a class are asked for",
                expected=f"at most {self.num_available}, as many as the smallest class has",
            )
        train = self.source.split("train")
        self._write(folder / "train", train, _chosen(train, self.labels, num_images_per_class, seed))
        self._write(folder / "test", self._test, _chosen(self._test, self.labels, 1, _TEST_SEED))

    def write_test(self, folder: Path, num_images: int) -> int:
        """Write at most ``num_images`` test images, equally many a class, and return how many there are."""
        chosen = _chosen(self._test, self.labels, max(1, num_images // len(self.labels)), _TEST_SEED)
        self._write(folder / "test", self._test, chosen)
        return sum(len(places) for places in chosen.values())

    @property
    def _test(self) -> Split:
        return self.source.split(self.source.evaluation_split)

    def _write(self, folder: Path, split: Split, chosen: Mapping[int, Sequence[int]]) -> None:
        for row, label in enumerate(self.labels):
            # By number: the name of a class need not be one of a folder.
            inside = folder / f"class-{row:04d}"
            inside.mkdir(parents=True)
            for place in chosen[label]:
                content = split.read(place).content
                suffix = suffix_of(kind) if (kind := sniff(content)) in ACCEPTED else "jpg"
                (inside / f"{place:07d}.{suffix}").write_bytes(content)


def _places(split: Split, labels: Sequence[int]) -> dict[int, list[int]]:
    """Return the places of the samples of every class."""
    places: dict[int, list[int]] = {label: [] for label in labels}
    for place, label in enumerate(split.labels):
        if label in places:
            places[label].append(place)
    return places


def _chosen(split: Split, labels: Sequence[int], count: int, seed: int) -> dict[int, list[int]]:
    """Return ``count`` places of every class, or all there are: the first of a permutation by the seed."""
    chosen = {}
    for label, places in _places(split, labels).items():
        order = np.random.Generator(np.random.PCG64([seed, label])).permutation(len(places))
        chosen[label] = [places[place] for place in order[:count].tolist()]
    return chosen
