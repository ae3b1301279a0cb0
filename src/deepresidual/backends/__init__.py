"""What computes a network's outputs: the interface that all of it has, and one file for each format."""

from deepresidual.backends.classifier import Classifier, Prediction
from deepresidual.backends.files import FilePrediction, FoundImages, find_images, predict_files

__all__ = ["Classifier", "FilePrediction", "FoundImages", "Prediction", "find_images", "predict_files"]
