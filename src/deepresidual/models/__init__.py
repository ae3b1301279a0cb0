"""The one door for models: create, load, save; :mod:`deepresidual.models.convert` for others' weights."""

from deepresidual.backends.classifier import Classifier, Prediction, require_classifier
from deepresidual.backends.pytorch import TorchClassifier, require_torch
from deepresidual.models.folder import load, model_folder, save
from deepresidual.models.network import create

__all__ = [
    "Classifier",
    "Prediction",
    "TorchClassifier",
    "create",
    "load",
    "model_folder",
    "require_classifier",
    "require_torch",
    "save",
]
