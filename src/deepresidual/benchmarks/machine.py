"""Measure how well a run fits its machine: idle threads beside other programs, and the choices of ``auto``.

The rows of ``residual benchmark machine``. The setting of idle threads is read when torch is loaded, so each
side is a process of its own that does a few updates when it is asked to, in turn with the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from deepresidual.backends.precision import settle_precision
from deepresidual.benchmarks.measurement import (
    Result,
    Row,
    check_repetitions,
    chosen_rows,
    in_turn,
    make_result,
    median_interval,
    ratio,
)
from deepresidual.benchmarks.training_sides import OurTraining, PlainTraining, Problem
from deepresidual.errors import RunError
from deepresidual.models import create
from deepresidual.runtime.compute import Precision
from deepresidual.runtime.console import note
from deepresidual.runtime.openmp import SPIN_COUNT
from deepresidual.runtime.processes import usable_cores
from deepresidual.zoo import entry

_CPU = torch.device("cpu")
_DEFAULT_SPIN_COUNT = "300000"  # libgomp 14, env.c, where no policy is set
_SPIN_ROW = Row("spin", "", "OpenMP's default of 300,000 turns", 0.0, unit="s an update")
_SPINNING = {
    # Row, other programs for each core, target
    "spin-quiet": (0.0, 0.97),
    "spin-busy": (1.0, 1.8),
    "spin-busier": (2.0, 1.8),
}
_PRECISION = ("resnet20", "resnet18", "resnet50")

# Emulated bf16 takes many times as long: beyond this multiple a few updates of two images show the ratio.
_FAR_BEHIND = 3.0
_FEW_PAIRS = 6
_FEW_IMAGES = 2


@dataclass(frozen=True)
class MachineSizes:
    """Sizes of the trainings; other values are for tests.

    Attributes:
        spin_model: Network of the rows ``spin-…``.
        spin_batch: Images an update of it.
        spin_steps: Updates a turn.
        cifar_batch: Images an update of a CIFAR network in the rows ``auto-…``.
        imagenet_batch: The same of an ImageNet network.
        imagenet_px: Side of its images.
    """

    spin_model: str = "resnet20"
    spin_batch: int = 128
    spin_steps: int = 2
    cifar_batch: int = 64
    imagenet_batch: int = 4
    imagenet_px: int = 224


def _auto_rows(model: str) -> list[Row]:
    what = f"{model} training in the precision that auto chooses"
    return [Row(f"auto-{model}-{other}", what, other, 0.95, unit="s an update") for other in ("fp32", "bf16")]


MACHINE_ROWS = (
    *(
        replace(
            _SPIN_ROW,
            name=name,
            what=f"ResNet-20 training, batch 128, beside {load:g} other programs for each core",
            target=target,
        )
        for name, (load, target) in _SPINNING.items()
    ),
    *(row for model in _PRECISION for row in _auto_rows(model)),
)
"""What there is to measure."""


def benchmark_machine(
    *,
    rows: Sequence[str] = (),
    repetitions: int = 20,
    sizes: MachineSizes | None = None,
    spin_count: int = SPIN_COUNT,
) -> Result:
    """Measure our setting of idle threads against OpenMP's, and ``auto`` against both precisions.

    Args:
        rows: Names of rows. Default: all.
        repetitions: Pairs a row, 1 to 1,000.
        sizes: Sizes of the trainings.
        spin_count: The setting of our side.

    Raises:
        ConfigurationError: A row is unknown, or the repetitions are out of range.
        RunError: A process that computes has ended.
    """
    check_repetitions(repetitions)
    sizes = sizes or MachineSizes()
    by_name = {row.name: row for row in MACHINE_ROWS}
    chosen = chosen_rows(list(by_name), rows)
    measured: list[Row] = []
    for name in chosen:
        if name in _SPINNING:
            note(f"measuring {name}")
            measured.append(_spinning(by_name[name], repetitions, sizes, spin_count))
    for model in _PRECISION:
        wanted = [by_name[f"auto-{model}-{other}"] for other in ("fp32", "bf16")]
        wanted = [row for row in wanted if row.name in chosen]
        if wanted:
            measured += _precisions(model, wanted, repetitions, sizes)
    return make_result("machine", measured, repetitions, _CPU)


def _spinning(row: Row, repetitions: int, sizes: MachineSizes, spin_count: int) -> Row:
    num_others = round(_SPINNING[row.name][0] * usable_cores())
    settings = {"ours": str(spin_count), "default": _DEFAULT_SPIN_COUNT}
    with contextlib.ExitStack() as stack:
        sides: dict[str, Callable[[], float]] = {
            name: stack.enter_context(_process(setting, sizes)) for name, setting in settings.items()
        }
        stack.enter_context(_others(num_others))
        seconds = in_turn(sides, repetitions)
    found = ratio(seconds["default"], seconds["ours"])
    quotients = [below / above for above, below in zip(seconds["ours"], seconds["default"], strict=True)]
    return replace(
        row,
        ratio=found,
        ours=_median(seconds["ours"]),
        theirs=_median(seconds["default"]),
        details={
            "GOMP_SPINCOUNT": spin_count,
            "other_programs": num_others,
            "model": sizes.spin_model,
            "batch_size": sizes.spin_batch,
            "median_95": median_interval(quotients),
        },
    )


def _precisions(model: str, rows: list[Row], repetitions: int, sizes: MachineSizes) -> list[Row]:
    spec = entry(model).spec
    is_cifar = spec.stem == "cifar"
    problem = Problem(
        model,
        sizes.cifar_batch if is_cifar else sizes.imagenet_batch,
        32 if is_cifar else sizes.imagenet_px,
        total_steps=1,  # eager, as the choice is measured
        device=_CPU,
    )
    started = time.perf_counter()
    settle_precision("auto", spec, _CPU, image_px=problem.image_px)
    settling_s = time.perf_counter() - started
    ours = OurTraining(problem)
    few = replace(problem, batch_size=_FEW_IMAGES)
    ours_of_few = OurTraining(few)
    measured: list[Row] = []
    for row in rows:
        note(f"measuring {row.name}")
        precision: Precision = "bf16" if row.against == "bf16" else "fp32"
        sides = _sides(ours_of_few, few, precision)
        pairs = min(repetitions, _FEW_PAIRS)
        seconds = in_turn(sides, pairs)
        batch_size = few.batch_size
        if min(seconds["other"]) < _FAR_BEHIND * max(seconds["chosen"]):
            pairs, batch_size = repetitions, problem.batch_size
            seconds = in_turn(_sides(ours, problem, precision), pairs)
        quotients = [below / above for above, below in zip(seconds["chosen"], seconds["other"], strict=True)]
        measured.append(
            replace(
                row,
                ratio=ratio(seconds["other"], seconds["chosen"]),
                ours=_median(seconds["chosen"]),
                theirs=_median(seconds["other"]),
                details={
                    "auto": f"{ours.plan.precision} ({ours.plan.precision_reason})",
                    "auto_s": round(settling_s, 2),
                    "batch_size": batch_size,
                    "image_px": problem.image_px,
                    "pairs": pairs,
                    "median_95": median_interval(quotients),
                },
            )
        )
    return measured


def _sides(ours: OurTraining, problem: Problem, other: Precision) -> dict[str, Callable[[], float]]:
    """Return an update of our trainer, in what ``auto`` chose, and a plain one in the other precision."""
    network = create(ours.plan.spec, seed=0)
    plain = PlainTraining(network, problem, layout="channels-last", precision=other)
    return {"chosen": ours.turn(1, 0), "other": plain.turn(1, 0)}


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@contextlib.contextmanager
def _process(setting: str, sizes: MachineSizes) -> Iterator[Callable[[], float]]:
    """Start a process with a setting of idle threads; yield what makes it do a turn: its seconds."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "RESIDUAL_SPINCOUNT")
    }
    environment["GOMP_SPINCOUNT"] = setting
    command = [sys.executable, "-m", "deepresidual.benchmarks.machine"]
    told = [sizes.spin_model, str(sizes.spin_batch), str(sizes.spin_steps)]
    with subprocess.Popen(
        [*command, *told], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise RunError("a process that computes has no pipes")

        def turn() -> float:
            stdin.write("turn\n")
            stdin.flush()
            answer = stdout.readline()
            if not answer:
                raise RunError(f"a process that computes has ended with exit code {process.wait()}")
            return float(json.loads(answer))

        try:
            yield turn
        finally:
            process.kill()


@contextlib.contextmanager
def _others(count: int) -> Iterator[None]:
    """Keep ``count`` other programs computing, each on one core."""
    command = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
        yield


def _serve(model: str, batch_size: int, num_steps: int) -> None:
    """Do a turn for every line of stdin and write the seconds of an update."""
    problem = Problem(model, batch_size, 32, total_steps=1, device=_CPU)
    training = PlainTraining(create(entry(model).spec, seed=0), problem, layout="channels-last")
    turn = training.turn(num_steps)
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(turn()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
