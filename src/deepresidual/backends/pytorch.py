"""``TorchClassifier``: a residual network as a PyTorch module, with everything that it takes to use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepresidual import zoo
from deepresidual.backends.abstention import Abstention
from deepresidual.backends.classifier import Classifier, SettledPrecision, require_outputs
from deepresidual.backends.precision import settle_precision
from deepresidual.backends.thresholds import Thresholds
from deepresidual.backends.torch_model import TorchModel
from deepresidual.errors import ModelFileError, listed
from deepresidual.runtime.compute import Precision, PrecisionChoice
from deepresidual.runtime.device import autocast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.nn import ResNet
    from deepresidual.preprocess import Preprocess
    from deepresidual.spec import ResNetSpec


@dataclass(repr=False)
class TorchClassifier(TorchModel, Classifier):
    """A network with class names and preprocessing; what :func:`deepresidual.load` returns of a model folder.

    One of 0 classes is a backbone: ``model.network(batch)`` gives features ``(N, num_features)``.

    Attributes:
        network: The module; ``model.network(batch)`` gives logits.
        label_names: Name of every class, in the order of the classifier's rows.
        preprocess: How a decoded image becomes the network's input.
        metrics: What was measured, by split: ``{"test": {"top1": …, "count": …}}``.
        provenance: Where the weights come from: data, recipe, versions.
        precision: Precision of the forward pass; weights are float32.
        task: What it has learned.
        thresholds: Of several labels an image, where they are given.
        abstention: From which probability on it answers; ``None``: never chosen.
    """

    backend = "PyTorch"

    network: ResNet
    label_names: tuple[str, ...]
    preprocess: Preprocess
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    precision: Precision = "fp32"
    task: str = "classification"
    thresholds: Thresholds | None = None
    abstention: Abstention | None = None

    def __post_init__(self) -> None:
        self._check("classifier")

    def __repr__(self) -> str:
        name = zoo.name_of(self.spec.architecture) or "a network of its own"
        classes = f"{len(self.label_names):,} classes ({listed(self.label_names, 3)})"
        return (
            f"{type(self).__name__}({name}, {classes if self.label_names else 'a backbone'}, "
            f"{self.spec.num_parameters:,} parameters, {self.preprocess.crop_px} px, on {self.device})"
        )

    @property
    def spec(self) -> ResNetSpec:
        """The architecture."""
        return self.network.spec

    def settle_precision(self, choice: PrecisionChoice, image_px: int) -> SettledPrecision:
        """Choose the precision; ``auto`` measures on a CPU (:mod:`deepresidual.backends.precision`)."""
        return settle_precision(choice, self.spec, self.device, image_px=image_px, training=False)

    def num_macs(self, image_px: int) -> int:
        """Return multiply-adds for an image of ``image_px``."""
        return self.spec.num_macs(image_px)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the logits of a batch, in evaluation mode.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.

        Returns:
            ``(N, num_classes)`` float32.

        Raises:
            ModelFileError: The model has no classifier.
        """
        require_outputs(self)
        with torch.inference_mode():
            batch = self._batch(pixels)
            with autocast(self.device, self.precision):
                logits: torch.Tensor = self.network.eval()(batch)
            return _on_host(logits)

    def features(self, pixels: NDArray[np.uint8], stage: str | None = None) -> NDArray[np.float32]:
        """Compute pooled features of a batch, in evaluation mode.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.
            stage: The mean over all positions of the map after ``stem``, ``layer1`` and so on. Default: what
                the classifier reads (:meth:`deepresidual.nn.ResNet.pooled_features`).

        Returns:
            ``(N, F)`` float32.

        Raises:
            UnknownNameError: The network has no such stage.
        """
        network = self.network.eval()
        with torch.inference_mode():
            batch = self._batch(pixels)
            with autocast(self.device, self.precision):
                if stage is None:
                    pooled = network.pooled_features(batch)
                else:
                    pooled = network.stage_map(batch, stage).mean(dim=(2, 3))
            return _on_host(pooled)

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change the outputs."""
        return ("torch",)

    def logits_of_whole(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the logits of whole images of any size: the mean over all positions of the score map.

        Args:
            pixels: ``(N, H, W, C)`` uint8.

        Returns:
            ``(N, num_classes)`` float32.
        """
        # The window of the pooling is the map that the network was trained on: 7×7 of a crop of 224 px.
        *_, last, _ = self.spec.layers(self.preprocess.crop_px)
        with torch.inference_mode(), autocast(self.device, self.precision):
            score_map: torch.Tensor = self.network.eval().score_map(self._batch(pixels), last.out_px)
            return _on_host(score_map.float().mean(dim=(2, 3)))

    def _batch(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        if not pixels.flags.writeable or min(pixels.strides) < 0:
            pixels = pixels.copy()  # PyTorch has no tensors that are read-only or run backwards
        return self.preprocess.normalize(torch.from_numpy(pixels).to(self.device, non_blocking=True))

    def _softmax(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        # PyTorch's own, to the last digit of `network(batch).softmax(dim=1)`.
        shares: NDArray[np.float32] = torch.from_numpy(logits).softmax(dim=1).numpy()
        return shares


def _on_host(outputs: torch.Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = outputs.float().cpu().numpy()
    return values


def require_torch(model: Classifier, purpose: str, name: str = "the model") -> TorchClassifier:
    """Return a classifier that is PyTorch's; refuse any other where more than logits is needed.

    Args:
        model: The model.
        purpose: What needs it, in the plural, for the message: ``heat maps``.
        name: What the user calls the model.

    Raises:
        ModelFileError: Something else computes the model.
    """
    if not isinstance(model, TorchClassifier):
        raise ModelFileError(
            f"{name} is computed by {model.backend}, which gives logits and no {purpose}",
            expected="a model that PyTorch computes",
            remedy=model.instead,
        )
    return model
