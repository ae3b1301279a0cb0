"""Samples of a Python object: what a map-style data set gives, before it is known what its labels mean."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from deepresidual.data.source.base import canonical_split
from deepresidual.data.source.in_memory import encoded
from deepresidual.errors import ConfigurationError, DataError, kind_of, quoted

Label: TypeAlias = int | str
"""A label as the data set has it: a number, −1 where there is none, or the name of a class."""

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels", "fine_label", "class")
# Attributes in which torchvision keeps all labels: of most, of SVHN and STL10, of Flowers102 and Food101.
_ALL_LABELS = ("targets", "labels", "_labels")
_ALL_CLASSES = ("classes", "categories")


class Samples(Protocol):
    """Samples with the labels that the data set gives them."""

    @property
    def name(self) -> str:
        """Name of the data set."""
        ...

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, where the data set says them."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def read(self, index: int) -> tuple[bytes, Label]:
        """Return an image as the bytes of a file, and its label; a :class:`DataError` names the sample."""
        ...

    def labels(self) -> list[Label] | None:
        """Return all labels, where they are known without reading the samples."""
        ...


def key_of(index: int) -> str:
    """Return how a sample is called that has no name of its own."""
    return f"sample {index}"


class MapStyleSamples:
    """Samples of an object with ``__getitem__`` and ``__len__``.

    Args:
        dataset: The object.
        image: Name of the image, where a sample is a mapping. Default: ``image`` or ``img``.
        label: Name of the label likewise. Default: ``label``, ``labels``, ``fine_label`` or ``class``.
    """

    def __init__(self, dataset: Any, image: str | None = None, label: str | None = None) -> None:
        self._dataset, self._image, self._label = dataset, image, label

    @property
    def name(self) -> str:
        """Name of the class of the object; of a list just that."""
        innermost = _innermost(self._dataset)
        if isinstance(innermost, Sequence):
            return "images"
        return _folder_name(innermost) or type(innermost).__name__

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, as data sets of torchvision have them."""
        innermost = _innermost(self._dataset)
        found = next(
            (getattr(innermost, name, None) for name in _ALL_CLASSES if hasattr(innermost, name)), None
        )
        if not isinstance(found, Sequence) or isinstance(found, str) or not found:
            return None
        # torchvision's ImageNet has a tuple of synonyms for every class.
        return tuple(name if isinstance(name, str) else ", ".join(map(str, name)) for name in found)

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, index: int) -> tuple[bytes, Label]:
        """Return an image as the bytes of a file, and its label."""
        try:
            sample = self._dataset[index]
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise DataError(
                f"{key_of(index)}: the data set raises {type(error).__name__} ({reason})"
            ) from error
        try:
            image, label = self._parts_of(sample)
            return encoded(image), label_of(label)
        except DataError as error:
            raise DataError(
                f"{key_of(index)}: {error.found}", expected=error.expected, remedy=error.remedy
            ) from error

    def lacks_label(self, index: int) -> bool:
        """Return whether the label of a sample is ``None``."""
        return self._parts_of(self._dataset[index])[1] is None

    def labels(self) -> list[Label] | None:
        """Return all labels, where the object keeps them apart and they are those of its samples."""
        found = _kept_labels(self._dataset)
        if found is None or len(found) != len(self):
            return None
        try:
            labels = [label_of(value) for value in found]
        except DataError:
            return None
        # They are others than those of the samples where there is a `target_transform`.
        some = np.unique(np.linspace(0, len(self) - 1, num=min(8, len(self)), dtype=np.int64)).tolist()
        return labels if all(self.read(index)[1] == labels[index] for index in some) else None

    def _parts_of(self, sample: object) -> tuple[object, object]:
        if isinstance(sample, Mapping):
            image = _chosen(sample, "image", self._image, IMAGE_NAMES)
            return sample[image], sample[_chosen(sample, "label", self._label, LABEL_NAMES)]
        if isinstance(sample, tuple | list) and len(sample) == 2:
            return sample[0], sample[1]
        count = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
        raise DataError(
            f"it is {kind_of(sample)}{count}",
            expected="a pair of image and label",
            remedy="give list(zip(X, y)) where images X and labels y lie apart",
        )


def _chosen(sample: Mapping[str, object], what: str, asked: str | None, usual: Sequence[str]) -> str:
    names = [asked] if asked is not None else usual
    for name in names:
        if name in sample:
            return name
    raise DataError(
        f"it has no {what} ({', '.join(map(str, sample))})",
        expected=f"one called {' or '.join(names)}",
        remedy="" if asked is not None else f"name it with {what}=… of deepresidual.open_dataset",
    )


def label_of(value: object) -> Label:
    """Return a label as a number or a name.

    Raises:
        DataError: It is neither: a fraction, several classes, one-hot.
    """
    if value is None:
        return -1
    if isinstance(value, str):
        return value
    if getattr(value, "ndim", 0) or isinstance(value, Sequence | Mapping):
        raise DataError(
            f"its label is {quoted(value)}", expected="one class an image: a whole number or a name"
        )
    try:
        if hasattr(value, "ndim"):
            value = value.item()  # type: ignore[attr-defined]  # of NumPy or PyTorch, which have it
        return operator.index(value)  # type: ignore[arg-type]  # that is what is to be found out
    except TypeError:
        raise DataError(f"its label is {quoted(value)}", expected="a whole number or a name") from None


# -- data sets that are made of others -----------------------------------------------------------------------


def _innermost(dataset: Any) -> Any:
    """Return the data set that a subset or a concatenation is made of; the first of several."""
    for _ in range(16):
        if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
            dataset = dataset.dataset
        elif isinstance(getattr(dataset, "datasets", None), Sequence) and dataset.datasets:
            dataset = dataset.datasets[0]
        else:
            break
    return dataset


def _kept_labels(dataset: Any) -> Sequence[object] | None:
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # torch.utils.data.Subset
        within = _kept_labels(dataset.dataset)
        return None if within is None else [within[int(index)] for index in dataset.indices]
    if isinstance(getattr(dataset, "datasets", None), Sequence):  # ConcatDataset
        parts = [_kept_labels(part) for part in dataset.datasets]
        return None if None in parts else [label for part in parts for label in part or ()]
    for name in _ALL_LABELS:
        found: Any = getattr(dataset, name, None)
        if isinstance(found, Sequence) and not isinstance(found, str):
            return found
        if getattr(found, "ndim", 0) == 1 and hasattr(found, "tolist"):
            listed: list[object] = found.tolist()
            return listed
    return None


def _folder_name(dataset: Any) -> str:
    """Return the name of the folder of a folder of images."""
    if not _is_image_folder(dataset):
        return ""
    folder = Path(dataset.root).resolve()
    return folder.parent.name if canonical_split(folder.name) else folder.name


# -- data sets of files --------------------------------------------------------------------------------------


def files_of(dataset: Any) -> list[tuple[str, object]] | None:
    """Return paths and labels where the samples are files, which are read best from where they lie.

    So they are of a list of pairs of path and label, and of torchvision's ``ImageFolder`` without transforms.
    """
    if isinstance(dataset, list | tuple):
        pairs = [pair for pair in dataset if isinstance(pair, tuple | list) and len(pair) == 2]
        if len(pairs) < len(dataset) or not all(isinstance(path, str | Path) for path, _ in pairs):
            return None
        return [(str(path), label) for path, label in pairs]
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        within = files_of(dataset.dataset)
        return None if within is None else [within[int(index)] for index in dataset.indices]
    if not _is_image_folder(dataset):
        return None
    transforms = ("transform", "target_transform", "transforms")
    if any(getattr(dataset, name, None) is not None for name in transforms):
        return None
    return [(str(path), label) for path, label in dataset.samples]


def _is_image_folder(dataset: Any) -> bool:
    """Return whether this is an ``ImageFolder`` that reads as torchvision's does."""
    module = sys.modules.get("torchvision.datasets.folder")
    if module is None or not isinstance(dataset, module.ImageFolder):
        return False
    return (
        type(dataset).__getitem__ is module.DatasetFolder.__getitem__
        and dataset.loader is module.default_loader
    )


def common_folder(paths: Sequence[str]) -> Path:
    """Return the folder that holds all files."""
    folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120  # called for every image
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise ConfigurationError(
            f"the paths have nothing in common ({error})", expected="all absolute, or all relative"
        ) from error
