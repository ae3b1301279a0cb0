"""The choices that a spec names: kinds of unit, stem, shortcut, arrangement and padding.

Sources: He et al. 2015 (arXiv 1512.03385) and He et al. 2016 (arXiv 1603.05027), by table and figure below.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = [
    "Arrangement",
    "ConvBias",
    "FirstActivation",
    "Initialization",
    "Padding",
    "Shortcut",
    "ShortcutForm",
    "Stem",
    "StrideIn",
    "StrideOn",
    "Unit",
]

Unit: TypeAlias = Literal["basic", "bottleneck"]
"""Two 3×3 convolutions, or 1×1 – 3×3 – 1×1 (2015, figure 5)."""

Stem: TypeAlias = Literal["imagenet", "cifar"]
"""7×7/2 convolution and 3×3/2 max-pooling, or one 3×3 convolution (2015, sections 3.3 and 4.2)."""

Shortcut: TypeAlias = Literal[
    "none",
    "A",
    "A-both-sides",
    "B",
    "B-subsampled",
    "C",
    "scaled",
    "exclusive-gating",
    "shortcut-only-gating",
    "dropout",
]
"""What is added to F(x).

2015, section 3.3 and Table 3 – none: nothing, a plain net. A: zero-padded identity, zeros after the channels
as in fb.resnet.torch; A-both-sides: half of the zeros before them, as in the CIFAR networks of
akamaster/pytorch_resnet_cifar10. B: projection where the shape changes; B-subsampled: projection where the
channels change, and a sub-sampled identity where only the map does, as in Keras's ResNet V2. C: projection
everywhere, which 2016, Table 1 calls the 1×1 convolutional shortcut.

2016, Table 1, each on top of option A – scaled: λ·x + μ·F(x). exclusive-gating: (1 − g)·x + g·F(x) with
g = σ(W·x + b). shortcut-only-gating: (1 − g)·x + F(x). dropout: x through dropout of one half.
"""

ShortcutForm: TypeAlias = Literal["none", "identity", "pad", "pad-both-sides", "projection"]
"""Form of a shortcut at one unit."""

StrideOn: TypeAlias = Literal["1x1", "3x3"]
"""Which convolution of a bottleneck halves the map: the first 1×1 (the paper, "v1") or the 3×3 ("v1.5")."""

StrideIn: TypeAlias = Literal["first", "last"]
"""Which unit halves the map: the first of every stage but the first (the papers), or the last of every
stage but the last (Keras's ResNet V2)."""

Arrangement: TypeAlias = Literal[
    "original", "bn-after-addition", "relu-before-addition", "relu-only-preactivation", "full-preactivation"
]
"""Where BN and ReLU stand in a unit (2016, figure 4 a to e and Table 2)."""

FirstActivation: TypeAlias = Literal["unit", "stem", "branch"]
"""Where the first BN and ReLU of a full pre-activation net stand (2016, appendix: "right after conv1 and
before splitting into two paths"). unit: at the head of the first unit, before the split, as in CIFAR nets.
stem: after conv1 and before the max-pooling, as fb.resnet.torch does for ImageNet; the first unit then
begins with its convolution. branch: in the residual branch alone, as in timm's basic resnetv2."""

ConvBias: TypeAlias = Literal["none", "stem", "unnormalized", "all"]
"""Which convolutions have a bias: none (the papers), conv1 (the released Caffe ResNet-50), those that no BN
follows (Keras V2), all (Keras)."""

Padding: TypeAlias = Literal["torch", "keras", "caffe", "tensorflow"]
"""Whose rule pads the max-pooling and the strided convolutions.

torch: symmetric; the pooling ignores the border. keras: the same with zeros around the pooling. caffe:
symmetric convolutions; the pooling is not padded and rounds up. tensorflow: SAME, the odd pixel after."""

Initialization: TypeAlias = Literal["he-fan-out", "xavier"]
"""He et al. 2015b, N(0, 2/(k²·out)) (the papers); Glorot and Bengio 2010, uniform (the article, Keras)."""
