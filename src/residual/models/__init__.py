"""The one door for models: create, load, save."""

from residual.models.folder import load, save
from residual.models.model import Model, Prediction, create

__all__ = ["Model", "Prediction", "create", "load", "save"]
