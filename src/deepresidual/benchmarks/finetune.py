"""Measure what learned weights are worth on few images: from scratch, probe and fine-tuning side by side.

The rows of ``residual benchmark finetune``. Every measurement is a run of :func:`deepresidual.train`, as
anyone would start it, on images that the seed chooses; it is measured on others, always the same. Rows:

``scratch-N``          random weights, as many updates as ``finetune-N`` had
``scratch-long-N``     the same with twice, four times … as many, as long as the mean of two seeds gains;
                       chosen by the test images, which favours this row
``untrained-N``        a probe of random weights: what the features of no training are worth
``probe-N``            a probe of the learned weights (``--recipe probe``)
``finetune-N``         the probe, then fine-tuning (``--recipe finetune``)

N is the number of images a class. Figures are means over seeds with 95 % intervals by Student's t: how far
another choice of images would land, not how far other classes would. CPU seconds are those of the process,
without imports and without the final measurement.
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from deepresidual.benchmarks.measurement import (
    Result,
    Row,
    check_repetitions,
    chosen_rows,
    make_result,
    measured_commit,
)
from deepresidual.benchmarks.progress import Progress
from deepresidual.benchmarks.transfer_images import TransferImages
from deepresidual.data.source import open_source
from deepresidual.errors import ConfigurationError
from deepresidual.evaluation import evaluate
from deepresidual.fields import is_whole
from deepresidual.models import TorchClassifier, create, load_torch, resolve_weights, save
from deepresidual.runs.read import read_run_record
from deepresidual.runs.statistics import summarize
from deepresidual.runtime.console import note
from deepresidual.runtime.files import sha256_of
from deepresidual.training.launch import train

Method: TypeAlias = Literal["scratch", "scratch-long", "untrained", "probe", "finetune"]

METHODS: tuple[Method, ...] = ("scratch", "scratch-long", "untrained", "probe", "finetune")
"""The methods, in the order of the table."""

IMAGES_PER_CLASS = (10, 25, 100)
NUM_TEST = 1_000
_MOST_DOUBLINGS = 4
_CHOOSING_SEEDS = 2
_ENOUGH_MINUTES = 10_000.0
# The recipe "photos" has 0.0125 for batches of 32. Of 0.0125, 0.05 and 0.1 this was the best on 25 images a
# class of the stand-in, after 200 updates and after 800 (one seed, by the test images, which favours it).
_SCRATCH_RATE = 0.05

_WORDS: dict[Method, str] = {
    "scratch": "from scratch, as many updates as fine-tuning",
    "scratch-long": "from scratch, as long as it still gains",
    "untrained": "probe of random weights",
    "probe": "probe of the learned weights",
    "finetune": "probe, then fine-tuning",
}


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        top1: Accuracy on the fixed test images.
        cpu_seconds: CPU time of training, of all threads.
        num_updates: Updates; 0 of a probe.
    """

    top1: float
    cpu_seconds: float
    num_updates: int


@dataclass
class Transfer:
    """The runs of a transfer benchmark, each done once and remembered.

    Attributes:
        model: The learned weights.
        weights: Their model folder.
        images: The images.
        counts: Numbers of training images a class.
        progress: What was measured already.
        folder: A folder for what is trained.
        num_test: Images to measure on, which lie in :attr:`test`.
    """

    model: TorchClassifier
    weights: Path
    images: TransferImages
    counts: tuple[int, ...]
    progress: Progress
    folder: Path
    num_test: int = 0

    @property
    def test(self) -> Path:
        """The folder of the images to measure on."""
        return self.folder / "measured"

    def run(self, method: Method, num_images: int, seed: int, factor: int = 1) -> Measured:
        """Return one measurement.

        Args:
            method: How the classifier is made.
            num_images: Training images a class.
            seed: Chooses the images and decides the training.
            factor: From scratch, how many times the updates of fine-tuning.
        """
        name = method.removesuffix("-long")
        key = f"{name}-{num_images} seed {seed}" + (f" × {factor}" if factor > 1 else "")
        found = self.progress.read(key)
        if found is None:
            note(f"measuring {key}")
            # Before the clock starts: it is a run of its own.
            updates = factor * self.run("finetune", num_images, seed).num_updates if name == "scratch" else 0
            with tempfile.TemporaryDirectory(dir=self.folder) as place:
                measured = self._train(name, num_images, seed, updates, Path(place))
            found = {
                "top1": measured.top1,
                "cpu_seconds": round(measured.cpu_seconds, 3),
                "num_updates": measured.num_updates,
            }
            self.progress.write(key, found)
        return Measured(**found)

    def _train(self, name: str, num_images: int, seed: int, updates: int, place: Path) -> Measured:
        self.images.write(place / "images", num_images, seed)
        options: dict[str, Any]
        match name:
            case "scratch":
                options = scratch_options(self.model, updates)
            case "untrained":
                spec = replace(self.model.spec, num_classes=len(self.images.classes))
                untrained = TorchClassifier(
                    create(spec, seed=seed), self.images.classes, self.model.preprocess
                )
                save(untrained, place / "untrained")
                options = {"weights": place / "untrained", "recipe": "probe"}
            case "finetune":
                # All epochs of the recipe, also where a busy machine would not get so far in the usual time.
                options = {"weights": self.weights, "recipe": name, "minutes": _ENOUGH_MINUTES}
            case _:
                options = {"weights": self.weights, "recipe": name}
        run, seconds = timed_run(place / "images", place / "run", seed, options)
        top1 = evaluate(run, self.test, split="test").top1
        # A probe has no updates of its own, whatever its run counts.
        steps = 0 if name in ("probe", "untrained") else read_run_record(run, "step")["step"]
        return Measured(top1, seconds, steps)


def scratch_options(model: TorchClassifier, updates: int) -> dict[str, Any]:
    """Return the options of training from scratch; small images are padded and cropped, not resized."""
    small = model.preprocess.crop_px <= 64
    changes: dict[str, Any] = {"steps": updates, "learning_rate": _SCRATCH_RATE}
    if small:
        changes |= {"crop": "pad", "pad_px": 4}
    return {
        "model": replace(model.spec, num_classes=1000),
        "recipe": "photos",
        "changes": changes,
        "image_px": model.preprocess.crop_px,
    }


def timed_run(data: Path, out: Path, seed: int, options: dict[str, Any]) -> tuple[Path, float]:
    """Train, and return the run folder and the CPU seconds; no cache of an earlier run is of use."""
    with own_cache(out.with_name("cache")), contextlib.redirect_stderr(io.StringIO()):
        started = cpu_seconds()
        result = train(
            data,
            out=out,
            seed=seed,
            device="cpu",
            precision="fp32",
            compile="no",
            **options,
        )
        return result.path, cpu_seconds() - started


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextlib.contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Have an empty cache folder while the block runs: features of an earlier run would cost nothing."""
    before = os.environ.get("RESIDUAL_CACHE")
    os.environ["RESIDUAL_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["RESIDUAL_CACHE"]
        else:
            os.environ["RESIDUAL_CACHE"] = before


# -- rows --------------------------------------------------------------------------------------------------


def benchmark_finetuning(
    data: str | Path,
    weights: str | Path,
    *,
    images_per_class: Sequence[int] = (),
    rows: Sequence[str] = (),
    repetitions: int = 5,
    out: Path | None = None,
    num_test: int = NUM_TEST,
) -> Result:
    """Measure training from scratch, probes and fine-tuning on few images, without peers.

    Args:
        data: The data set; classes that the weights know are left out.
        weights: What ``--weights`` takes.
        images_per_class: Training images a class. Default: 10, 25 and 100, as far as there are so many.
        rows: Names of rows. Default: all.
        repetitions: Seeds, each of which chooses other images.
        out: The file that the result will be written to; measurements are kept beside it as they are made.
        num_test: Images to measure on at most.

    Raises:
        ConfigurationError: An option is out of range or a row is unknown, or ``out`` has other measurements.
        DataError: The data cannot be used.
        ModelFileError: The weights cannot be loaded.
    """
    with opened_transfer(data, weights, images_per_class, repetitions, out, num_test) as transfer:
        names = chosen_rows(row_names(transfer), rows)
        measured = transfer_rows(transfer, names, repetitions)
    return make_result("finetune", measured, repetitions, torch.device("cpu"))


@contextlib.contextmanager
def opened_transfer(
    data: str | Path,
    weights: str | Path,
    images_per_class: Sequence[int],
    repetitions: int,
    out: Path | None,
    num_test: int,
) -> Iterator[Transfer]:
    """Yield what :func:`benchmark_finetuning` measures, with a folder that is removed at the end."""
    check_repetitions(repetitions)
    found = resolve_weights(weights)
    model = load_torch(found.path)
    images = TransferImages.unknown_to(model.label_names, open_source(data))
    counts = tuple(images_per_class) or _counts(images.num_available)
    for count in counts:
        if not is_whole(count, 1, images.num_available):
            raise ConfigurationError(
                f"--images-per-class is {count!r}", expected=f"1 to {images.num_available} of these data"
            )
    settings = {
        "weights": sha256_of(found.path / "model.safetensors"),
        "data": images.source.name,
        "classes": list(images.classes),
        "num_test": num_test,
        "commit": measured_commit(),
    }
    progress = Progress(out, settings)
    with tempfile.TemporaryDirectory(prefix="residual-finetune-") as folder:
        transfer = Transfer(model, found.path, images, counts, progress, Path(folder))
        transfer.num_test = images.write_test(transfer.test, num_test)
        yield transfer


def _counts(available: int) -> tuple[int, ...]:
    """Return the usual numbers of images a class, or all where there are fewer than the least of them."""
    return tuple(count for count in IMAGES_PER_CLASS if count <= available) or (available,)


def row_names(transfer: Transfer) -> list[str]:
    """Return the names of the rows, by number of images and method."""
    return [f"{method}-{count}" for count in transfer.counts for method in METHODS]


def transfer_rows(transfer: Transfer, names: Sequence[str], repetitions: int) -> list[Row]:
    """Measure the rows that are named."""
    chosen = [(count, method) for count in transfer.counts for method in METHODS]
    return [
        _row(transfer, method, count, repetitions) for count, method in chosen if f"{method}-{count}" in names
    ]


def _row(transfer: Transfer, method: Method, count: int, repetitions: int) -> Row:
    factor = _longest_that_gains(transfer, count, repetitions) if method == "scratch-long" else 1
    runs = [transfer.run(method, count, seed, factor) for seed in range(repetitions)]
    accuracies = summarize([run.top1 for run in runs])
    seconds = statistics.fmean(run.cpu_seconds for run in runs)
    interval = None if accuracies.low is None else [accuracies.low, accuracies.high]
    shown = "" if interval is None else f"95 % interval {interval[0]:.1%} – {interval[1]:.1%}, "
    details: dict[str, Any] = {
        "classes": list(transfer.images.classes),
        "images a class": count,
        "test images": transfer.num_test,
        "top1": [run.top1 for run in runs],
        "interval": interval,
        "cpu_seconds": [run.cpu_seconds for run in runs],
        "num_updates": [run.num_updates for run in runs],
    }
    if method == "scratch-long":
        details["times the updates of fine-tuning"] = factor
    return Row(
        f"{method}-{count}",
        f"{_WORDS[method]}, {count} images a class",
        unit="top-1",
        ours=accuracies.mean,
        reason=f"{shown}n = {len(runs)}, {seconds:.1f} CPU s",
        details=details,
    )


def _longest_that_gains(transfer: Transfer, count: int, repetitions: int) -> int:
    """Return how many times the updates of fine-tuning training from scratch takes until it gains no more."""

    def mean(factor: int) -> float:
        return statistics.fmean(
            transfer.run("scratch", count, seed, factor).top1
            for seed in range(min(_CHOOSING_SEEDS, repetitions))
        )

    best = 1
    for _ in range(_MOST_DOUBLINGS):
        if mean(2 * best) <= mean(best):
            break
        best *= 2
    return best
