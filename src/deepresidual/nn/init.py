"""The first weights: He's or Glorot's distribution.

He et al. 2015b, "Delving Deep into Rectifiers" (arXiv 1502.01852), section 2.2: convolutions are drawn from
N(0, 2 / n) with n = k · k · out_channels ("fan-out", which keeps the variance of the backward pass;
fb.resnet.torch and torchvision do the same), and weights and bias of the classifier are uniform in
±1/√in_features, torch's own default, as in torchvision and timm; fb.resnet.torch sets that bias to zero, and
the papers do not say. Glorot and Bengio 2010 ("xavier"): uniform in ±√(6 / (fan_in + fan_out)), with biases
of zero, as TensorFlow and Keras draw them. BN starts as the identity.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

import torch
from torch import nn

from deepresidual.nn.addition import Gate

if TYPE_CHECKING:
    from deepresidual.nn.resnet import ResNet
    from deepresidual.spec import Initialization


def initialize(network: ResNet, seed: int) -> None:
    """Fill every parameter and buffer of ``network`` in place; a pure function of ``seed``.

    The global random state of torch is neither read nor changed.
    """
    generator = torch.Generator().manual_seed(seed)
    spec = network.spec
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            draw_weights(module, spec.initialization, generator)
    for module in network.modules():
        if isinstance(module, Gate) and module.gate.bias is not None:
            nn.init.constant_(module.gate.bias, module.first_bias)
    if spec.zero_init_last_bn:
        last = "bn3" if spec.unit == "bottleneck" else "bn2"
        for unit in spec.units():
            nn.init.zeros_(network.get_submodule(f"{unit.name}.{last}").get_parameter("weight"))


def draw_weights(module: nn.Module, initialization: Initialization, generator: torch.Generator) -> None:
    """Fill a convolution or a classifier in place from ``generator``; other modules have nothing to draw."""
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return
    match initialization:
        case "he-fan-out":
            _draw_he(module, generator)
        case "xavier":
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        case _:
            assert_never(initialization)


def _draw_he(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        return
    bound = 1 / math.sqrt(module.in_features)
    nn.init.uniform_(module.weight, -bound, bound, generator=generator)
    nn.init.uniform_(module.bias, -bound, bound, generator=generator)
