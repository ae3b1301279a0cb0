"""``Classifier``: class names, preprocessing and logits, whatever computes them. No torch is imported here.

A backend is a subclass with :meth:`Classifier.logits`. It inherits prediction and ranking, is evaluated as
any other, and passes ``tests/backends/test_classifier.py``. What needs more than logits (heat maps, scores of
whole images, features) is for :class:`~deepresidual.backends.pytorch.TorchClassifier` alone and refused by
:func:`~deepresidual.backends.pytorch.require_torch` elsewhere.

Example:
    >>> class MeanColor(Classifier):
    ...     backend = "NumPy"
    ...     label_names = ("red", "green", "blue")
    ...     preprocess = Preprocess(crop_px=8, resize_px=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    ...
    ...     def logits(self, pixels):
    ...         return pixels.mean(axis=(1, 2), dtype=np.float32)
    >>> MeanColor().predict("sunset.jpg")
    [Prediction(classes=('red',), probabilities=(0.99,))]
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from deepresidual.backends.abstention import Abstention
from deepresidual.backends.features import feature_outcomes
from deepresidual.backends.images import computed_parts, image_batches, one_or_several
from deepresidual.backends.outcomes import all_good
from deepresidual.backends.ranking import best_classes
from deepresidual.backends.thresholds import MULTILABEL, Thresholds
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError
from deepresidual.fields import is_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from deepresidual.backends.images import ImageBatch, ImageLike
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import Precision, PrecisionChoice

NOT_FINITE = "the outputs of the model are not finite"
"""Why there is no prediction where a network gives NaN or infinity."""

NOT_FINITE_REMEDY = "check its weights: variances below 0 and weights that overflow give NaN"

ASKED_FOR = "asked for"
"""The reason of a precision that was named."""

DETECTORS_ARE_FOR = (
    "a detector is for 'residual predict', 'evaluate', 'compare', 'report', 'explain', 'export' and "
    "'train --weights'"
)
"""What to do with a model that finds objects, where a classifier is asked for."""

PREDICT_BATCH_SIZE = 32

# A thread that takes images all the way has so many pixels at a time, one image of 224 px: handing a part
# over costs 20 µs, and few photos are shared out evenly.
_PIXELS_OF_PART = 224**2


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first; of several labels those above their thresholds.

    Attributes:
        classes: Names of the classes.
        probabilities: Softmax probabilities, 0 to 1; of several labels each its own, by the sigmoid.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class SettledPrecision:
    """A precision and how it was chosen.

    Attributes:
        precision: The precision to compute in.
        reason: Why, for the user and the record of a run.
    """

    precision: Precision
    reason: str

    def __str__(self) -> str:
        return f"{self.precision} ({self.reason})"


class Classifier(ABC):
    """What computes logits of images, with class names and preprocessing; see the module.

    Attributes:
        backend: Name of what computes, for messages.
        label_names: Name of every class, in the order of the logits; empty for a backbone.
        preprocess: How a decoded image becomes the input.
        task: What it has learned: ``classification`` and ``multilabel`` have classes to predict.
        thresholds: Of several labels an image, where they are given; ``None``: from 0.5 on.
        abstention: From which probability on it answers, where that was chosen; prediction itself ranks all.
        instead: What to give where more than logits is needed and it has none, for messages.
    """

    backend: str
    label_names: tuple[str, ...]
    preprocess: Preprocess
    task: str = "classification"
    thresholds: Thresholds | None = None
    abstention: Abstention | None = None
    instead: str = "give the model folder that it was exported from"

    @abstractmethod
    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the logits of a batch; normalization by :attr:`preprocess` is part of it.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them, N at least 1. May be
                read-only, and a view of other memory with strides of any sign.

        Returns:
            ``(N, K)`` float32 for K classes, in memory of its own.

        Raises:
            ModelFileError: The model has no classifier.
        """

    def features(self, pixels: NDArray[np.uint8], stage: str | None = None) -> NDArray[np.float32]:
        """Compute pooled features of a batch.

        Args:
            pixels: As for :meth:`logits`.
            stage: The mean over all positions of the map after ``stem``, ``layer1`` and so on. Default: what
                the classifier reads.

        Returns:
            ``(N, F)`` float32, in memory of its own.

        Raises:
            ModelFileError: The backend gives none.
            UnknownNameError: The network has no such stage.
        """
        del pixels, stage
        raise ModelFileError(
            f"features are asked for, and {self.backend} computes logits alone of this model",
            expected="a model that PyTorch computes",
            remedy=self.instead,
        )

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change the outputs."""
        return ()

    def weights_sha256(self) -> str:
        """Return the SHA-256 of weights and architecture, by which two models are told apart; "": unknown."""
        return ""

    # -- where and how it computes: a backend overrides what it can do besides float32 on the CPU ----------

    @property
    def device_type(self) -> str:
        """Kind of device that computes: ``cpu``, ``cuda``, ``mps``."""
        return "cpu"

    @property
    def streams(self) -> int:
        """Threads that may compute at once, each taking images all the way; 0: one computes for all."""
        return 0

    @property
    def stream_batch(self) -> int:
        """Images that a stream computes at a time."""
        return 1

    def stream_logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits as :meth:`logits` does, in the calling thread alone: one of the :attr:`streams`."""
        return self.logits(pixels)

    def computed_by(self, backend: str) -> Self:
        """Return this classifier, computed by a backend where it has the choice: so shared work agrees."""
        del backend
        return self

    def expect(self, num_images: int) -> Self:
        """Make ready for so many images and return the classifier itself.

        A backend that can compute in several ways chooses one by their number.
        """
        del num_images
        return self

    def to(self, device: str) -> Self:
        """Move to a device and return the classifier itself.

        Args:
            device: ``cpu``, or ``auto`` for the best that this backend can use here.

        Raises:
            ConfigurationError: There is no such device, or this backend cannot use it.
        """
        if device not in ("auto", "cpu"):
            raise ConfigurationError(
                f"device is {device!r} for a model that {self.backend} computes", expected="auto or cpu"
            )
        return self

    def settle_precision(self, choice: PrecisionChoice, image_px: int) -> SettledPrecision:
        """Choose the precision; ``auto`` is the faster one of those that the backend has.

        Args:
            choice: A precision, or ``auto``.
            image_px: Side of the input in pixels.

        Raises:
            ConfigurationError: The backend does not compute in that precision.
        """
        del image_px
        if choice == "auto":
            return SettledPrecision("fp32", f"all that {self.backend} has")
        self.in_precision(choice)
        return SettledPrecision(choice, ASKED_FOR)

    def in_precision(self, precision: Precision) -> Self:
        """Return this classifier, computing in ``precision``; weights are shared.

        Raises:
            ConfigurationError: The backend does not compute in that precision.
        """
        if precision != "fp32":
            raise ConfigurationError(
                f"precision is {precision!r} for a model that {self.backend} computes", expected="fp32"
            )
        return self

    def with_preprocess(self, preprocess: Preprocess) -> Self:
        """Return this classifier for views that another record makes; weights are shared.

        Raises:
            ConfigurationError: The backend cannot take such views.
        """
        # Resizing is done before; what comes after is part of the model.
        if vars(preprocess) | {"resize_px": 0} != vars(self.preprocess) | {"resize_px": 0}:
            raise ConfigurationError(
                f"views of {preprocess.crop_px} px are asked for",
                expected=f"{self.preprocess.crop_px} px, which is what {self.backend} takes for this model",
            )
        other = copy.copy(self)
        other.preprocess = preprocess
        return other

    def num_macs(self, image_px: int) -> int:
        """Return multiply-adds for an image of ``image_px``; 0 where the backend does not know them."""
        del image_px
        return 0

    # -- prediction ------------------------------------------------------------------------------------------

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        top_k: int = 1,
        *,
        batch_size: int = PREDICT_BATCH_SIZE,
    ) -> list[Prediction]:
        """Predict the classes of one or several images, one batch in memory at a time.

        Args:
            images: Paths, Pillow images, arrays ``(H, W, 3)`` or ``(H, W)`` uint8 RGB, or the bytes of image
                files; one or several. Several are also an array ``(N, H, W, 3)``, and a data set of PyTorch
                or Hugging Face, whose labels are left aside.
            top_k: How many classes to return for each, best first; of several labels 1, which stands for all
                above their thresholds.
            batch_size: Images at a time. Another one may change the last digits of a probability.

        Returns:
            One :class:`Prediction` an image.

        Raises:
            DataError: A file cannot be decoded; the message names it.
            ModelFileError: The network gives NaN or infinity; the message names the image.
            ModelFileError: The model has no classifier.
            ConfigurationError: ``top_k`` is not between 1 and the number of classes, or an array is no uint8.
        """
        return list(all_good(self.outcomes(self._listed(images), top_k, batch_size=batch_size)))

    def extract_features(
        self,
        images: ImageLike | Iterable[ImageLike],
        stage: str | None = None,
        *,
        batch_size: int = PREDICT_BATCH_SIZE,
    ) -> NDArray[np.float32]:
        """Return pooled features of one or several images; a backbone without classes has them, too.

        Args:
            images: As for :meth:`predict`.
            stage: The mean over all positions of the map after ``stem``, ``layer1`` and so on. Default: what
                the classifier reads.
            batch_size: Images at a time. Another one may change the last digits.

        Returns:
            ``(N, F)`` float32, a row for each image.

        Raises:
            DataError: A file cannot be decoded; the message names it.
            ModelFileError: The backend gives no features, or some that are not finite.
            UnknownNameError: The network has no such stage.
        """
        outcomes = feature_outcomes(self, self._listed(images), stage, batch_size=batch_size)
        rows = list(all_good(outcomes))
        return np.stack(rows) if rows else np.zeros((0, 0), np.float32)

    def _listed(self, images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
        """Return one image or several as an iterable, and make ready for their number."""
        several, count = one_or_several(images)
        self.expect(count)
        return several

    def outcomes(
        self,
        images: Iterable[ImageLike],
        top_k: int = 1,
        *,
        batch_size: int = PREDICT_BATCH_SIZE,
        num_workers: int = 0,
    ) -> Iterator[tuple[str, Prediction | ResidualError]]:
        """Predict images of which some may be unusable: yield name and prediction or error, in order.

        Images are read while the results before them are taken. An error does not stop the others.

        Args:
            images: Paths, Pillow images or arrays; read only as far ahead as needed.
            top_k: How many classes to return for each, best first.
            batch_size: Images at a time.
            num_workers: Threads that read and decode; of no meaning where there are :attr:`streams`.

        Yields:
            Each image's path (empty for one in memory), and its :class:`Prediction`, or the
            :class:`DataError` or :class:`ModelFileError` that says why there is none.

        Raises:
            ModelFileError: The model has no classifier.
            ConfigurationError: A number is out of range, or something is no image.
        """
        require_classes(self)
        self._require_top_k(top_k)
        if batch_size < 1:
            raise ConfigurationError(f"batch_size is {batch_size}", expected="1 or more")

        def judged(batch: ImageBatch) -> list[tuple[str, Prediction | ResidualError]]:
            return list(zip(batch.names, self._judged(batch, top_k), strict=True))

        if self.streams:
            batch = self.stream_batch
            fitting = min(batch_size, _PIXELS_OF_PART // self.preprocess.crop_px**2)
            part_size = batch * max(1, fitting // batch)
            parts = computed_parts(
                images, self.preprocess, judged, part_size=part_size, num_threads=self.streams
            )
        else:
            batches = image_batches(images, self.preprocess, batch_size=batch_size, num_workers=num_workers)
            parts = map(judged, batches)
        return itertools.chain.from_iterable(parts)

    def _judged(self, batch: ImageBatch, top_k: int) -> Iterator[Prediction | ResidualError]:
        """Yield what became of each image of a batch."""
        logits = np.zeros((0, len(self.label_names)), np.float32)
        if len(batch.pixels):
            logits = (self.stream_logits if self.streams else self.logits)(batch.pixels)
        is_finite = _finite_rows(logits)
        ranked, finite = iter(self.rank(logits[is_finite], top_k)), iter(is_finite)
        for error in batch.errors:
            if error is not None:
                yield error
            elif next(finite):
                yield next(ranked)
            else:
                yield ModelFileError(NOT_FINITE, remedy=NOT_FINITE_REMEDY)

    def rank(self, logits: NDArray[np.float32], top_k: int = 1) -> list[Prediction]:
        """Return the ``top_k`` most probable classes for each row of ``logits`` ``(N, K)``.

        Where an image may have several labels those above their thresholds are returned, perhaps none. Of
        classes with equal logits the first in the order of :attr:`label_names` comes first.

        Raises:
            ConfigurationError: ``top_k`` is not between 1 and the number of classes.
            ModelFileError: A logit is NaN or infinite, or the model has no classifier.
        """
        require_classes(self)
        self._require_top_k(top_k)
        finite = _finite_rows(logits)
        if False in finite:
            raise ModelFileError(f"row {finite.index(False)}: {NOT_FINITE}", remedy=NOT_FINITE_REMEDY)
        several = self.task == MULTILABEL
        best = best_classes(logits, len(self.label_names) if several else top_k)
        shares = self.probabilities(logits)
        given = self.given_labels(shares) if several else np.ones_like(shares, dtype=np.bool_)
        kept = [[row for row in rows if given[image, row]] for image, rows in enumerate(best.tolist())]
        return [
            Prediction(tuple(self.label_names[row] for row in rows), tuple(shares[image, rows].tolist()))
            for image, rows in enumerate(kept)
        ]

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of ``(N, K)`` logits: softmax, or the sigmoid where labels are several."""
        wide = logits.astype(np.float64)
        if self.task == MULTILABEL:
            sigmoid: NDArray[np.float32] = np.exp(-np.logaddexp(0, -wide)).astype(np.float32)
            return sigmoid
        powers = np.exp(wide - logits.max(axis=1, keepdims=True))
        shares: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares

    def given_labels(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which labels images are given, ``(N, K)``: those whose probability reaches its threshold."""
        values = self.thresholds.values if self.thresholds is not None else (0.5,) * len(self.label_names)
        given: NDArray[np.bool_] = probabilities >= np.array(values, dtype=np.float32)
        return given

    def _require_top_k(self, top_k: int) -> None:
        if self.task == MULTILABEL and top_k != 1:
            raise ConfigurationError(
                f"top_k is {top_k} for a model of several labels an image",
                expected="1: all labels above their thresholds are named",
            )
        if not is_whole(top_k, 1, len(self.label_names)):
            raise ConfigurationError(f"top_k is {top_k}", expected=f"1 to {len(self.label_names)}")


def _finite_rows(logits: NDArray[np.float32]) -> list[bool]:
    return [bool(row.all()) for row in np.isfinite(logits)]


def require_classes(model: Classifier, name: str = "the model") -> None:
    """Refuse a model whose outputs are no scores of classes, one or several an image.

    Args:
        model: The model.
        name: What the user calls it, for the message.

    Raises:
        ModelFileError: The model has learned something else, or has 0 classes.
    """
    if model.task == MULTILABEL:
        require_outputs(model, name)
    else:
        require_classifier(model, name)


def require_classifier(model: Classifier, name: str = "the model") -> None:
    """Refuse a model of another task, and a backbone, where one class an image is asked for.

    Args:
        model: The model.
        name: What the user calls it, for the message.

    Raises:
        ModelFileError: The model has learned something else, or has 0 classes.
    """
    if model.task != "classification":
        remedy = DETECTORS_ARE_FOR if model.task == "detection" else ""
        raise ModelFileError(f"{name} is a model for {model.task}", expected="a classifier", remedy=remedy)
    require_outputs(model, name)


def require_outputs(model: Classifier, name: str = "the model") -> None:
    """Refuse a backbone where outputs are asked for.

    Args:
        model: The model.
        name: What the user calls it, for the message.

    Raises:
        ModelFileError: The model has 0 classes.
    """
    if not model.label_names:
        raise ModelFileError(
            f"{name} is a backbone without a classifier (0 classes)",
            expected="a model with classes",
            remedy=(
                "train one from it with 'residual train DATA --weights "
                f"{'FOLDER' if name == 'the model' else name}'"
            ),
        )
