"""The operators and layers of torchvision that detectors are made of, or a sentence where there are none.

A torchvision that was built for another torch is installed all the same: the usual one of Linux beside the
torch that computes on the CPU alone. It fails when it is imported.
"""

from __future__ import annotations

from deepresidual.errors import MissingDependencyError

try:
    from torchvision.ops import nms, roi_align
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
except (ImportError, RuntimeError) as error:
    raise MissingDependencyError(
        f"torchvision, which detectors need, does not work beside this torch ({error})",
        expected="both from the same index, in versions made for each other",
        remedy="install both anew in one command (docs/how-to/install.md)",
    ) from error

__all__ = ["FeaturePyramidNetwork", "LastLevelMaxPool", "nms", "roi_align"]
