"""Residual: deep residual learning in Python, on PyTorch."""
__version__ = "0.1.0.dev0"
