"""``--out FOLDER`` of ``residual evaluate``: measure in shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from deepresidual.cli.output import print_json, print_line
from deepresidual.cli.shards import note_of_share, shards_done
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.shard_folder import ShardFolder, Share

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.evaluation import Evaluation, EvaluationSetup
    from deepresidual.evaluation.multilabel import MultilabelEvaluation
    from deepresidual.evaluation.objects import DetectionEvaluation, DetectionSetup

__all__ = ["measured_in_shards", "print_unfinished", "share_of"]


def share_of(out: Path | None, shard: str | None, shard_size: int | None, corrupt: tuple[str, ...]) -> Share:
    """Return the shards of this process, and refuse options that do not go together."""
    for name, value in (("--shard", shard), ("--shard-size", shard_size)):
        if value is not None and out is None:
            raise ConfigurationError(f"{name} is given without a folder", remedy="add --out FOLDER")
    if out is not None and corrupt:
        raise ConfigurationError("--corrupt is given with --out", expected="one of the two")
    return Share() if shard is None else Share.parse(shard)


@overload
def measured_in_shards(
    setup: EvaluationSetup, out: Path, share: Share, shard_size: int | None
) -> Evaluation | MultilabelEvaluation | None: ...


@overload
def measured_in_shards(
    setup: DetectionSetup, out: Path, share: Share, shard_size: int | None
) -> DetectionEvaluation | None: ...


def measured_in_shards(
    setup: EvaluationSetup | DetectionSetup, out: Path, share: Share, shard_size: int | None
) -> Evaluation | MultilabelEvaluation | DetectionEvaluation | None:
    """Measure the shards of this process; return the figures of all where all are there."""
    from deepresidual.evaluation.folder import EvaluationFolder
    from deepresidual.runtime.console import ProgressBar, note

    folder = EvaluationFolder.open(setup, out, shard_size=shard_size, share=share)
    own, done = share.numbers(folder.shards.num_shards), folder.done()
    if done:
        created = folder.shards.manifest.created
        note(f"resuming   {shards_done(len(done), len(own))}; the folder is of {created}")
    note_of_share(folder.shards, share)
    total = folder.num_images_in(own)
    with ProgressBar(total, done=folder.num_images_in(done), label=f"evaluating {setup.split}") as bar:
        return folder.run(lambda count: bar.update(count, ""))


def print_unfinished(split: str, model: str, data: str, out: Path, *, as_json: bool) -> None:
    """Print how far a folder is whose other shards are missing."""
    folder = ShardFolder.find(out)
    assert folder is not None  # noqa: S101  # it has just been written to
    num_done = len(folder.done())
    if as_json:
        print_json(
            {
                "model": model,
                "data": data,
                "split": split,
                "out": str(out),
                "num_shards": folder.num_shards,
                "num_shards_done": num_done,
            }
        )
    else:
        print_line(f"{out}: {shards_done(num_done, folder.num_shards)}; the figures need all")
