"""Residual: deep residual learning in Python, on PyTorch.

    >>> import deepresidual
    >>> network = deepresidual.create("resnet50", num_classes=10)      # a torch module, He-initialized
    >>> model = deepresidual.load("runs/photos-resnet18")              # with class names and preprocessing
    >>> model.predict("photo.jpg", top_k=3)

Nothing heavy is imported before it is used: neither ``import deepresidual`` nor ``residual --help`` loads
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.runtime.lazy import lazy_attributes
from deepresidual.runtime.openmp import limit_spinning

if TYPE_CHECKING:
    from deepresidual.backends.detected import Detected
    from deepresidual.data.objects import Objects
    from deepresidual.data.source.base import EncodedSample, LabelledSplit, SampleSource
    from deepresidual.data.source.dataset import open_dataset
    from deepresidual.data.transform import ImageTransform
    from deepresidual.errors import ResidualError
    from deepresidual.estimator import ResNetClassifier
    from deepresidual.evaluation import Evaluation
    from deepresidual.evaluation.evaluate import evaluate
    from deepresidual.evaluation.objects import DetectionEvaluation
    from deepresidual.evaluation.options import EvaluationOptions
    from deepresidual.exporting.export import Export, export
    from deepresidual.exporting.int8_options import Int8Options
    from deepresidual.models import (
        Classifier,
        Prediction,
        TorchClassifier,
        TorchDetector,
        create,
        list_weights,
        load,
        load_detector,
        save,
    )
    from deepresidual.models.convert import Conversion, convert
    from deepresidual.nn import ResNet
    from deepresidual.preprocess import Preprocess
    from deepresidual.recipe import Recipe
    from deepresidual.spec import DetectorSpec, ResNetSpec
    from deepresidual.training.launch import train
    from deepresidual.training.loop import RunResult
    from deepresidual.training.options import TrainOptions
    from deepresidual.zoo import list_models

__version__ = "0.1.0.dev0"

limit_spinning()  # has to be in the environment before torch is loaded

__all__ = [
    "Classifier",
    "Conversion",
    "Detected",
    "DetectionEvaluation",
    "DetectorSpec",
    "EncodedSample",
    "Evaluation",
    "EvaluationOptions",
    "Export",
    "ImageTransform",
    "Int8Options",
    "LabelledSplit",
    "Objects",
    "Prediction",
    "Preprocess",
    "Recipe",
    "ResNet",
    "ResNetClassifier",
    "ResNetSpec",
    "ResidualError",
    "RunResult",
    "SampleSource",
    "TorchClassifier",
    "TorchDetector",
    "TrainOptions",
    "__version__",
    "convert",
    "create",
    "evaluate",
    "export",
    "list_models",
    "list_weights",
    "load",
    "load_detector",
    "open_dataset",
    "save",
    "train",
]

_HOMES = {
    "Classifier": "deepresidual.models",
    "Conversion": "deepresidual.models.convert",
    "Detected": "deepresidual.backends.detected",
    "DetectionEvaluation": "deepresidual.evaluation.objects",
    "DetectorSpec": "deepresidual.spec",
    "EncodedSample": "deepresidual.data.source.base",
    "Evaluation": "deepresidual.evaluation",
    "EvaluationOptions": "deepresidual.evaluation.options",
    "Export": "deepresidual.exporting.export",
    "ImageTransform": "deepresidual.data.transform",
    "Int8Options": "deepresidual.exporting.int8_options",
    "LabelledSplit": "deepresidual.data.source.base",
    "Objects": "deepresidual.data.objects",
    "Prediction": "deepresidual.models",
    "Preprocess": "deepresidual.preprocess",
    "Recipe": "deepresidual.recipe",
    "ResNet": "deepresidual.nn",
    "ResNetClassifier": "deepresidual.estimator",
    "ResNetSpec": "deepresidual.spec",
    "ResidualError": "deepresidual.errors",
    "RunResult": "deepresidual.training.loop",
    "SampleSource": "deepresidual.data.source.base",
    "TorchClassifier": "deepresidual.models",
    "TorchDetector": "deepresidual.models",
    "TrainOptions": "deepresidual.training.options",
    "convert": "deepresidual.models.convert",
    "create": "deepresidual.models",
    "evaluate": "deepresidual.evaluation.evaluate",
    "export": "deepresidual.exporting.export",
    "list_models": "deepresidual.zoo",
    "list_weights": "deepresidual.models",
    "load": "deepresidual.models",
    "load_detector": "deepresidual.models",
    "open_dataset": "deepresidual.data.source.dataset",
    "save": "deepresidual.models",
    "train": "deepresidual.training.launch",
}


__getattr__ = lazy_attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
