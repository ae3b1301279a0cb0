"""A tiny detector of gray squares with a red or a blue corner, beside some without: what it must look at.

The corner alone tells the class, and that there is an object at all; the box is that of the whole square.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from deepresidual.backends.detector import TorchDetector
from deepresidual.models import create
from deepresidual.nn.detection import Taught
from deepresidual.preprocess import Preprocess
from deepresidual.spec import Anchors, DetectorSpec, MaskHead, Neck, Proposals, Regions, ResNetSpec

CLASSES = ("red", "blue")
_COLORS = {"red": (220, 40, 40), "blue": (40, 60, 220), "gray": (190, 190, 190)}
_PART = 0.5  # of a square's side that its coloured corner has
SIDE = 48
_BATCH = 4
_BODY = ResNetSpec(
    unit="basic", depths=(1, 1, 1), widths=(8, 16, 16), stem="cifar", shortcut="A", num_classes=0
)
_INPUT = Preprocess(SIDE, SIDE, (0.5,) * 3, (0.25,) * 3, fit="whole")

Box = tuple[int, int, int, int]


class Square(NamedTuple):
    """A gray square in a picture.

    Attributes:
        color: Colour of its corner; ``gray``: it has none, and is no object.
        left: Its left edge.
        top: Its upper edge.
        side: Its side.
        corner: Which corner is coloured: right or not, low or not.
    """

    color: str
    left: int
    top: int
    side: int
    corner: tuple[int, int]

    @property
    def box(self) -> Box:
        return self.left, self.top, self.left + self.side, self.top + self.side

    @property
    def patch(self) -> Box:
        """The part that is coloured."""
        part = round(_PART * self.side)
        left, top = (
            first + (self.side - part) * is_far
            for first, is_far in zip((self.left, self.top), self.corner, strict=True)
        )
        return left, top, left + part, top + part


def spec_of(neck: Neck, masks: MaskHead | None = None) -> DetectorSpec:
    """Return a small detector of two classes."""
    return DetectorSpec(
        _BODY,
        num_classes=len(CLASSES),
        neck=neck,
        fpn_channels=16,
        fpn_stages=3,
        rpn_channels=16,
        fpn_extra=False,
        anchors=Anchors(sizes=((8.0,), (12.0,), (20.0,)) if neck == "fpn" else ((8.0, 14.0),)),
        proposals=Proposals(
            samples=64, before_nms_train=100, after_nms_train=40, before_nms=100, after_nms=40
        ),
        regions=Regions(pooling="align" if neck == "fpn" else "pool", bins=4, hidden=32, samples=32),
        masks=masks,
    )


def picture(generator: np.random.Generator, squares: list[Square]) -> NDArray[np.uint8]:
    """Return noise ``(48, 48, 3)`` with squares."""
    pixels = generator.integers(70, 140, (SIDE, SIDE, 1)).repeat(3, axis=2)
    for square in squares:
        for color, (left, top, right, bottom) in (("gray", square.box), (square.color, square.patch)):
            noise = generator.integers(-15, 15, (bottom - top, right - left, 3))
            pixels[top:bottom, left:right] = np.array(_COLORS[color]) + noise
    return pixels.clip(0, 255).astype(np.uint8)


def drawn_squares(generator: np.random.Generator) -> list[Square]:
    """Return a red, a blue and a gray square, each in a quarter of its own."""
    quarters = generator.permutation([(0, 0), (0, 1), (1, 0), (1, 1)])[:3]
    squares: list[Square] = []
    for color, (down, across) in zip(("red", "blue", "gray"), quarters.tolist(), strict=True):
        side = int(generator.integers(14, 20))
        left, top = (
            int(quarter * SIDE // 2 + generator.integers(0, SIDE // 2 - side)) for quarter in (across, down)
        )
        corner = (int(generator.integers(2)), int(generator.integers(2)))
        squares.append(Square(color, left, top, side, corner))
    return squares


def fresh(neck: Neck, seed: int = 0, masks: MaskHead | None = None) -> TorchDetector:
    """Return a detector with first weights."""
    return TorchDetector(create(spec_of(neck, masks), seed=seed).eval(), CLASSES, _INPUT)


def trained(neck: Neck, steps: int = 120) -> TorchDetector:
    """Return a detector that finds red and blue squares."""
    generator, detector = np.random.default_rng(0), fresh(neck)
    network = detector.network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.004)
    for step in range(steps):
        scenes = [drawn_squares(generator) for _ in range(_BATCH)]
        pixels = np.stack([picture(generator, squares) for squares in scenes])
        lessons = [
            Taught(
                torch.tensor([square.box for square in squares[:2]], dtype=torch.float32),
                torch.tensor([0, 1]),
                torch.zeros(2, dtype=torch.bool),
                seed=_BATCH * step + place,
            )
            for place, squares in enumerate(scenes)
        ]
        losses = network(_INPUT.normalize(torch.from_numpy(pixels)), [(SIDE, SIDE)] * _BATCH, lessons)
        optimizer.zero_grad()
        (torch.stack([*losses.values()]).sum() / _BATCH).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    network.eval()
    return detector
