"""Predictions and features of many files: as rows, in files, and in folders of shards that can be resumed.

Nothing is imported before it is used: the command line has the names of columns without NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.runtime.lazy import lazy_attributes

if TYPE_CHECKING:
    from deepresidual.backends.images import ImageFile
    from deepresidual.prediction.features import FeatureOutputs, FileFeatures
    from deepresidual.prediction.folder import FolderSummary, PredictionFolder
    from deepresidual.prediction.objects import ObjectOutputs
    from deepresidual.prediction.outputs import ClassOutputs, ComputeSettings
    from deepresidual.runtime.shard_folder import Share

__all__ = [
    "ClassOutputs",
    "ComputeSettings",
    "FeatureOutputs",
    "FileFeatures",
    "FolderSummary",
    "ImageFile",
    "ObjectOutputs",
    "PredictionFolder",
    "Share",
]

_HOMES = {
    "ClassOutputs": "deepresidual.prediction.outputs",
    "ComputeSettings": "deepresidual.prediction.outputs",
    "FeatureOutputs": "deepresidual.prediction.features",
    "FileFeatures": "deepresidual.prediction.features",
    "FolderSummary": "deepresidual.prediction.folder",
    "ImageFile": "deepresidual.backends.images",
    "ObjectOutputs": "deepresidual.prediction.objects",
    "PredictionFolder": "deepresidual.prediction.folder",
    "Share": "deepresidual.runtime.shard_folder",
}


__getattr__ = lazy_attributes(__name__, _HOMES)
