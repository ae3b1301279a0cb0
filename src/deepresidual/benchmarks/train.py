"""Measure how fast and how small training is.

In a checkout of the repository, ``benchmarks/train.py`` measures torchvision, timm and plain torch beside it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from deepresidual.benchmarks.detection_sides import DetectionProblem
from deepresidual.benchmarks.epoch import OurEpoch
from deepresidual.benchmarks.measurement import (
    MIN_REPETITIONS,
    Result,
    Row,
    alone,
    check_repetitions,
    chosen_rows,
    make_result,
    unmeasured,
)
from deepresidual.benchmarks.peak_memory import our_peak
from deepresidual.benchmarks.training_sides import OurTraining, Problem
from deepresidual.runtime.console import note

IMAGENET_STEPS = 90 * 1_281_167 // 16  # the middle of a long run: 90 epochs at batch 16
DETECTION_STEPS = 90_000  # detectron2's schedule 1x
CIFAR_STEPS = 64_000  # He et al. 2015, section 4.2

CPU = Row("cpu", "ResNet-50 training on CPU, batch 16", unit="images/s")
MEMORY = Row("memory", "peak memory of that training", at_most=True, unit="bytes")
MEMORY_CHECKPOINTED = replace(
    MEMORY, name="memory-checkpointed", what="peak memory of that training with --activation-checkpointing"
)
CIFAR = Row("cifar", "CIFAR ResNet-20 training on CPU, batch 128", unit="images/s")
DETECT = Row(
    "detect", "Faster R-CNN training on CPU, ResNet-18 with a pyramid, 256 px, batch 2", unit="images/s"
)
DETECT_SLIM = replace(
    DETECT, name="detect-slim", what="the same with the slim head of CPUs (resnet18-fpn-slim)"
)
DETECT_AUTO = replace(
    DETECT, name="detect-auto", what="the same in the precision that a run chooses by itself"
)
EPOCH = Row("epoch", "one epoch of a real image folder, end to end", unit="images/s")
GPU = Row("gpu", "training on one GPU, ResNet-50, 224 px, bf16, synthetic data, batch 256", unit="images/s")
GPU_CIFAR = Row(
    "gpu-cifar", "the paper's CIFAR schedule (64,000 iterations at 128) on that GPU", unit="images/s"
)

NO_GPU = "no GPU here"
NO_PHOTOS = "no folder of photos was named (residual benchmark train DATA)"


@dataclass(frozen=True)
class Sizes:
    """Sizes of the trainings; other values are for tests.

    Attributes:
        imagenet_model: A network with a namesake in torchvision.
        imagenet_batch: Images an update of it.
        imagenet_px: Side of its images.
        cifar_model: A CIFAR network with shortcuts of option A.
        cifar_batch: Images an update of it.
        epoch_model: The network that sees the folder of photos, of the name that timm has, too.
        epoch_batch: Images an update of it.
        epoch_px: Side of its images.
        detector_backbone: A network with a namesake in torchvision that detectors are built on.
        detector_batch: Images an update of them.
        detector_px: Side of their images.
        compile_peers: Whether compiled networks are among plain torch's.
    """

    imagenet_model: str = "resnet50"
    imagenet_batch: int = 16
    imagenet_px: int = 224
    cifar_model: str = "resnet20"
    cifar_batch: int = 128
    epoch_model: str = "resnet18"
    epoch_batch: int = 32
    epoch_px: int = 224
    detector_backbone: str = "resnet18"
    detector_batch: int = 2
    detector_px: int = 256
    compile_peers: bool = True

    def imagenet(self) -> Problem:
        """Return the ImageNet network's training on the CPU."""
        steps = IMAGENET_STEPS if self.compile_peers else 1
        return Problem(self.imagenet_model, self.imagenet_batch, self.imagenet_px, steps, torch.device("cpu"))

    def cifar(self, device: str) -> Problem:
        """Return the CIFAR network's training."""
        return Problem(self.cifar_model, self.cifar_batch, 32, CIFAR_STEPS, torch.device(device))

    def detection(self, row: Row) -> DetectionProblem:
        """Return the training of a detector on the CPU."""
        return DetectionProblem(
            self.detector_backbone,
            self.detector_batch,
            self.detector_px,
            DETECTION_STEPS,
            torch.device("cpu"),
            kind="fpn-slim" if row.name == DETECT_SLIM.name else "fpn",
            precision="auto" if row.name == DETECT_AUTO.name else "fp32",
        )

    def gpu(self) -> Problem:
        """Return the ImageNet network's training on one GPU."""
        return Problem(self.imagenet_model, 256, self.imagenet_px, IMAGENET_STEPS, torch.device("cuda"))


def benchmark_training(
    data: Path | None = None,
    *,
    rows: Sequence[str] = (),
    repetitions: int = MIN_REPETITIONS,
    sizes: Sizes | None = None,
) -> Result:
    """Measure training without peers.

    Args:
        data: A folder of photos by class, for the row ``epoch``.
        rows: Names of rows. Default: all.
        repetitions: Measurements of each row, 1 to 1,000.
        sizes: Sizes of the trainings.

    Raises:
        ConfigurationError: ``repetitions`` is out of range or a row is unknown.
    """
    check_repetitions(repetitions)
    sizes = sizes or Sizes()

    def speed(row: Row, problem: Problem, num_steps: int, num_before: int = 1) -> Row:
        if problem.device.type == "cuda" and not torch.cuda.is_available():
            return unmeasured(row, NO_GPU)
        ours = OurTraining(problem)
        turn = ours.turn(num_steps, num_before)
        return alone(row, lambda: round(problem.batch_size / turn(), 3), repetitions, {"ours": ours.setup})

    def memory(row: Row, *, checkpointed: bool = False) -> Row:
        peak = our_peak(sizes.imagenet(), activation_checkpointing=checkpointed)
        return replace(row, ours=peak.peak, reason="measured alone", details={"before": peak.before})

    def epoch(row: Row) -> Row:
        if data is None:
            return unmeasured(row, NO_PHOTOS)
        ours = OurEpoch(data, sizes.epoch_model, sizes.epoch_batch, sizes.epoch_px)
        return alone(row, lambda: round(1 / ours.seconds_an_image(), 3), repetitions, {"ours": ours.setup})

    steps: list[tuple[Row, Callable[[Row], Row]]] = [
        (CPU, lambda row: speed(row, sizes.imagenet(), 2)),
        (MEMORY, memory),
        (MEMORY_CHECKPOINTED, lambda row: memory(row, checkpointed=True)),
        (CIFAR, lambda row: speed(row, sizes.cifar("cpu"), 10, 3)),
        (DETECT, lambda row: speed(row, sizes.detection(row), 1)),
        (DETECT_AUTO, lambda row: speed(row, sizes.detection(row), 1)),
        (DETECT_SLIM, lambda row: speed(row, sizes.detection(row), 4)),
        (EPOCH, epoch),
        (GPU, lambda row: speed(row, sizes.gpu(), 20, 10)),
        (GPU_CIFAR, lambda row: speed(row, sizes.cifar("cuda"), 500, 50)),
    ]
    chosen = chosen_rows([row.name for row, _ in steps], rows)
    measured = []
    for row, measure in steps:
        if row.name in chosen:
            note(f"measuring {row.name}")
            measured.append(measure(row))
            forget_networks()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return make_result("train", measured, repetitions, device)


def forget_networks() -> None:
    """Give back what networks and compiled code hold."""
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
