"""What a model gives of files, and how a file of it is written: predicted classes here, features beside."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from deepresidual.backends import Classifier, FilePrediction, predict_files
from deepresidual.backends.classifier import PREDICT_BATCH_SIZE, require_classes
from deepresidual.backends.fingerprint import model_fingerprint
from deepresidual.backends.images import ImageFile
from deepresidual.backends.thresholds import MULTILABEL
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.prediction.label_rows import LabelRows
from deepresidual.prediction.rows import PredictionRows
from deepresidual.runtime.table_file import TABLE_SUFFIXES, read_columns, table_writer

if TYPE_CHECKING:
    from deepresidual.runtime.compute import Precision, PrecisionChoice


class FileResult(Protocol):
    """What became of one file."""

    @property
    def path(self) -> str:
        """The file."""
        ...

    @property
    def error(self) -> str:
        """Why there is nothing of it; empty where there is."""
        ...


R = TypeVar("R", bound=FileResult)


class Outputs(Protocol[R]):
    """What is computed of files, and how it is written."""

    @property
    def suffixes(self) -> Sequence[str]:
        """Formats of its files, by their suffixes."""
        ...

    @property
    def fast_decode(self) -> bool:
        """Whether large JPEGs are decoded at a reduced size."""
        ...

    def computed_by(self, backend: str) -> None:
        """Leave the computation to a backend, where there is a choice, so that all shards have the same."""
        ...

    def expect(self, num_files: int) -> None:
        """Make ready for so many files; a backend may choose how to compute by their number."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the results, as JSON types: files that differ in it do not belong together."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what else a user may want to know of the results, as JSON types."""
        ...

    def results(self, files: Sequence[ImageFile | bytes]) -> Iterator[R]:
        """Yield one result a file, in order."""
        ...

    def opened(self, path: Path, num_files: int) -> AbstractContextManager[Callable[[R], None]]:
        """Yield what writes a result; the file is there, whole, when the block ends well.

        Args:
            path: The file; its suffix says the format.
            num_files: How many results are going to be written.
        """
        ...

    def errors(self, path: Path) -> list[tuple[str, str]]:
        """Return the files without a result of a file that was written, each with the reason.

        Raises:
            DataError: The file is damaged.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ComputeSettings:
    """How files are computed.

    Attributes:
        batch_size: Images at a time.
        num_workers: Threads that read and decode. Default: chosen for the machine.
        precision: ``fp32``, ``bf16``, or ``auto`` for the faster of both, measured once.
        fast_decode: Whether large JPEGs are decoded at a reduced size:
            :func:`deepresidual.backends.images.fast_center_view`.
    """

    batch_size: int = PREDICT_BATCH_SIZE
    num_workers: int | None = None
    precision: PrecisionChoice = "fp32"
    fast_decode: bool = False

    def decoded(self, files: Sequence[ImageFile | bytes]) -> list[ImageFile | bytes]:
        """Return files that are decoded as :attr:`fast_decode` says; the content of a file as it is."""
        return [
            file if isinstance(file, bytes) else replace(file, fast_decode=self.fast_decode) for file in files
        ]


class ClassOutputs:
    """The most probable classes of files; of several labels an image those above their thresholds.

    Args:
        model: The model, on the device to use.
        top_k: How many classes to name of each file.
        min_probability: Below it the answer is "unsure". Default: every image has an answer.
        settings: How to compute.

    Raises:
        ModelFileError: The model has no classifier.
        ConfigurationError: A number is out of range, or the precision is not one of the backend's.
    """

    suffixes = TABLE_SUFFIXES

    def __init__(
        self,
        model: Classifier,
        *,
        top_k: int = 1,
        min_probability: float | None = None,
        settings: ComputeSettings | None = None,
    ) -> None:
        require_classes(model)
        self.settings = settings or ComputeSettings()
        model.outcomes((), top_k, batch_size=self.settings.batch_size)  # refuses what is out of range
        if min_probability is not None and not 0 <= min_probability <= 1:
            raise ConfigurationError(f"min_probability is {min_probability}", expected="0 to 1")
        self._precision: Precision = model.settle_precision(
            self.settings.precision, model.preprocess.crop_px
        ).precision
        self._model = model
        self._rows = PredictionRows(top_k, min_probability)

    @property
    def fast_decode(self) -> bool:
        """Whether large JPEGs are decoded at a reduced size."""
        return self.settings.fast_decode

    def rows(self, suffix: str = "") -> PredictionRows:
        """Return how results are written into a file with this suffix."""
        if self._model.task == MULTILABEL:
            return LabelRows(has_lists=suffix not in ("", ".csv"))
        return self._rows

    def computed_by(self, backend: str) -> None:
        """Leave the computation to a backend, where there is a choice."""
        self._model = self._model.computed_by(backend)

    def expect(self, num_files: int) -> None:
        """Make the model ready for so many files."""
        self._model.in_precision(self._precision).expect(num_files)

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the results: model, preprocessing, versions and options."""
        return {
            "outputs": "labels" if self._model.task == MULTILABEL else "classes",
            "top_k": self._rows.top_k,
            "min_probability": self._rows.min_probability,
            "precision": self._precision,
            "fast_decode": self.fast_decode,
            **model_fingerprint(self._model.in_precision(self._precision)),
        }

    def facts(self) -> dict[str, Any]:
        """Return nothing: rows say all."""
        return {}

    def results(self, files: Sequence[ImageFile | bytes]) -> Iterator[FilePrediction]:
        """Yield one prediction a file, in order."""
        return predict_files(
            self._model,
            self.settings.decoded(files),
            top_k=self._rows.top_k,
            batch_size=self.settings.batch_size,
            num_workers=self.settings.num_workers,
            precision=self._precision,
        )

    @contextlib.contextmanager
    def opened(self, path: Path, num_files: int) -> Iterator[Callable[[FilePrediction], None]]:
        """Yield what writes a row; see :class:`Outputs`."""
        del num_files
        rows = self.rows(path.suffix.casefold())
        with table_writer(path, rows.types()) as write:
            yield lambda result: write(rows.columns(result))

    def errors(self, path: Path) -> list[tuple[str, str]]:
        """Return the files without a prediction of a file that was written, each with the reason."""
        return errors_in(path)


def errors_in(path: Path) -> list[tuple[str, str]]:
    """Return path and error of the rows of a file that have an error.

    Raises:
        DataError: The file is damaged.
    """
    try:
        columns = read_columns(path, ("path", "error"))
        rows = list(zip(columns["path"], columns["error"], strict=True))
    except (OSError, ValueError, KeyError, csv.Error, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is damaged ({reason})", remedy="remove it and start again") from error
    return [(str(name), str(error)) for name, error in rows if error]
