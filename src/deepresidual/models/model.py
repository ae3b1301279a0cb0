"""A model: a network with everything that it takes to use it (class names, preprocessing, provenance)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL.Image import Image as PillowImage

from deepresidual import zoo
from deepresidual.data.decode import decode, from_pillow, read_file
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.models.ranking import best_classes
from deepresidual.nn import ResNet, initialize
from deepresidual.runtime.device import autocast
from deepresidual.runtime.files import expanded
from deepresidual.spec import ResNetSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import Precision

__all__ = [
    "NOT_FINITE",
    "NOT_FINITE_REMEDY",
    "Prediction",
    "TorchClassifier",
    "create",
    "empty_network",
    "require_classifier",
]

NOT_FINITE = "the outputs of the model are not finite"
"""Why there is no prediction where a network gives NaN or infinity."""

NOT_FINITE_REMEDY = "check its weights: variances below 0 and weights that overflow give NaN"


def create(
    name_or_spec: str | ResNetSpec,
    num_classes: int | None = None,
    in_channels: int | None = None,
    seed: int = 0,
) -> ResNet:
    """Create a network with He-initialized float32 weights on the CPU.

    Args:
        name_or_spec: A name of the zoo (``deepresidual.list_models()``) or a spec of one's own.
        num_classes: Rows of the classifier; the spec's own where left out. 0 leaves the classifier out.
        in_channels: Channels of the input; the spec's own where left out.
        seed: The weights are a pure function of it; torch's global random state is not touched.

    Returns:
        A module ``(N, in_channels, H, W)`` float32 → ``(N, num_classes)`` logits, in training mode; for 0
        classes → ``(N, num_features)``, the average of the last map.

    Raises:
        UnknownNameError: There is no network of that name.
        ConfigurationError: A number is out of range.
    """
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ConfigurationError(f"seed is {seed!r}", expected="a whole number from 0 to 2^63 - 1")
    spec = name_or_spec if isinstance(name_or_spec, ResNetSpec) else zoo.entry(name_or_spec).spec
    spec = dataclasses.replace(
        spec,
        num_classes=spec.num_classes if num_classes is None else num_classes,
        in_channels=spec.in_channels if in_channels is None else in_channels,
    )
    network = empty_network(spec)
    initialize(network, seed)
    return network


def empty_network(spec: ResNetSpec) -> ResNet:
    """Build a network whose memory is allocated and not filled; for weights that come from elsewhere."""
    with torch.device("meta"):
        network = ResNet(spec)
    network.to_empty(device="cpu")
    return network


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: the most probable classes, best first.

    Attributes:
        classes: Names of the classes.
        probabilities: Softmax probabilities, 0 to 1.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass
class TorchClassifier:
    """A network with what it takes to use it; what :func:`deepresidual.load` returns.

    A model of 0 classes is a backbone: ``model.network(batch)`` gives features ``(N, num_features)``.

    Attributes:
        network: The module; ``model.network(batch)`` gives logits.
        label_names: Name of every class, in the order of the classifier's rows.
        preprocess: How a decoded image becomes the network's input.
        metrics: What was measured, by split: ``{"test": {"top1": …, "count": …}}``.
        provenance: Where the weights come from: data, recipe, versions.
    """

    network: ResNet
    label_names: tuple[str, ...]
    preprocess: Preprocess
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = self.network.spec
        if len(self.label_names) != spec.num_classes:
            raise ConfigurationError(
                f"there are {len(self.label_names)} label names for a classifier of {spec.num_classes} rows",
                expected="as many names as rows",
            )
        if not all(isinstance(name, str) for name in self.label_names):
            raise ConfigurationError(f"the label names are {self.label_names!r}", expected="strings")
        if len(set(self.label_names)) != len(self.label_names):
            twice = sorted(name for name in set(self.label_names) if self.label_names.count(name) > 1)
            raise ConfigurationError(f"label name {twice[0]!r} occurs twice", expected="distinct names")
        if self.preprocess.num_channels != spec.in_channels:
            raise ConfigurationError(
                f"preprocessing to {self.preprocess.channels} gives {self.preprocess.num_channels} channels "
                f"and the network reads {spec.in_channels}",
                remedy="create the network with in_channels to match",
            )

    @property
    def spec(self) -> ResNetSpec:
        """The architecture."""
        return self.network.spec

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(iter(self.network.parameters())).device

    def to(self, device: torch.device | str) -> TorchClassifier:
        """Move the weights to ``device``, channels last, and return the model itself."""
        self.network.to(device).to(memory_format=torch.channels_last)
        return self

    @torch.inference_mode()
    def logits(self, pixels: torch.Tensor, precision: Precision = "fp32") -> torch.Tensor:
        """Return the logits of a batch, in evaluation mode.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.
            precision: Precision of the forward pass.

        Returns:
            ``(N, num_classes)`` float32 on the model's device.

        Raises:
            ModelFileError: The model has no classifier.
        """
        require_classifier(self)
        self.network.eval()
        batch = self.preprocess.normalize(pixels.to(self.device, non_blocking=True))
        with autocast(self.device, precision):
            logits: torch.Tensor = self.network(batch)
        return logits.float()

    def predict(
        self,
        images: PillowImage
        | NDArray[np.uint8]
        | str
        | Path
        | Iterable[PillowImage | NDArray[np.uint8] | str | Path],
        top_k: int = 1,
    ) -> list[Prediction]:
        """Predict the classes of one or several images.

        Args:
            images: Paths, Pillow images or arrays ``(H, W, 3)`` or ``(H, W)`` uint8 RGB; one or several.
            top_k: How many classes to return for each, best first.

        Returns:
            One :class:`Prediction` an image.

        Raises:
            DataError: A file cannot be decoded; the message names it.
            ModelFileError: The network gives NaN or infinity; the message names the image.
            ModelFileError: The model has no classifier.
            ConfigurationError: ``top_k`` is not between 1 and the number of classes, or an array is no uint8.
        """
        require_classifier(self)
        single = isinstance(images, str | Path | np.ndarray | PillowImage)
        listed: Iterable[Any] = [images] if single else images  # type: ignore[assignment]
        names: list[str] = []
        views: list[NDArray[np.uint8]] = []
        for number, image in enumerate(listed, start=1):
            names.append(str(image) if isinstance(image, str | Path) else f"image {number}")
            views.append(self.preprocess.center_view(self.preprocess.to_channels(_pixels(image))))
        if not views:
            return []
        logits = self.logits(torch.from_numpy(np.stack(views)))
        _require_finite(logits, names)
        return self.rank(logits, top_k)

    def rank(self, logits: torch.Tensor, top_k: int = 1) -> list[Prediction]:
        """Return the ``top_k`` most probable classes for each row of ``logits`` ``(N, num_classes)``.

        Of classes with equal logits the first in the order of :attr:`label_names` comes first.

        Raises:
            ConfigurationError: ``top_k`` is not between 1 and the number of classes.
            ModelFileError: A logit is NaN or infinite.
        """
        require_classifier(self)
        if type(top_k) is not int or not 1 <= top_k <= self.spec.num_classes:
            raise ConfigurationError(f"top_k is {top_k}", expected=f"1 to {self.spec.num_classes}")
        _require_finite(logits, [f"row {number}" for number in range(len(logits))])
        best = best_classes(logits, top_k)
        probabilities = logits.softmax(dim=1).gather(1, best)
        return [
            Prediction(tuple(self.label_names[row] for row in rows), tuple(shares))
            for rows, shares in zip(best.tolist(), probabilities.tolist(), strict=True)
        ]


def _require_finite(logits: torch.Tensor, names: list[str]) -> None:
    finite = logits.isfinite().all(dim=1).tolist()
    if False in finite:
        raise ModelFileError(f"{names[finite.index(False)]}: {NOT_FINITE}", remedy=NOT_FINITE_REMEDY)


def require_classifier(model: TorchClassifier, name: str = "the model") -> None:
    """Refuse a backbone where classes are asked for.

    Args:
        model: The model.
        name: What the user calls it, for the message.

    Raises:
        ModelFileError: The model has 0 classes.
    """
    if not model.spec.num_classes:
        raise ModelFileError(
            f"{name} is a backbone without a classifier (0 classes)",
            expected="a model with classes",
            remedy="train one from it with 'residual train DATA --weights FOLDER'",
        )


def _pixels(image: Any) -> NDArray[np.uint8]:
    """Return any accepted kind of image as ``(H, W, 3)`` uint8 RGB."""
    if isinstance(image, str | Path):
        try:
            return decode(read_file(expanded(image)))
        except DataError as error:
            raise DataError(f"{image}: {error}") from error
    if isinstance(image, PillowImage):
        return from_pillow(image)
    if not isinstance(image, np.ndarray):
        raise ConfigurationError(
            f"an image is a {type(image).__name__}", expected="a path, a Pillow image or an array"
        )
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not is_image or not image.size:
        raise ConfigurationError(
            f"an image is an array of shape {image.shape} and type {image.dtype}",
            expected="(H, W, 3) or (H, W) of uint8",
        )
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
