"""Networks as torch modules, built from a spec."""

from deepresidual.nn.init import initialize
from deepresidual.nn.resnet import ResNet

__all__ = ["ResNet", "initialize"]
