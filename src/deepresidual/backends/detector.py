"""``TorchDetector``: a detector as a PyTorch module, with everything that it takes to use it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from deepresidual.data.objects import Objects
from deepresidual.errors import ConfigurationError, listed
from deepresidual.runtime.compute import Precision
from deepresidual.runtime.device import autocast, resolve_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.data.augment import Window
    from deepresidual.nn.detection import Detector, Taught
    from deepresidual.preprocess import Preprocess
    from deepresidual.spec import DetectorSpec

__all__ = ["TorchDetector"]


@dataclass(repr=False)
class TorchDetector:
    """A detector with class names and preprocessing; what :func:`deepresidual.load` returns of its folder.

    Attributes:
        network: The module.
        label_names: Name of every class of objects; the background is none.
        preprocess: How a decoded image becomes the network's input: whole.
        metrics: What was measured, by split: ``{"test": {"ap": …, "count": …}}``.
        provenance: Where the weights come from: data, recipe, versions.
        precision: Precision of the forward pass; weights are float32.
        task: What it has learned.
    """

    network: Detector
    label_names: tuple[str, ...]
    preprocess: Preprocess
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    precision: Precision = "fp32"
    task: str = "detection"

    def __post_init__(self) -> None:
        spec = self.network.spec
        if len(self.label_names) != spec.num_classes:
            raise ConfigurationError(
                f"there are {len(self.label_names)} label names for a detector of {spec.num_classes} classes",
                expected="as many names as classes",
            )
        if len(set(self.label_names)) != len(self.label_names):
            twice = sorted(name for name in set(self.label_names) if self.label_names.count(name) > 1)
            raise ConfigurationError(f"label name {twice[0]!r} occurs twice", expected="distinct names")
        if self.preprocess.fit != "whole":
            raise ConfigurationError(
                f"the preprocessing shows the network a {self.preprocess.fit} of the image", expected="whole"
            )
        if self.preprocess.num_channels != spec.in_channels:
            raise ConfigurationError(
                f"preprocessing to {self.preprocess.channels} gives {self.preprocess.num_channels} channels "
                f"and the network reads {spec.in_channels}",
                expected="as many",
            )

    def __repr__(self) -> str:
        return (
            f"TorchDetector({self.spec.neck}, {len(self.label_names):,} classes "
            f"({listed(self.label_names, 3)}), {self.spec.num_parameters:,} parameters, "
            f"{self.preprocess.crop_px} px, on {self.device})"
        )

    @property
    def spec(self) -> DetectorSpec:
        """The architecture."""
        return self.network.spec

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(iter(self.network.parameters())).device

    def to(self, device: torch.device | str) -> Self:
        """Move the weights to ``device``, channels last, and return the model itself."""
        self.network.to(resolve_device(str(device))).to(memory_format=torch.channels_last)
        return self

    def in_precision(self, precision: Precision) -> Self:
        """Return a detector with the same network that computes in ``precision``."""
        return self if precision == self.precision else dataclasses.replace(self, precision=precision)

    def with_preprocess(self, preprocess: Preprocess) -> Self:
        """Return a detector with the same network for views that another record makes."""
        return dataclasses.replace(self, preprocess=preprocess)

    def detections(self, pixels: NDArray[np.uint8], windows: Sequence[Window]) -> list[Objects]:
        """Detect the objects of some images, in evaluation mode.

        What is found in an image does not depend on the others: only those that fill views of one size go
        through the network together.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.
            windows: Where each view shows its image (:func:`deepresidual.data.augment.window_of`).

        Returns:
            The objects of each image with their scores, the surest first, in pixels of the upright image.
        """
        found: list[Objects] = [Objects.none()] * len(windows)
        network = self.network.eval()
        for size, rows in _by_size([network.spec.padded_size(window.filled) for window in windows]).items():
            with torch.inference_mode():
                images = self._images(pixels[rows], size)
                with autocast(self.device, self.precision):
                    results = network(images, [windows[row].filled for row in rows])
            for row, result in zip(rows, results, strict=True):
                in_view = Objects(
                    result.boxes.float().cpu().numpy(),
                    result.labels.cpu().numpy(),
                    scores=result.scores.float().cpu().numpy(),
                    window=windows[row],
                )
                found[row] = in_view.unseen()
        return found

    def losses(self, pixels: NDArray[np.uint8], objects: Sequence[Objects]) -> dict[str, float]:
        """Return the sums over some images of the losses of training, in evaluation mode.

        Args:
            pixels: ``(N, S, S, C)`` uint8.
            objects: The objects of each view (:meth:`Objects.seen`).
        """
        sums: dict[str, float] = {}
        network, sizes = self.network.eval(), [filled(each) for each in objects]
        for size, rows in _by_size([network.spec.padded_size(each) for each in sizes]).items():
            with torch.inference_mode(), autocast(self.device, self.precision):
                images = self._images(pixels[rows], size)
                parts = network(
                    images, [sizes[row] for row in rows], [taught(objects[row], self.device) for row in rows]
                )
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def _images(self, pixels: NDArray[np.uint8], size: tuple[int, int]) -> torch.Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device, non_blocking=True)
        return padded(self.preprocess.normalize(batch), size)

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the architecture and of every tensor of the state dict, by name."""
        digest = hashlib.sha256(json.dumps(self.spec.to_dict(), sort_keys=True).encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()


def filled(objects: Objects) -> tuple[int, int]:
    """Return height and width of what the view that objects are in shows of its image."""
    if objects.window is None:
        raise ConfigurationError("the objects are in no view", expected="what Objects.seen returns")
    return objects.window.filled


def taught(objects: Objects, device: torch.device) -> Taught:
    """Return the objects of a view as the network learns from them."""
    from deepresidual.nn.detection import Taught

    return Taught(
        torch.from_numpy(objects.boxes).to(device),
        torch.from_numpy(objects.labels).to(device),
        torch.from_numpy(objects.crowd | objects.difficult).to(device),
        objects.seed,
    )


def padded(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return ``(N, C, S, S)`` images cut or padded with zeros to ``size``, from the upper left corner."""
    height, width = size
    images = images[:, :, :height, :width]
    missing = (0, width - images.shape[3], 0, height - images.shape[2])
    return torch.nn.functional.pad(images, missing) if any(missing) else images


def _by_size(sizes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
    """Return the rows of each size, in order."""
    rows: dict[tuple[int, int], list[int]] = {}
    for row, size in enumerate(sizes):
        rows.setdefault(size, []).append(row)
    return rows
