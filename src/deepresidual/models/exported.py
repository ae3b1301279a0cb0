"""Load an exported model. No torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.backends.engine_choice import engines_for
from deepresidual.backends.exported import ExportedClassifier
from deepresidual.backends.signature import SIGNATURE, read_signature, require_own_labels
from deepresidual.errors import ModelFileError
from deepresidual.models.config import read_config

if TYPE_CHECKING:
    from pathlib import Path


def load_exported(folder: Path, *, backend: str = "auto") -> ExportedClassifier:
    """Load an exported model.

    Args:
        folder: The folder with ``signature.json``.
        backend: Name of the engine that computes; ``auto``: chosen by how many images are expected
            (:mod:`deepresidual.backends.engine_choice`).

    Raises:
        ModelFileError: The folder is damaged, its parts are not those that were exported or contradict each
            other, or the backend does not run it.
    """
    config, signature = read_config(folder), read_signature(folder)
    require_own_labels(folder, signature)
    engines = engines_for(folder, signature, backend)
    shape = signature.inputs[0].shape if signature.inputs else ()
    side = config.preprocess.crop_px
    if shape[1:] != (side, side, config.preprocess.num_channels):
        raise ModelFileError(
            f"{folder / SIGNATURE} names an input of {shape} and config.json views of {side} px in "
            f"{config.preprocess.num_channels} channels",
            expected="the same",
            remedy="export the model again",
        )
    return ExportedClassifier(
        folder,
        signature,
        engines,
        config.label_names,
        config.preprocess,
        task=config.task,
        thresholds=config.thresholds,
        abstention=config.abstention,
    )
