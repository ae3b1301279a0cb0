"""``ObjectOutputs``: the objects that a detector finds in files, and how a file of them is written.

CSV and parquet have a row for each object (path, label, score, x0, y0, x1, y1, error); a file in which
nothing was found has one row without a label. JSON lines have an object for each file. A ``.json`` file holds
COCO's results, as evaluators read them. Masks, where the model finds some, are in all but CSV.

Example:
    >>> outputs = ObjectOutputs(deepresidual.load("runs/cells"), min_score=0.3)
    >>> PredictionFolder.open(outputs, ["photos"], "boxes").run()
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deepresidual.backends.detected import MIN_SCORE, FileDetected, detect_files, require_score
from deepresidual.backends.fingerprint import model_fingerprint
from deepresidual.backends.images import ImageFile
from deepresidual.backends.object_detector import ObjectDetector
from deepresidual.errors import ConfigurationError
from deepresidual.prediction import object_rows
from deepresidual.prediction.outputs import ComputeSettings, errors_in
from deepresidual.runtime.files import write_json
from deepresidual.runtime.table_file import TABLE_SUFFIXES, table_writer

COCO_SUFFIX = ".json"


class ObjectOutputs:
    """The objects of files.

    Args:
        model: The model, on the device to use.
        min_score: Score from which on an object is found.
        settings: How to compute.

    Raises:
        ConfigurationError: A number is out of range, or large JPEGs are to be decoded at a reduced size.
    """

    suffixes = TABLE_SUFFIXES

    def __init__(
        self, model: ObjectDetector, *, min_score: float = MIN_SCORE, settings: ComputeSettings
    ) -> None:
        require_score(min_score)
        if settings.fast_decode:
            raise ConfigurationError("fast_decode is asked for", expected="False for a detector")
        self.min_score, self.settings = min_score, settings
        self._model = model.in_precision(model.settle_precision(settings.precision).precision)

    @property
    def fast_decode(self) -> bool:
        """Whether large JPEGs are decoded at a reduced size: never."""
        return False

    def computed_by(self, backend: str) -> None:
        """Compute an exported detector by an engine, as earlier shards were."""
        self._model = self._model.computed_by(backend)

    def expect(self, num_files: int) -> None:
        """Make the detector ready for so many files."""
        self._model.expect(num_files)

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the results: model, preprocessing, versions and options."""
        return {
            "outputs": "objects",
            "min_score": self.min_score,
            "precision": self._model.precision,
            **model_fingerprint(self._model),
        }

    def facts(self) -> dict[str, Any]:
        """Return the score from which on an object is found."""
        return {"min_score": self.min_score}

    def results(self, files: Sequence[ImageFile | bytes]) -> Iterator[FileDetected]:
        """Yield one result a file, in order."""
        return detect_files(
            self._model,
            files,
            min_score=self.min_score,
            batch_size=self.settings.batch_size,
            num_workers=self.settings.num_workers,
        )

    @contextlib.contextmanager
    def opened(self, path: Path, num_files: int) -> Iterator[Callable[[FileDetected], None]]:
        """Yield what writes a file's objects; see :class:`Outputs`."""
        del num_files
        match path.suffix.casefold():
            case ".json":
                kept: list[FileDetected] = []
                yield kept.append
                write_json(path, object_rows.coco_results(kept))
            case ".jsonl":
                with table_writer(path) as write:
                    yield lambda result: write(object_rows.line(result))
            case ".parquet" if self._model.has_masks:
                with table_writer(path, {**object_rows.TYPES, **object_rows.MASK_TYPES}) as write:
                    yield lambda result: write(object_rows.columns_with_masks(result))
            case _:
                with table_writer(path, object_rows.TYPES) as write:
                    yield lambda result: write(object_rows.columns(result))

    def errors(self, path: Path) -> list[tuple[str, str]]:
        """Return the files that could not be used of a file that was written, each with the reason."""
        return errors_in(path)
