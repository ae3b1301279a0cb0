"""What ``--shard I/N`` and its folder have to say, for every command that has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.cli.output import counted

if TYPE_CHECKING:
    from deepresidual.runtime.shard_folder import ShardFolder, Share

__all__ = ["note_of_share", "shards_done"]


def shards_done(num_done: int, num_shards: int) -> str:
    """Return how many shards are there, as a clause: ``2 of 8 shards are done``."""
    return f"{num_done:,} of {counted(num_shards, 'shard')} {'is' if num_shards == 1 else 'are'} done"


def note_of_share(folder: ShardFolder, share: Share) -> None:
    """Say if a process has no shard, or is one of another number of processes than began the folder."""
    from deepresidual.runtime.console import note

    begun = folder.manifest.num_processes
    if not share.numbers(folder.num_shards):
        note(
            f"nothing to do: there are fewer shards ({folder.num_shards:,}) than processes ({share.count:,})"
        )
    if not share.is_whole and begun > 1 and share.count != begun:
        note(
            f"the folder was begun with --shard I/{begun} and this is {share.index}/{share.count}: shards "
            "stay right, and only processes of one N do all of them, each once"
        )
