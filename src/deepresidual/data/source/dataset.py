"""Data sets that are Python objects: PyTorch's and torchvision's, Hugging Face's, lists of pairs.

A sample is ``(image, label)``, as map-style data sets of PyTorch give it, or a mapping with an image and a
label, as those of Hugging Face do. Several splits are a mapping of names to such data sets. No library is
imported for that: who has an object of it has imported it.

Example:
    >>> from torchvision.datasets import CIFAR10
    >>> source = open_dataset({"train": CIFAR10("data"), "test": CIFAR10("data", train=False)})
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from deepresidual.data.source.base import (
    TRAIN,
    IgnoredFile,
    SampleSource,
    Split,
    canonical_split,
    check_class_names,
)
from deepresidual.data.source.class_numbers import ClassNumbers
from deepresidual.data.source.division import divide
from deepresidual.data.source.folder import FolderSplit
from deepresidual.data.source.huggingface import HuggingFaceSamples, is_hugging_face
from deepresidual.data.source.map_style import (
    Label,
    MapStyleSamples,
    Samples,
    common_folder,
    files_of,
    key_of,
    label_of,
)
from deepresidual.data.source.object_split import ObjectSplit, read_all
from deepresidual.errors import ConfigurationError, DataError, kind_of, quoted


class MapStyle(Protocol):
    """A data set with a length whose samples are had by number: what PyTorch calls map-style."""

    # `__len__` is needed as well, but `torch.utils.data.Dataset` does not declare it.

    def __getitem__(self, index: int, /) -> Any:
        """Return sample ``index``: ``(image, label)``, or a mapping with both."""
        ...


Dataset: TypeAlias = MapStyle | Mapping[str, MapStyle]
"""A data set as a Python object, or several by the name of their split."""


def open_dataset(
    dataset: Dataset | str | Path,
    *,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    image: str | None = None,
    label: str | None = None,
    num_workers: int | None = None,
) -> SampleSource:
    """Open a data set that is a Python object; a path or name is opened as :func:`deepresidual.train` does.

    Args:
        dataset: A map-style data set of PyTorch or torchvision, a ``Dataset`` or ``DatasetDict`` of Hugging
            Face, or a list of pairs; or a mapping of ``train`` and ``val`` or ``test`` or both to such. A
            sample is ``(image, label)``: a Pillow image, a uint8 array ``(H, W)`` or ``(H, W, C)``, a uint8
            tensor ``(C, H, W)``, or the path or the bytes of an image file; and a whole number or a name. Of
            one without splits a fifth of each class is held out.
        class_names: Names of the classes, in the order of the numbers. Default: those that the data set has
            as ``classes`` or as the feature of its labels, else the labels that occur.
        name: Name of the data set, for reports and folder names. Default: by its kind.
        image: Name of the image where samples are mappings. Default: by type and usual names.
        label: Name of the label there.
        num_workers: Threads that read all samples once, for labels that have to be asked for one by one and
            for the fingerprint of a run. Default: as many as there are cores; 0: one sample at a time.

    Raises:
        DataError: A sample cannot be used; the message names it.
        ConfigurationError: This is no data set, or class names do not fit.
    """
    if isinstance(dataset, str | Path):
        return _opened_path(dataset, name, class_names=class_names, image=image, label=label)
    parts = dict(dataset) if isinstance(dataset, Mapping) else {None: dataset}
    if not parts:
        raise ConfigurationError("the data set has no splits", expected="'train' and 'val' or 'test'")
    found: dict[str, _Part] = {}
    for key, value in parts.items():
        split = _split_name(key, found) if key is not None else ""
        found[split] = _Part.read(value, split, image, label, num_workers)
    ignored = _take_out_unlabelled(found)
    called = name or next(iter(found.values())).samples.name
    classes = _agreed_classes(called, found, class_names)
    splits = {name: part.split(name, classes) for name, part in found.items()}
    check_class_names(Path(called), classes.names, remedy="add images of another class")
    whole = splits.pop("", None)
    ordered = dict(sorted(splits.items(), key=lambda item: item[0] != TRAIN))
    return divide(SampleSource(called, classes.names, ordered, tuple(ignored), whole=whole))


def _opened_path(path: str | Path, name: str | None, **of_objects: object) -> SampleSource:
    """Open a data set by path or name, which says itself what its classes and labels are."""
    # Imported here, since that module opens every kind of data.
    from deepresidual.data.source import open_source

    for option, value in of_objects.items():
        if value is not None:
            raise ConfigurationError(
                f"{option} is given for a path ({path})",
                expected="a Python object",
                remedy=f"leave {option} out: the files themselves say it",
            )
    source = open_source(path)
    return source if name is None else replace(source, name=name)


@dataclass(frozen=True)
class _Part:
    """One of the data sets, before it is known what its labels mean.

    Attributes:
        samples: Its samples.
        values: Their labels.
        checksums: CRC-32 of every image, where all had to be read for the labels.
        num_workers: Threads that read all of them.
        files: The path of every sample, where they are files.
    """

    samples: Samples
    values: list[Label]
    checksums: list[int] | None
    num_workers: int | None
    files: list[str] | None

    @classmethod
    def read(
        cls, dataset: object, split: str, image: str | None, label: str | None, num_workers: int | None
    ) -> _Part:
        """Read labels; ``split`` is for messages."""
        if isinstance(dataset, str | Path):
            raise ConfigurationError(
                f"the {split} split is a path ({dataset})",
                expected="a data set",
                remedy="give the path of a folder with train/ and test/ in it",
            )
        _require_map_style(dataset)
        samples: Samples
        if is_hugging_face(dataset):
            samples = HuggingFaceSamples(dataset, image, label)
        else:
            samples = MapStyleSamples(dataset, image, label)
        if not len(samples):
            raise DataError(f"{f'the {split} split' if split else 'the data set'} has no samples")
        pairs = files_of(dataset)
        if pairs is not None:
            values = [label_of(value) for _, value in pairs]
            return cls(samples, values, None, num_workers, [path for path, _ in pairs])
        _require_the_same_twice(samples)
        labels, checksums = samples.labels(), None
        if labels is None:
            labels, checksums = read_all(samples, num_workers)
        return cls(samples, labels, checksums, num_workers, None)

    def split(self, name: str, classes: ClassNumbers) -> Split:
        """Return the samples as a split.

        Raises:
            DataError: A label means no class; the message names the sample.
        """
        for index, value in enumerate(self.values):
            if value not in classes.numbers:
                where = f"{name}: " if name else ""
                has = "no label" if self._lacks_label(index) else f"label {quoted(value)}"
                raise DataError(f"{where}{key_of(index)} has {has}", expected=classes.expected)
        if self.files is not None:
            folder = common_folder(self.files)
            names = [os.path.relpath(path, folder) for path in self.files]
            return FolderSplit(folder, names, [classes.numbers[value] for value in self.values])
        return ObjectSplit(self.samples, self.values, classes.numbers, self.checksums, self.num_workers)

    def _lacks_label(self, index: int) -> bool:
        """Return whether there is nothing in the place of a label, which counts as −1 elsewhere."""
        return isinstance(self.samples, MapStyleSamples) and self.samples.lacks_label(index)


def _require_map_style(dataset: object) -> None:
    """Refuse what is no data set whose samples are had by number."""
    torch_data = sys.modules.get("torch.utils.data")
    if torch_data is not None and isinstance(dataset, torch_data.DataLoader):
        raise ConfigurationError(
            "the data is a DataLoader", expected="a data set", remedy="give its .dataset, without transforms"
        )
    iterable = torch_data is not None and isinstance(dataset, torch_data.IterableDataset)
    if iterable or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise ConfigurationError(
            f"the data is {kind_of(dataset)}, whose samples are not had by number",
            expected="a path, a name, or a data set with __getitem__ and __len__",
            remedy="write its samples into a list of (image, label), or into a folder of images by class",
        )


def _require_the_same_twice(samples: Samples) -> None:
    """Refuse samples that are another picture each time they are read."""
    for index in range(min(8, len(samples))):
        if samples.read(index)[0] != samples.read(index)[0]:
            raise DataError(
                f"{key_of(index)} is another picture each time it is read",
                remedy="give the data set without random transforms: training varies images itself",
            )


def _split_name(key: object, found: Mapping[str, _Part]) -> str:
    name = canonical_split(key) if isinstance(key, str) else None
    if name is None:
        raise ConfigurationError(
            f"a split is called {quoted(key)}",
            expected="'train', 'val' or 'test'",
            remedy="give a mapping of those names to data sets",
        )
    if name in found:
        raise ConfigurationError(f"there are two {name} splits", remedy="keep one")
    return name


def _take_out_unlabelled(parts: dict[str, _Part]) -> list[IgnoredFile]:
    """Take out a test split of which no sample has a label, as where labels are withheld."""
    if "test" in parts and len(parts) > 1 and set(parts["test"].values) <= {-1}:
        del parts["test"]
        return [IgnoredFile("test", "none of its samples has a label")]
    return []


def _agreed_classes(called: str, parts: Mapping[str, _Part], asked: Sequence[str] | None) -> ClassNumbers:
    values = {value for part in parts.values() for value in part.values}
    names = tuple(asked) if asked is not None else _declared_by_all(called, parts)
    if names is not None:
        if isinstance(asked, str) or not all(isinstance(name, str) for name in names):
            raise ConfigurationError(f"class_names is {quoted(asked)}", expected="a list of names")
        numbers: dict[Label, int] = {name: number for number, name in enumerate(names)}
        numbers |= {number: number for number in range(len(names))}
        expected = f"0 to {len(names) - 1}, or the name of a class"
    elif texts := {value for value in values if isinstance(value, str)}:
        names = tuple(sorted(texts))
        numbers = {name: number for number, name in enumerate(names)}
        expected = "the name of a class"
    else:
        usable = sorted(value for value in values if isinstance(value, int) and value >= 0)
        names = tuple(map(str, usable))
        numbers = {value: place for place, value in enumerate(usable)}
        expected = "0 or more"
    return ClassNumbers(names, numbers, expected)


def _declared_by_all(called: str, parts: Mapping[str, _Part]) -> tuple[str, ...] | None:
    """Return the class names that the data sets declare."""
    declared = {part.samples.class_names for part in parts.values()} - {None}
    if len(declared) > 1:
        raise DataError(
            f"{called}: the splits declare different class names", remedy="give class_names for all of them"
        )
    return declared.pop() if declared else None
