"""``model_fingerprint``: what decides the outputs of a model, so that two computations can be compared."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from deepresidual.errors import DISTRIBUTION
from deepresidual.runtime.provenance import version_of

if TYPE_CHECKING:
    from deepresidual.backends.classifier import Classifier
    from deepresidual.backends.object_detector import ObjectDetector

# What decodes and resizes an image, and what ranks its classes.
_PACKAGES = ("numpy", "Pillow", "simplejpeg")


def model_fingerprint(model: Classifier | ObjectDetector) -> dict[str, Any]:
    """Return what decides a model's outputs, as JSON types.

    Whether it abstains below a probability is left out: that changes no output. So are the processor and the
    number of threads, in which the last digits of a probability may differ.
    """
    chosen = getattr(model, "thresholds", None)
    thresholds = None if chosen is None else list(chosen.values)
    labels = json.dumps([list(model.label_names), model.task, thresholds])
    packages = (DISTRIBUTION, *_PACKAGES, *model.packages)
    preprocess = model.preprocess.to_dict()
    if "mean_image" in preprocess:  # as large as a picture
        preprocess["mean_image"] = _sha256(json.dumps(preprocess["mean_image"], sort_keys=True))
    return {
        "backend": model.backend,
        "weights": model.weights_sha256(),
        "labels": _sha256(labels),
        "preprocess": preprocess,
        "versions": {package: version_of(package) for package in packages},
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
