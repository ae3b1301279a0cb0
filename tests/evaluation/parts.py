"""Networks whose logits can be worked out by hand, and data sets held in memory."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from deepresidual.data.source import EncodedSample, SampleSource
from deepresidual.models import TorchClassifier
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec

# The network reads pixels as they are: 0 to 255.
RAW = Preprocess(crop_px=2, resize_px=2, mean=(0.0,) * 3, std=(1 / 255,) * 3)


class Gray(nn.Module):
    """Logits that are linear in the pixels: of class k the mean of channel k, times a sharpness.

    With ``halves`` class 0 is the left half's mean and class 1 the right half's, so that mirroring matters.
    """

    def __init__(self, sharpness: float = 1.0, *, halves: bool = False, num_classes: int = 3) -> None:
        super().__init__()
        self.spec = ResNetSpec(
            unit="basic", depths=(1,), widths=(4,), stem="cifar", shortcut="A", num_classes=num_classes
        )
        self.fc = nn.Linear(3, num_classes, bias=False)
        self.halves = halves
        with torch.no_grad():
            self.fc.weight.copy_(sharpness * torch.eye(num_classes, 3))

    def forward(self, x: Tensor) -> Tensor:
        if self.halves:
            half = x.shape[3] // 2
            left, right = x[:, 0, :, :half].mean(dim=(1, 2)), x[:, 0, :, half:].mean(dim=(1, 2))
            logits: Tensor = self.fc.weight[0, 0] * torch.stack([left, right, torch.zeros_like(left)], dim=1)
            return logits
        averaged: Tensor = self.fc(x.mean(dim=(2, 3)))
        return averaged

    def require_score_map(self) -> None:
        """Refuse nothing: there is one."""

    def score_map(self, x: Tensor, window_px: int) -> Tensor:
        window = [min(window_px, side) for side in x.shape[2:]]
        return functional.conv2d(functional.avg_pool2d(x, window, stride=1), self.fc.weight[:, :, None, None])


def by_hand(
    network: nn.Module, preprocess: Preprocess = RAW, names: Sequence[str] = ("a", "b", "c")
) -> TorchClassifier:
    return TorchClassifier(network, tuple(names), preprocess)  # type: ignore[arg-type]  # has what evaluation asks of a ResNet


class Memory:
    """A split of images in memory, as PNG."""

    def __init__(self, images: Sequence[NDArray[np.uint8]], labels: Sequence[int]) -> None:
        self._contents = [_png(image) for image in images]
        self.labels = list(labels)

    def __len__(self) -> int:
        return len(self._contents)

    def key(self, index: int) -> str:
        return f"image-{index}"

    def read(self, index: int) -> EncodedSample:
        return EncodedSample(self.key(index), self._contents[index], self.labels[index])

    def rows(self) -> Iterator[tuple[str, int, int]]:
        yield from ((self.key(index), label, 0) for index, label in enumerate(self.labels))


def source_of(classes: Sequence[str] = ("a", "b", "c"), **splits: Memory) -> SampleSource:
    return SampleSource("memory", tuple(classes), splits)


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax of ``(…, K)``, written out."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "PNG")
    return file.getvalue()
