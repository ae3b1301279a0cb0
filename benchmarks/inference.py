"""Measure how fast exported models compute, against what people use (``residual benchmark inference``).

All sides compute the same weights on the same views, a request at a time or two, in turn in one process:

- ours: every engine × precision that this installation has, and what ``--backend auto`` chooses;
- torchvision's network in eager float32 as most people run it (NCHW), images normalized beforehand, with as
  many threads as ours: the faster of batch 1 and batch 16 is what ours is held against. Beside it channels
  last, bf16 by autocast, compiled with frozen weights, and one caller a core in place of two threads;
- the engines driven by their own interfaces: what our own layer costs.

Targets depend on what the processor has; its flags are in the result. See docs/results.md for results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from typing import Literal

import torch

from benchmarks.inference_peers import CannotCompileError, TorchvisionSides, raw_side, torch_ways
from deepresidual.benchmarks.inference import (
    PACKAGES,
    USES,
    WAYS,
    InferenceSizes,
    Network,
    Use,
    opened_network,
    opened_sides,
    our_rows,
)
from deepresidual.benchmarks.inference_sides import InferenceSide, MeasuredSides, Precision, measure_sides
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
from deepresidual.runtime.console import note
from deepresidual.runtime.cpu import telling_flags

_BASELINE = "torchvision's network, eager fp32, NCHW"
_SAME_LAYER = 0.95
_EXPORTED: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")
_AUTO = 0.95

# What the processor has → target of one thread and of two streams.
_FP32_TARGETS = {"avx512f": (2.2, 3.0), "avx2": (1.4, 1.8)}
_INT8_TARGETS = {"avx512_vnni": (7.0, 10.0), "avx_vnni": (7.0, 10.0), "avx2": (2.5, 3.0)}


@dataclass(frozen=True)
class Comparison:
    """A row, and the sides that it compares: of several the fastest.

    Attributes:
        row: The row.
        ours: Names of sides of ours; empty in a row of a peer.
        theirs: Names of the other sides.
        peer: Name of the side of a peer that is held against ``theirs`` like one of ours.
    """

    row: Row
    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    peer: str = ""

    @property
    def sides(self) -> set[str]:
        """Names of all sides that it needs."""
        return {*self.ours, *self.theirs, *([self.peer] if self.peer else [])}


@dataclass(frozen=True)
class Group:
    """Sides that use as many cores, and the rows that compare them.

    Attributes:
        cores: Cores that a side uses.
        uses: How sides of ours use them.
        comparisons: The rows.
    """

    cores: int
    uses: tuple[Use, ...]
    comparisons: tuple[Comparison, ...] = field(default=())

    def wanted(self, names: Sequence[str]) -> tuple[Comparison, ...]:
        """Return the comparisons of the rows that are named."""
        return tuple(one for one in self.comparisons if one.row.name in names)


def groups_of(model: str) -> tuple[Group, ...]:
    """Return what is measured together for a network: everything on one core, then everything on two."""
    return (
        Group(1, ("thread",), tuple(_comparisons(model, 1, ("thread",)))),
        Group(2, ("streams", "threads"), tuple(_comparisons(model, 2, ("streams", "threads")))),
    )


def _comparisons(model: str, cores: int, uses: tuple[Use, ...]) -> Iterator[Comparison]:
    use = uses[0]
    ways = torch_ways(cores)
    usual = tuple(way.name for way in ways if way.is_usual)
    against = f"{_BASELINE}, {'one thread' if cores == 1 else 'two threads'}"
    for precision in _EXPORTED:
        ours = tuple(way.name(one) for one in uses for way in WAYS if way.precision == precision)
        target = _target(precision, cores)
        row = Row(f"{model}-{precision}-{use}", "", against, target, unit="images/s")
        yield Comparison(
            replace(row, what=f"inference, {model}, {precision}, {USES[use]}, our fastest"), ours, usual
        )
        if cores > 1:
            yield Comparison(
                Row(
                    f"{model}-{precision}-{use}-callers",
                    f"the same, {precision}",
                    f"{_BASELINE}, two callers of one thread",
                    unit="images/s",
                ),
                ours,
                tuple(way.name for way in ways if way.callers > 1),
            )
            yield Comparison(
                Row(
                    f"{model}-auto-{precision}",
                    f"what --backend auto chooses, {model}, {precision}",
                    "the fastest single setting",
                    _AUTO,
                    unit="images/s",
                ),
                (f"auto-{precision}",),
                ours,
            )
        for engine in ("onnxruntime", "openvino"):
            yield Comparison(
                Row(
                    f"{model}-session-{engine}-{precision}-{use}",
                    f"our layer over {engine}, {model}, {precision}, {USES[use]}",
                    f"{engine} by its own interface",
                    _SAME_LAYER,
                    unit="images/s",
                ),
                (f"{engine}-{precision}-{use}",),
                (f"raw-{engine}-{precision}",),
            )
    rows = {row.name: row for row in our_rows(model)}
    for one in uses:
        for way in WAYS:
            row = rows[f"{model}-{way.name(one)}"]
            yield Comparison(replace(row, against=against), (way.name(one),), usual)
    for peer in ways:
        name = f"{model}-{peer.name}-{use}"
        what = f"inference, {model}, {peer.in_words}"
        yield Comparison(Row(name, what, against, unit="images/s"), (), usual, peer.name)


def _target(precision: Precision, cores: int) -> float | None:
    flags = telling_flags()
    targets = _INT8_TARGETS if precision == "int8" else _FP32_TARGETS
    found = next((pair for flag, pair in targets.items() if flag in flags), None)
    return None if found is None else found[cores - 1]


def benchmark_inference(
    models: Sequence[str] = ("resnet50",),
    *,
    rows: Sequence[str] = (),
    repetitions: int = MIN_REPETITIONS,
    sizes: InferenceSizes | None = None,
) -> Result:
    """Measure our engines against their peers.

    Args:
        models: Networks of the zoo with a namesake in torchvision.
        rows: Names of rows. Default: all.
        repetitions: Turns of each side, 1 to 1,000.
        sizes: Sizes of the benchmark.

    Raises:
        ConfigurationError: ``repetitions`` is out of range, or a row or a network is unknown.
        RunError: A side computes other logits than PyTorch.
    """
    check_repetitions(repetitions)
    sizes = sizes or InferenceSizes()
    groups = {model: groups_of(model) for model in models}
    every = [one.row.name for model in models for group in groups[model] for one in group.comparisons]
    names = chosen_rows(every, rows)
    note(f"this processor has {', '.join(telling_flags())}; {repetitions} repetitions")
    measured: list[Row] = []
    threads = torch.get_num_threads()
    for model in models:
        with opened_network(model, sizes) as network:
            for group in groups[model]:
                if comparisons := group.wanted(names):
                    measured += _measured(network, group, comparisons, repetitions, sizes)
    torch.set_num_threads(threads)
    return make_result("inference", measured, repetitions, torch.device("cpu"), (*PACKAGES, "torchvision"))


def _measured(
    network: Network,
    group: Group,
    comparisons: Sequence[Comparison],
    repetitions: int,
    sizes: InferenceSizes,
) -> list[Row]:
    needed = set().union(*(one.sides for one in comparisons))
    ours = {(way, use) for way in WAYS for use in group.uses if way.name(use) in needed}
    sides, reasons = opened_sides(network, ours)
    for precision in _EXPORTED:
        if f"auto-{precision}" in needed:
            sides.append(network.auto_side(precision))
        for engine in ("onnxruntime", "openvino"):
            if f"raw-{engine}-{precision}" in needed:
                file = network.exports.folder(network.name, precision) / "model.onnx"
                sides.append(raw_side(engine, file, precision, group.cores, network.views))
    peers, missing = _torchvision_sides(network, group, needed)
    sides, reasons = [*sides, *peers], reasons | missing
    note(f"measuring {len(sides)} sides of {network.name} on {group.cores} cores")
    found = measure_sides(sides, network.expected, repetitions, sizes.turn_seconds)
    reasons |= found.left_out
    return [_row(one, found, reasons) for one in comparisons]


def _torchvision_sides(
    network: Network, group: Group, needed: set[str]
) -> tuple[list[InferenceSide], dict[str, str]]:
    """Return torchvision's sides, and say by the name of each why it cannot be measured here."""
    ways = [way for way in torch_ways(group.cores) if way.name in needed]
    if find_spec("torchvision") is None:
        return [], {way.name: "torchvision is not installed" for way in ways}
    made = TorchvisionSides(network.exports.classifier(network.name), network.name, network.views)
    sides, reasons = [], {}
    for way in ways:
        try:
            sides.append(made.side(way))
        except CannotCompileError as error:
            reasons[way.name] = str(error)
    return sides, reasons


def _row(comparison: Comparison, found: MeasuredSides, reasons: dict[str, str]) -> Row:
    """Return a row with the ratio of the fastest of its sides, or why there is none."""
    row = comparison.row
    ours = found.best([comparison.peer] if comparison.peer else comparison.ours)
    theirs = found.best(comparison.theirs)
    if ours is None or theirs is None:
        lacking = (comparison.peer, *comparison.ours) if ours is None else comparison.theirs
        why = [reasons[name] for name in lacking if name in reasons]
        return unmeasured(row, why[0] if why else "no side of it was measured")
    cpu = ratio(found.cpu_s[theirs], found.cpu_s[ours])
    speed = found.speed(ours)
    return replace(
        row,
        ratio=ratio(found.seconds[theirs], found.seconds[ours]),
        ours=None if comparison.peer else speed,
        theirs=found.speed(theirs),
        reason=f"{speed:,.4g} images/s",
        details={
            "ours": found.details_of(ours),
            "theirs": found.details_of(theirs),
            "ratio of CPU time": asdict(cpu),
        },
    )
