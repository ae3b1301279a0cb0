"""``EvaluationFolder``: an evaluation in shards, by any number of processes, merged into the figures of one.

What a shard holds is told in :mod:`deepresidual.evaluation.shard_forms`. Shards end where batches end, and
what is added up in float64 is added up again batch by batch, so the figures are those of an evaluation
without shards, to the bit, on the same machine.

Example:
    >>> setup = EvaluationSetup.open(["runs/a"], "photos", num_workers=0)
    >>> folder = EvaluationFolder.open(setup, "evaluation", share=Share(0, 8))
    >>> folder.run()     # None: other shards are missing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from deepresidual.evaluation.multilabel import MultilabelEvaluation
from deepresidual.evaluation.objects.result import DetectionEvaluation
from deepresidual.evaluation.objects.setup import DetectionSetup
from deepresidual.evaluation.result import Evaluation
from deepresidual.evaluation.setup import EvaluationSetup
from deepresidual.evaluation.shard_forms import ShardForm, form_of
from deepresidual.runtime.files import expanded
from deepresidual.runtime.shard_folder import Manifest, ShardFolder, Share, chosen_shard_size, require_free

_KIND = "an evaluation"


class EvaluationFolder:
    """An evaluation in shards that has been begun; made by :meth:`open`.

    Attributes:
        shards: The folder.
        share: The shards of this process.
    """

    def __init__(self, form: ShardForm, shards: ShardFolder, share: Share) -> None:
        self.shards, self.share = shards, share
        self._form = form

    @classmethod
    def open(
        cls,
        setup: EvaluationSetup | DetectionSetup,
        out: str | Path,
        *,
        shard_size: int | None = None,
        share: Share | None = None,
    ) -> EvaluationFolder:
        """Begin a folder, or go on with one that was begun with the same.

        Args:
            setup: One model and its data. What cannot be put together (a temperature to fit, members to
                choose) and results of single images are refused.
            out: The folder.
            shard_size: Images in a shard, rounded up to whole batches. Default: 4,096, of a detector 256,
                or fewer where some process would have none.
            share: The shards of this process. Default: all.

        Raises:
            ConfigurationError: The setup asks for more than that, or the folder was begun with others.
            DataError: The manifest is damaged, or too few images for the precision target.
            RunError: The folder cannot be written.
        """
        form = form_of(setup)
        form.require_parts()
        path, share = expanded(out), share or Share()
        size = (
            None if shard_size is None else _in_batches(chosen_shard_size(shard_size, 0, share), form.batch)
        )
        begun = ShardFolder.find(path)
        if begun is None:
            require_free(path)
            usual = min(form.usual_size, chosen_shard_size(None, form.num_images, share))
            usual = _in_batches(usual, form.batch)
            manifest = Manifest(
                _KIND,
                form.num_images,
                size or usual,
                form.suffix,
                form.fingerprint(),
                num_processes=share.count,
            )
            begun = ShardFolder.begin(path, manifest)
        # What was chosen by measuring when the folder was begun is chosen no more.
        form = form.computed_by(begun.manifest.backend)
        begun.require_same(_KIND, form.fingerprint(), shard_size=size)
        return cls(form, begun, share)

    def done(self) -> list[int]:
        """Return the numbers of the shards of this process that are there."""
        done = self.shards.done()
        return [number for number in self.share.numbers(self.shards.num_shards) if number in done]

    def num_images_in(self, numbers: Iterable[int]) -> int:
        """Return how many images some shards hold."""
        return sum(len(self.shards.manifest.items(number)) for number in numbers)

    def run(
        self, progress: Callable[[int], None] = lambda _count: None
    ) -> Evaluation | MultilabelEvaluation | DetectionEvaluation | None:
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
                    self._form.write(path, part, _counting(progress, count))
            count += len(part)
            progress(count)
        if not self.shards.finish():
            return None
        paths = [self.shards.shard(number) for number in range(self.shards.num_shards)]
        return self._form.merged(paths)


def _counting(progress: Callable[[int], None], done: int) -> Callable[[int], None]:
    """Return what is told of images of a shard, after those that were done before it."""
    return lambda count: progress(done + count)


def _in_batches(size: int, batch: int) -> int:
    return -(-size // batch) * batch
