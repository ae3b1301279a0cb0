"""Make and export the models of the benchmarks of inference: random weights, an answer for every photo."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepresidual.benchmarks.random_classifier import random_classifier, views_of
from deepresidual.exporting import export
from deepresidual.exporting.int8_options import Int8Options
from deepresidual.models import TorchClassifier, save
from deepresidual.runtime.console import note

ModelKind: TypeAlias = Literal["torch", "fp32", "pt2", "int8"]
"""A model folder, or what was exported from it."""


class Exports:
    """Models and what was exported from them, each made when it is first asked for.

    Args:
        place: A folder for them.
        contents: Bytes of photos, for statistics and for calibration.
        image_px: Side of the networks' input.
    """

    def __init__(self, place: Path, contents: list[bytes], image_px: int) -> None:
        self._place, self._contents, self._image_px = place, contents, image_px
        self._models: dict[str, TorchClassifier] = {}

    def views(self, model: str) -> NDArray[np.uint8]:
        """Return the views ``(N, S, S, 3)`` uint8 of the photos for a network."""
        return views_of(self._contents, model, self._image_px)

    def classifier(self, model: str) -> TorchClassifier:
        """Return the classifier of a network of the zoo."""
        if model not in self._models:
            note(f"making {model}")
            self._models[model] = random_classifier(model, self.views(model))
        return self._models[model]

    def folder(self, model: str, kind: ModelKind) -> Path:
        """Return the folder of a model in one of its kinds."""
        path = self._place / f"{model}-{kind}"
        if path.exists():
            return path
        classifier = self.classifier(model)
        note(f"writing {path.name}")
        match kind:
            case "torch":
                save(classifier, path)
            case "fp32":
                export(classifier, path, resize="none")
            case "pt2":
                export(classifier, path, to="pt2")
            case "int8":
                export(classifier, path, resize="none", int8=Int8Options(self._labelled(model)))
        return path

    def _labelled(self, model: str) -> Path:
        """Write the photos of which the network is surest as a data set with its own answers for labels.

        Random weights know no labels to be judged by. What is measured is how fast the file is; what int8
        costs is measured on trained networks (``benchmarks/exported_accuracy.py``).
        """
        folder = self._place / f"{model}-data"
        classifier = self.classifier(model)
        logits = classifier.logits(self.views(model))
        ordered = np.sort(logits, axis=1)
        surest = np.argsort(ordered[:, -2] - ordered[:, -1])[: max(4, len(logits) // 2)]
        for number in surest.tolist():
            label = classifier.label_names[int(logits[number].argmax())]
            for split in ("train", "test"):
                path = folder / split / label / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._contents[number])
        return folder
