"""``ResNet``: the network that a :class:`~deepresidual.spec.ResNetSpec` describes, plain nets included.

Parameters are named as torchvision names them (``conv1``, ``layer1.0.bn1``, ``layer2.0.downsample.0``,
``fc``), which timm reads too. The constructor only builds; :func:`deepresidual.create` also initializes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import assert_never, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.fields import check_seed
from deepresidual.nn.init import draw_weights
from deepresidual.nn.padding import make_convolution, make_max_pool
from deepresidual.nn.pooling import StatisticsPool
from deepresidual.nn.unit import make_bn, make_unit
from deepresidual.spec import Convolution, Head, ResNetSpec


class ResNet(nn.Module):
    """A residual (or plain) network for image classification.

    ``(N, in_channels, H, W)`` float → ``(N, num_classes)`` logits, or ``(N, num_features)`` features where
    the spec has 0 classes (timm's convention). Any H and W that the strides leave at least one pixel of.

    :meth:`forward` is ``get_classifier()(pooled_features(x))``. What timm's networks answer is answered by
    the same names: :meth:`forward_features`, :meth:`forward_head`, :meth:`reset_classifier`,
    :meth:`get_classifier`, :attr:`num_classes`, :attr:`num_features`.
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
        self.bn = make_bn(spec, spec.out_channels) if spec.is_preactivated else nn.Identity()
        self.avgpool = _make_pool(spec.head)
        self.fc = _make_classifier(spec)

    @property
    def num_classes(self) -> int:
        """Rows of the classifier; 0 for a backbone."""
        return self.spec.num_classes

    @property
    def num_features(self) -> int:
        """Features that the classifier reads."""
        return self.spec.num_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``, or their features."""
        return cast("Tensor", self.fc(self.pooled_features(x)))

    def pooled_features(self, x: Tensor) -> Tensor:
        """Return what the classifier reads of images, ``(N, in_channels, H, W)`` → ``(N, num_features)``.

        These are the statistics of ``spec.head`` of the maps of its stages: of the last stage after the last
        activation, of those before as their units leave them.
        """
        if not self.spec.head.stages:
            return cast("Tensor", self.avgpool(self.forward_features(x)).flatten(1))
        pooled, pool = [], StatisticsPool(self.spec.head.statistics)
        x = self.stem(x)
        for name in self.spec.stage_names[:-1]:
            x = self.stage(name, x)
            if name in self.spec.head.stages:
                pooled.append(pool(x))
        x = self.last_activation(self.stage(self.spec.stage_names[-1], x))
        return torch.cat([*pooled, self.avgpool(x).flatten(1)], dim=1)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, ``(N, out_channels, H, W)``, after the last activation, as timm's does."""
        x = self.stem(x)
        for name in self.spec.stage_names:
            x = self.stage(name, x)
        return self.last_activation(x)

    def forward_head(self, x: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Return the logits of the last map, as timm's does.

        Args:
            x: What :meth:`forward_features` returned.
            pre_logits: Return what the classifier reads instead.

        Raises:
            ConfigurationError: The classifier reads other maps, too.
        """
        if self.spec.head.stages:
            raise ConfigurationError(
                f"forward_head reads the last map and this network's classifier reads those of "
                f"{', '.join(self.spec.head.stages)}",
                remedy="call the network itself, or pooled_features()",
            )
        features = cast("Tensor", self.avgpool(x).flatten(1))
        return features if pre_logits else cast("Tensor", self.fc(features))

    def get_classifier(self) -> nn.Module:
        """Return the classifier; ``Identity`` for a backbone."""
        return self.fc

    def reset_classifier(self, num_classes: int, seed: int = 0, *, head: Head | None = None) -> None:
        """Replace the classifier by a new one, whose weights are a pure function of ``seed``; as timm's does.

        Args:
            num_classes: Its number of rows; 0 for none, which makes the network a backbone.
            seed: Seed of its weights.
            head: What it reads. Default: what the present one reads.

        Raises:
            ConfigurationError: A number is out of range, or there is no such stage.
        """
        check_seed(seed)
        spec = dataclasses.replace(self.spec, num_classes=num_classes, head=head or self.spec.head)
        classifier = _make_classifier(spec)
        draw_weights(classifier, spec.initialization, torch.Generator().manual_seed(seed))
        usual = self.conv1.weight
        self.fc = classifier.to(usual.device, usual.dtype).train(self.training)
        self.avgpool = _make_pool(spec.head)
        self.spec = spec

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

        Raises:
            ConfigurationError: The classifier reads more than the mean of the last map.
        """
        self.require_score_map()
        x = self.forward_features(x)
        window = [min(window_px, side) for side in x.shape[2:]]
        pooled = functional.avg_pool2d(x, window, stride=1)
        if not self.spec.num_classes:
            return pooled
        return functional.conv2d(pooled, self.fc.weight[:, :, None, None], self.fc.bias)

    def require_score_map(self) -> None:
        """Refuse what :meth:`score_map` cannot do.

        Raises:
            ConfigurationError: The classifier reads more than the mean of the last map.
        """
        if not self.spec.has_usual_head:
            raise ConfigurationError(
                f"the classifier reads {self.spec.pooling}, of which there is no map of logits",
                expected="one that reads the mean of the last map",
                remedy="take other views than whole images",
            )

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the map after the stem and after every stage, in order, as the units leave it.

        Args:
            x: Images ``(N, in_channels, H, W)``.

        Returns:
            ``{"stem": (N, widths[0], …), "layer1": …, …}``; each stage but the first halves H and W.
        """
        maps = {"stem": self.stem(x)}
        x = maps["stem"]
        for name in self.spec.stage_names:
            x = maps[name] = self.stage(name, x)
        return maps

    def stage_map(self, x: Tensor, stage: str) -> Tensor:
        """Return the map after the stem or after one stage, as :meth:`features` does; no later stage is run.

        Args:
            x: Images ``(N, in_channels, H, W)``.
            stage: ``stem``, ``layer1`` and so on.

        Raises:
            UnknownNameError: There is no such stage.
        """
        names = ("stem", *self.spec.stage_names)
        if stage not in names:
            raise UnknownNameError("stage", stage, names)
        x = self.stem(x)
        for name in names[1 : names.index(stage) + 1]:
            x = self.stage(name, x)
        return x

    def stage(self, name: str, x: Tensor) -> Tensor:
        """Run one stage on the map before it; ``name`` is ``layer1`` and so on."""
        stage = cast("nn.Sequential", self.get_submodule(name))
        if not (self.spec.activation_checkpointing and torch.is_grad_enabled()):
            return cast("Tensor", stage(x))
        for unit in stage:
            x = cast("Tensor", checkpoint(unit, x, use_reentrant=False, context_fn=partial(_contexts, unit)))
        return x

    def last_activation(self, x: Tensor) -> Tensor:
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

    def stem(self, x: Tensor) -> Tensor:
        """Run what comes before the first stage."""
        return cast("Tensor", self.maxpool(self.relu(self.bn1(self.conv1(x)))))


BODY = "backbone.body."
"""Prefix of the parameters of the residual network in a detector, as in torchvision's."""


def body_of(network: nn.Module) -> ResNet:
    """Return the residual network of a network: itself, or the body of a detector's backbone."""
    return network if isinstance(network, ResNet) else cast("ResNet", network.get_submodule(BODY[:-1]))


def empty_network(spec: ResNetSpec) -> ResNet:
    """Build a network whose memory is allocated and not filled; for weights that come from elsewhere."""
    with torch.device("meta"):
        network = ResNet(spec)
    network.to_empty(device="cpu")
    return network


def _make_pool(head: Head) -> nn.Module:
    """Build what pools the last map; the maps of stages before it are pooled likewise."""
    return nn.AdaptiveAvgPool2d(1) if head.statistics == ("mean",) else StatisticsPool(head.statistics)


def _make_classifier(spec: ResNetSpec) -> nn.Linear:
    if spec.num_classes:
        return nn.Linear(spec.num_features, spec.num_classes)
    return cast("nn.Linear", nn.Identity())  # for type checkers; what needs a classifier asks the spec


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
