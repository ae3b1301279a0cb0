"""``ResNet``: the network that a :class:`~deepresidual.spec.ResNetSpec` describes, plain nets included.

Parameters are named as torchvision names them (``conv1``, ``layer1.0.bn1``, ``layer2.0.downsample.0``,
``fc``), which timm reads too. The constructor only builds; :func:`deepresidual.create` also initializes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import assert_never, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from deepresidual.nn.padding import make_convolution, make_max_pool
from deepresidual.nn.unit import make_bn, make_unit
from deepresidual.spec import Convolution, ResNetSpec


class ResNet(nn.Module):
    """A residual (or plain) network for image classification.

    ``(N, in_channels, H, W)`` float → ``(N, num_classes)`` logits, or ``(N, num_features)`` features where
    the spec has 0 classes (timm's convention). Any H and W that the strides leave at least one pixel of.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.widths[0]
        match spec.stem:
            case "imagenet":
                stem = Convolution(spec.in_channels, width, 7, 2, bias=spec.has_stem_bias)
                pool: nn.Module = make_max_pool(spec.padding)
            case "cifar":
                stem = Convolution(spec.in_channels, width, 3, 1, bias=spec.has_stem_bias)
                pool = nn.Identity()
            case _:
                assert_never(spec.stem)
        self.conv1 = make_convolution(stem, spec.padding)
        self.bn1 = make_bn(spec, width) if spec.has_stem_bn else nn.Identity()
        self.relu = nn.ReLU(inplace=True) if spec.has_stem_bn else nn.Identity()
        self.maxpool = pool
        for stage, shapes in groupby(spec.units(), key=lambda shape: shape.stage):
            self.add_module(stage, nn.Sequential(*(make_unit(spec, shape) for shape in shapes)))
        self.bn = make_bn(spec, spec.num_features) if spec.is_preactivated else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = (
            nn.Linear(spec.num_features, spec.num_classes)
            if spec.num_classes
            else cast("nn.Linear", nn.Identity())  # for type checkers; what needs a classifier asks the spec
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``, or their features."""
        return cast("Tensor", self.fc(self.avgpool(self._last_map(x)).flatten(1)))

    def score_map(self, x: Tensor, window_px: int) -> Tensor:
        """Return a map of logits: the network applied fully convolutionally (2015, section 3.4).

        The average pooling keeps a window, which moves by one pixel of the last map, and the classifier
        becomes a 1×1 convolution. One window as large as the map is :meth:`forward`.

        Args:
            x: Images ``(N, in_channels, H, W)``.
            window_px: Side of the window in pixels of the last map; cut to the map where that is smaller.

        Returns:
            ``(N, num_classes, H', W')``, a row of logits for every place of the window (features for 0
            classes).
        """
        x = self._last_map(x)
        window = [min(window_px, side) for side in x.shape[2:]]
        pooled = functional.avg_pool2d(x, window, stride=1)
        if not self.spec.num_classes:
            return pooled
        return functional.conv2d(pooled, self.fc.weight[:, :, None, None], self.fc.bias)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the map after the stem and after every stage, in order, as the units leave it.

        Args:
            x: Images ``(N, in_channels, H, W)``.

        Returns:
            ``{"stem": (N, widths[0], …), "layer1": …, …}``; each stage but the first halves H and W.
        """
        maps = {"stem": self._stem(x)}
        x = maps["stem"]
        for name in self.spec.stage_names:
            x = maps[name] = self._stage(name, x)
        return maps

    def _last_map(self, x: Tensor) -> Tensor:
        x = self._stem(x)
        for name in self.spec.stage_names:
            x = self._stage(name, x)
        return self._last_activation(x)

    def _stage(self, name: str, x: Tensor) -> Tensor:
        stage = cast("nn.Sequential", self.get_submodule(name))
        if not (self.spec.activation_checkpointing and torch.is_grad_enabled()):
            return cast("Tensor", stage(x))
        for unit in stage:
            x = cast("Tensor", checkpoint(unit, x, use_reentrant=False, context_fn=partial(_contexts, unit)))
        return x

    def _last_activation(self, x: Tensor) -> Tensor:
        """Activate what the last unit leaves open (2016, appendix: "an extra activation")."""
        match self.spec.arrangement:
            case "full-preactivation":
                return functional.relu(self.bn(x))
            case "relu-only-preactivation":
                return functional.relu(x)
            case "original" | "bn-after-addition" | "relu-before-addition":
                return x
            case _:
                assert_never(self.spec.arrangement)

    def _stem(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.maxpool(self.relu(self.bn1(self.conv1(x)))))


def empty_network(spec: ResNetSpec) -> ResNet:
    """Build a network whose memory is allocated and not filled; for weights that come from elsewhere."""
    with torch.device("meta"):
        network = ResNet(spec)
    network.to_empty(device="cpu")
    return network


def _contexts(
    unit: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """Return what surrounds a checkpointed unit's first run, and its second in the backward pass."""
    return contextlib.nullcontext(), _statistics_kept(unit)


@contextlib.contextmanager
def _statistics_kept(unit: nn.Module) -> Iterator[None]:
    """Keep the running statistics as they are: the first run of the unit has counted the batch already."""
    norms = [module for module in unit.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # With a momentum of zero the update leaves the very same bits.
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
