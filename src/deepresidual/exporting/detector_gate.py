"""The gate of an int8 detector: what it loses in AP on held-out images, found by the sessions that will run.

As for classifiers (:mod:`.gate`), every engine that is installed here is measured against PyTorch in float32
on the same images, and all have to pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deepresidual.backends.detected import MIN_SCORE
from deepresidual.backends.detection_difference import sure_agreement
from deepresidual.evaluation.objects.comparison import DetectedSide, DetectorComparison, compare_sides
from deepresidual.evaluation.objects.rules import Rules
from deepresidual.exporting.gate import Loss

if TYPE_CHECKING:
    from deepresidual.backends.object_detector import ObjectDetector
    from deepresidual.evaluation.objects import DetectionSetup


class DetectorGate:
    """Held-out images with what PyTorch finds in them, to judge sessions by.

    Args:
        setup: The detector in PyTorch and the data, opened as ``residual evaluate`` opens them.

    Raises:
        DataError: An image cannot be used.
    """

    def __init__(self, setup: DetectionSetup) -> None:
        self._setup = setup
        self._reference = DetectedSide(setup.find(), setup.truth())

    def losses(self, session: ObjectDetector) -> tuple[Loss, ...]:
        """Measure a session on the same images: what it loses by boxes, and where there are masks by them.

        Args:
            session: The int8 detector.

        Raises:
            DataError: There is no object to find.
            ModelFileError: The session fails in its self-test, or gives NaN.
        """
        reference = self._reference
        side = DetectedSide(replace(self._setup, model=session).find(), reference.truth)
        num_classes = len(self._setup.model.label_names)
        compared = compare_sides(reference, side, num_classes, Rules(self._setup.options.metric))
        agreement = sure_agreement(side.found, reference.found, MIN_SCORE)
        losses = [_loss("ap", compared, agreement)]
        if compared.masks is not None:
            losses.append(_loss("mask_ap", compared.masks, agreement))
        return tuple(losses)


def _loss(figure: str, compared: DetectorComparison, agreement: float) -> Loss:
    low, high = compared.ap_difference.interval
    return Loss(figure, *compared.ap, (-high, -low), agreement, compared.count)
