"""``FeatureOutputs``: pooled features of files as parquet, or as an array of NumPy with the names beside it.

In parquet a row has ``path``, ``features`` (a list of fixed size of float16 or float32) and ``error``.
An array ``NAME.npy`` ``(N, F)`` comes with ``NAME.jsonl``, which has ``path`` and ``error`` of each row,
in order. A file that could not be used has no features in parquet, and NaN in an array.

Example:
    >>> outputs = FeatureOutputs(deepresidual.load("resnet50"), stage="layer3", dtype="float16")
    >>> PredictionFolder.open(outputs, ["photos"], "features").run()
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepresidual.backends import Classifier
from deepresidual.backends.features import feature_outcomes
from deepresidual.backends.files import loading_threads
from deepresidual.backends.fingerprint import model_fingerprint
from deepresidual.backends.images import ImageFile
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError
from deepresidual.prediction.outputs import ComputeSettings, errors_in
from deepresidual.runtime.files import atomic_file
from deepresidual.runtime.table_file import readable, table_writer

FeatureType: TypeAlias = Literal["float16", "float32"]

FEATURE_SUFFIXES = (".parquet", ".npy")

# Rows that are written together; a row of ResNet-50 in float32 has 8 KB.
_ROWS_TOGETHER = 1024


@dataclass(frozen=True)
class FileFeatures:
    """One file's features, or the reason why there are none.

    Attributes:
        path: The file, as it was given or found.
        values: ``(F,)`` float16 or float32; ``None`` where the file could not be used.
        error: The reason; empty where there are features.
    """

    path: str
    values: NDArray[np.floating[Any]] | None
    error: str = ""


class FeatureOutputs:
    """Pooled features of files.

    Args:
        model: The model, a classifier or a backbone, on the device to use.
        stage: The mean over all positions of the map after ``stem``, ``layer1`` and so on. Default: what the
            classifier reads.
        dtype: Type of the numbers in files.
        settings: How to compute.

    Attributes:
        num_features: F, how many features an image has.

    Raises:
        ModelFileError: The backend gives no features.
        UnknownNameError: The network has no such stage.
        ConfigurationError: A number is out of range, or the precision is not one of the backend's.
    """

    suffixes = FEATURE_SUFFIXES

    def __init__(
        self,
        model: Classifier,
        *,
        stage: str | None = None,
        dtype: FeatureType = "float32",
        settings: ComputeSettings | None = None,
    ) -> None:
        self.settings = settings or ComputeSettings()
        if self.settings.batch_size < 1:
            raise ConfigurationError(f"batch_size is {self.settings.batch_size}", expected="1 or more")
        side, channels = model.preprocess.crop_px, model.preprocess.num_channels
        self.num_features = model.features(np.zeros((1, side, side, channels), np.uint8), stage).shape[1]
        self._precision = model.settle_precision(self.settings.precision, side).precision
        self._model = model.in_precision(self._precision)
        self.stage, self.dtype = stage, np.dtype(dtype)

    @property
    def fast_decode(self) -> bool:
        """Whether large JPEGs are decoded at a reduced size."""
        return self.settings.fast_decode

    def computed_by(self, backend: str) -> None:
        """Leave it as it is: features are PyTorch's."""

    def expect(self, num_files: int) -> None:
        """Make the model ready for so many files."""
        self._model.expect(num_files)

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the features: model, preprocessing, versions and options."""
        return {
            "outputs": "features",
            "stage": self.stage,
            "dtype": self.dtype.name,
            "precision": self._precision,
            "fast_decode": self.fast_decode,
            **model_fingerprint(self._model),
        }

    def facts(self) -> dict[str, Any]:
        """Return which features they are."""
        return {"stage": self.stage, "num_features": self.num_features, "dtype": self.dtype.name}

    def results(self, files: Sequence[ImageFile | bytes]) -> Iterator[FileFeatures]:
        """Yield the features of each file, in order."""
        size = self.settings.batch_size
        outcomes = feature_outcomes(
            self._model,
            self.settings.decoded(files),
            self.stage,
            batch_size=size,
            num_workers=loading_threads(self.settings.num_workers, len(files), size, self._model),
        )
        return (self._of_file(path, outcome) for path, outcome in outcomes)

    def _of_file(self, path: str, outcome: NDArray[np.float32] | ResidualError) -> FileFeatures:
        if isinstance(outcome, ModelFileError):
            return FileFeatures(path, None, outcome.found)  # the remedy is said once, for all files
        if isinstance(outcome, ResidualError):
            return FileFeatures(path, None, str(outcome))
        with np.errstate(over="ignore"):
            values = outcome.astype(self.dtype)
        if not np.isfinite(values).all():
            largest = float(np.abs(outcome).max())
            return FileFeatures(path, None, f"a feature of {largest:.3g} is too large for {self.dtype.name}")
        return FileFeatures(path, values)

    @contextlib.contextmanager
    def opened(self, path: Path, num_files: int) -> Iterator[Callable[[FileFeatures], None]]:
        """Yield what writes features; see :class:`deepresidual.prediction.outputs.Outputs`."""
        opened = self._opened_array if path.suffix.casefold() == ".npy" else self._opened_parquet
        waiting: list[FileFeatures] = []
        with opened(path, num_files) as write:

            def add(result: FileFeatures) -> None:
                waiting.append(result)
                if len(waiting) == _ROWS_TOGETHER:
                    write(waiting)
                    waiting.clear()

            yield add
            if waiting:
                write(waiting)

    def errors(self, path: Path) -> list[tuple[str, str]]:
        """Return the files without features of a file that was written, each with the reason."""
        return errors_in(path.with_suffix(".jsonl") if path.suffix.casefold() == ".npy" else path)

    @contextlib.contextmanager
    def _opened_parquet(
        self, path: Path, _num_files: int
    ) -> Iterator[Callable[[Sequence[FileFeatures]], None]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kind = pa.list_(pa.from_numpy_dtype(self.dtype), self.num_features)
        schema = pa.schema([("path", pa.string()), ("features", kind), ("error", pa.string())])

        # Numbers that hardly ever come twice gain nothing by a dictionary.
        with atomic_file(path) as file, pq.ParquetWriter(file, schema, use_dictionary=["error"]) as writer:

            def write(results: Sequence[FileFeatures]) -> None:
                numbers = pa.array(self._together(results).reshape(-1))
                is_missing = pa.array([result.values is None for result in results])
                features = pa.FixedSizeListArray.from_arrays(numbers, type=kind, mask=is_missing)
                paths = pa.array([readable(result.path) for result in results], pa.string())
                errors = pa.array([readable(result.error) for result in results], pa.string())
                writer.write_table(pa.Table.from_arrays([paths, features, errors], schema=schema))

            yield write

    @contextlib.contextmanager
    def _opened_array(self, path: Path, num_files: int) -> Iterator[Callable[[Sequence[FileFeatures]], None]]:
        # The names first, so that an array is never there without them.
        with atomic_file(path) as file, table_writer(path.with_suffix(".jsonl")) as write_names:
            header = {
                "descr": np.lib.format.dtype_to_descr(self.dtype),
                "fortran_order": False,
                "shape": (num_files, self.num_features),
            }
            np.lib.format.write_array_header_1_0(file, header)

            def write(results: Sequence[FileFeatures]) -> None:
                file.write(self._together(results).tobytes())
                write_names(
                    {
                        "path": [readable(result.path) for result in results],
                        "error": [readable(result.error) for result in results],
                    }
                )

            yield write

    def _together(self, results: Sequence[FileFeatures]) -> NDArray[np.floating[Any]]:
        """Return the features of several files, ``(N, F)``, with NaN where there are none."""
        missing = np.full(self.num_features, np.nan, self.dtype)
        return np.stack([missing if result.values is None else result.values for result in results])
