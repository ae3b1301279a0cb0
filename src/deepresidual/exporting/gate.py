"""The gate of an int8 model: what it loses on held-out images, computed by the sessions that will run it.

An accuracy that was measured on anything else says little: the same file has lost nothing in one engine and
thirty points in another (OpenVINO 2026.4 with a dynamic batch). So every engine that is installed here is
measured, and all have to pass.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.evaluation.comparison import PairedComparison
from deepresidual.evaluation.multilabel.metrics import decisions
from deepresidual.exporting.held_out import HeldOutViews
from deepresidual.exporting.int8_options import MAX_LOSS, MIN_AGREEMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.backends.classifier import Classifier
    from deepresidual.evaluation import EvaluationSetup

ENOUGH_IMAGES = 2_000
"""With fewer images a loss of half a point cannot be told from none."""

_NAMES = {"top1": "top-1", "macro_f1": "macro F1", "ap": "AP", "mask_ap": "mask AP"}
_WHAT_AGREES = {"macro_f1": "labels agree", "ap": "objects agree", "mask_ap": "objects agree"}
_NUM_DRAWS = 300
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Loss:
    """What an int8 model loses against PyTorch in float32 on the same images.

    Attributes:
        figure: ``top1``, or ``macro_f1`` where labels are several; ``ap`` or ``mask_ap`` of a detector.
        reference: The figure of PyTorch, 0 to 1.
        measured: That of the int8 session.
        interval: 95 % interval of the loss, of pairs of answers to the same image.
        agreement: Share of the images that get the same class; of the pairs of image and label; of the
            objects, those that both find.
        count: Number of images.
    """

    figure: str
    reference: float
    measured: float
    interval: tuple[float, float]
    agreement: float
    count: int

    @property
    def loss(self) -> float:
        """The reference's figure minus the measured one: above 0 where something was lost."""
        return self.reference - self.measured

    @property
    def is_shown(self) -> bool:
        """Whether these images show that the loss is small: they are many, and so says the interval."""
        return self.count >= ENOUGH_IMAGES and self.interval[1] <= MAX_LOSS / 100

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {**asdict(self), "interval": list(self.interval), "loss": self.loss, "is_shown": self.is_shown}

    @property
    def figures(self) -> str:
        """The figure before and after, in words."""
        return f"{_NAMES[self.figure]} {self.reference:.2%} → {self.measured:.2%}"

    @property
    def in_words(self) -> str:
        """Loss, interval and agreement."""
        # Adding 0 makes 0.00 of −0.00.
        loss, low, high = (f"{round(100 * value, 2) + 0:.2f}" for value in (self.loss, *self.interval))
        return f"loss {loss} points (95 %: {low} to {high}), {self.agreement:.2%} agree"

    def __str__(self) -> str:
        return f"{self.figures}, {self.in_words}"


@dataclass(frozen=True)
class Limits:
    """What may be lost at most.

    Attributes:
        loss: The loss, 0 to 1.
        agreement: The agreement that must be reached, 0 to 1.
    """

    loss: float = MAX_LOSS / 100
    agreement: float = MIN_AGREEMENT

    def excess(self, loss: Loss) -> float:
        """Return by how much a loss and its agreement are beyond the limits, together; 0: they are not."""
        # Of 1,000 images 5 are half a point, whatever the last bit of the difference says.
        beyond = [loss.loss - self.loss, self.agreement - loss.agreement]
        return sum(value for value in beyond if value > _ROUNDING)

    def failure(self, loss: Loss) -> str:
        """Say which limits are exceeded; empty: none is."""
        said = []
        if loss.loss - self.loss > _ROUNDING:
            said.append(
                f"{loss.figures}, a loss of {100 * loss.loss:.2f} points, more than {100 * self.loss:g}"
            )
        if self.agreement - loss.agreement > _ROUNDING:
            what = _WHAT_AGREES.get(loss.figure, "")
            if loss.figure == "top1":
                same = round(loss.agreement * loss.count)
                what = f"best classes agree ({same:,} of {loss.count:,})"
            said.append(f"{loss.agreement:.2%} of the {what}, fewer than {100 * self.agreement:g}%")
        return "; ".join(said)


class Gate:
    """Held-out images with PyTorch's answers, to judge sessions by.

    Args:
        setup: The model in PyTorch and the data, opened as ``residual evaluate`` opens them.
    """

    def __init__(self, setup: EvaluationSetup) -> None:
        self._setup, self._views = setup, HeldOutViews(setup)
        self._reference, self._labels = self._answers(setup.members[0], "PyTorch")

    def loss(self, session: Classifier, name: str) -> Loss:
        """Measure a session on the same images.

        Args:
            session: The int8 model.
            name: What the progress calls it.

        Raises:
            ModelFileError: The session fails in its self-test, or gives NaN.
        """
        answers, _ = self._answers(session, name)
        if self._setup.has_several_labels:
            return label_loss(self._reference, answers, self._labels > 0.5)
        return top1_loss(self._reference, answers, self._labels)

    def _answers(self, model: Classifier, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return what a model answers, and what would be right: classes ``(N,)``, or labels ``(N, K)``."""
        logits, labels = self._views.logits(model, name)
        if self._setup.has_several_labels:
            return model.given_labels(model.probabilities(logits)), labels.reshape(logits.shape)
        return logits.argmax(axis=1), labels


def top1_loss(reference: NDArray[np.int64], answers: NDArray[np.int64], labels: NDArray[np.int64]) -> Loss:
    """Return the loss of top-1 accuracy.

    Args:
        reference: ``(N,)`` classes that PyTorch gives.
        answers: ``(N,)`` those of the session.
        labels: ``(N,)`` the true ones.
    """
    first, second = reference == labels, answers == labels
    cells = (first & second, first & ~second, ~first & second, ~first & ~second)
    both, only_first, only_second, neither = (int(cell.sum()) for cell in cells)
    pairs = PairedComparison(both, only_first, only_second, neither)
    low, high = pairs.difference_interval
    before, after = pairs.top1
    agreement = float((reference == answers).mean())
    return Loss("top1", before, after, (-high, -low), agreement, len(labels))


def label_loss(reference: NDArray[np.bool_], answers: NDArray[np.bool_], targets: NDArray[np.bool_]) -> Loss:
    """Return the loss of macro F1, with the percentiles of a bootstrap over images as interval.

    Args:
        reference: ``(N, K)`` labels that PyTorch gives.
        answers: ``(N, K)`` those of the session.
        targets: ``(N, K)`` the true ones.
    """
    count = len(targets)
    weights = np.random.Generator(np.random.PCG64(0)).multinomial(
        count, np.full(count, 1 / count), size=_NUM_DRAWS
    )
    drawn = [decisions(given, targets, weights.astype(np.float64)).macro_f1 for given in (reference, answers)]
    before, after = (float(decisions(given, targets).macro_f1[0]) for given in (reference, answers))
    low, high = np.nanpercentile(drawn[0] - drawn[1], [2.5, 97.5]).tolist()
    agreement = float((reference == answers).mean())
    return Loss("macro_f1", before, after, (low, high), agreement, count)
