"""The one door for models: create, load, save; :mod:`deepresidual.models.convert` for others' weights."""

from deepresidual.models.folder import load, model_folder, save
from deepresidual.models.model import Prediction, TorchClassifier, create, require_classifier

__all__ = ["Prediction", "TorchClassifier", "create", "load", "model_folder", "require_classifier", "save"]
