"""The one door for models: create, load, save; :mod:`deepresidual.models.convert` for others' weights."""

from deepresidual.models.folder import load, model_folder, save
from deepresidual.models.model import Model, Prediction, create, require_classifier

__all__ = ["Model", "Prediction", "create", "load", "model_folder", "require_classifier", "save"]
