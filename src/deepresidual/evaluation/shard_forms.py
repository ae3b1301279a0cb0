"""What the shards of an evaluation hold: how each is measured and written, and how all are put together.

Of one class an image it is the sums over its images; of several labels their scores, and of a detector what
it finds, since average precision is no sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepresidual.backends.fingerprint import model_fingerprint
from deepresidual.data.objects import Objects
from deepresidual.data.source.base import fingerprint_of
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.evaluation.abstention import Answers
from deepresidual.evaluation.accumulator import Accumulator
from deepresidual.evaluation.multilabel import LabelScores, MultilabelEvaluation, measure
from deepresidual.evaluation.objects.found_file import read_found, write_found
from deepresidual.evaluation.objects.result import DetectionEvaluation
from deepresidual.evaluation.objects.setup import DetectionSetup
from deepresidual.evaluation.result import Evaluation
from deepresidual.evaluation.scoring import ScoredBatch, samples_together
from deepresidual.evaluation.setup import EvaluationSetup
from deepresidual.runtime.files import write_json
from deepresidual.runtime.shard_folder import DEFAULT_SHARD_SIZE
from deepresidual.runtime.strict_json import read_record
from deepresidual.runtime.table_file import names_column, names_in


class ShardForm(Protocol):
    """What a shard of an evaluation holds, and how it comes about.

    Attributes:
        suffix: Suffix of the shards' files.
        usual_size: Images of a shard, unless something else is asked for.
    """

    suffix: str
    usual_size: int

    @property
    def num_images(self) -> int:
        """Images of all shards."""
        ...

    @property
    def batch(self) -> int:
        """Images that are computed together: shards end where batches end."""
        ...

    def require_parts(self) -> None:
        """Refuse what cannot be measured shard by shard."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the figures."""
        ...

    def computed_by(self, backend: str) -> Self:
        """Return the form of a model that an engine computes, where there is a choice."""
        ...

    def write(self, path: Path, part: range, progress: Callable[[int], None]) -> None:
        """Measure some images in a row into a file; told how many are done."""
        ...

    def merged(self, paths: Sequence[Path]) -> Evaluation | MultilabelEvaluation | DetectionEvaluation:
        """Put all shards together.

        Raises:
            DataError: A shard is damaged.
        """
        ...


def form_of(setup: EvaluationSetup | DetectionSetup) -> ShardForm:
    """Return the form of the shards of an evaluation."""
    if isinstance(setup, DetectionSetup):
        return _ObjectShards(setup)
    return _LabelShards(setup) if setup.has_several_labels else _ClassShards(setup)


class _ScoreShards(ABC):
    """Shards of a classifier's scores."""

    suffix: str
    usual_size = DEFAULT_SHARD_SIZE

    def __init__(self, setup: EvaluationSetup) -> None:
        self._setup = setup

    @property
    def num_images(self) -> int:
        return len(self._setup.source.split(self._setup.split))

    @property
    def batch(self) -> int:
        setup = self._setup
        return samples_together(setup.members, setup.views, setup.options.batch_size)

    def require_parts(self) -> None:
        """Refuse what cannot be added up shard by shard.

        Raises:
            ConfigurationError: The setup asks for it.
            DataError: Too few images for the precision target.
        """
        options = self._setup.options
        given = {
            f"{len(self._setup.members)} models": len(self._setup.members) > 1,
            "--fit-temperature": options.fit_temperature is not None,
            "--predictions": options.predictions is not None,
        }
        name = next((name for name, is_given in given.items() if is_given), None)
        if name is not None:
            raise ConfigurationError(
                f"an evaluation in shards is asked for with {name}",
                expected="one model and figures that are sums over images",
                remedy="leave --out away, or evaluate without it",
            )
        self._setup.require_choice_possible()

    def fingerprint(self) -> dict[str, Any]:
        setup = self._setup
        return {
            "split": setup.split,
            "images": fingerprint_of(setup.source.split(setup.split)),
            "views": setup.views.to_dict(),
            "batch_size": setup.options.batch_size,
            "precision": setup.precision,
            **model_fingerprint(setup.members[0].in_precision(setup.precision)),
        }

    def computed_by(self, backend: str) -> Self:
        return type(self)(self._setup.computed_by(backend))

    def write(self, path: Path, part: range, progress: Callable[[int], None]) -> None:
        def batches() -> Iterator[ScoredBatch]:
            count = 0
            for batch in self._setup.scores_of_part(self._setup.split, part):
                yield batch
                count += len(batch.keys)
                progress(count)

        self._write(path, batches())

    @abstractmethod
    def _write(self, path: Path, batches: Iterable[ScoredBatch]) -> None: ...

    @abstractmethod
    def merged(self, paths: Sequence[Path]) -> Evaluation | MultilabelEvaluation: ...


class _ClassShards(_ScoreShards):
    """Sums of one class an image, worst mistakes and best predictions, and the answers, as JSON."""

    suffix = ".json"

    def _write(self, path: Path, batches: Iterable[ScoredBatch]) -> None:
        accumulator, answers = Accumulator(self._setup.classes), Answers()
        for batch in batches:
            accumulator.add(batch.scores[0], batch)
            answers.add(batch.scores[0], batch.labels)
        write_json(path, {**accumulator.to_dict(), "answers": answers.to_dict()})

    def merged(self, paths: Sequence[Path]) -> Evaluation:
        try:
            parts = [read_record(path) for path in paths]
            accumulator = Accumulator.joined(self._setup.classes, parts)
            answers = Answers.joined([part["answers"] for part in parts])
        except (ModelFileError, OSError, KeyError, TypeError, ValueError) as error:
            raise _damaged(paths[0].parent, error) from error
        return self._setup.with_abstention(accumulator.evaluation(self._setup.split), answers)


class _LabelShards(_ScoreShards):
    """Scores and labels of each image, as parquet."""

    suffix = ".parquet"

    def _write(self, path: Path, batches: Iterable[ScoredBatch]) -> None:
        scores = LabelScores.together([LabelScores.of(batch) for batch in batches])
        columns = {
            "key": names_column(scores.keys),
            "index": pa.array(scores.indices),
            "logits": pa.array(list(scores.logits), pa.list_(pa.float32())),
            "targets": pa.array(list(scores.targets), pa.list_(pa.bool_())),
        }
        pq.write_table(pa.table(columns), path)

    def merged(self, paths: Sequence[Path]) -> MultilabelEvaluation:
        try:
            parts = [_read_scores(path, len(self._setup.classes)) for path in paths]
        except (OSError, KeyError, ValueError) as error:
            raise _damaged(paths[0].parent, error) from error
        fingerprint = fingerprint_of(self._setup.source.split(self._setup.split))
        scores = LabelScores.together(parts)
        return measure(scores, self._setup.members[0], self._setup.split, fingerprint)


def _read_scores(path: Path, num_labels: int) -> LabelScores:
    table = pq.read_table(path)
    logits, targets = (
        table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, num_labels)
        for name in ("logits", "targets")
    )
    return LabelScores(logits, targets.astype(np.bool_), table["index"].to_numpy(), names_in(table["key"]))


class _ObjectShards:
    """What a detector finds in each image, as parquet; the figures are of all of it together."""

    suffix = ".parquet"
    usual_size = 256  # a detector may take a second for an image

    def __init__(self, setup: DetectionSetup) -> None:
        self._setup = setup

    @property
    def num_images(self) -> int:
        return len(self._setup.source.split(self._setup.split))

    @property
    def batch(self) -> int:
        return 1  # what is found in an image does not depend on those beside it

    def require_parts(self) -> None:
        """Refuse a second file of what is found.

        Raises:
            ConfigurationError: The setup asks for it.
        """
        if self._setup.options.predictions is not None:
            raise ConfigurationError(
                "an evaluation in shards is asked for with --predictions",
                expected="one of them",
                remedy="write the file by 'residual predict MODEL IMAGES --out FILE.json'",
            )

    def fingerprint(self) -> dict[str, Any]:
        setup = self._setup
        setup.model.expect(self.num_images)  # what computes is part of it, and stays from here on
        return {
            "split": setup.split,
            "images": fingerprint_of(setup.source.split(setup.split)),
            "precision": setup.model.precision,
            **model_fingerprint(setup.model),
        }

    def computed_by(self, backend: str) -> Self:
        return type(self)(replace(self._setup, model=self._setup.model.computed_by(backend)))

    def write(self, path: Path, part: range, progress: Callable[[int], None]) -> None:
        found: list[Objects] = []
        for batch in self._setup.found_in(part):
            found += batch
            progress(len(found))
        write_found(path, found)

    def merged(self, paths: Sequence[Path]) -> DetectionEvaluation:
        try:
            found = [objects for path in paths for objects in read_found(path)]
        except (OSError, KeyError, ValueError, TypeError, ConfigurationError) as error:
            raise _damaged(paths[0].parent, error) from error
        return self._setup.measured(found)


def _damaged(folder: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:160]
    return DataError(
        f"a shard of {folder} is damaged ({reason})", remedy="remove it and run the same command again"
    )
