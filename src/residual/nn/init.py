"""He initialization (He et al. 2015b, "Delving Deep into Rectifiers", arXiv 1502.01852, section 2.2).

Convolutions are drawn from N(0, 2 / n) with n = k · k · out_channels ("fan-out", which keeps the
variance of the backward pass; fb.resnet.torch and torchvision do the same). BN starts as the identity.
The classifier is uniform in ±1/√in_features, torch's own default, as the ones compared with.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from residual.nn.resnet import ResNet

__all__ = ["initialize"]


def initialize(network: ResNet, seed: int) -> None:
    """Fill every parameter and buffer of ``network`` in place; a pure function of ``seed``.

    The global random state of torch is neither read nor changed.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
