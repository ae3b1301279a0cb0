"""``ResNet``: the network that a :class:`~residual.spec.ResNetSpec` describes, plain nets included.

Parameters are named as torchvision names them (``conv1``, ``layer1.0.bn1``, ``layer2.0.downsample.0``,
``fc``), which timm reads too. The constructor only builds; :func:`residual.create` also initializes.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, assert_never, cast

from torch import Tensor, nn
from torch.nn import functional

from residual.nn.unit import make_unit

if TYPE_CHECKING:
    from residual.spec import ResNetSpec

__all__ = ["ResNet"]


class ResNet(nn.Module):
    """A residual (or plain) network for image classification.

    ``(N, in_channels, H, W)`` float → ``(N, num_classes)`` logits. Any H and W that the strides leave
    at least one pixel of.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.widths[0]
        match spec.stem:
            case "imagenet":
                self.conv1 = nn.Conv2d(
                    spec.in_channels, width, kernel_size=7, stride=2, padding=3, bias=False
                )
                pool: nn.Module = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            case "cifar":
                self.conv1 = nn.Conv2d(spec.in_channels, width, kernel_size=3, padding=1, bias=False)
                pool = nn.Identity()
            case _:
                assert_never(spec.stem)
        self.bn1 = nn.BatchNorm2d(width) if spec.has_stem_bn else nn.Identity()
        self.relu = nn.ReLU(inplace=True) if spec.has_stem_bn else nn.Identity()
        self.maxpool = pool
        for stage, shapes in groupby(spec.units(), key=lambda shape: shape.name.split(".")[0]):
            self.add_module(stage, nn.Sequential(*(make_unit(spec, shape) for shape in shapes)))
        self.bn = nn.BatchNorm2d(spec.num_features) if spec.is_preactivated else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(spec.num_features, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        x = self._stem(x)
        for name in self.spec.stage_names:
            x = self.get_submodule(name)(x)
        return cast("Tensor", self.fc(self.avgpool(self._last_activation(x)).flatten(1)))

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
            x = maps[name] = self.get_submodule(name)(x)
        return maps

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
