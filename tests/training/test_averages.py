"""Averages of weights and of BN statistics, against their formulas."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from deepresidual.models import create
from deepresidual.nn import body_of
from deepresidual.runtime.distributed import SINGLE
from deepresidual.training.averages import (
    MicroBatchStatistics,
    WeightAverage,
    batch_norms,
    precise_statistics,
)
from tests.conftest import TINY
from tests.training.parts import a_batch, a_plan, an_update, an_updater, changed, state

# -- moving average of the weights ---------------------------------------------------------------------


def test_the_average_begins_with_the_first_weights() -> None:
    network = create(TINY)
    assert changed(state(network), state(WeightAverage(network, 0.9).network)) == set()


def test_the_average_is_that_of_the_formula_statistics_included() -> None:
    plan = a_plan(ema_decay=0.75)
    updater = an_updater(plan)
    assert updater.average is not None
    by_hand = state(updater.network)
    for step in range(5):
        an_update(updater, plan, step)
        now = state(updater.network)
        by_hand = {
            name: 0.75 * mean + 0.25 * now[name] if mean.is_floating_point() else now[name]
            for name, mean in by_hand.items()
        }
    average = state(updater.average.network)
    for name, expected in by_hand.items():
        torch.testing.assert_close(average[name], expected, rtol=1e-5, atol=1e-6)


def test_batches_counted_are_copied_not_averaged() -> None:
    plan = a_plan(ema_decay=0.99)
    updater = an_updater(plan)
    for step in range(3):
        an_update(updater, plan, step)
    assert updater.average is not None
    assert int(updater.average.network.state_dict()["bn1.num_batches_tracked"]) == 3


def test_the_average_moves_every_so_many_updates() -> None:
    plan = a_plan(ema_decay=0.5, ema_every=3)
    updater = an_updater(plan)
    assert updater.average is not None
    moved = []
    for step in range(7):
        before = state(updater.average.network)
        an_update(updater, plan, step)
        moved.append(bool(changed(before, state(updater.average.network))))
    assert moved == [False, False, True, False, False, True, False]


def test_training_does_not_see_the_average() -> None:
    plain, averaged = a_plan(), a_plan(ema_decay=0.5)
    ends = []
    for plan in (plain, averaged):
        updater = an_updater(plan)
        for step in range(3):
            an_update(updater, plan, step)
        ends.append(state(updater.network))
    assert changed(*ends) == set()


def test_the_average_is_in_evaluation_mode_and_learns_nothing() -> None:
    average = WeightAverage(create(TINY), 0.9).network
    assert not any(module.training for module in average.modules())
    assert not any(parameter.requires_grad for parameter in average.parameters())


# -- statistics of micro-batches -----------------------------------------------------------------------


def a_norm(channels: int = 3) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=0.1)
    nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]  # there is one
    return norm


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_running_statistics_move_by_the_mean_of_the_micro_batches(count: int) -> None:
    norm = a_norm()
    before = state(norm)
    parts = [torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(part)) for part in range(count)]
    statistics = MicroBatchStatistics([norm], momentum=0.1)
    statistics.begin([norm])
    for part in parts:
        norm(part)
        statistics.add()
    statistics.end(SINGLE)
    mean = torch.stack([part.mean(dim=(0, 2, 3)) for part in parts]).mean(dim=0)
    variance = torch.stack([part.var(dim=(0, 2, 3)) for part in parts]).mean(dim=0)
    after = state(norm)
    torch.testing.assert_close(after["running_mean"], 0.9 * before["running_mean"] + 0.1 * mean)
    torch.testing.assert_close(after["running_var"], 0.9 * before["running_var"] + 0.1 * variance)


def test_one_micro_batch_moves_them_as_torch_does() -> None:
    images = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, ours = a_norm(), a_norm()
    ours.load_state_dict(plain.state_dict())
    plain(images)
    statistics = MicroBatchStatistics([ours], momentum=0.1)
    statistics.begin([ours])
    ours(images)
    statistics.add()
    statistics.end(SINGLE)
    for name, value in state(plain).items():
        torch.testing.assert_close(state(ours)[name], value)


def test_steps_do_not_see_each_others_statistics() -> None:
    norm = a_norm()
    statistics = MicroBatchStatistics([norm], momentum=0.5)
    for value in (1.0, 2.0):
        before = state(norm)["running_mean"]
        statistics.begin([norm])
        norm(torch.full((2, 3, 2, 2), value))
        statistics.add()
        statistics.end(SINGLE)
        torch.testing.assert_close(state(norm)["running_mean"], 0.5 * before + 0.5 * value)


# -- precise statistics --------------------------------------------------------------------------------


def some_batches(count: int = 4, size: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, 8, 8, generator=generator) * (1 + part) + part for part in range(count)]


def test_precise_statistics_are_those_of_all_images_together() -> None:
    network = create(TINY)
    batches = some_batches()
    precise_statistics(network, batch_norms(network), iter(batches), SINGLE)
    maps = network.conv1(torch.cat(batches))
    norm = network.bn1
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, maps.mean(dim=(0, 2, 3)))
    # The mean of the batches' unbiased variances, as torch counts them, plus the variance of their means.
    parts = [network.conv1(batch) for batch in batches]
    within = torch.stack([part.var(dim=(0, 2, 3)) for part in parts]).mean(dim=0)
    between = torch.stack([part.mean(dim=(0, 2, 3)) for part in parts]).var(dim=0, unbiased=False)
    torch.testing.assert_close(norm.running_var, within + between)
    torch.testing.assert_close(norm.running_var, maps.var(dim=(0, 2, 3)), rtol=5e-3, atol=0)


def test_every_bn_gets_the_statistics_of_what_it_is_given() -> None:
    network = create(TINY)
    batches = some_batches()
    seen: dict[nn.Module, list[torch.Tensor]] = {norm: [] for norm in batch_norms(network)}
    for norm in batch_norms(network):
        norm.register_forward_pre_hook(lambda module, inputs: seen[module].append(inputs[0].clone()))
    precise_statistics(network, batch_norms(network), iter(batches), SINGLE)
    for norm in batch_norms(network):
        assert norm.running_mean is not None
        torch.testing.assert_close(
            norm.running_mean, torch.cat(seen[norm]).mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5
        )


def test_precise_statistics_do_not_depend_on_the_running_ones() -> None:
    first, second = create(TINY), create(TINY)
    for norm in batch_norms(second):
        nn.init.constant_(norm.running_mean, 7.0)  # type: ignore[arg-type]
    for network in (first, second):
        precise_statistics(network, batch_norms(network), iter(some_batches()), SINGLE)
    before, after = state(first), state(second)
    assert changed(before, after) == set()


def test_precise_statistics_leave_weights_momenta_and_the_mode_of_evaluation() -> None:
    network = create(TINY)
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    precise_statistics(network, batch_norms(network), iter(some_batches()), SINGLE)
    assert changed(before, dict(network.named_parameters())) == set()
    assert {norm.momentum for norm in batch_norms(network)} == {0.1}
    assert not any(module.training for module in network.modules())


def test_statistics_that_are_held_still_stay_when_others_are_computed_anew() -> None:
    network = create(TINY)
    before = state(network)
    precise_statistics(network, batch_norms(network.layer2), iter(some_batches()), SINGLE)  # type: ignore[arg-type]
    moved = {name for name in changed(before, state(network)) if "running" in name}
    assert moved == {name for name in before if name.startswith("layer2") and "running" in name}


def test_precise_statistics_draw_no_random_numbers() -> None:
    network = create(dataclasses.replace(TINY, stochastic_depth=0.9))
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        precise_statistics(network, batch_norms(network), iter(some_batches()), SINGLE)
        assert torch.equal(torch.get_rng_state(), before)
        results.append(state(network))
    statistics = [
        {name: tensor for name, tensor in result.items() if "running" in name} for result in results
    ]
    assert changed(*statistics) == set()


def test_statistics_that_are_precise_make_the_network_independent_of_its_momentum() -> None:
    # The point of it: after training with a long memory of old weights, the new weights' own statistics.
    plan = a_plan(batch_size=12)
    updater = an_updater(plan)
    for step in range(4):
        an_update(updater, plan, step)
    running = state(updater.network)["bn1.running_mean"]

    def images() -> Iterator[torch.Tensor]:
        for step in range(4):
            yield plan.preprocess.normalize(a_batch(plan, seed=step).pixels)

    precise_statistics(updater.network, batch_norms(updater.network), images(), SINGLE)
    exact = state(updater.network)["bn1.running_mean"]
    maps = body_of(updater.network).conv1(torch.cat(list(images())))
    torch.testing.assert_close(exact, maps.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(running, exact, rtol=1e-2)
