"""A row of the zoo: a named network, its usual preprocessing, and its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepresidual.preprocess import Preprocess
    from deepresidual.spec import ResNetSpec

__all__ = ["ZooEntry"]


@dataclass(frozen=True)
class ZooEntry:
    """One named network.

    Attributes:
        name: Name by which commands and :func:`deepresidual.create` know it.
        spec: The architecture.
        preprocess: The preprocessing of the data set that it was designed for.
        source: Paper and table that define it.
    """

    name: str
    spec: ResNetSpec
    preprocess: Preprocess
    source: str

    @property
    def num_macs(self) -> int:
        """Multiply-adds for one image of the usual size."""
        return self.spec.num_macs(self.preprocess.crop_px)
