"""``ExportModule``: from uint8 views to probabilities and logits in one module, as compilers like it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from deepresidual.backends.thresholds import MULTILABEL

if TYPE_CHECKING:
    from deepresidual.backends.pytorch import TorchClassifier


class ExportModule(nn.Module):
    """Normalize views, compute the network, and make probabilities of its logits.

    ``(N, S, S, C)`` uint8 → ``(N, K)`` float32 probabilities and logits.

    Args:
        model: The model, on the CPU; it stays as it is.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: TorchClassifier) -> None:
        super().__init__()
        self.network = copy.deepcopy(model.network).eval()
        self.has_several_labels = model.task == MULTILABEL
        record = model.preprocess
        mean = (
            torch.tensor(record.mean)
            if record.mean_image is None
            else torch.from_numpy(record.mean_image.to_array())
        )
        # On the scale of the pixels, as Preprocess.normalize has them.
        self.register_buffer("mean", mean.float().mul(255))
        self.register_buffer("std", torch.tensor(record.std).mul(255))

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
