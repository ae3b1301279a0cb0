"""The contents of samples as hashes: what tells whether a model has seen an image, whatever it is called.

A content is the first 16 bytes of the SHA-256 of the image file. Files are read once: as long as size and
times stay, their hash comes from the cache (:mod:`deepresidual.data.picture_cache`).
"""

from __future__ import annotations

import hashlib

from deepresidual.data.picture_cache import PictureCache
from deepresidual.data.source.base import Split, stamps_of
from deepresidual.data.threads import in_order
from deepresidual.errors import DataError
from deepresidual.runtime.console import ProgressBar
from deepresidual.runtime.processes import usable_cores

CONTENT_BYTES = 16
"""Of a SHA-256: among 10⁹ files two equal ones by chance have a probability of 10⁻²¹."""

_TOGETHER, _GROUPS_AHEAD = 64, 4


def content_of(data: bytes) -> bytes:
    """Return the hash of the bytes of an image file."""
    return hashlib.sha256(data).digest()[:CONTENT_BYTES]


def contents_of(
    split: Split, *, cache: PictureCache | None = None, num_workers: int | None = None
) -> list[bytes]:
    """Return the content of every sample, empty of one that cannot be read.

    Args:
        split: The split.
        cache: Where to look first. Default: the user's.
        num_workers: Threads that read. Default: one a core for files; for others, which may not be made for
            several threads, none beside this one.
    """
    cache = PictureCache() if cache is None else cache
    stamps = stamps_of(split)
    known = cache.find("content", stamps) if stamps is not None else {}
    contents = [known.get(stamp, b"") for stamp in stamps] if stamps is not None else [b""] * len(split)
    missing = [index for index, content in enumerate(contents) if not content]

    def read(index: int) -> bytes:
        try:
            return content_of(split.read(index).content)
        except DataError:
            return b""

    groups = [missing[first : first + _TOGETHER] for first in range(0, len(missing), _TOGETHER)]
    threads = usable_cores() if num_workers is None and stamps is not None else num_workers or 0
    done = 0
    with ProgressBar(len(missing), label="reading images") as bar:
        results = in_order(read, groups, num_threads=threads, groups_ahead=_GROUPS_AHEAD)
        for group, found in zip(groups, results, strict=True):
            for index, content in zip(group, found, strict=True):
                contents[index] = content
            if stamps is not None:
                cache.add("content", {stamps[index]: contents[index] for index in group if contents[index]})
            done += len(group)
            bar.update(done, "contents")
    return contents
