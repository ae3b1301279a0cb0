"""Judge the samples of a split: each is read and decoded as training does, in processes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepresidual.data.decode import decode
from deepresidual.data.near_copies import NO_HASH, picture_hash_of
from deepresidual.data.source import EncodedSample, Split
from deepresidual.data.source.base import Located
from deepresidual.errors import DataError
from deepresidual.runtime.processes import WorkerPool

if TYPE_CHECKING:
    from deepresidual.data.check_objects import JudgedObjects

# 128 bits: among 10⁹ pictures two equal hashes by chance have a probability of 10⁻²¹.
HASH_BYTES = 16
"""Bytes of the hashes of a file and of its pixels."""

_CHUNK = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of one sample: a kind of error, or hashes, sizes and objects."""

    index: int
    kind: str = ""
    key: str = ""
    detail: str = ""
    content_hash: bytes = b""
    pixel_hash: bytes = b""
    near_hash: tuple[int, int] = NO_HASH
    shorter_px: int = 0
    objects: JudgedObjects | None = None


def _judge(split: Split, index: int) -> Verdict:
    try:
        sample = split.read(index)
    except DataError as error:
        key = split.key(index)
        return Verdict(index, error.kind or "unreadable", key, str(error).removeprefix(f"{key} "))
    try:
        pixels = decode(sample.content)
    except DataError as error:
        return Verdict(index, error.kind or "corrupt", sample.key, str(error))
    height, width = pixels.shape[:2]
    picture = hashlib.sha256(f"{height}x{width}".encode())
    picture.update(pixels.data)
    return Verdict(
        index,
        content_hash=hashlib.sha256(sample.content).digest()[:HASH_BYTES],
        pixel_hash=picture.digest()[:HASH_BYTES],
        near_hash=picture_hash_of(sample.content),
        shorter_px=min(height, width),
        objects=_judged_objects(split, index, sample),
    )


def _judged_objects(split: Split, index: int, sample: EncodedSample) -> JudgedObjects | None:
    if not isinstance(sample.target, Located):
        return None
    from deepresidual.data.check_objects import judge_objects

    return judge_objects(split, index, sample)


# -- all samples, in parallel -----------------------------------------------------------------------------


def verdicts(split: Split, num_workers: int) -> Iterator[Verdict]:
    """Yield the verdict on every sample, in any order.

    In processes, not threads: they are as fast, and a file that brings a decoder down takes one of them
    along instead of the whole command. (Besides, decoding changes the filters of warnings, which all threads
    of a process share.)
    """
    if not num_workers:
        for index in range(len(split)):
            yield _judge(split, index)
        return
    waiting = deque(range(first, min(first + _CHUNK, len(split))) for first in range(0, len(split), _CHUNK))
    while waiting:
        suspects: list[range] = []
        running: dict[Future[list[Verdict]], range] = {}
        with WorkerPool(num_workers, _begin, split) as pool:
            try:
                while waiting or running:
                    # A short queue: results must not pile up, nor must work that an interrupt leaves behind.
                    while waiting and len(running) < 4 * num_workers:
                        indices = waiting.popleft()
                        running[pool.submit(_judge_all, indices)] = indices
                    for future in pool.first_done(running):
                        yield from future.result()
                        del running[future]
            except BrokenProcessPool:
                suspects = list(running.values())
        yield from _one_by_one(split, deque(index for indices in suspects for index in indices))


def _one_by_one(split: Split, waiting: deque[int]) -> Iterator[Verdict]:
    """Yield the verdict on samples of which some bring down the process that decodes them."""
    while waiting:
        with WorkerPool(1, _begin, split) as pool:
            try:
                while waiting:
                    (verdicts,) = pool.map(_judge_all, [range(waiting[0], waiting[0] + 1)])
                    waiting.popleft()
                    yield from verdicts
            except BrokenProcessPool:
                index = waiting.popleft()
                yield Verdict(index, "crash", split.key(index), "the process that decoded it died")


_split: Split | None = None
"""In a worker process: the split that it reads."""


def _begin(split: Split) -> None:
    global _split  # the process exists for this split alone
    _split = split


def _judge_all(indices: range) -> list[Verdict]:
    if _split is None:
        raise RuntimeError("the process was not begun")
    return [_judge(_split, index) for index in indices]
