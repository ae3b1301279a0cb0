"""Residual: deep residual learning in Python, on PyTorch.

    >>> import residual
    >>> network = residual.create("resnet50", num_classes=10)      # a torch module, He-initialized
    >>> model = residual.load("runs/photos-resnet18")              # with class names and preprocessing
    >>> model.predict("photo.jpg", top_k=3)

Nothing heavy is imported before it is used: ``import residual`` and ``residual --help`` do not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from residual.runtime.openmp import limit_spinning

if TYPE_CHECKING:
    from residual.errors import ResidualError
    from residual.evaluation import Evaluation, evaluate
    from residual.models import Model, Prediction, create, load, save
    from residual.models.convert import Conversion, convert
    from residual.nn import ResNet
    from residual.preprocess import Preprocess
    from residual.recipe import Recipe
    from residual.spec import ResNetSpec
    from residual.training import RunResult, train
    from residual.zoo import list_models

__version__ = "0.1.0.dev0"

limit_spinning()  # has to be in the environment before torch is loaded

__all__ = [
    "Conversion",
    "Evaluation",
    "Model",
    "Prediction",
    "Preprocess",
    "Recipe",
    "ResNet",
    "ResNetSpec",
    "ResidualError",
    "RunResult",
    "__version__",
    "convert",
    "create",
    "evaluate",
    "list_models",
    "load",
    "save",
    "train",
]

_HOMES = {
    "Conversion": "residual.models.convert",
    "Evaluation": "residual.evaluation",
    "Model": "residual.models",
    "Prediction": "residual.models",
    "Preprocess": "residual.preprocess",
    "Recipe": "residual.recipe",
    "ResNet": "residual.nn",
    "ResNetSpec": "residual.spec",
    "ResidualError": "residual.errors",
    "RunResult": "residual.training",
    "convert": "residual.models.convert",
    "create": "residual.models",
    "evaluate": "residual.evaluation",
    "list_models": "residual.zoo",
    "load": "residual.models",
    "save": "residual.models",
    "train": "residual.training",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'residual' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
