"""The one door for models: create, load, save; :mod:`deepresidual.models.convert` for others' weights.

Nothing is imported before it is used: :mod:`deepresidual.models.source` tells without torch what a MODEL
argument stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.runtime.lazy import lazy_attributes

if TYPE_CHECKING:
    from deepresidual.backends.classifier import Classifier, Prediction, require_classes, require_classifier
    from deepresidual.backends.detector import TorchDetector
    from deepresidual.backends.pytorch import TorchClassifier, require_torch
    from deepresidual.models.folder import Model, save
    from deepresidual.models.loading import load, load_detector
    from deepresidual.models.network import create
    from deepresidual.models.source import list_weights, model_folder
    from deepresidual.models.weights import (
        ResolvedWeights,
        cached_weights,
        detects_objects,
        load_network,
        load_torch,
        resolve_weights,
    )

__all__ = [
    "Classifier",
    "Model",
    "Prediction",
    "ResolvedWeights",
    "TorchClassifier",
    "TorchDetector",
    "cached_weights",
    "create",
    "detects_objects",
    "list_weights",
    "load",
    "load_detector",
    "load_network",
    "load_torch",
    "model_folder",
    "require_classes",
    "require_classifier",
    "require_torch",
    "resolve_weights",
    "save",
]

_HOMES = {
    "Classifier": "deepresidual.backends.classifier",
    "Model": "deepresidual.models.folder",
    "Prediction": "deepresidual.backends.classifier",
    "ResolvedWeights": "deepresidual.models.weights",
    "TorchClassifier": "deepresidual.backends.pytorch",
    "TorchDetector": "deepresidual.backends.detector",
    "cached_weights": "deepresidual.models.weights",
    "create": "deepresidual.models.network",
    "detects_objects": "deepresidual.models.weights",
    "list_weights": "deepresidual.models.source",
    "load": "deepresidual.models.loading",
    "load_detector": "deepresidual.models.loading",
    "load_network": "deepresidual.models.weights",
    "load_torch": "deepresidual.models.weights",
    "model_folder": "deepresidual.models.source",
    "require_classes": "deepresidual.backends.classifier",
    "require_classifier": "deepresidual.backends.classifier",
    "require_torch": "deepresidual.backends.pytorch",
    "resolve_weights": "deepresidual.models.weights",
    "save": "deepresidual.models.folder",
}


__getattr__ = lazy_attributes(__name__, _HOMES)
