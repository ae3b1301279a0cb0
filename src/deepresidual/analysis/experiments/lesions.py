"""``lesions``: take single units out of a trained network, or swap two, and see what it can still do.

Veit et al. 2016, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks" (arXiv 1605.06431),
sections 4.1 to 4.3 and figures 3 to 5: without one unit a residual net errs hardly more, except where the map
is halved; a plain net without one layer guesses. With more units taken out or swapped the error rises
smoothly.

The units here are the original ones; Veit et al. write theirs pre-activated, F = W·relu(BN(W'·relu(BN(x)))).
Taking an original unit out leaves its shortcut and the ReLU behind the addition, relu(h(x)); without a
pre-activated one x alone would remain. Out of a plain net it leaves the same, with option A for h where the
shape changes, so that both lose as much: F.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from deepresidual.analysis.experiments.errors import measure_errors
from deepresidual.analysis.experiments.experiment import (
    TEST_ERROR,
    Arm,
    Experiment,
    FinishedRun,
    Measurement,
    Metric,
    Results,
    Scale,
    Verdict,
)
from deepresidual.analysis.experiments.figures import STYLES, finish, new_figure, plot_band
from deepresidual.analysis.experiments.images import read_images
from deepresidual.analysis.experiments.settings import DATA, twin
from deepresidual.analysis.experiments.verdicts import gap
from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.nn import ResNet
from deepresidual.nn.probe import unit_names
from deepresidual.nn.shortcut import PaddedIdentity
from deepresidual.reporting.palette import INK
from deepresidual.spec import UnitShape

_SOURCE = "Veit et al. 2016"
_DAMAGE = Metric(
    "median_damage",
    "rise of the error without one unit (median over the units)",
    title="median rise without one unit",
)
_NETS: Mapping[Scale, tuple[tuple[str, int], ...]] = {
    "smoke": (("plain", 14), ("resnet", 14)),
    "laptop": (("plain", 20), ("resnet", 20), ("resnet", 56)),
    "paper": (("plain", 20), ("resnet", 20), ("resnet", 56), ("resnet", 110)),
}
_SEEDS: Mapping[Scale, int] = {"smoke": 1, "laptop": 3, "paper": 3}
_MOST_IMAGES = 2_000
_DRAWS = 5  # choices of units for every number of them
_MOST_TOUCHED = 16


def _arms(scale: Scale) -> tuple[Arm, ...]:
    return tuple(twin(scale, kind, layers, num_seeds=_SEEDS[scale]) for kind, layers in _NETS[scale])


# -- lesions ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def without_units(network: ResNet, names: Sequence[str]) -> Iterator[None]:
    """Let the units called ``names`` return relu(h(x)) alone in the block; afterwards all is as before.

    Raises:
        ConfigurationError: The units are not of the original arrangement.
        UnknownNameError: There is no such unit.
    """
    spec = network.spec
    if spec.arrangement != "original":
        raise ConfigurationError(
            f"the units are of arrangement {spec.arrangement!r}", expected="'original' for lesions"
        )
    shapes = {unit.name: unit for unit in spec.units()}
    with contextlib.ExitStack() as hooks:
        for name in names:
            if name not in shapes:
                raise UnknownNameError("unit", name, list(shapes))
            unit = network.get_submodule(name)
            hooks.enter_context(unit.register_forward_hook(_bypass(unit, shapes[name])))
        yield


def _bypass(unit: nn.Module, shape: UnitShape) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    shortcut = unit.get_submodule("downsample") if "downsample" in dict(unit.named_children()) else None
    if shortcut is None and (shape.in_channels, shape.stride) != (shape.out_channels, 1):
        shortcut = PaddedIdentity(shape.in_channels, shape.out_channels, shape.stride)

    def bypass(_unit: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        (x,) = inputs
        return functional.relu(x if shortcut is None else shortcut(x))

    return bypass


@contextlib.contextmanager
def units_swapped(network: ResNet, pairs: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Swap the units of every pair in the block, one pair after the other.

    Raises:
        ConfigurationError: The units of a pair do not map the same shape.
        UnknownNameError: There is no such unit.
    """
    shapes = {unit.name: unit for unit in network.spec.units()}
    for name in {name for pair in pairs for name in pair}:
        if name not in shapes:
            raise UnknownNameError("unit", name, list(shapes))
    for first, second in pairs:
        if _shape(shapes[first]) != _shape(shapes[second]):
            raise ConfigurationError(
                f"{first} and {second} map different shapes", expected="two units of one stage, not its first"
            )
    for pair in pairs:
        _swap(network, *pair)
    try:
        yield
    finally:
        for pair in reversed(pairs):
            _swap(network, *pair)


def _shape(unit: UnitShape) -> tuple[Any, ...]:
    return unit.stage, unit.in_channels, unit.width, unit.out_channels, unit.stride, unit.dilation


def _swap(network: ResNet, first: str, second: str) -> None:
    stage, here = first.split(".")
    _, there = second.split(".")
    units: Any = network.get_submodule(stage)
    units[int(here)], units[int(there)] = units[int(there)], units[int(here)]


# -- measurement -----------------------------------------------------------------------------------------


def _measure(run: FinishedRun) -> Measurement:
    """Return the error without each unit, without more and more of them, and with more and more swaps.

    On up to 2,000 held-out images. Which units are touched is the same for every run of a network.
    """
    net, spec = run.model.network, run.model.spec
    images = read_images(run.source.split(run.source.evaluation_split), run.model, _MOST_IMAGES)
    whole = images.error(run.model)
    names = unit_names(spec)
    deleted = []
    for name in names:
        with without_units(net, [name]):
            deleted.append(images.error(run.model))
    # Units that halve the map hold more than their F: in the paper, too, they stand out.
    same_shape = [
        unit.name for unit in spec.units() if unit.in_channels == unit.out_channels and unit.stride == 1
    ]
    counts = [count for count in (1, 2, 4, 8, _MOST_TOUCHED) if count < len(same_shape)]
    several, swapped = [], []
    for count in counts:
        without, in_other_order = [], []
        for draw in range(_DRAWS):
            chosen = np.random.default_rng((count, draw)).choice(same_shape, count, replace=False)
            with without_units(net, [str(name) for name in chosen]):
                without.append(images.error(run.model))
            with units_swapped(net, _pairs(run, count, draw)):
                in_other_order.append(images.error(run.model))
        several.append(statistics.fmean(without))
        swapped.append(statistics.fmean(in_other_order))
    damage = [error - whole for name, error in zip(names, deleted, strict=True) if name in same_shape]
    test_error = measure_errors(run).metrics["test_error"]
    return Measurement(
        metrics={"test_error": test_error, "whole": whole, "median_damage": statistics.median(damage)},
        series={
            "deleted": deleted,
            "count": [float(count) for count in counts],
            "several": several,
            "swapped": swapped,
        },
    )


def _pairs(run: FinishedRun, count: int, draw: int) -> list[tuple[str, str]]:
    """Return so many pairs of units of the same shape, of stages that have at least two."""
    groups: dict[Any, list[str]] = {}
    for unit in run.model.spec.units():
        groups.setdefault(_shape(unit), []).append(unit.name)
    possible = [group for group in groups.values() if len(group) > 1]
    if not possible:
        return []
    generator = np.random.default_rng((count, draw, 1))
    pairs = []
    for _ in range(count):
        group = possible[int(generator.integers(len(possible)))]
        first, second = generator.choice(len(group), 2, replace=False).tolist()
        pairs.append((group[first], group[second]))
    return pairs


# -- figures and verdicts --------------------------------------------------------------------------------


def _draw(results: Results) -> dict[str, Figure]:
    figure, (left, middle, right) = new_figure(3, width=4.2)
    for result, style in zip(results.arms.values(), STYLES, strict=False):
        label = result.arm.label
        deleted = result.series("deleted")
        if not deleted:
            continue
        # Networks of different depth share the axis from the first unit to the last.
        last = max(1, len(deleted[0]) - 1)
        places = [index / last for index in range(len(deleted[0]))]
        plot_band(left, places, deleted, style, label, scale=100)
        whole = result.summary("whole")
        if whole is not None:
            left.axhline(100 * whole.mean, color=style.color, linestyle=style.linestyle, linewidth=0.7)
        counts = result.series("count")[0]
        if counts:
            plot_band(middle, counts, result.series("several"), style, label, scale=100)
            plot_band(right, counts, result.series("swapped"), style, label, scale=100)
    for axes in (left, middle, right):
        axes.set_ylim(0, 100)
        axes.axhline(90, color=INK, linewidth=0.6, linestyle=":")
        axes.annotate(
            "guessing", (0.99, 96), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=7
        )
    finish(
        left, x="unit taken out, first (0) to last (1)", y="test error (%)", title="one unit; whole net thin"
    )
    finish(middle, x="units taken out", y="test error (%)", title="several units", legend=False)
    finish(right, x="swaps of two units", y="test error (%)", title="units in another order", legend=False)
    return {"lesions": figure}


def _judge(results: Results) -> list[Verdict]:
    nets = _NETS[results.scale]
    plain = next(f"{kind}-{layers}" for kind, layers in nets if kind == "plain")
    residual = [f"{kind}-{layers}" for kind, layers in nets if kind == "resnet"]
    rows = [
        gap(
            results,
            _DAMAGE,
            plain,
            name,
            published="plain: to guessing; residual: hardly any",
            source=f"{_SOURCE}, figure 3",
        )
        for name in residual
    ]
    if len(residual) > 1:
        published = "not printed: more paths, less to lose"
        source = f"{_SOURCE}, section 4.1"
        rows.append(gap(results, _DAMAGE, residual[0], residual[-1], published=published, source=source))
    return rows


LESIONS = Experiment(
    name="lesions",
    claim="A residual net hardly misses a single unit; a plain net without one guesses.",
    source="Veit et al. 2016 (arXiv 1605.06431), figures 3 to 5",
    arms=_arms,
    data=DATA,
    measure=_measure,
    draw=_draw,
    judge=_judge,
    columns=(TEST_ERROR, Metric("whole", "error on the images of the lesions"), _DAMAGE),
)
