"""``PredictionFolder``: predictions or features of many files in shards, resumed where a process ended.

The list of files is frozen when the folder is begun, and with it what decides the results: model,
preprocessing, options and versions. Shards that are there are not computed again. Several processes may work
at once, each on a :class:`~deepresidual.runtime.shard_folder.Share` of the shards.

Example:
    >>> outputs = ClassOutputs(deepresidual.load("runs/photos"), top_k=3)
    >>> PredictionFolder.open(outputs, ["photos"], "predictions").run()
    FolderSummary(path=PosixPath('predictions'), num_files=12000, num_shards=3, num_errors=1, …)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from deepresidual.backends.files import FoundImages, find_images
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.prediction.file_list import FileList
from deepresidual.prediction.outputs import Outputs, R
from deepresidual.runtime.files import expanded
from deepresidual.runtime.shard_folder import (
    MANIFEST_FOLDER,
    Manifest,
    ShardFolder,
    Share,
    chosen_shard_size,
    require_free,
)

DEFAULT_SUFFIX = ".parquet"
_KIND = "predictions of files"


@dataclass(frozen=True)
class FolderSummary:
    """How far a folder is.

    Attributes:
        path: The folder.
        num_files: Files in all shards.
        num_shards: Shards of all processes.
        num_done: How many of them are there.
        num_errors: Files without a result in the shards of this process.
        num_errors_total: Files without a result in all shards; ``None`` while shards are missing.
    """

    path: Path
    num_files: int
    num_shards: int
    num_done: int
    num_errors: int
    num_errors_total: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every shard is there."""
        return self.num_done == self.num_shards


class PredictionFolder(Generic[R]):
    """A folder of predictions or features that has been begun; made by :meth:`open`.

    Attributes:
        outputs: What is computed.
        files: The files of all shards.
        shards: The folder.
        share: The shards of this process.
        found: What the paths stood for, where this process has begun the folder; else ``None``.
        unusable: What was wrong with paths that stood for no image.
    """

    def __init__(
        self, outputs: Outputs[R], shards: ShardFolder, share: Share, found: FoundImages | None
    ) -> None:
        self.outputs, self.shards, self.share, self.found = outputs, shards, share, found
        self.files = FileList.read(shards.path / MANIFEST_FOLDER)
        count, listed = shards.manifest.num_items, len(self.files)
        if count != listed:
            raise DataError(
                f"{shards.path / MANIFEST_FOLDER} lists {listed:,} file{'s' if listed != 1 else ''} and its "
                f"manifest says {count:,}",
                remedy="choose another folder",
            )
        self.unusable = tuple(map(DataError, shards.manifest.warnings))

    @classmethod
    def open(
        cls,
        outputs: Outputs[R],
        paths: Sequence[str | Path],
        out: str | Path,
        *,
        suffix: str | None = None,
        shard_size: int | None = None,
        share: Share | None = None,
        found: FoundImages | None = None,
    ) -> PredictionFolder[R]:
        """Begin a folder, or go on with one that was begun with the same.

        Args:
            outputs: What to compute.
            paths: Files, folders and patterns, as :func:`deepresidual.backends.find_images` takes them. Only
                where the folder is begun they are looked through.
            out: The folder.
            suffix: Format of the shards, by the suffix of their files. Default: parquet.
            shard_size: Files in a shard. Default: 4,096, or fewer where some process would have none.
            share: The shards of this process. Default: all.
            found: What the paths stand for, where they have been looked through already.

        Raises:
            ConfigurationError: The folder was begun with something else, or holds other files.
            DataError: None of the paths stands for an image, or the manifest is damaged.
            RunError: The folder cannot be written.
        """
        path, share = expanded(out), share or Share()
        if suffix is not None and suffix not in outputs.suffixes:
            raise ConfigurationError(
                f"the format of the shards is {suffix.removeprefix('.')}",
                expected=" or ".join(name.removeprefix(".") for name in outputs.suffixes),
            )
        places = [os.path.abspath(expanded(name)) for name in paths]  # noqa: PTH100
        begun = ShardFolder.find(path)
        if begun is not None:
            found = None
            # What was chosen by measuring when the folder was begun is chosen no more.
            outputs.computed_by(begun.manifest.backend)
            outputs.expect(begun.manifest.num_items)
        else:
            require_free(path)
            found = found or find_images(paths)
            outputs.expect(len(found.files))
            manifest = Manifest(
                _KIND,
                len(found.files),
                chosen_shard_size(shard_size, len(found.files), share),
                suffix or DEFAULT_SUFFIX,
                {"paths": places, **outputs.fingerprint()},
                tuple(map(str, found.unusable)),
                num_processes=share.count,
            )
            begun = ShardFolder.begin(path, manifest, FileList.of(found.files).write)
            outputs.computed_by(begun.manifest.backend)  # of who was first to begin it
        fingerprint = {"paths": places, **outputs.fingerprint()}
        begun.require_same(_KIND, fingerprint, shard_size=shard_size, suffix=suffix)
        return cls(outputs, begun, share, found)

    @property
    def own(self) -> range:
        """Numbers of the shards of this process."""
        return self.share.numbers(self.shards.num_shards)

    def done(self) -> list[int]:
        """Return the numbers of the shards of this process that are there."""
        done = self.shards.done()
        return [number for number in self.own if number in done]

    def num_files_in(self, numbers: Iterable[int]) -> int:
        """Return how many files some shards hold."""
        return sum(len(self.shards.manifest.items(number)) for number in numbers)

    def run(
        self,
        progress: Callable[[int], None] = lambda _count: None,
        on_error: Callable[[str, str], None] = lambda _path, _reason: None,
    ) -> FolderSummary:
        """Compute the shards of this process that are not there.

        Args:
            progress: Called with the number of files of this process that are done.
            on_error: Called with path and reason of every file without a result, those of shards that were
                there included.

        Raises:
            DataError: A shard that is there is damaged.
            RunError: A shard cannot be written.
        """
        count = num_errors = 0
        for number in self.own:
            path = self.shards.shard(number)
            if path.exists():
                before = self.outputs.errors(path)
                for error in before:
                    on_error(*error)
                num_errors += len(before)
            else:
                num_errors += self._compute(number, count, progress, on_error)
            count += self.num_files_in([number])
            progress(count)
        done = self.shards.done()
        is_complete = len(done) == self.shards.num_shards
        total = num_errors + self._num_errors_in(done.difference(self.own)) if is_complete else None
        self.shards.finish()
        return FolderSummary(
            self.shards.path, len(self.files), self.shards.num_shards, len(done), num_errors, total
        )

    def _num_errors_in(self, numbers: Iterable[int]) -> int:
        """Return how many files of some shards have no result: rows tell, whoever has written them."""
        return sum(len(self.outputs.errors(self.shards.shard(number))) for number in sorted(numbers))

    def _compute(
        self,
        number: int,
        num_before: int,
        progress: Callable[[int], None],
        on_error: Callable[[str, str], None],
    ) -> int:
        """Compute and write one shard, and return how many files of it have no result."""
        files, num_errors = self.files.part(self.shards.manifest.items(number)), 0
        with self.shards.writing(number) as target, self.outputs.opened(target, len(files)) as write:
            for count, result in enumerate(self.outputs.results(files), start=num_before + 1):
                write(result)
                if result.error:
                    num_errors += 1
                    on_error(result.path, result.error)
                progress(count)
        return num_errors
