"""``ExportedClassifier``: an exported file with class names and preprocessing. No torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.backends.classifier import Classifier, SettledPrecision, require_outputs
from deepresidual.backends.exported_model import ExportedModel
from deepresidual.backends.session import LogitsSession

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.backends.abstention import Abstention
    from deepresidual.backends.engine import EngineName, EngineSettings
    from deepresidual.backends.signature import Signature
    from deepresidual.backends.thresholds import Thresholds
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import PrecisionChoice


class ExportedClassifier(ExportedModel[LogitsSession], Classifier):  # type: ignore[override]  # backend
    """An exported file, computed by one of the engines that run it; ``load`` returns it.

    The engine is opened and tests itself when images are expected or the first logits are asked for.

    Args:
        folder: The exported model.
        signature: What its ``signature.json`` says.
        engines: What may compute it, the preferred one first; or the settings of one, which are taken as
            they are.
        label_names: Name of every class, in the order of the logits.
        preprocess: How a decoded image becomes the input.
        task: What the model has learned.
        thresholds: Of several labels an image, where they are given.
        abstention: From which probability on it answers; ``None``: never chosen.
    """

    session_type = LogitsSession

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        engines: Sequence[EngineName] | EngineSettings,
        label_names: tuple[str, ...],
        preprocess: Preprocess,
        *,
        task: str = "classification",
        thresholds: Thresholds | None = None,
        abstention: Abstention | None = None,
    ) -> None:
        super().__init__(folder, signature, engines, label_names, preprocess, task)
        self.thresholds, self.abstention = thresholds, abstention
        self.instead = signature.source_in_words

    def settle_precision(self, choice: PrecisionChoice, image_px: int) -> SettledPrecision:
        """Choose the precision; by default that of the file."""
        del image_px
        return self.settled_precision(choice)

    @property
    def streams(self) -> int:
        """Threads that may compute at once, each taking images all the way."""
        return self.settings.streams

    @property
    def stream_batch(self) -> int:
        """Images that a stream computes at a time."""
        return self.settings.batch

    def engine_version(self) -> str:
        """Return the version of the engine, which is opened for that and tests itself."""
        return self.session().engine.version

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the logits of a batch, dealt out over the streams.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.

        Returns:
            ``(N, K)`` float32.

        Raises:
            ModelFileError: The file has changed, the engine refuses it, or fails in its self-test.
            MissingDependencyError: The engine is not installed.
        """
        require_outputs(self)
        return self.session().logits(pixels)

    def stream_logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits as :meth:`logits` does, in the calling thread alone: one of the streams."""
        return self.session().logits_here(pixels)
