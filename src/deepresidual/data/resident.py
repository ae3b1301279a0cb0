"""Small images that stay in memory decoded, on the device where they are trained on, and are varied there.

CIFAR's 50,000 images are 150 MB; reading, decoding and varying each of them anew takes longer than a GPU
takes to train on it, and a tenth of the time on a CPU. Here they are decoded once, and a batch is cut, padded
and mirrored by a few operations on tensors, with the very choices and pixels of
:mod:`deepresidual.data.loader`.

That serves data sets of square images of one size under the crops ``center`` and ``pad``; others are loaded.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from deepresidual.data.augment.crop import pad_shifts, surroundings
from deepresidual.data.decode import decode
from deepresidual.data.loader import Batch
from deepresidual.data.sampler import SampleIndex, TrainingOrder
from deepresidual.data.source import Split
from deepresidual.data.source.base import Target
from deepresidual.data.threads import in_order
from deepresidual.errors import DataError
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.processes import usable_cores

_MOST_BYTES = 1_000_000_000  # six times CIFAR
_AT_A_TIME = 64


def can_be_resident(split: Split, preprocess: Preprocess, augment: Augment) -> bool:
    """Return whether the images of a split may be kept decoded, as far as can be told without reading them.

    Args:
        split: The training split.
        preprocess: How images are cut: nothing may be cut off, so that padding shows what lies around.
        augment: How they are varied: by ``center`` or ``pad``, and by mirroring.
    """
    num_bytes = len(split) * preprocess.crop_px**2 * preprocess.num_channels
    varies_more = augment.policy != "none" or augment.color_jitter or augment.pca_lighting or augment.erasing
    return (
        augment.crop in ("center", "pad")
        and not varies_more
        and preprocess.fit == "crop"
        and preprocess.crop_px == preprocess.resize_px
        and num_bytes <= _MOST_BYTES
    )


class InMemoryImages:
    """The images of a split, decoded.

    Args:
        pixels: ``(N, S, S, C)`` uint8, as they were decoded.
        targets: Stacked :attr:`EncodedSample.target`, N of them.
        split: Where they come from; for names.
        preprocess: How they become the network's input.
        augment: How they are varied.
        device: Where they are kept.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        targets: torch.Tensor,
        split: Split,
        preprocess: Preprocess,
        augment: Augment,
        device: torch.device,
    ) -> None:
        self._pixels, self._targets, self._split = pixels, targets, split
        self._preprocess, self._augment, self._device = preprocess, augment, device
        self._side_px = 0
        self._views = torch.empty(0, dtype=torch.uint8)

    @classmethod
    def read(
        cls, split: Split, preprocess: Preprocess, augment: Augment, device: torch.device
    ) -> InMemoryImages | None:
        """Decode a split; ``None`` where its images are not square, differ in size, or one cannot be used."""
        pixels: NDArray[np.uint8] | None = None
        targets: list[Target] = []

        def decoded(index: int) -> tuple[NDArray[np.uint8], Target]:
            sample = split.read(index)
            return preprocess.to_channels(decode(sample.content)), sample.target

        groups = (
            range(first, min(first + _AT_A_TIME, len(split))) for first in range(0, len(split), _AT_A_TIME)
        )
        try:
            for group in in_order(decoded, groups, num_threads=usable_cores(), groups_ahead=4):
                for image, target in group:
                    if pixels is None:
                        pixels = np.empty((len(split), *image.shape), dtype=np.uint8)
                    if image.shape != pixels.shape[1:] or image.shape[0] != image.shape[1]:
                        return None
                    if pixels.nbytes > _MOST_BYTES:
                        return None
                    pixels[len(targets)] = image
                    targets.append(target)
        except DataError:
            return None  # the loader will name it where its turn comes
        if pixels is None:
            return None
        return cls(pixels, torch.tensor(targets), split, preprocess, augment, device)

    def batches(self, order: TrainingOrder) -> Generator[Batch]:
        """Yield the batches of :func:`deepresidual.data.loader.training_batches`, pixels on the device."""
        for positions in order:
            yield self._batch(positions, positions[0].side_px or self._preprocess.crop_px)

    def _batch(self, positions: list[SampleIndex], side_px: int) -> Batch:
        if side_px != self._side_px:
            self._side_px, self._views = side_px, self._resized(side_px).to(self._device)
        table = torch.tensor([position[:3] for position in positions], dtype=torch.int64)
        indices = table[:, 1]
        uniforms = np.array([position.uniforms for position in positions])
        pixels = self._views[indices.to(self._device)]
        outside = surroundings(self._preprocess, side_px, self._augment.pad_fill)
        inside: torch.Tensor | None = None
        if self._augment.crop == "pad":
            shifts = pad_shifts(self._augment, uniforms[:, :2], self._preprocess, side_px)
            on_device = torch.from_numpy(shifts).to(self._device)
            pixels = _shifted(pixels, on_device)
            inside = _lies_inside(on_device, side_px) if outside is not None else None
        if self._augment.flip:
            flips = torch.from_numpy(uniforms[:, 2] < 0.5).to(self._device)[:, None, None, None]
            pixels = torch.where(flips, pixels.flip(2), pixels)
            inside = torch.where(flips, inside.flip(2), inside) if inside is not None else None
        if inside is not None:
            pixels = torch.where(inside, pixels, torch.tensor(outside, device=self._device))
        return Batch(
            pixels=pixels,
            targets=self._targets[indices],
            positions=table,
            places=torch.arange(len(positions)),
            keys=[self._split.key(position.sample) for position in positions],
            bad=[],
        )

    def _resized(self, side_px: int) -> torch.Tensor:
        record = self._preprocess.at_size(side_px)
        if self._pixels.shape[1] == side_px:
            return torch.from_numpy(self._pixels)
        return torch.from_numpy(np.stack([record.center_view(image) for image in self._pixels]))


def _shifted(pixels: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Move the window on each of ``(N, S, S, C)`` images by its row (across, down) of ``shifts``."""
    count, side = pixels.shape[:2]
    most = int(shifts.abs().max())
    padded = functional.pad(pixels, (0, 0, most, most, most, most))
    window = torch.arange(side, device=pixels.device) + most
    columns, rows = window + shifts[:, :1], window + shifts[:, 1:]
    images = torch.arange(count, device=pixels.device)[:, None, None]
    return padded[images, rows[:, :, None], columns[:, None, :]]


def _lies_inside(shifts: torch.Tensor, side: int) -> torch.Tensor:
    """Return which pixels of the moved windows show the image, ``(N, S, S, 1)``."""
    window = torch.arange(side, device=shifts.device)
    columns, rows = window + shifts[:, :1], window + shifts[:, 1:]
    columns_inside, rows_inside = ((places >= 0) & (places < side) for places in (columns, rows))
    return (rows_inside[:, :, None] & columns_inside[:, None, :])[..., None]
