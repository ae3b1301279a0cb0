"""The one door for models: create, load, save; :mod:`residual.models.convert` for those from elsewhere."""

from residual.models.folder import load, model_folder, save
from residual.models.model import Model, Prediction, create, require_classifier

__all__ = ["Model", "Prediction", "create", "load", "model_folder", "require_classifier", "save"]
