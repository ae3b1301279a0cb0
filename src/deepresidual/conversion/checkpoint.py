"""A checkpoint from elsewhere: named arrays, and what the file says of itself; nothing of it is trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Checkpoint:
    """What a reader found in a file or folder.

    Attributes:
        path: The file or folder.
        format: ``safetensors``, ``torch``, ``torch7``, ``caffemodel``, ``keras`` or ``tensorflow``.
        tensors: Every array under the name that the file gives it, on the CPU, in the file's own layout.
        metadata: What else the file says, as JSON types: ``config`` (a folder's ``config.json``), ``modules``
            (a Torch7 file's modules by path), ``layers`` (a Caffe net's layers, in order).
        sha256: Hash of the file; of a folder, of its weights.
    """

    path: Path
    format: str
    tensors: dict[str, torch.Tensor]
    sha256: str
    metadata: dict[str, Any] = field(default_factory=dict)
