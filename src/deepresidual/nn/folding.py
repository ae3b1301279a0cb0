"""Fold batch normalization into the convolutions before it: the same function in evaluation, with fewer maps.

In evaluation BN multiplies each channel by a number and adds another, which a convolution just before it can
do by its weights and bias. A BN that follows an addition stays: the first of every full pre-activation unit
and the last of the network, and those after the addition (He et al. 2016, figure 4 b and e). So does the
normalization of pixels: the border of the first convolution is zero after it, not before.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from deepresidual.nn.resnet import ResNet
from deepresidual.nn.unit import Unit
from deepresidual.spec import ResNetSpec


def fold_batch_norm(network: ResNet) -> ResNet:
    """Return a copy in evaluation mode whose BN is folded where a convolution is just before it.

    The new weights are computed in double precision and rounded once. What was folded is ``Identity`` in the
    copy, which has other parameters than its spec names: it computes, and is neither trained nor saved.
    """
    folded = copy.deepcopy(network).eval()
    for parent, convolution, norm in list(_pairs(folded)):
        conv, bn = parent.get_submodule(convolution), parent.get_submodule(norm)
        dtype = cast("torch.Tensor", conv.weight).dtype
        one = fuse_conv_bn_eval(cast("nn.Conv2d", conv.double()), cast("nn.BatchNorm2d", bn.double()))
        parent.register_module(convolution, one.to(dtype))
        parent.register_module(norm, nn.Identity())
    for module in folded.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_buffer("num_batches_tracked", None)  # only training counts
    return folded.requires_grad_(False)


def empty_folded_network(spec: ResNetSpec) -> ResNet:
    """Build what :func:`fold_batch_norm` returns, its memory allocated and not filled."""
    with torch.device("meta"):
        network = fold_batch_norm(ResNet(spec))
    network.to_empty(device="cpu")
    return network


def _pairs(network: ResNet) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield a module and the names in it of a convolution and the BN that its output goes straight into."""
    if isinstance(network.bn1, nn.BatchNorm2d):
        yield network, "conv1", "bn1"
    for module in network.modules():
        if not isinstance(module, Unit):
            continue
        for convolution, norm in module.normalized_convolutions():
            yield module, convolution, norm
        shortcut = module.downsample
        if isinstance(shortcut, nn.Sequential) and isinstance(shortcut[-1], nn.BatchNorm2d):
            yield shortcut, "0", "1"
