"""Measure whole commands that predict a folder of photos into a CSV file, their start included.

The rows of ``residual benchmark folder``. A network of random weights is saved as a model folder and
exported (:mod:`deepresidual.benchmarks.exports`); every measurement is ``residual predict … --out`` in a
process of its own. In a checkout of the repository, ``benchmarks/folder.py`` measures torchvision's usual
script beside it.

``NETWORK-torch``      the model folder, as PyTorch computes it
``NETWORK-fp32``       the exported model
``NETWORK-int8``       the exported model in int8
``photo-…``            one photo instead of the folder, by the first network: its seconds, and its memory
"""

from __future__ import annotations

import contextlib
import csv
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from deepresidual.backends.files import find_images
from deepresidual.benchmarks.commands import Cost, cost_of, residual_command
from deepresidual.benchmarks.exports import Exports
from deepresidual.benchmarks.measurement import (
    MIN_REPETITIONS,
    Result,
    Row,
    check_repetitions,
    chosen_rows,
    in_turn,
    make_result,
)
from deepresidual.benchmarks.photos import write_photos
from deepresidual.errors import RunError
from deepresidual.runtime.console import note

Way: TypeAlias = Literal["torch", "fp32", "int8"]

WAYS: tuple[Way, ...] = ("torch", "fp32", "int8")
"""The ways to predict, in the order of the table."""

PACKAGES = ("onnxruntime", "openvino")
"""Packages that compute exported models, beside torch."""

_WORDS: dict[Way, str] = {
    "torch": "the model folder, by PyTorch",
    "fp32": "exported",
    "int8": "exported in int8",
}
_OF_ONE_PHOTO = WAYS
_SETTLING_PHOTOS = 64


@dataclass(frozen=True)
class FolderSizes:
    """Sizes of the benchmark; other values are for tests.

    Attributes:
        models: Networks with a namesake in torchvision.
        num_photos: Photos that are made where no folder is given.
        image_px: Side of the network's input.
    """

    models: tuple[str, ...] = ("resnet50", "resnet18")
    num_photos: int = 250
    image_px: int = 224


@dataclass(frozen=True)
class Case:
    """A command that is measured.

    Attributes:
        model: Name of the network.
        way: How it is computed.
        is_photo: Whether one photo is predicted instead of the folder.
    """

    model: str
    way: Way
    is_photo: bool = False

    @property
    def name(self) -> str:
        """Name of its row."""
        return f"{'photo' if self.is_photo else self.model}-{self.way}"

    @property
    def row(self) -> Row:
        """Its row, without figures."""
        what = "one photo" if self.is_photo else "a folder of photos to a CSV file"
        return Row(self.name, f"{what}, {self.model}, {_WORDS[self.way]}", unit="s")


def cases(sizes: FolderSizes) -> list[Case]:
    """Return what is measured: the folder by every network and way, then one photo by the first network."""
    return [
        *(Case(model, way) for model in sizes.models for way in WAYS),
        *(Case(sizes.models[0], way, is_photo=True) for way in _OF_ONE_PHOTO),
    ]


@dataclass
class Commands:
    """The commands of a benchmark: photos, models that are made for them, and a place for what is written.

    Attributes:
        photos: A folder with nothing but a folder of the photos.
        files: The photos.
        exports: The models.
        place: A folder for what commands write.
        costs: What every run took, by the name of its side.
    """

    photos: Path
    files: list[Path]
    exports: Exports
    place: Path
    costs: dict[str, list[Cost]]

    @property
    def out(self) -> Path:
        """The file that a command writes."""
        return self.place / "predictions.csv"

    def of_case(self, case: Case) -> list[str]:
        """Return the command of a case."""
        folder = self.exports.folder(case.model, case.way)
        paths = self.files[0] if case.is_photo else self.photos
        return residual_command("predict", str(folder), str(paths), "--out", str(self.out))

    def run(self, side: str, command: Sequence[str]) -> float:
        """Run a command, keep what it took for its side, and return its seconds."""
        self.out.unlink(missing_ok=True)
        # A cache of its own: what an engine was chosen for at an earlier time would be a gift to ours.
        cost = cost_of(command, {"RESIDUAL_CACHE": str(self.place / "cache")})
        self.costs.setdefault(side, []).append(cost)
        return cost.wall_s

    def classes(self, side: str, command: Sequence[str], count: int) -> dict[str, str]:
        """Run a command once, before it is measured, and return the class of each photo by its name.

        Raises:
            RunError: It failed, or left a photo out.
        """
        self.run(side, command)
        return read_classes(self.out, count)

    def first_of(self, side: str) -> Cost:
        """Return what the first run of a side took, in which an engine may have been chosen by trial."""
        return self.costs[side][0]

    def measure(self, commands: Mapping[str, Sequence[str]], repetitions: int) -> dict[str, list[Cost]]:
        """Run the command of every side in turn and return what each run took."""
        sides = {side: (lambda side=side: self.run(side, commands[side])) for side in commands}
        in_turn(sides, repetitions, warm_up=0)  # each has run once already, for its classes
        return {side: self.costs[side][-repetitions:] for side in commands}


def read_classes(file: Path, count: int) -> dict[str, str]:
    """Return the class of each photo in a CSV file with the columns ``path`` and ``class``.

    Raises:
        RunError: There are fewer or more rows than photos, or a photo has no class.
    """
    with file.open(newline="", encoding="utf-8") as lines:
        found = {Path(row["path"]).name: row["class"] for row in csv.DictReader(lines)}
    if len(found) != count or not all(found.values()):
        raise RunError(f"{sum(map(bool, found.values()))} photos have a class", expected=f"all {count}")
    return found


def agreement(first: Mapping[str, str], second: Mapping[str, str]) -> float:
    """Return the share of photos to which two commands give the same class."""
    return sum(second.get(name) == label for name, label in first.items()) / len(first)


def median_cost(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure of some runs."""
    return Cost(
        statistics.median(cost.wall_s for cost in costs),
        statistics.median(cost.cpu_s for cost in costs),
        round(statistics.median(cost.peak_bytes for cost in costs)),
    )


@contextlib.contextmanager
def opened_commands(photos: Path | None, sizes: FolderSizes) -> Iterator[Commands]:
    """Yield the photos and models of a benchmark, in a folder that is removed at the end.

    Raises:
        DataError: The folder holds no photos.
    """
    with tempfile.TemporaryDirectory(prefix="residual-folder-") as name:
        place = Path(name)
        if photos is None:
            note(f"making {sizes.num_photos} photos")
            found = write_photos(place / "made", sizes.num_photos)
        else:
            found = [Path(file) for file in find_images([photos]).files]
        folder = place / "photos"
        files = _linked(found, folder / "photos")
        contents = [path.read_bytes() for path in found[:_SETTLING_PHOTOS]]
        exports = Exports(place / "models", contents, sizes.image_px)
        yield Commands(folder, files, exports, place, {})


def _linked(files: Sequence[Path], folder: Path) -> list[Path]:
    """Link to photos from a folder of one class, as ImageFolder reads them, and return the links."""
    folder.mkdir(parents=True)
    links = [folder / f"{number:06d}{file.suffix}" for number, file in enumerate(files)]
    for link, file in zip(links, files, strict=True):
        link.symlink_to(file.resolve())
    return links


def benchmark_folder(
    photos: Path | None = None,
    *,
    rows: Sequence[str] = (),
    repetitions: int = MIN_REPETITIONS,
    sizes: FolderSizes | None = None,
) -> Result:
    """Measure our commands alone.

    Args:
        photos: A folder of photos. Default: photos that are made.
        rows: Names of rows. Default: all.
        repetitions: Runs of each command, 1 to 1,000.
        sizes: Sizes of the benchmark.

    Raises:
        ConfigurationError: ``repetitions`` is out of range or a row is unknown.
        DataError: The folder holds no photos.
        RunError: A command failed.
    """
    sizes = sizes or FolderSizes()
    check_repetitions(repetitions)
    names = chosen_rows([case.name for case in cases(sizes)], rows)
    measured: list[Row] = []
    with opened_commands(photos, sizes) as commands:
        for case in cases(sizes):
            if case.name in names:
                note(f"measuring {case.name}")
                measured.append(_alone(case, commands, repetitions))
    return make_result("folder", measured, repetitions, torch.device("cpu"), PACKAGES)


def _alone(case: Case, commands: Commands, repetitions: int) -> Row:
    command = commands.of_case(case)
    count = 1 if case.is_photo else len(commands.files)
    commands.classes(case.name, command, count)
    cost = median_cost(commands.measure({case.name: command}, repetitions)[case.name])
    details: dict[str, Any] = {"photos": count, "ours": cost.to_dict()}
    return replace(case.row, ours=cost.wall_s, reason="measured alone", details=details)
