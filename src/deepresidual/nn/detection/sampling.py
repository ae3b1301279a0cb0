"""Sampling: which of an image's anchors and regions are learned from.

Choices are pure functions of the image's seed, drawn on the CPU: neither the device nor the batch's other
images nor the way in which the batch is spread over micro-batches and ranks matters.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deepresidual.nn.detection.matching import Matches

Use = Literal["anchors", "regions"]

# Each use has its own stream, so that the regions do not depend on how many anchors there are.
_STREAMS: dict[Use, int] = {"anchors": 1, "regions": 2}


def draw_samples(
    matches: Matches, samples: int, positive_share: float, seed: int, use: Use
) -> tuple[Tensor, Tensor]:
    """Draw positive and negative boxes of an image without replacement.

    Args:
        matches: What the boxes are.
        samples: How many are drawn; fewer, if there are fewer.
        positive_share: Largest share of positive ones among them; negative ones fill the rest.
        seed: The image's seed.
        use: What is drawn.

    Returns:
        ``(p,)`` and ``(q,)`` int64: places of the positive and of the negative ones, each rising.
    """
    random = np.random.Generator(np.random.PCG64((seed, _STREAMS[use])))
    positive = _draw(matches.positive, int(samples * positive_share), random)
    return positive, _draw(matches.negative, samples - len(positive), random)


def _draw(mask: Tensor, most: int, random: np.random.Generator) -> Tensor:
    places = mask.nonzero()[:, 0]
    if len(places) <= most:
        return places
    chosen = np.sort(random.choice(len(places), most, replace=False, shuffle=False))
    return places[torch.from_numpy(chosen).to(places.device)]
