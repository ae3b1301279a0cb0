"""``--out`` of ``residual predict``: a file or a folder of shards, filled under a progress bar."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from deepresidual.cli.output import counted, print_json, print_line
from deepresidual.cli.shards import note_of_share, shards_done
from deepresidual.cli.unusable import FileErrors, exit_code_of, warn_of_others
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.printable import shortened
from deepresidual.runtime.shard_folder import ShardFolder, Share, require_free

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from deepresidual.backends.files import FoundImages
    from deepresidual.backends.images import ImageFile
    from deepresidual.prediction.features import FeatureOutputs
    from deepresidual.prediction.outputs import FileResult, Outputs

__all__ = ["Destination", "write_features", "write_file", "write_folder"]

R = TypeVar("R", bound="FileResult")


def _suffix(format_name: str) -> str:
    """Return how the name of a file ends that has a format; COCO's results are JSON."""
    return ".json" if format_name == "coco" else f".{format_name}"


@dataclass(frozen=True)
class Destination:
    """A folder of shards.

    Attributes:
        folder: The folder.
        suffix: Format of the shards, by their suffix; ``None``: parquet, or what the folder was begun with.
        share: The shards of this process.
        shard_size: Files in a shard; ``None``: chosen, or what the folder was begun with.
    """

    folder: Path
    suffix: str | None
    share: Share
    shard_size: int | None

    @classmethod
    def of(
        cls,
        out: Path | None,
        suffixes: Sequence[str],
        format_name: str | None,
        shard: str | None,
        shard_size: int | None,
    ) -> Destination | None:
        """Return the folder that the options name; ``None`` where they name a file, or neither.

        Args:
            out: ``--out``.
            suffixes: Suffixes of files.
            format_name: ``--format``.
            shard: ``--shard``.
            shard_size: ``--shard-size``.

        Raises:
            ConfigurationError: The options do not belong together.
        """
        is_file = out is not None and not out.is_dir() and out.suffix.casefold() in suffixes
        if out is None or is_file:
            for name, value in (("--shard", shard), ("--shard-size", shard_size)):
                if value is not None:
                    raise ConfigurationError(f"{name} is given without a folder", remedy="add --out FOLDER")
            if out is not None and format_name is not None and _suffix(format_name) != out.suffix.casefold():
                raise ConfigurationError(
                    f"--format is {format_name}, and the name of --out, {out.name}, says another",
                    remedy="leave --format out",
                )
            return None
        if out.suffix and not out.is_dir():
            raise ConfigurationError(
                f"--out is {out.name!r}",
                expected=f"a name in {', '.join(suffixes)}, or one without a suffix for a folder",
            )
        suffix = None if format_name is None else _suffix(format_name)
        if suffix not in (None, *suffixes):
            raise ConfigurationError(
                f"--format is {format_name}, and --out a folder",
                expected=" or ".join(name.removeprefix(".") for name in suffixes),
            )
        return cls(out, suffix, Share() if shard is None else Share.parse(shard), shard_size)

    def found(self, paths: Sequence[str]) -> FoundImages | None:
        """Look through the paths where the folder is still to be begun.

        Raises:
            ConfigurationError: The folder holds other files.
            DataError: None of the paths stands for an image.
        """
        if ShardFolder.find(self.folder) is not None:
            return None
        from deepresidual.backends import find_images

        require_free(self.folder)
        return find_images(paths)


def write_file(
    outputs: Outputs[R],
    files: Sequence[ImageFile | bytes],
    out: Path,
    errors: FileErrors,
    see: Callable[[R], None] = lambda _result: None,
) -> None:
    """Compute files and write what comes of them into one file, whole or not at all.

    Args:
        outputs: What to compute.
        files: The files; the path of one that is given by its content is ``stdin``.
        out: The file.
        errors: Is told of files without a result.
        see: Called with every result.
    """
    from deepresidual.runtime.console import ProgressBar

    with ProgressBar(len(files), label="predicting") as bar, outputs.opened(out, len(files)) as write:
        for done, result in enumerate(outputs.results(files), start=1):
            named = result if result.path else replace(cast("Any", result), path="stdin")
            if named.error:
                errors.add(named.path, named.error)
            see(named)
            write(named)
            bar.update(done, "")
        errors.end()


def write_features(
    outputs: FeatureOutputs,
    files: Sequence[ImageFile | bytes],
    out: Path,
    errors: FileErrors,
    *,
    as_json: bool,
) -> None:
    """Write the features of files into one file, and print what is in it."""
    write_file(outputs, files, out, errors)
    facts = {"count": len(files), "num_errors": len(errors.reasons), "fast_decode": outputs.fast_decode}
    if as_json:
        print_json({"out": str(out), **facts, **outputs.facts()})
    else:
        print_line(
            f"{shortened(str(out))}: {counted(len(files), 'row')} of "
            f"{counted(outputs.num_features, 'feature')} ({outputs.dtype.name}){errors.in_words()}"
        )


def write_folder(
    outputs: Outputs[Any],
    paths: Sequence[str],
    found: FoundImages | None,
    destination: Destination,
    model: str,
    *,
    as_json: bool,
) -> int:
    """Compute the shards of this process, print how far the folder is, and return the exit code."""
    from deepresidual.prediction.folder import PredictionFolder
    from deepresidual.runtime.console import ProgressBar, note, warn_each

    folder = PredictionFolder.open(
        outputs,
        paths,
        destination.folder,
        suffix=destination.suffix,
        shard_size=destination.shard_size,
        share=destination.share,
        found=found,
    )
    done, num_files = folder.done(), folder.num_files_in(folder.own)
    if folder.found is not None:
        warn_of_others(folder.found.ignored)
    elif done:
        note(
            f"resuming   {shards_done(len(done), len(folder.own))}; the list of files is of "
            f"{folder.shards.manifest.created}"
        )
    note_of_share(folder.shards, folder.share)
    warn_each(folder.unusable)
    errors = FileErrors()
    with ProgressBar(num_files, done=folder.num_files_in(done), label="predicting") as bar:
        summary = folder.run(lambda done: bar.update(done, ""), errors.add)
    errors.end()
    document: dict[str, Any] = {
        "out": str(destination.folder),
        "count": summary.num_files,
        "num_shards": summary.num_shards,
        "num_shards_done": summary.num_done,
        "num_errors": summary.num_errors,
        "num_errors_total": summary.num_errors_total,
        "fast_decode": outputs.fast_decode,
        **outputs.facts(),
    }
    if as_json:
        print_json(document)
    else:
        print_line(f"{shortened(str(destination.folder))}: {_in_words(document)}")
    return exit_code_of(model, num_files, folder.unusable, errors.reasons)


def _in_words(document: dict[str, Any]) -> str:
    """Return how far a folder is: ``12,000 rows in 3 shards, 1 error``."""
    num_shards, num_done = document["num_shards"], document["num_shards_done"]
    total = document["num_errors_total"]
    if total is None:
        num_errors = document["num_errors"]
        bad = f", {counted(num_errors, 'error')} in those of this process" if num_errors else ""
        return f"{shards_done(num_done, num_shards)}{bad}"
    bad = f", {counted(total, 'error')}" if total else ""
    return f"{counted(document['count'], 'row')} in {counted(num_shards, 'shard')}{bad}"
