"""What computes a network's outputs: the interface that all of it has, and one file for each engine.

Nothing is imported before it is used: what a MODEL argument stands for is told without numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.runtime.lazy import lazy_attributes

if TYPE_CHECKING:
    from deepresidual.backends.classifier import Classifier, Prediction
    from deepresidual.backends.files import FilePrediction, FoundImages, find_images, predict_files

__all__ = ["Classifier", "FilePrediction", "FoundImages", "Prediction", "find_images", "predict_files"]

_HOMES = {
    "Classifier": "deepresidual.backends.classifier",
    "FilePrediction": "deepresidual.backends.files",
    "FoundImages": "deepresidual.backends.files",
    "Prediction": "deepresidual.backends.classifier",
    "find_images": "deepresidual.backends.files",
    "predict_files": "deepresidual.backends.files",
}


__getattr__ = lazy_attributes(__name__, _HOMES)
