"""Explain files, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepresidual.backends.classifier import NOT_FINITE
from deepresidual.backends.files import loading_threads
from deepresidual.backends.images import image_batches
from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.explanation.activation_maps import METHODS, ActivationMaps, Method, activation_maps
from deepresidual.explanation.layers import LAST_MAP, captured_map
from deepresidual.models import Classifier, TorchClassifier, require_classes, require_torch


@dataclass(frozen=True, repr=False)
class Explanation:
    """Heat map of one image for one class.

    Attributes:
        view: ``(S, S, 3)`` uint8 RGB, what the network saw of the image.
        values: ``(h, w)`` float32, 0 or more: the map, at the resolution of the layer.
        label: The class that the map is for.
        probability: Its probability, 0 to 1.
        predicted: The most probable class.
        predicted_probability: Its probability, 0 to 1.
        method: Method of the map.
        layer: Layer of the map.
    """

    view: NDArray[np.uint8]
    values: Tensor
    label: str
    probability: float
    predicted: str
    predicted_probability: float
    method: Method
    layer: str

    def __repr__(self) -> str:
        height, width = self.values.shape
        return (
            f"Explanation({self.label!r} at {self.probability:.1%}, {self.method} of {self.layer}, a map of "
            f"{height}×{width})"
        )

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows: the picture of :func:`draw_explanation`."""
        from deepresidual.explanation.drawing import draw_explanation

        return draw_explanation(self)


@dataclass(frozen=True)
class FileExplanation:
    """Result of one file: an explanation, or the reason why there is none.

    Attributes:
        path: The file, as it was given.
        explanation: The explanation; ``None`` where the file could not be used.
        error: The reason; empty where there is an explanation.
    """

    path: str
    explanation: Explanation | None
    error: str = ""

    def _repr_png_(self) -> bytes | None:
        """Return what a notebook shows: the picture; of a file that could not be used just the text."""
        return None if self.explanation is None else self.explanation._repr_png_()  # the same name


def explain_files(
    model: Classifier,
    files: Sequence[str],
    *,
    method: Method = "grad-cam",
    layer: str = LAST_MAP,
    class_name: str | None = None,
    batch_size: int = 8,
    num_workers: int | None = None,
) -> Iterator[FileExplanation]:
    """Return one result a file, in order, while the rest is still being read.

    A file that cannot be used, or for which the network gives NaN or infinity, yields its error and does not
    stop the others.

    Args:
        model: The model, on the device to use.
        files: Paths of image files.
        method: ``grad-cam``, ``grad-cam++``, ``hires-cam`` or ``score-cam``.
        layer: A name of :func:`layer_names`.
        class_name: The class to explain, by name or by row of the classifier. Default: the most probable
            class of each image.
        batch_size: Images at a time.
        num_workers: Threads that read and decode. Default: chosen for the machine.

    Raises:
        ModelFileError: The model has no classifier, or something else than PyTorch computes it.
        UnknownNameError: There is no such method or class.
        ConfigurationError: There is no such layer, or a number is out of range.
    """
    require_classes(model)
    torch_model = require_torch(model, "heat maps")
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size}", expected="1 or more")
    with captured_map(torch_model.network, layer):
        pass  # said before the first image is read
    row = None if class_name is None else class_row(model.label_names, class_name)
    workers = loading_threads(num_workers, len(files), batch_size, model)
    return _stream(torch_model, files, method, layer, row, batch_size, workers)


def class_row(names: Sequence[str], name: str) -> int:
    """Return the classifier's row for a class, given by name or, where no class is called so, by number.

    Raises:
        UnknownNameError: There is no such class.
    """
    if name in names:
        return names.index(name)
    if name.isascii() and name.isdecimal() and int(name) < len(names):
        return int(name)
    raise UnknownNameError(
        "class", name, names, remedy=f"give a class by its name, or by its number from 0 to {len(names) - 1}"
    )


def _stream(
    model: TorchClassifier,
    files: Sequence[str],
    method: Method,
    layer: str,
    row: int | None,
    batch_size: int,
    num_workers: int,
) -> Iterator[FileExplanation]:
    for batch in image_batches(files, model.preprocess, batch_size=batch_size, num_workers=num_workers):
        explanations: Iterator[Explanation | None] = iter(())
        if len(batch.pixels):
            rows = None if row is None else [row] * len(batch.pixels)
            maps = activation_maps(
                model, torch.from_numpy(batch.pixels), method=method, layer=layer, rows=rows
            )
            explanations = _explanations(model, batch.pixels, maps, method, layer)
        for path, error in zip(batch.names, batch.errors, strict=True):
            if error is not None:
                yield FileExplanation(path, None, str(error))
            else:
                explanation = next(explanations)
                yield FileExplanation(path, explanation, NOT_FINITE if explanation is None else "")


def _explanations(
    model: TorchClassifier, views: NDArray[np.uint8], maps: ActivationMaps, method: Method, layer: str
) -> Iterator[Explanation | None]:
    """Yield the explanation of each view; ``None`` where the network gives NaN or infinity."""
    probabilities = model.probabilities(maps.logits.cpu().numpy())
    usable = maps.logits.isfinite().all(dim=1) & maps.values.isfinite().all(dim=(1, 2))
    for place, view in enumerate(views):
        if not usable[place]:
            yield None
            continue
        shown, predicted = maps.rows[place], int(maps.logits[place].argmax())
        yield Explanation(
            view=model.preprocess.to_rgb(view),
            values=maps.values[place],
            label=model.label_names[shown],
            probability=float(probabilities[place, shown]),
            predicted=model.label_names[predicted],
            predicted_probability=float(probabilities[place, predicted]),
            method=method,
            layer=layer,
        )
