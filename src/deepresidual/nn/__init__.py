"""Networks as torch modules, built from a spec."""

from deepresidual.nn.init import initialize
from deepresidual.nn.resnet import ResNet, empty_network

__all__ = ["ResNet", "empty_network", "initialize"]
