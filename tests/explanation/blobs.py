"""A tiny network that has learned colours wherever they are: what it must look at is known."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from deepresidual.models import TorchClassifier, create
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec
from tests.conftest import COLORS

SIDE, BLOB = 32, 8
SPEC = ResNetSpec(unit="basic", depths=(1, 1), widths=(8, 16), stem="cifar", shortcut="B", num_classes=3)
INPUT = Preprocess(crop_px=SIDE, resize_px=SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CORNERS = {"top left": (2, 2), "top right": (2, 22), "bottom left": (22, 2), "bottom right": (22, 22)}


def picture(
    generator: np.random.Generator, blobs: list[tuple[str | None, tuple[int, int]]]
) -> NDArray[np.uint8]:
    """Return gray noise ``(32, 32, 3)`` with squares of a class's colour, or of gray, at (top, left)."""
    pixels = generator.integers(70, 140, (SIDE, SIDE, 1)).repeat(3, axis=2)
    for name, (top, left) in blobs:
        color = np.array(COLORS[name] if name else (180, 180, 180))
        square = color + generator.integers(-20, 20, (BLOB, BLOB, 3))
        pixels[top : top + BLOB, left : left + BLOB] = square.clip(0, 255)
    return pixels.astype(np.uint8)


def trained(seed: int = 0, steps: int = 60) -> TorchClassifier:
    """Return a model that tells the colours of squares that lie anywhere, beside a gray one."""
    generator = np.random.default_rng(seed)
    model = TorchClassifier(create(SPEC, seed=seed), tuple(COLORS), INPUT)
    network, names = model.network.train(), tuple(COLORS)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        labels = generator.integers(0, 3, 32)
        places = generator.integers(0, SIDE - BLOB, (32, 2, 2)).tolist()
        pictures = [
            picture(generator, [(None, tuple(gray)), (names[label], tuple(place))])
            for label, (gray, place) in zip(labels, places, strict=True)
        ]
        logits = network(INPUT.normalize(torch.from_numpy(np.stack(pictures))))
        loss = functional.cross_entropy(logits, torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return model
