"""The metrics of a run for TensorBoard, beside ``metrics.jsonl``; an extra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepresidual.errors import MissingDependencyError


def require_tensorboard() -> None:
    """Raise unless TensorBoard's writer can be used.

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401  # it imports tensorboard and may fail
    except ImportError as error:
        raise MissingDependencyError.of_extra(
            "--tensorboard needs the package tensorboard, which is not installed", "tensorboard"
        ) from error


class TensorBoardWriter:
    """Event files of TensorBoard.

    Args:
        folder: The folder of the files.

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._folder = str(folder)
        self._make = SummaryWriter
        self._writer: Any = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the numbers of a line of ``metrics.jsonl``, under ``train/`` or the name of the split."""
        if self._writer is None:
            # A resumed run does its last steps again; TensorBoard drops what it has of them.
            self._writer = self._make(self._folder, purge_step=int(row["step"]))
        group = row.get("split", "train")
        for name, value in row.items():
            if name not in ("step", "event", "split") and isinstance(value, int | float):
                self._writer.add_scalar(f"{group}/{name}", value, int(row["step"]))
        self._writer.flush()
