"""Measure how fast and how small training is, against what people use (``residual benchmark train``).

The other sides are torchvision's reference way, the best that plain torch can do, the usual CIFAR network,
and timm's way from a folder of photos. See docs/results.md for results.
"""

from __future__ import annotations

import functools
import gc
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.plain_cifar import PlainCifarNet
from benchmarks.timm_epoch import TimmEpoch
from deepresidual.benchmarks.epoch import OurEpoch
from deepresidual.benchmarks.measurement import (
    MIN_REPETITIONS,
    Result,
    Row,
    check_repetitions,
    chosen_rows,
    in_turn,
    make_result,
    ratio,
    require_alike,
    unmeasured,
)
from deepresidual.benchmarks.peak_memory import our_peak, peak_of, problem_of, report_peak
from deepresidual.benchmarks.train import (
    CIFAR,
    CIFAR_STEPS,
    CPU,
    DETECT,
    DETECT_AUTO,
    DETECT_SLIM,
    EPOCH,
    GPU,
    GPU_CIFAR,
    MEMORY,
    MEMORY_CHECKPOINTED,
    NO_GPU,
    NO_PHOTOS,
    Sizes,
    forget_networks,
)
from deepresidual.benchmarks.training_sides import OurTraining, PlainTraining, Problem, TrainingSide
from deepresidual.runtime.console import note
from deepresidual.runtime.device import has_bf16

_PEERS = ("torchvision", "timm")

# A process of its own does not know the folder of the checkout.
_REPORT_THEIRS = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r}); "
    "from benchmarks.train import report_their_peak; report_their_peak()"
)

# The first loss of both sides from the same weights, and their losses after some updates.
_FP32_TOLERANCE = 1e-4
_BF16_TOLERANCE = 2e-2

_WHICH_COMPILED = "bf16 only where the hardware multiplies it; elsewhere it is emulated, slower than fp32"
_REFERENCE = "torchvision's reference way"

_CPU_REFERENCE = replace(CPU, name="cpu-torchvision", against=f"{_REFERENCE} (fp32, NCHW, eager)", target=2.5)
_CPU_BEST = replace(
    CPU,
    name="cpu-best",
    against="the best of eager/compiled × layout × precision in plain torch",
    target=1.0,
)
_MEMORY = replace(MEMORY, against=_REFERENCE, target=0.6)
_MEMORY_CHECKPOINTED = replace(MEMORY_CHECKPOINTED, against=_REFERENCE, target=0.6)
_CIFAR = replace(CIFAR, against="the widespread eager fp32 implementation", target=1.8)
_DETECT = replace(DETECT, against="torchvision's FasterRCNN of the same spec (fp32, NCHW, eager)", target=1.3)
_DETECT_AUTO = replace(DETECT_AUTO, against=_DETECT.against, target=1.3)
_DETECT_SLIM = replace(DETECT_SLIM, against=_DETECT.against, target=1.3)
_EPOCH = replace(EPOCH, against="timm's training way, same net, batch and size", target=2.0)
_GPU = replace(
    GPU,
    against="the faster of timm's and torchvision's nets under AMP, channels last, compiled",
    target=1.1,
)
_GPU_CIFAR = replace(GPU_CIFAR, against="the widespread implementation in eager", target=4.0)

ROWS = (
    _CPU_REFERENCE,
    _CPU_BEST,
    _MEMORY,
    _MEMORY_CHECKPOINTED,
    _CIFAR,
    _DETECT,
    _DETECT_AUTO,
    _DETECT_SLIM,
    _EPOCH,
    _GPU,
    _GPU_CIFAR,
)
"""What there is to measure."""


def benchmark_training(
    data: Path | None = None,
    *,
    rows: Sequence[str] = (),
    repetitions: int = MIN_REPETITIONS,
    sizes: Sizes | None = None,
) -> Result:
    """Measure training against its peers.

    Args:
        data: A folder of photos by class, for the row ``epoch``.
        rows: Names of rows. Default: all.
        repetitions: Pairs a row, 1 to 1,000.
        sizes: What is trained.

    Raises:
        ConfigurationError: ``repetitions`` is out of range or a row is unknown.
        RunError: Two sides do not compute the same.
    """
    check_repetitions(repetitions)
    sizes = sizes or Sizes()
    names = chosen_rows([row.name for row in ROWS], rows)
    note(f"{torch.get_num_threads()} threads, {repetitions} repetitions")
    measured: dict[str, Row] = {}
    steps: list[tuple[tuple[Row, ...], Callable[[], list[Row]]]] = [
        ((_CPU_REFERENCE, _CPU_BEST), lambda: _cpu_rows(sizes, repetitions, names)),
        ((_MEMORY, _MEMORY_CHECKPOINTED), lambda: _memory_rows(sizes, repetitions, names)),
        ((_CIFAR,), lambda: [_cifar_row(sizes, repetitions)]),
        *(
            ((row,), functools.partial(_detection_rows, row, sizes, repetitions))
            for row in (_DETECT, _DETECT_AUTO, _DETECT_SLIM)
        ),
        ((_EPOCH,), lambda: [_epoch_row(sizes, repetitions, data)]),
        ((_GPU,), lambda: [_gpu_row(sizes, repetitions)]),
        ((_GPU_CIFAR,), lambda: [_gpu_cifar_row(sizes, repetitions)]),
    ]
    for together, measure in steps:
        if any(row.name in names for row in together):
            for row in measure():
                measured[row.name] = row
                note(f"{row.name}: {row.ratio or row.reason}")
            forget_networks()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return make_result("train", [measured[name] for name in names], repetitions, device, _PEERS)


# -- ResNet-50 on the CPU ----------------------------------------------------------------------------------


def _cpu_rows(sizes: Sizes, repetitions: int, names: Sequence[str]) -> list[Row]:
    wanted = [row for row in (_CPU_REFERENCE, _CPU_BEST) if row.name in names]
    if not _is_installed("torchvision"):
        return [unmeasured(row, "torchvision is not installed") for row in wanted]
    problem = sizes.imagenet()
    ours = OurTraining(problem)
    reference = _with_our_weights(_torchvision_training(problem), ours)
    _require_same_losses(ours, reference)
    sides: dict[str, TrainingSide] = {"ours": ours}
    details: dict[str, Any] = {}
    if _CPU_REFERENCE in wanted:
        sides[_CPU_REFERENCE.name] = reference
    if _CPU_BEST in wanted:
        best, details["seconds a step of one trial"] = _best_of_plain_torch(problem, reference, sizes)
        details["compiled"] = _WHICH_COMPILED
        sides[_CPU_BEST.name] = best
    seconds = in_turn({name: side.turn(2) for name, side in sides.items()}, repetitions)
    rows = [_speed_row(row, problem, ours, sides[row.name], seconds) for row in wanted]
    return [
        replace(row, details=row.details | details) if row.name == _CPU_BEST.name else row for row in rows
    ]


def _best_of_plain_torch(
    problem: Problem, reference: PlainTraining, sizes: Sizes
) -> tuple[PlainTraining, dict[str, float]]:
    """Try every way of plain torch, and return the fastest and what each took."""
    from torchvision import models

    trials: dict[str, float] = {}
    best, best_seconds = reference, math.inf
    fast_bf16 = has_bf16(problem.device)
    for compiled in (False, True) if sizes.compile_peers else (False,):
        for layout in ("NCHW", "channels-last"):
            for precision in ("fp32", "bf16"):
                name = f"{'compiled' if compiled else 'eager'}, {layout}, {precision}"
                if compiled and precision == "bf16" and not fast_bf16:
                    continue
                side = (
                    reference
                    if name == "eager, NCHW, fp32"
                    else PlainTraining(
                        models.get_model(problem.model),
                        problem,
                        layout=layout,
                        precision=precision,
                        compiled=compiled,
                    )
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # whatever torch's compiler has to say
                    trials[name] = round(min(side.turn(1)() for _ in range(3)), 4)
                note(f"  plain torch, {name}: {problem.batch_size / trials[name]:.2f} images/s")
                if trials[name] < best_seconds:
                    best, best_seconds = side, trials[name]
                del side
                gc.collect()
    return best, trials


# -- memory ------------------------------------------------------------------------------------------------


def _memory_rows(sizes: Sizes, repetitions: int, names: Sequence[str]) -> list[Row]:
    wanted = [row for row in (_MEMORY, _MEMORY_CHECKPOINTED) if row.name in names]
    if not _is_installed("torchvision"):
        return [unmeasured(row, "torchvision is not installed") for row in wanted]
    problem = sizes.imagenet()
    # Memory hardly varies: two processes a side show how much.
    count = min(repetitions, 2)
    theirs = [peak_of(["-c", _REPORT_THEIRS], problem) for _ in range(count)]
    rows = []
    for row in wanted:
        checkpointed = row is _MEMORY_CHECKPOINTED
        ours = [our_peak(problem, activation_checkpointing=checkpointed) for _ in range(count)]
        our_rise, their_rise = (sum(peak.rise for peak in side) for side in (ours, theirs))
        rows.append(
            replace(
                row,
                ratio=ratio([peak.peak for peak in ours], [peak.peak for peak in theirs]),
                ours=ours[0].peak,
                theirs=theirs[0].peak,
                details={
                    "ratio of the rise above libraries and weights": round(our_rise / their_rise, 3)
                    if their_rise
                    else None,
                    "ours before the first step": ours[0].before,
                    "theirs before the first step": theirs[0].before,
                },
            )
        )
    return rows


# -- CIFAR -------------------------------------------------------------------------------------------------


def _cifar_row(sizes: Sizes, repetitions: int) -> Row:
    problem = sizes.cifar("cpu")
    ours, theirs = _cifar_sides(problem)
    seconds = in_turn({"ours": ours.turn(10, 3), _CIFAR.name: theirs.turn(10, 3)}, repetitions)
    return _speed_row(_CIFAR, problem, ours, theirs, seconds)


def _cifar_sides(problem: Problem) -> tuple[OurTraining, PlainTraining]:
    ours = OurTraining(problem)
    network = PlainCifarNet(ours.plan.backbone.num_layers, ours.plan.spec.num_classes)
    theirs = _with_our_weights(PlainTraining(network, problem), ours)
    _require_same_losses(ours, theirs)
    return ours, theirs


# -- detectors ---------------------------------------------------------------------------------------------


def _detection_rows(row: Row, sizes: Sizes, repetitions: int) -> list[Row]:
    if not _is_installed("torchvision"):
        return [unmeasured(row, "torchvision is not installed")]
    from benchmarks.torchvision_detection import TorchvisionDetection, require_same_detections

    problem = sizes.detection(row)
    ours, theirs = OurTraining(problem), TorchvisionDetection(problem)
    require_same_detections(ours, theirs)
    seconds = in_turn({"ours": ours.turn(2), row.name: theirs.turn(2)}, repetitions)
    return [_speed_row(row, problem, ours, theirs, seconds)]


# -- an epoch of photos ------------------------------------------------------------------------------------


def _epoch_row(sizes: Sizes, repetitions: int, data: Path | None) -> Row:
    if data is None:
        return unmeasured(_EPOCH, NO_PHOTOS)
    if not _is_installed("timm"):
        return unmeasured(_EPOCH, "timm is not installed")
    ours = OurEpoch(data, sizes.epoch_model, sizes.epoch_batch, sizes.epoch_px)
    theirs = TimmEpoch(data, sizes.epoch_model, sizes.epoch_batch, sizes.epoch_px)
    require_alike("the number of training images", ours.num_samples, theirs.num_samples, 0)
    require_alike("the number of parameters", ours.num_parameters, theirs.num_parameters, 0)
    seconds = in_turn({"ours": ours.seconds_an_image, "timm": theirs.seconds_an_image}, repetitions)
    return replace(
        _EPOCH,
        ratio=ratio(seconds["timm"], seconds["ours"]),
        ours=_per_second(seconds["ours"], 1),
        theirs=_per_second(seconds["timm"], 1),
        details={"images": ours.num_samples, "ours": ours.setup, "theirs": theirs.setup},
    )


# -- one GPU -----------------------------------------------------------------------------------------------


def _gpu_row(sizes: Sizes, repetitions: int) -> Row:
    if not torch.cuda.is_available():
        return unmeasured(_GPU, NO_GPU)
    problem = sizes.gpu()
    ours = OurTraining(problem)
    sides: dict[str, TrainingSide] = {"ours": ours}
    for name in _PEERS:
        if _is_installed(name):
            sides[name] = PlainTraining(
                _network_of(name, problem.model),
                problem,
                layout="channels-last",
                precision="bf16",
                compiled=sizes.compile_peers,
            )
    if len(sides) == 1:
        return unmeasured(_GPU, "neither timm nor torchvision is installed")
    seconds = in_turn({name: side.turn(20, 10) for name, side in sides.items()}, repetitions)
    fastest = min((name for name in seconds if name != "ours"), key=lambda name: sum(seconds[name]))
    pair = {"ours": seconds["ours"], _GPU.name: seconds[fastest]}
    row = _speed_row(_GPU, problem, ours, sides[fastest], pair)
    return replace(row, details=row.details | {"network of": fastest})


def _gpu_cifar_row(sizes: Sizes, repetitions: int) -> Row:
    if not torch.cuda.is_available():
        return unmeasured(_GPU_CIFAR, NO_GPU)
    problem = sizes.cifar("cuda")
    ours, theirs = _cifar_sides(problem)
    seconds = in_turn({"ours": ours.turn(500, 50), _GPU_CIFAR.name: theirs.turn(500, 50)}, repetitions)
    row = _speed_row(_GPU_CIFAR, problem, ours, theirs, seconds)
    schedule = {
        side: round(CIFAR_STEPS * sorted(values)[len(values) // 2], 1)
        for side, values in (("ours", seconds["ours"]), ("theirs", seconds[_GPU_CIFAR.name]))
    }
    return replace(row, details=row.details | {"seconds for 64,000 iterations": schedule})


# -- what they share ---------------------------------------------------------------------------------------


def _speed_row(
    row: Row, problem: Problem, ours: OurTraining, theirs: TrainingSide, seconds: dict[str, list[float]]
) -> Row:
    return replace(
        row,
        ratio=ratio(seconds[row.name], seconds["ours"]),
        ours=_per_second(seconds["ours"], problem.batch_size),
        theirs=_per_second(seconds[row.name], problem.batch_size),
        details={"ours": ours.setup, "theirs": theirs.setup},
    )


def _per_second(seconds: list[float], count: int) -> float:
    return round(count / sorted(seconds)[len(seconds) // 2], 3)


def _with_our_weights(theirs: PlainTraining, ours: OurTraining) -> PlainTraining:
    theirs.network.load_state_dict(ours.network.state_dict())
    return theirs


def _require_same_losses(ours: OurTraining, theirs: PlainTraining) -> None:
    tolerance = _FP32_TOLERANCE if ours.plan.precision == "fp32" else _BF16_TOLERANCE
    with ours.surroundings():
        our_loss = ours.loss()
    require_alike("the loss of the first step", our_loss, theirs.loss(), tolerance)


def _network_of(package: str, model: str) -> torch.nn.Module:
    if package == "torchvision":
        from torchvision import models

        network: torch.nn.Module = models.get_model(model)
        return network
    import timm

    created: torch.nn.Module = timm.create_model(model)
    return created


def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


def _torchvision_training(problem: Problem) -> PlainTraining:
    """Return torchvision's network in its references' way: float32, NCHW, eager, SGD with momentum."""
    return PlainTraining(_network_of("torchvision", problem.model), problem)


def report_their_peak() -> None:
    """Print what torchvision's way takes for the problem that the arguments name."""
    report_peak(_torchvision_training(problem_of(*sys.argv[1:4])))
