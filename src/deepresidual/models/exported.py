"""Load an exported model. No torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.backends.engine import ENGINES, EngineSettings
from deepresidual.backends.exported import ExportedClassifier
from deepresidual.backends.signature import SIGNATURE, read_signature
from deepresidual.errors import ModelFileError
from deepresidual.models.config import read_config
from deepresidual.runtime.processes import usable_cores

if TYPE_CHECKING:
    from pathlib import Path


def load_exported(folder: Path, *, backend: str = "auto") -> ExportedClassifier:
    """Load an exported model.

    Args:
        folder: The folder with ``signature.json``.
        backend: Name of the engine that computes; ``auto``: the first that runs the format.

    Raises:
        ModelFileError: The folder is damaged, its parts contradict each other, or the backend does not run
            it.
    """
    config, signature = read_config(folder), read_signature(folder)
    able = ENGINES[signature.format]
    chosen = next((name for name in able if backend in ("auto", name)), None)
    if chosen is None:
        raise ModelFileError(
            f"{folder} holds {signature.file}, which the backend {backend!r} does not run",
            expected=" or ".join(("auto", *able)),
        )
    shape = signature.inputs[0].shape if signature.inputs else ()
    side = config.preprocess.crop_px
    if shape[1:] != (side, side, config.preprocess.num_channels):
        raise ModelFileError(
            f"{folder / SIGNATURE} names an input of {shape} and config.json views of {side} px in "
            f"{config.preprocess.num_channels} channels",
            expected="the same",
            remedy="export the model again",
        )
    settings = EngineSettings(chosen, streams=usable_cores())
    return ExportedClassifier(
        folder,
        signature,
        settings,
        config.label_names,
        config.preprocess,
        task=config.task,
        thresholds=config.thresholds,
        abstention=config.abstention,
    )
