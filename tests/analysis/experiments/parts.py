"""What the tests of experiments share: results that were never trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepresidual.analysis.experiments.experiment import Arm, ArmResult, Measurement, Results, Scale
from deepresidual.recipe import Recipe
from deepresidual.zoo.published import Published
from tests.conftest import TINY


def an_arm(name: str, published: Sequence[Published] = (), num_seeds: int = 3) -> Arm:
    return Arm(name, f"net {name}", TINY, Recipe(name="tiny"), num_seeds, 8, tuple(published))


def a_published(error: float, protocol: str = "1 view", *, is_lower_bound: bool = False) -> Published:
    return Published("resnet20", "cifar10", error, None, protocol, "a paper", is_lower_bound=is_lower_bound)


def some_results(
    values: Mapping[str, Sequence[float]],
    published: Mapping[str, Sequence[Published]] | None = None,
    *,
    scale: Scale = "laptop",
    comparable: bool = False,
    metric: str = "test_error",
) -> Results:
    """Return results of arms with one metric each; no value stands for a run that diverged."""
    arms = {}
    for name, of_runs in values.items():
        runs = {seed: Measurement({metric: value}) for seed, value in enumerate(of_runs)}
        if not of_runs:
            runs = {0: Measurement(note="diverged: the loss is not finite")}
        arms[name] = ArmResult(an_arm(name, (published or {}).get(name, ())), runs)
    return Results(scale, arms, comparable)
