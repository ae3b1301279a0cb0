"""``EvaluationFolder``: an evaluation in shards, by any number of processes, merged into the figures of one.

Each shard holds the sums over its images (of several labels their scores, since average precision is no sum).
Shards end where batches end, and what is added up in float64 is added up again batch by batch, so the figures
are those of an evaluation without shards, to the bit, on the same machine.

Example:
    >>> setup = EvaluationSetup.open(["runs/a"], "photos", num_workers=0)
    >>> folder = EvaluationFolder.open(setup, "evaluation", share=Share(0, 8))
    >>> folder.run()     # None: other shards are missing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepresidual.backends.fingerprint import model_fingerprint
from deepresidual.data.source.base import fingerprint_of
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.evaluation.abstention import Answers
from deepresidual.evaluation.accumulator import Accumulator
from deepresidual.evaluation.multilabel import LabelScores, MultilabelEvaluation, measure
from deepresidual.evaluation.result import Evaluation
from deepresidual.evaluation.scoring import ScoredBatch, samples_together
from deepresidual.evaluation.setup import EvaluationSetup
from deepresidual.runtime.files import expanded, write_json
from deepresidual.runtime.shard_folder import Manifest, ShardFolder, Share, chosen_shard_size, require_free
from deepresidual.runtime.strict_json import read_record
from deepresidual.runtime.table_file import names_column, names_in

_KIND = "an evaluation"


class EvaluationFolder:
    """An evaluation in shards that has been begun; made by :meth:`open`.

    Attributes:
        shards: The folder.
        share: The shards of this process.
    """

    def __init__(self, setup: EvaluationSetup, shards: ShardFolder, share: Share) -> None:
        self.shards, self.share = shards, share
        self._setup = setup
        self._form: _Form = _LabelShards(setup) if setup.has_several_labels else _ClassShards(setup)

    @classmethod
    def open(
        cls,
        setup: EvaluationSetup,
        out: str | Path,
        *,
        shard_size: int | None = None,
        share: Share | None = None,
    ) -> EvaluationFolder:
        """Begin a folder, or go on with one that was begun with the same.

        Args:
            setup: One model and its data. What cannot be added up (a temperature to fit, members to choose)
                and results of single images are refused.
            out: The folder.
            shard_size: Images in a shard, rounded up to whole batches. Default: 4,096, or fewer where some
                process would have none.
            share: The shards of this process. Default: all.

        Raises:
            ConfigurationError: The setup asks for more than sums, or the folder was begun with others.
            DataError: The manifest is damaged, or too few images for the precision target.
            RunError: The folder cannot be written.
        """
        _require_sums(setup)
        path, share = expanded(out), share or Share()
        samples = setup.source.split(setup.split)
        batch = samples_together(setup.members, setup.views, setup.options.batch_size)
        size = None if shard_size is None else _in_batches(chosen_shard_size(shard_size, 0, share), batch)
        begun = ShardFolder.find(path)
        if begun is None:
            require_free(path)
            usual = _in_batches(chosen_shard_size(None, len(samples), share), batch)
            suffix = ".parquet" if setup.has_several_labels else ".json"
            manifest = Manifest(
                _KIND, len(samples), size or usual, suffix, _fingerprint(setup), num_processes=share.count
            )
            begun = ShardFolder.begin(path, manifest)
        # What was chosen by measuring when the folder was begun is chosen no more.
        setup = setup.computed_by(begun.manifest.backend)
        begun.require_same(_KIND, _fingerprint(setup), shard_size=size)
        return cls(setup, begun, share)

    def done(self) -> list[int]:
        """Return the numbers of the shards of this process that are there."""
        done = self.shards.done()
        return [number for number in self.share.numbers(self.shards.num_shards) if number in done]

    def num_images_in(self, numbers: Iterable[int]) -> int:
        """Return how many images some shards hold."""
        return sum(len(self.shards.manifest.items(number)) for number in numbers)

    def run(
        self, progress: Callable[[int], None] = lambda _count: None
    ) -> Evaluation | MultilabelEvaluation | None:
        """Measure the shards of this process that are not there; if then all are, merge them.

        Args:
            progress: Called with the number of images of this process that are measured.

        Returns:
            The result over all shards; ``None`` where some are missing.

        Raises:
            DataError: An image cannot be used, or a shard is damaged.
            RunError: A shard cannot be written.
        """
        count = 0
        for number in self.share.numbers(self.shards.num_shards):
            part = self.shards.manifest.items(number)
            if not self.shards.shard(number).exists():
                with self.shards.writing(number) as path:
                    self._form.write(path, self._scores(part, count, progress))
            count += len(part)
            progress(count)
        if not self.shards.finish():
            return None
        paths = [self.shards.shard(number) for number in range(self.shards.num_shards)]
        return self._form.merged(paths)

    def _scores(self, part: range, count: int, progress: Callable[[int], None]) -> Iterable[ScoredBatch]:
        for batch in self._setup.scores_of_part(self._setup.split, part):
            yield batch
            count += len(batch.keys)
            progress(count)


def _in_batches(size: int, batch: int) -> int:
    return -(-size // batch) * batch


def _require_sums(setup: EvaluationSetup) -> None:
    """Refuse what cannot be added up shard by shard.

    Raises:
        ConfigurationError: The setup asks for it.
        DataError: Too few images for the precision target.
    """
    options = setup.options
    given = {
        f"{len(setup.members)} models": len(setup.members) > 1,
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
    setup.require_choice_possible()


# -- what is in a shard ------------------------------------------------------------------------------------


class _Form(Protocol):
    """What a shard holds."""

    def write(self, path: Path, batches: Iterable[ScoredBatch]) -> None: ...

    def merged(self, paths: Sequence[Path]) -> Evaluation | MultilabelEvaluation: ...


class _ClassShards:
    """Sums of one class an image, worst mistakes and best predictions, and the answers, as JSON."""

    def __init__(self, setup: EvaluationSetup) -> None:
        self._setup = setup

    def write(self, path: Path, batches: Iterable[ScoredBatch]) -> None:
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


class _LabelShards:
    """Scores and labels of each image, as parquet."""

    def __init__(self, setup: EvaluationSetup) -> None:
        self._setup = setup

    def write(self, path: Path, batches: Iterable[ScoredBatch]) -> None:
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


def _fingerprint(setup: EvaluationSetup) -> dict[str, Any]:
    """Return what decides the figures."""
    return {
        "split": setup.split,
        "images": fingerprint_of(setup.source.split(setup.split)),
        "views": setup.views.to_dict(),
        "batch_size": setup.options.batch_size,
        "precision": setup.precision,
        **model_fingerprint(setup.members[0].in_precision(setup.precision)),
    }


def _read_scores(path: Path, num_labels: int) -> LabelScores:
    table = pq.read_table(path)
    logits, targets = (
        table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, num_labels)
        for name in ("logits", "targets")
    )
    return LabelScores(logits, targets.astype(np.bool_), table["index"].to_numpy(), names_in(table["key"]))


def _damaged(folder: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:160]
    return DataError(
        f"a shard of {folder} is damaged ({reason})", remedy="remove it and run the same command again"
    )
