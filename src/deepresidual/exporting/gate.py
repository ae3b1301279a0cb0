"""The gate of an int8 model: what it loses on held-out images, computed by the sessions that will run it.

An accuracy that was measured on anything else says little: the same file has lost nothing in one engine and
thirty points in another (OpenVINO 2026.4 with a dynamic batch). So every engine that is installed here is
measured, and all have to pass.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.evaluation.comparison import PairedComparison
from deepresidual.evaluation.multilabel.metrics import decisions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.backends.classifier import Classifier
    from deepresidual.evaluation import EvaluationSetup

MOST_LOSS = 0.005
"""Loss of top-1, or of macro F1 where labels are several, above which nothing is written."""

LEAST_AGREEMENT = 0.98
"""Share of the images that have to get the same class; of the pairs of image and label where these are
several."""

ENOUGH_IMAGES = 2_000
"""With fewer images a loss of half a point cannot be told from none."""

_NUM_DRAWS = 300


@dataclass(frozen=True)
class Loss:
    """What an int8 model loses against PyTorch in float32 on the same images.

    Attributes:
        figure: ``top1``, or ``macro_f1`` where labels are several.
        reference: The figure of PyTorch, 0 to 1.
        measured: That of the int8 session.
        interval: 95 % interval of the loss, of pairs of answers to the same image.
        agreement: Share of the images that get the same class; of the pairs of image and label.
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
    def is_allowed(self) -> bool:
        """Whether what was measured may be written."""
        # Of 1,000 images 5 are half a point, whatever the last bit of the difference says.
        return self.loss <= MOST_LOSS + 1e-9 and self.agreement >= LEAST_AGREEMENT

    @property
    def is_shown(self) -> bool:
        """Whether these images show that the loss is small: they are many, and so says the interval."""
        return self.count >= ENOUGH_IMAGES and self.interval[1] <= MOST_LOSS

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {**asdict(self), "interval": list(self.interval), "loss": self.loss, "is_shown": self.is_shown}

    def __str__(self) -> str:
        name = "top-1" if self.figure == "top1" else "macro F1"
        # Adding 0 makes 0.00 of −0.00.
        loss, low, high = (f"{round(100 * value, 2) + 0:.2f}" for value in (self.loss, *self.interval))
        return (
            f"{name} {self.reference:.2%} → {self.measured:.2%}, loss {loss} points "
            f"(95 %: {low} to {high}), {self.agreement:.2%} agree"
        )


class Gate:
    """Held-out images with PyTorch's answers, to judge sessions by.

    Args:
        setup: The model in PyTorch and the data, opened as ``residual evaluate`` opens them.
    """

    def __init__(self, setup: EvaluationSetup) -> None:
        self._setup = setup
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
        setup = replace(self._setup, members=(model,), names=(name,))
        scores, labels = setup.all_scores(setup.split, f"{name} on {setup.split}")
        logits = scores[0].numpy()
        if setup.has_several_labels:
            return model.given_labels(model.probabilities(logits)), labels.numpy().reshape(logits.shape)
        return logits.argmax(axis=1), labels.numpy()


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
