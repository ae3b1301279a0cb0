"""The self-test of an exported model: views and their logits, computed again before the first answer.

Engines have computed exported networks wrongly without a word: OpenVINO 2026.4 int8 files with a dynamic
batch (logits off by 0.6 of their deviation, four of ten CIFAR-10 images another class), and every engine
8-bit weights on a CPU without VNNI, where sums of products saturate. So a session computes stored views
first, and what it says is held against what PyTorch said when the model was exported.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.signature import FileKind
    from deepresidual.runtime.compute import Precision

TOLERANCES: dict[FileKind | Precision, float] = {"fp32": 1e-3, "int8": 0.1, "bf16": 0.1, "fp16": 0.02}
"""Allowed difference of logits as a share of their standard deviation: the largest one for fp32, whose sums
are only taken in another order, and the root of the mean square for what rounds."""

COPY = "copy the whole folder, or export again"
"""What helps where a self-test is missing or damaged."""


def read_arrays(path: Path, required: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a self-test by their names; nothing is unpickled.

    Args:
        path: The file, of ``numpy.savez``.
        required: Names that have to be there.

    Raises:
        ModelFileError: It is missing or damaged.
    """
    try:
        # Opened here, since NumPy leaves a file open that is no zip file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            read = {name: arrays[name] for name in arrays.files}
        return {**{name: read[name] for name in required}, **read}
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing", remedy=COPY) from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        raise ModelFileError(f"{path} is damaged ({reason})", remedy=COPY) from error


@dataclass(frozen=True)
class SelfTest:
    """Views and the logits that PyTorch gives them.

    Attributes:
        pixels: ``(N, S, S, C)`` uint8.
        logits: ``(N, K)`` float32.
    """

    pixels: NDArray[np.uint8]
    logits: NDArray[np.float32]

    def write(self, path: Path) -> None:
        """Write it; compressed, since views are photos."""
        np.savez_compressed(path, pixels=self.pixels, logits=self.logits)

    @classmethod
    def read(cls, path: Path) -> SelfTest:
        """Read what :meth:`write` wrote; nothing is unpickled.

        Raises:
            ModelFileError: It is missing or damaged.
        """
        arrays = read_arrays(path, ("pixels", "logits"))
        found = cls(arrays["pixels"], arrays["logits"])
        fits = (
            found.pixels.ndim == 4 and found.logits.ndim == 2 and 0 < len(found.pixels) == len(found.logits)
        )
        if not fits or found.pixels.dtype != np.uint8 or found.logits.dtype != np.float32:
            raise ModelFileError(
                f"{path} holds arrays of {found.pixels.shape} and {found.logits.shape}",
                expected="views and their logits",
                remedy=COPY,
            )
        return found

    def require_passed(
        self,
        compute: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        precision: FileKind | Precision,
        who: str,
    ) -> None:
        """Refuse what computes other logits than PyTorch did.

        Args:
            compute: Computes logits of views.
            precision: What it computes in.
            who: What computes which file, for the message.

        Raises:
            ModelFileError: The logits differ by more than :data:`TOLERANCES` allow, or name another class.
        """
        try:
            found = compute(self.pixels)
        except ModelFileError:
            raise
        except Exception as error:  # engines raise classes of their own
            raise ModelFileError(f"{who} failed in its self-test: {' '.join(str(error).split())}") from error
        difference = Difference.between(found, self.logits)
        if difference.is_within(precision) and difference.agreement == 1:
            return
        raise ModelFileError(
            f"{who} computes wrongly here: of {len(self.logits)} stored "
            f"view{'s' if len(self.logits) > 1 else ''} its logits differ from PyTorch's by "
            f"{difference.share(precision):.2g} of their deviation, and "
            f"{round((1 - difference.agreement) * len(self.logits))} of the best classes are others",
            expected=f"at most {TOLERANCES[precision]:g}, and none",
            remedy="choose another --backend",
        )


@dataclass(frozen=True)
class Difference:
    """Difference of logits from a reference's.

    Attributes:
        largest: Largest absolute difference.
        rms: Root of the mean square of the differences.
        deviation: Standard deviation of the reference's logits.
        agreement: Share of rows with the same best class.
        count: Number of rows.
    """

    largest: float
    rms: float
    deviation: float
    agreement: float
    count: int

    @classmethod
    def between(cls, logits: NDArray[np.float32], reference: NDArray[np.float32]) -> Difference:
        """Compare ``(N, K)`` logits with a reference's; what is not finite differs by infinity."""
        gap = np.abs(logits.astype(np.float64) - reference)
        gap[~np.isfinite(gap)] = np.inf
        return cls(
            float(gap.max()),
            float(np.sqrt(np.square(gap).mean())),
            float(reference.std(dtype=np.float64)),
            float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
            len(reference),
        )

    def share(self, precision: FileKind | Precision) -> float:
        """Return the difference that counts for a precision, as a share of the deviation."""
        counts = self.largest if precision == "fp32" else self.rms
        return counts / self.deviation if self.deviation else float("inf") if counts else 0.0

    def is_within(self, precision: FileKind | Precision) -> bool:
        """Return whether it is as small as :data:`TOLERANCES` allow."""
        return self.share(precision) <= TOLERANCES[precision]
