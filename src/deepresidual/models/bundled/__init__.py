"""Trained models that come with Residual: ``residual predict resnet56-cifar10 photo.jpg``, offline.

Every folder here is a model folder as any other, its weights in half precision. Its card says on what, how
and how well it was trained.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder_of", "names"]

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the models."""
    return sorted(folder.parent.name for folder in _HERE.glob("*/config.json"))


def folder_of(name: str) -> Path | None:
    """Return the model folder of that name; ``None`` where there is none."""
    return _HERE / name if name in names() else None
