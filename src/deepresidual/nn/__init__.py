"""Networks as torch modules, built from a spec."""

from deepresidual.nn.init import initialize
from deepresidual.nn.resnet import BODY, ResNet, body_of, empty_network

__all__ = ["BODY", "ResNet", "body_of", "empty_network", "initialize"]
