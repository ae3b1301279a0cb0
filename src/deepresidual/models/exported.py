"""Load an exported model. No torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.backends.classifier import DETECTORS_ARE_FOR
from deepresidual.backends.engine_choice import engines_for
from deepresidual.backends.exported import ExportedClassifier
from deepresidual.backends.signature import SIGNATURE, read_signature, require_own_labels
from deepresidual.errors import ModelFileError
from deepresidual.models.config import ModelConfig, read_config
from deepresidual.spec import DetectorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.backends.exported_detector import ExportedDetector
    from deepresidual.backends.signature import Signature


def load_exported(folder: Path, *, backend: str = "auto") -> ExportedClassifier:
    """Load an exported classifier; see :func:`open_exported`.

    Raises:
        ModelFileError: It is damaged, or finds objects.
    """
    model = open_exported(folder, backend=backend)
    if not isinstance(model, ExportedClassifier):
        raise ModelFileError(
            f"{folder} detects objects",
            expected="a model that tells the class of an image",
            remedy=DETECTORS_ARE_FOR,
        )
    return model


def open_exported(folder: Path, *, backend: str = "auto") -> ExportedClassifier | ExportedDetector:
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
    _require_own_input(folder, config, signature)
    if isinstance(config.spec, DetectorSpec):
        from deepresidual.backends.exported_detector import ExportedDetector

        return ExportedDetector(
            folder, signature, engines, config.label_names, config.preprocess, task=config.task
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


def _require_own_input(folder: Path, config: ModelConfig, signature: Signature) -> None:
    """Refuse a signature whose input is not what the preprocessing makes.

    Raises:
        ModelFileError: It is not.
    """
    shape = signature.inputs[0].shape if signature.inputs else ()
    side, channels = config.preprocess.crop_px, config.preprocess.num_channels
    own = (channels,) if isinstance(config.spec, DetectorSpec) else (side, side, channels)
    if shape[-len(own) :] != own:
        raise ModelFileError(
            f"{folder / SIGNATURE} names an input of {shape} and config.json views of {side} px in "
            f"{channels} channels",
            expected="the same",
            remedy="export the model again",
        )
