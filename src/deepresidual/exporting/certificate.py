"""The certificate of an export: logits of the session that will run against PyTorch's, on real photos."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.backends.classifier import NOT_FINITE, NOT_FINITE_REMEDY
from deepresidual.backends.self_test import TOLERANCES, Difference, SelfTest
from deepresidual.errors import ModelFileError
from deepresidual.runtime.provenance import now, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from deepresidual.backends.pytorch import TorchClassifier
    from deepresidual.backends.signature import FileKind
    from deepresidual.exporting.views import CheckViews

# Views of the self-test: as many as this allows, so that its cost at every start is that of one large image.
_SELF_TEST_MACS = 4e9
_MOST_SELF_TEST_VIEWS = 32


@dataclass(frozen=True)
class ExportCertificate:
    """How an exported file was held against PyTorch.

    Attributes:
        engine: What computed the file, with its version.
        reference: What it was held against, with its version.
        images: Where the views come from.
        names: What each is a view of.
        difference: How the logits differ.
        made: When, in UTC.
    """

    engine: str
    reference: str
    images: str
    names: tuple[str, ...]
    difference: Difference
    made: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; those of the difference among them."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return own | {"names": list(self.names), "difference": dataclasses.asdict(self.difference)}


def reference_logits(model: TorchClassifier, views: CheckViews) -> NDArray[np.float32]:
    """Return PyTorch's logits of views, ``(N, K)``, a few at a time.

    Raises:
        ModelFileError: They are not finite.
    """
    parts = [model.logits(views.pixels[first : first + 8]) for first in range(0, len(views.pixels), 8)]
    logits = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise ModelFileError(NOT_FINITE, remedy=NOT_FINITE_REMEDY)
    return logits


def certify(
    compute: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    views: CheckViews,
    reference: NDArray[np.float32],
    engine: str,
    precision: FileKind = "fp32",
) -> ExportCertificate:
    """Compute the views by the session that will run, and compare.

    An int8 file is judged by its gate, on images with labels; here its difference is only recorded.

    Args:
        compute: The session: views ``(N, S, S, C)`` uint8 → logits ``(N, K)``.
        views: The views.
        reference: PyTorch's logits of them.
        engine: Name and version of what computes.
        precision: Precision of the file.

    Raises:
        ModelFileError: The logits differ by more than :data:`~deepresidual.backends.self_test.TOLERANCES`
            allow: the file would not be the same function.
    """
    difference = Difference.between(compute(views.pixels), reference)
    if precision != "int8" and not difference.is_within(precision):
        raise ModelFileError(
            f"the exported file is not the same function: computed by {engine} its logits differ by "
            f"{difference.largest:.3g}, which is {difference.share(precision):.2g} of their deviation, and "
            f"{difference.agreement:.1%} of {difference.count} views have the same best class",
            expected=f"at most {TOLERANCES[precision]:g}; nothing was written",
        )
    torch = f"PyTorch {version_of('torch')}, float32"
    return ExportCertificate(engine, torch, views.source, views.names, difference, now())


def self_test_of(views: CheckViews, reference: NDArray[np.float32], num_macs: int) -> SelfTest:
    """Choose the views that a session computes before its first answer.

    Those with the clearest best class are taken: what only rounds does not change it, what is wrong does.
    """
    most = int(max(1, min(_MOST_SELF_TEST_VIEWS, _SELF_TEST_MACS // max(1, num_macs))))
    ordered = np.sort(reference, axis=1)
    margins = ordered[:, -1] - ordered[:, -2] if reference.shape[1] > 1 else np.abs(reference[:, 0])
    chosen = np.sort(np.argsort(-margins, kind="stable")[:most])
    return SelfTest(np.ascontiguousarray(views.pixels[chosen]), np.ascontiguousarray(reference[chosen]))
