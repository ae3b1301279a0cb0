"""Detectors as torch modules, built from a spec: Faster R-CNN on any network of the family.

Importing this room imports torchvision, which takes about a second: only what has to do with objects does.
"""

from deepresidual.nn.detection.detector import Detector, empty_detector
from deepresidual.nn.detection.init import initialize_detector
from deepresidual.nn.detection.masks import TaughtMask
from deepresidual.nn.detection.matching import Taught
from deepresidual.nn.detection.regions import Found

__all__ = ["Detector", "Found", "Taught", "TaughtMask", "empty_detector", "initialize_detector"]
