"""The first weights of a detector: the backbone's own, and torchvision's distributions for the rest."""

from __future__ import annotations

import math

import torch
from torch import nn

from deepresidual.nn.detection.detector import Detector
from deepresidual.nn.init import initialize

_RPN_STD = 0.01
# The heads' numbers are not those of the backbone again.
_HEADS = 1 << 62


def initialize_detector(network: Detector, seed: int) -> None:
    """Fill every parameter and buffer of ``network`` in place; a pure function of ``seed``.

    Convolutions of the pyramid are uniform in ±√(3 / fan-in) and those of the proposal network N(0, 0.01²)
    (Ren et al. 2015, section 3.1.3), those of regions N(0, 2 / fan-out) (He et al. 2015), biases are zero;
    fully connected layers are uniform in ±1/√in_features, biases too. The global random state of torch is
    neither read nor changed.
    """
    initialize(network.backbone.body, seed)
    generator = torch.Generator().manual_seed(seed ^ _HEADS)
    for name, module in network.named_modules():
        kinds = nn.Conv2d | nn.Linear | nn.ConvTranspose2d
        if name.startswith("backbone.body.") or not isinstance(module, kinds):
            continue
        if name.startswith("rpn."):
            nn.init.normal_(module.weight, std=_RPN_STD, generator=generator)
        elif name.startswith("roi_heads.") and not isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif not isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=1, generator=generator)
        else:
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
