"""Data sets of Hugging Face's ``datasets``: an image column and a label column.

The library is never imported here: who has a data set of it has imported it. Images are not decoded by it, so
a JPEG stays the JPEG that it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from deepresidual.data.source.in_memory import encoded
from deepresidual.data.source.map_style import IMAGE_NAMES, LABEL_NAMES, Label, key_of, label_of
from deepresidual.errors import ConfigurationError, DataError


def is_hugging_face(dataset: object) -> bool:
    """Return whether this is a ``datasets.Dataset``."""
    library = sys.modules.get("datasets")
    return library is not None and isinstance(dataset, getattr(library, "Dataset", ()))


class HuggingFaceSamples:
    """Samples of a ``datasets.Dataset``; a format or a transform that is set on it is left aside.

    Args:
        dataset: The data set.
        image: Name of the image column. Default: by its type, or ``image`` or ``img``.
        label: Name of the label column. Default: by its type, or ``label``, ``labels``, ``fine_label``,
            ``class``.

    Raises:
        ConfigurationError: There is no such column, or several may be meant.
    """

    def __init__(self, dataset: Any, image: str | None = None, label: str | None = None) -> None:
        library = sys.modules["datasets"]
        features = dataset.features
        self._image = _column(
            features, "image", image, IMAGE_NAMES, lambda feature: isinstance(feature, library.Image)
        )
        self._label = _column(
            features, "label", label, LABEL_NAMES, lambda feature: isinstance(feature, library.ClassLabel)
        )
        names = getattr(features[self._label], "names", None)
        self.class_names = None if names is None else tuple(map(str, names))
        self.name = str(dataset.info.dataset_name or "dataset").replace("/", "-")
        plain = dataset.select_columns([self._image, self._label]).with_format(None)
        if isinstance(features[self._image], library.Image):
            plain = plain.cast_column(self._image, library.Image(decode=False))
        self._dataset = plain

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, index: int) -> tuple[bytes, Label]:
        """Return the file of an image, and its label."""
        row = self._dataset[index]
        image = row[self._image]
        try:
            if isinstance(image, dict):
                image = image["bytes"] if image["bytes"] is not None else image["path"]
            return encoded(image), label_of(row[self._label])
        except DataError as error:
            raise DataError(
                f"{key_of(index)}: {error.found}", expected=error.expected, remedy=error.remedy
            ) from error

    def labels(self) -> list[Label]:
        """Return all labels."""
        return [label_of(value) for value in self._dataset[self._label]]


def _column(
    features: Any, what: str, asked: str | None, usual: tuple[str, ...], fits: Callable[[object], bool]
) -> str:
    names = list(features)
    if asked is not None:
        if asked not in names:
            raise ConfigurationError(
                f"the data set has no column {asked!r}", expected=f"one of {', '.join(names)}"
            )
        return asked
    found = [name for name in names if fits(features[name])]
    chosen = next((name for name in usual if name in found), None)
    chosen = chosen or next((name for name in usual if name in names), None)
    if chosen is None and len(found) == 1:
        chosen = found[0]
    if chosen is None:
        several = f" ({', '.join(found)})" if found else f" ({', '.join(names)})"
        raise ConfigurationError(
            f"the data set has {'several' if found else 'no'} {what} column{'s' if found else ''}{several}",
            remedy=f"name it with {what}=… of deepresidual.open_dataset",
        )
    return chosen
