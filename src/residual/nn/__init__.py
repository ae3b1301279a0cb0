"""Networks as torch modules, built from a spec."""

from residual.nn.init import initialize
from residual.nn.resnet import ResNet

__all__ = ["ResNet", "initialize"]
