"""Detectors as torch modules, built from a spec: Faster R-CNN on any network of the family.

Importing this room imports torchvision, which takes about a second: only what has to do with objects does.
"""

from deepresidual.nn.detection.detector import Detector, blanked, empty_detector
from deepresidual.nn.detection.init import initialize_detector
from deepresidual.nn.detection.masks import TaughtMask
from deepresidual.nn.detection.matching import Taught
from deepresidual.nn.detection.regions import Found
from deepresidual.nn.detection.stages import Stages, detect_in_stages

__all__ = [
    "Detector",
    "Found",
    "Stages",
    "Taught",
    "TaughtMask",
    "blanked",
    "detect_in_stages",
    "empty_detector",
    "initialize_detector",
]
