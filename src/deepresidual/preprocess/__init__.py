"""The one preprocessing record, from a decoded image to the input of a network; no torch."""

from deepresidual.preprocess.mean_image import MeanImage
from deepresidual.preprocess.record import Channels, Fit, Interpolation, Preprocess

__all__ = ["Channels", "Fit", "Interpolation", "MeanImage", "Preprocess"]
