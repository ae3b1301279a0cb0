"""What a child of the fork server does for the tests of this folder: train, perhaps obstructed."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.annotated.split import image_id_of, objects_of
from deepresidual.errors import ResidualError
from deepresidual.runtime.console import stderr
from deepresidual.spec import DetectorSpec, ResNetSpec
from deepresidual.training import launch
from deepresidual.training.journal import Journal
from deepresidual.training.launch import train
from tests.survival import plants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deepresidual.data.objects import Objects
    from deepresidual.data.source import EncodedSample, Split


class WithoutReport(Journal):
    """A journal that writes no report."""

    def end(self) -> None:
        """Write nothing."""


class Obstructed:
    """A split that from one of its reads on blocks for a minute each, or sends its process a signal once.

    Args:
        split: The split.
        read: At which read, counted from 1.
        marker: A file that tells the test that it has come to that.
        number: The signal; 0 blocks.
    """

    def __init__(self, split: Split, read: int, marker: Path, number: int) -> None:
        self._split, self._at, self._marker, self._number = split, read, marker, number
        self._num_reads = 0

    @property
    def labels(self) -> list[int]:
        return self._split.labels

    def __len__(self) -> int:
        return len(self._split)

    def key(self, index: int) -> str:
        return self._split.key(index)

    def objects(self, index: int) -> Objects:
        return objects_of(self._split, index)

    def image_id(self, index: int) -> int | str:
        return image_id_of(self._split, index)

    def rows(self) -> Iterator[tuple[str, int, int]]:
        yield from self._split.rows()

    def read(self, index: int) -> EncodedSample:
        self._num_reads += 1
        if self._num_reads == self._at:
            self._marker.touch()
            if self._number:
                os.kill(os.getpid(), self._number)
        if self._num_reads >= self._at and not self._number:
            time.sleep(60)
        return self._split.read(index)


def run(job: dict[str, Any]) -> int:
    """Train as ``residual train`` would, without a report, and return its exit code."""
    # It takes most of the time of a run this small, and is made from the other files alone.
    setattr(launch, "Journal", WithoutReport)  # noqa: B010  # mypy takes it for another class
    source: SampleSource | str = job["data"]
    options = dict(job["options"])
    model = options.pop("model")
    if "obstruct" in job:
        opened = open_source(job["data"])
        obstacle = job["obstruct"]
        split = Obstructed(
            opened.split(obstacle["split"]), obstacle["read"], Path(obstacle["marker"]), obstacle["signal"]
        )
        source = dataclasses.replace(opened, splits={**opened.splits, obstacle["split"]: split})
    plants.plant(job.get("plants", {}), Path(job["out"]))
    try:
        kind = DetectorSpec if "backbone" in model else ResNetSpec
        spec = model if isinstance(model, str) else kind.from_dict(model)
        return train(source, spec, out=job["out"], changes=job["changes"], **options).exit_code
    except ResidualError as error:
        stderr().print(f"error: {error}", markup=False)
        return error.exit_code
