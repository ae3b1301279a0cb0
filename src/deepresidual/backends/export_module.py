"""``ExportModule``: from uint8 views to probabilities and logits in one module, as compilers like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, cast

import torch
from torch import Tensor, nn

from deepresidual.backends.thresholds import MULTILABEL
from deepresidual.nn.folding import empty_folded_network, fold_batch_norm

if TYPE_CHECKING:
    from deepresidual.backends.pytorch import TorchClassifier
    from deepresidual.nn import ResNet
    from deepresidual.preprocess import Preprocess
    from deepresidual.spec import ResNetSpec


class ExportModule(nn.Module):
    """Normalize views, compute the network, and make probabilities of its logits.

    ``(N, S, S, C)`` uint8 → ``(N, K)`` float32 probabilities and logits.

    Args:
        network: The network, whose BN is folded.
        preprocess: The record whose normalization becomes part of the module.
        task: What the model has learned: several labels have a sigmoid each in place of the softmax.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: ResNet, preprocess: Preprocess, task: str) -> None:
        super().__init__()
        self.network = network.eval()
        self.has_several_labels = task == MULTILABEL
        mean = (
            torch.tensor(preprocess.mean)
            if preprocess.mean_image is None
            else torch.from_numpy(preprocess.mean_image.to_array())
        )
        # On the scale of the pixels, as Preprocess.normalize has them.
        self.register_buffer("mean", mean.float().mul(255))
        self.register_buffer("std", torch.tensor(preprocess.std).mul(255))

    @classmethod
    def of(cls, model: TorchClassifier) -> Self:
        """Return the module of a model on the CPU, which stays as it is."""
        return cls(fold_batch_norm(model.network), model.preprocess, model.task)

    @classmethod
    def empty(cls, spec: ResNetSpec, preprocess: Preprocess, task: str) -> Self:
        """Return the module whose weights are to be filled in; they have the names of those of :meth:`of`."""
        return cls(empty_folded_network(spec), preprocess, task)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and logits of ``(N, S, S, C)`` uint8 views."""
        images = pixels.to(torch.float32).sub(self.mean).div(self.std).permute(0, 3, 1, 2)
        logits = self._logits(images)
        return logits.sigmoid() if self.has_several_labels else logits.softmax(dim=1), logits

    def _logits(self, images: Tensor) -> Tensor:
        if not self.network.spec.has_usual_head:
            return cast("Tensor", self.network(images))
        # The pooling as a plain mean: AdaptiveAvgPool2d and flatten become eleven nodes of ONNX.
        return cast("Tensor", self.network.fc(self.network.forward_features(images).mean((2, 3))))
