"""Measure a folder of photos to a CSV file, against what people use (``residual benchmark folder``).

Both sides are whole commands in processes of their own, start included, in turn: ``residual predict`` of an
exported model, and ``benchmarks/torchvision_predict.py`` (ImageFolder, a DataLoader of two workers,
torchvision's network in eager float32) with the same weights. Before anything is timed each command has
predicted all photos once, and in float32 both sides agree on their classes. See docs/results.md for results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from deepresidual.benchmarks.commands import Cost
from deepresidual.benchmarks.folder import (
    PACKAGES,
    Case,
    Commands,
    FolderSizes,
    agreement,
    cases,
    median_cost,
    opened_commands,
)
from deepresidual.benchmarks.measurement import (
    MIN_REPETITIONS,
    Result,
    Row,
    check_repetitions,
    chosen_rows,
    make_result,
    ratio,
    unmeasured,
)
from deepresidual.errors import RunError
from deepresidual.runtime.console import note
from deepresidual.runtime.cpu import telling_flags

_PEER = "torchvision"
_AGAINST = "torchvision's network in eager fp32, ImageFolder, a DataLoader of 2 workers"
_SCRIPT = Path(__file__).with_name("torchvision_predict.py")

# What the processor has → least ratio of fp32 and of int8.
_TARGETS = {"avx512_vnni": (3.0, 8.0), "avx_vnni": (3.0, 8.0), "avx2": (1.5, 2.5)}
_PHOTO_SECONDS = 1.5
_PHOTO_BYTES = 250_000_000

# Both sides decode and resize by libraries of their own and round differently, which changes the class of a
# photo whose best two are close: of random weights about one in fifty.
_LEAST_AGREEMENT = 0.95


def benchmark_folder(
    photos: Path | None = None,
    *,
    rows: Sequence[str] = (),
    repetitions: int = MIN_REPETITIONS,
    sizes: FolderSizes | None = None,
) -> Result:
    """Measure our commands against their peer.

    Args:
        photos: A folder of JPEG photos. Default: photos that are made.
        rows: Names of rows. Default: all.
        repetitions: Runs of each command, 1 to 1,000.
        sizes: Sizes of the benchmark.

    Raises:
        ConfigurationError: ``repetitions`` is out of range or a row is unknown.
        DataError: The folder holds no photos.
        RunError: A command failed, or both sides do not agree in float32.
    """
    check_repetitions(repetitions)
    sizes = sizes or FolderSizes()
    every = [name for case in cases(sizes) for name in _row_names(case)]
    names = chosen_rows(every, rows)
    note(f"this processor has {', '.join(telling_flags())}; {repetitions} repetitions")
    measured: list[Row] = []
    with opened_commands(photos, sizes) as commands:
        for model in sizes.models:
            wanted = [case for case in cases(sizes) if case.model == model and not case.is_photo]
            measured += _folder_rows(commands, [case for case in wanted if case.name in names], repetitions)
        photo_cases = [case for case in cases(sizes) if case.is_photo]
        measured += _photo_rows(commands, photo_cases, names, repetitions)
    device = torch.device("cpu")
    return make_result("folder", measured, repetitions, device, (*PACKAGES, "torchvision"))


def _row_names(case: Case) -> tuple[str, ...]:
    return (case.name, f"{case.name}-memory") if case.is_photo else (case.name,)


def _folder_rows(commands: Commands, wanted: Sequence[Case], repetitions: int) -> Iterator[Row]:
    if not wanted:
        return
    model = wanted[0].model
    if find_spec("torchvision") is None:
        yield from (
            unmeasured(replace(case.row, against=_AGAINST), "torchvision is not installed") for case in wanted
        )
        return
    sides = {_PEER: _script(commands, model), **{case.name: commands.of_case(case) for case in wanted}}
    count = len(commands.files)
    classes = {}
    for side, command in sides.items():
        note(f"{side}: predicting {count} photos once")
        classes[side] = commands.classes(side, command, count)
    agreements = {side: agreement(classes[side], classes[_PEER]) for side in sides}
    for case in wanted:
        if case.way in ("torch", "fp32") and agreements[case.name] < _LEAST_AGREEMENT:
            raise RunError(
                f"{case.name} agrees with torchvision's side on {agreements[case.name]:.1%} of the photos",
                expected=f"{_LEAST_AGREEMENT:.0%} or more, so that like is timed with like",
            )
    note(f"measuring {', '.join(sides)} in turn")
    costs = commands.measure(sides, repetitions)
    for case in wanted:
        row = replace(case.row, against=_AGAINST, target=_target(case))
        details: dict[str, object] = {"photos": count, "agreement": agreements[case.name]}
        details["first run"] = commands.first_of(case.name).to_dict()
        yield _compared(row, costs[case.name], costs[_PEER], details)


def _script(commands: Commands, model: str) -> list[str]:
    weights = commands.exports.folder(model, "torch") / "model.safetensors"
    preprocess = commands.exports.classifier(model).preprocess
    words = [model, str(weights), str(commands.photos), str(commands.out)]
    size = ["--crop-px", str(preprocess.crop_px), "--resize-px", str(preprocess.resize_px)]
    return [sys.executable, str(_SCRIPT), *words, *size]


def _target(case: Case) -> float | None:
    found = next((pair for flag, pair in _TARGETS.items() if flag in telling_flags()), None)
    if found is None or case.model != "resnet50" or case.way not in ("fp32", "int8"):
        return None
    return found[("fp32", "int8").index(case.way)]


def _compared(row: Row, ours: Sequence[Cost], theirs: Sequence[Cost], details: dict[str, object]) -> Row:
    cpu = ratio([cost.cpu_s for cost in theirs], [cost.cpu_s for cost in ours])
    our_median, their_median = median_cost(ours), median_cost(theirs)
    return replace(
        row,
        ratio=ratio([cost.wall_s for cost in theirs], [cost.wall_s for cost in ours]),
        ours=round(our_median.wall_s, 3),
        theirs=round(their_median.wall_s, 3),
        details={
            **details,
            "ours": our_median.to_dict(),
            "theirs": their_median.to_dict(),
            "ratio of CPU time": asdict(cpu),
        },
    )


# -- one photo ---------------------------------------------------------------------------------------------


def _photo_rows(
    commands: Commands, photo_cases: Sequence[Case], names: Sequence[str], repetitions: int
) -> Iterator[Row]:
    """Yield seconds and memory of one photo; what is aimed at is absolute, so it is the other side."""
    wanted = [case for case in photo_cases if any(name in names for name in _row_names(case))]
    sides = {case.name: commands.of_case(case) for case in wanted}
    for side, command in sides.items():
        commands.classes(side, command, 1)
    if sides:
        note(f"measuring {', '.join(sides)} in turn")
    costs = commands.measure(sides, repetitions)
    for case in wanted:
        found = costs[case.name]
        median = median_cost(found)
        of_aim = case.way != "torch"
        details = {"photos": 1, "ours": median.to_dict()}
        seconds = replace(case.row, ours=round(median.wall_s, 3), details=details, reason="measured alone")
        memory = replace(
            seconds,
            name=f"{case.name}-memory",
            what=f"memory of {case.row.what}",
            unit="bytes",
            ours=median.peak_bytes,
        )
        if of_aim:
            seconds = _held_against(seconds, [cost.wall_s for cost in found], _PHOTO_SECONDS, "1.5 s")
            memory = _held_against(memory, [cost.peak_bytes for cost in found], _PHOTO_BYTES, "250 MB")
        yield from (row for row in (seconds, memory) if row.name in names)


def _held_against(row: Row, values: Sequence[float], most: float, against: str) -> Row:
    quotients = ratio(values, [most] * len(values))
    return replace(row, against=against, target=1.0, at_most=True, ratio=quotients, theirs=most, reason="")
