"""Measure few images, and how long others take to get as far as a probe (``residual benchmark finetune``).

Beside the rows of ``deepresidual.benchmarks.finetune`` stand ``time-torchvision-N`` and ``time-timm-N``: CPU
seconds until the test accuracy of ``probe-N`` is first reached, by the loop of torchvision's tutorial on
transfer learning and by timm's parts with the defaults of its script, from the same images, weights and
network. Their accuracy is measured after every epoch, which is not counted; ours is the whole run with its
report. They are cut off at ten times our CPU seconds: the ratio of one that was cut off is a lower bound.
"""

from __future__ import annotations

import statistics
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from deepresidual.benchmarks.finetune import (
    NUM_TEST,
    Transfer,
    cpu_seconds,
    opened_transfer,
    row_names,
    transfer_rows,
)
from deepresidual.benchmarks.measurement import Result, Row, chosen_rows, make_result, ratio, unmeasured
from deepresidual.data.source import open_source
from deepresidual.evaluation import evaluate_split
from deepresidual.models import TorchClassifier, create
from deepresidual.nn.resnet import ResNet
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.console import note

_CUT_OFF = 10.0  # times our CPU seconds
_TARGET = 5.0
_WORKERS = 2


class Loop(ABC):
    """A usual training loop on an image folder, one epoch at a time.

    Args:
        data: The folder, with ``train/``.
        network: The network with its learned weights and a new classifier.
        preprocess: How it was trained to see images.
    """

    what: str
    optimizer: Optimizer
    batches: Iterable[tuple[Tensor, Tensor]]
    loss: nn.Module

    def __init__(self, data: Path, network: ResNet, preprocess: Preprocess) -> None:
        self.network = network
        self.begin(data / "train", preprocess)

    @abstractmethod
    def begin(self, folder: Path, preprocess: Preprocess) -> None:
        """Set ``batches``, ``optimizer`` and ``loss``."""

    @abstractmethod
    def end_epoch(self) -> None:
        """Set the learning rate of the next epoch."""

    def epoch(self) -> None:
        """Train one epoch, BN statistics included, as both libraries' loops do."""
        self.network.train()
        for images, targets in self.batches:
            self.optimizer.zero_grad()
            self.loss(self.network(images), targets).backward()
            self.optimizer.step()
        self.end_epoch()


class TutorialLoop(Loop):
    """torchvision's tutorial: SGD at 0.001, momentum 0.9, a tenth of it every 7 epochs, batches of 4."""

    what = "torchvision's tutorial loop (SGD 1e-3, ÷ 10 every 7 epochs, batch 4, all layers)"

    def begin(self, folder: Path, preprocess: Preprocess) -> None:
        """Set what the tutorial sets."""
        from torch.utils.data import DataLoader
        from torchvision import datasets, transforms

        seen = transforms.Compose(
            [
                transforms.RandomResizedCrop(preprocess.crop_px),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(preprocess.mean, preprocess.std),
            ]
        )
        images = datasets.ImageFolder(str(folder), seen)
        self.batches = DataLoader(images, batch_size=4, shuffle=True, num_workers=_WORKERS)
        self.optimizer = SGD(self.network.parameters(), lr=0.001, momentum=0.9)
        self._schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=7, gamma=0.1)
        self.loss = nn.CrossEntropyLoss()

    def end_epoch(self) -> None:
        """Lower the rate every seventh time."""
        self._schedule.step()


class ScriptLoop(Loop):
    """timm's loader, optimizer and schedule as its script has them, for batches of 32 and 30 epochs."""

    what = "timm's parts with its script's defaults (SGD, 0.1 a 256 images, warm-up 5 of 30 epochs, batch 32)"
    _batch_size, _epochs, _warm_up = 32, 30, 5

    def begin(self, folder: Path, preprocess: Preprocess) -> None:
        """Set what the script sets."""
        from timm.data import create_dataset, create_loader
        from timm.loss import LabelSmoothingCrossEntropy
        from timm.optim import create_optimizer_v2
        from timm.scheduler import create_scheduler_v2

        dataset = create_dataset("", root=str(folder), is_training=True)
        self.batches = create_loader(
            dataset,
            input_size=(3, preprocess.crop_px, preprocess.crop_px),
            # The script drops the last, smaller batch: all images, of fewer than a batch.
            batch_size=min(self._batch_size, len(dataset)),
            is_training=True,
            color_jitter=0.4,
            interpolation="random",
            mean=preprocess.mean,
            std=preprocess.std,
            num_workers=_WORKERS,
            persistent_workers=False,  # whose CPU time is known when they have ended
            device=torch.device("cpu"),
        )
        self.optimizer = create_optimizer_v2(
            self.network, opt="sgd", lr=0.1 * self._batch_size / 256, momentum=0.9, weight_decay=2e-5
        )
        self._schedule, _ = create_scheduler_v2(
            self.optimizer, sched="cosine", num_epochs=self._epochs, warmup_epochs=self._warm_up
        )
        self._schedule.step(0)
        self._epoch = 0
        self.loss = LabelSmoothingCrossEntropy(smoothing=0.1)

    def end_epoch(self) -> None:
        """Follow the cosine."""
        self._epoch += 1
        self._schedule.step(self._epoch)


LOOPS: dict[str, type[Loop]] = {"torchvision": TutorialLoop, "timm": ScriptLoop}
"""The loops by the package that they need."""


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
    """Measure few images, and the time that others take to get as far; arguments as of the function alone.

    Raises:
        ConfigurationError: An option is out of range or a row is unknown, or ``out`` has other measurements.
        DataError: The data cannot be used.
        ModelFileError: The weights cannot be loaded.
    """
    with opened_transfer(data, weights, images_per_class, repetitions, out, num_test) as transfer:
        times = [(peer, count) for count in transfer.counts for peer in LOOPS]
        names = chosen_rows([*row_names(transfer), *(f"time-{peer}-{count}" for peer, count in times)], rows)
        measured = transfer_rows(transfer, names, repetitions)
        for peer, count in times:
            if f"time-{peer}-{count}" in names:
                measured.append(_time_row(transfer, peer, count, repetitions))
    return make_result("finetune", measured, repetitions, torch.device("cpu"), tuple(LOOPS))


def _time_row(transfer: Transfer, peer: str, count: int, repetitions: int) -> Row:
    row = Row(
        f"time-{peer}-{count}",
        f"CPU seconds until the accuracy of a probe, {count} images a class",
        against=LOOPS[peer].what,
        target=_TARGET,
        unit="CPU s",
    )
    if find_spec(peer) is None:
        return unmeasured(row, f"{peer} is not installed")
    ours = [transfer.run("probe", count, seed) for seed in range(repetitions)]
    theirs = [
        _time_until(transfer, peer, count, seed, run.top1, run.cpu_seconds) for seed, run in enumerate(ours)
    ]
    return replace(
        row,
        ratio=ratio([run["cpu_seconds"] for run in theirs], [run.cpu_seconds for run in ours]),
        ours=statistics.median(run.cpu_seconds for run in ours),
        theirs=statistics.median(run["cpu_seconds"] for run in theirs),
        details={
            "images a class": count,
            "reached": sum(run["reached"] for run in theirs),
            "of": repetitions,
            "cut off at times our seconds": _CUT_OFF,
            "accuracy to reach": [run.top1 for run in ours],
            "theirs": theirs,
        },
    )


def _time_until(
    transfer: Transfer, peer: str, count: int, seed: int, top1: float, our_seconds: float
) -> dict[str, Any]:
    """Return when the loop reached ``top1``, or how far it was when it was cut off."""
    key = f"time-{peer}-{count} seed {seed}"
    found = transfer.progress.read(key)
    if found is None:
        note(f"measuring {key}")
        with tempfile.TemporaryDirectory(dir=transfer.folder) as place:
            found = _measured(transfer, LOOPS[peer], Path(place), count, seed, top1, _CUT_OFF * our_seconds)
        transfer.progress.write(key, found)
    return found


def _measured(
    transfer: Transfer, kind: type[Loop], place: Path, count: int, seed: int, top1: float, most: float
) -> dict[str, Any]:
    transfer.images.write(place, count, seed)
    classes = transfer.images.classes
    torch.manual_seed(seed)  # the loops draw from torch's global state
    network = create(transfer.model.spec, len(classes), seed=seed, weights=transfer.weights)
    model = TorchClassifier(network, classes, transfer.model.preprocess)
    test = open_source(transfer.test).split("test")
    started, seconds, best, num_epochs = cpu_seconds(), 0.0, 0.0, 0
    loop = kind(place, network, transfer.model.preprocess)
    while seconds < most and best < top1:
        loop.epoch()
        num_epochs += 1
        seconds += cpu_seconds() - started
        best = max(best, evaluate_split(model, test, "test").top1)
        started = cpu_seconds()
    return {
        "cpu_seconds": round(seconds, 3),
        "reached": best >= top1,
        "best_top1": best,
        "num_epochs": num_epochs,
    }
