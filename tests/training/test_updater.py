"""One update: what it computes does not depend on how a batch is cut, and what is held still stays."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from deepresidual.data.mix import apply_mix, choose_mix, soft_targets
from deepresidual.models import create
from deepresidual.nn import body_of
from deepresidual.runs.plan import Plan
from deepresidual.runtime.random import step_generator
from deepresidual.spec import ResNetSpec
from deepresidual.tasks import BatchSums, Classification
from deepresidual.training.averages import batch_norms
from deepresidual.training.meter import Meter
from deepresidual.training.updater import Updater, learning_norms
from tests.conftest import TINY
from tests.training.parts import CPU, a_batch, a_plan, an_update, an_updater, changed, gradients, state


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.allclose(first[name], second[name], rtol=1e-4, atol=1e-6) for name in first)


def gradients_of(plan: Plan, **batch: Any) -> dict[str, torch.Tensor]:
    updater = an_updater(plan)
    assert updater.gradients(a_batch(plan, **batch), step=0) is not None
    return gradients(updater.network)


def expected_gradients(
    plan: Plan, targets: torch.Tensor | None = None, **loss: Any
) -> dict[str, torch.Tensor]:
    """Return the gradients of torch's mean cross-entropy, in the mode that the plan trains in."""
    network = create(plan.backbone, seed=plan.seed).train()
    if plan.recipe.batch_norm == "frozen":
        for norm in batch_norms(network):
            norm.eval()
    batch = a_batch(plan)
    logits = network(plan.preprocess.normalize(batch.pixels))
    torch.autograd.backward(
        functional.cross_entropy(logits, batch.targets if targets is None else targets, **loss)
    )
    return gradients(network)


# -- gradients -----------------------------------------------------------------------------------------


def test_a_whole_batch_has_the_gradients_of_torchs_mean_loss() -> None:
    plan = a_plan()
    assert close(gradients_of(plan), expected_gradients(plan))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_micro_batches_add_up_to_the_gradients_of_the_batch(size: int) -> None:
    # With frozen BN the images do not see each other, so that only the order of rounding is left.
    whole = gradients_of(a_plan(batch_norm="frozen"))
    assert close(gradients_of(a_plan(batch_norm="frozen", micro_batch_size=size)), whole)


@pytest.mark.parametrize("size", [4, 6])
def test_bn_takes_its_statistics_from_a_micro_batch(size: int) -> None:
    assert not close(gradients_of(a_plan(micro_batch_size=size)), gradients_of(a_plan()))


def test_micro_batches_move_the_running_statistics_by_their_mean() -> None:
    plan = a_plan(micro_batch_size=4)
    updater = an_updater(plan)
    before, batch = state(updater.network), a_batch(plan)
    maps = [
        create(plan.backbone).conv1(plan.preprocess.normalize(pixels))
        for pixels in torch.split(batch.pixels, 4)
    ]
    updater.gradients(batch, 0)
    after = state(updater.network)
    mean = torch.stack([part.mean(dim=(0, 2, 3)) for part in maps]).mean(dim=0)
    variance = torch.stack([part.var(dim=(0, 2, 3)) for part in maps]).mean(dim=0)
    for name, moved in (("bn1.running_mean", mean), ("bn1.running_var", variance)):
        torch.testing.assert_close(after[name], 0.9 * before[name] + 0.1 * moved, rtol=1e-4, atol=1e-5)


def test_a_missing_sample_leaves_the_others_their_weight_and_their_company() -> None:
    # Cut at the same places, and divided by the same number: the gradient lacks that sample's part alone.
    plan = a_plan(batch_norm="frozen", micro_batch_size=4)
    without = gradients_of(plan, missing=(5,))
    alone = an_updater(plan)
    assert alone.gradients(a_batch(plan, missing=tuple(place for place in range(12) if place != 5)), 0)
    both = {name: value + gradients(alone.network)[name] for name, value in without.items()}
    assert close(both, gradients_of(plan))


def test_a_micro_batch_whose_samples_are_all_missing_has_no_statistics() -> None:
    plan = a_plan(micro_batch_size=4)
    updater = an_updater(plan)
    before, batch = state(updater.network), a_batch(plan, missing=(4, 5, 6, 7))
    maps = [
        create(plan.backbone).conv1(plan.preprocess.normalize(pixels))
        for pixels in torch.split(batch.pixels, 4)
    ]
    assert an_update(updater, plan, batch=batch)
    mean = torch.stack([part.mean(dim=(0, 2, 3)) for part in maps]).mean(dim=0)
    torch.testing.assert_close(
        state(updater.network)["bn1.running_mean"],
        0.9 * before["bn1.running_mean"] + 0.1 * mean,
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_batch_whose_samples_are_all_missing_leaves_the_statistics() -> None:
    plan = a_plan(micro_batch_size=4)
    updater = an_updater(plan)
    before = state(updater.network)
    assert updater.gradients(a_batch(plan, missing=tuple(range(12))), 0) is not None
    assert {name.split(".")[-1] for name in changed(before, state(updater.network))} == {
        "num_batches_tracked"
    }


def test_checkpointed_activations_give_the_same_bits() -> None:
    ends = []
    for spec in (TINY, dataclasses.replace(TINY, activation_checkpointing=True)):
        for size in (None, 4):
            plan = a_plan(spec, micro_batch_size=size)
            updater = an_updater(plan)
            an_update(updater, plan)
            ends.append(state(updater.network))
    assert changed(ends[0], ends[2]) == set()
    assert changed(ends[1], ends[3]) == set()


# -- losses --------------------------------------------------------------------------------------------


def test_labels_are_smoothed_as_torch_does() -> None:
    plan = a_plan(label_smoothing=0.2)
    assert close(gradients_of(plan), expected_gradients(plan, label_smoothing=0.2))


def test_smoothing_is_the_same_whether_labels_are_soft_or_not() -> None:
    plan = a_plan(label_smoothing=0.2)
    targets = soft_targets(a_batch(plan).targets, 3, 0.2)
    assert close(gradients_of(plan), expected_gradients(plan, targets))


def bce_gradients(plan: Plan, targets: torch.Tensor, *, sum_classes: bool = False) -> dict[str, torch.Tensor]:
    """Return the gradients by timm's loss."""
    from timm.loss import BinaryCrossEntropy

    network = create(plan.backbone, seed=plan.seed).train()
    logits = network(plan.preprocess.normalize(a_batch(plan).pixels))
    torch.autograd.backward(BinaryCrossEntropy(smoothing=0, sum_classes=sum_classes)(logits, targets))
    return gradients(network)


def test_bce_is_averaged_over_the_classes_as_by_timm() -> None:
    plan = a_plan(loss="bce", label_smoothing=0.3)
    targets = soft_targets(a_batch(plan).targets, 3, 0.3)
    assert close(gradients_of(plan), bce_gradients(plan, targets))
    assert not close(gradients_of(plan), bce_gradients(plan, targets, sum_classes=True))


def test_bce_can_be_summed_over_the_classes() -> None:
    plan = a_plan(loss="bce", bce_sum=True, label_smoothing=0.3)
    targets = soft_targets(a_batch(plan).targets, 3, 0.3)
    assert close(gradients_of(plan), bce_gradients(plan, targets, sum_classes=True))


def test_bce_of_labels_is_the_loss_that_is_counted() -> None:
    plan = a_plan(loss="bce")
    updater = an_updater(plan)
    batch = a_batch(plan)
    logits = create(plan.backbone, seed=plan.seed).train()(plan.preprocess.normalize(batch.pixels)).detach()
    sums = updater.gradients(batch, 0)
    assert sums is not None
    targets = functional.one_hot(batch.targets, 3).float()
    expected = functional.binary_cross_entropy_with_logits(logits, targets)
    assert float(sums[0].loss) / len(batch) == pytest.approx(float(expected), rel=1e-5)


def test_bce_with_a_threshold_takes_what_is_above_it_for_wholly_present() -> None:
    plan = a_plan(loss="bce", bce_threshold=0.2)
    hard = functional.one_hot(a_batch(plan).targets, 3).float()
    assert close(gradients_of(plan), bce_gradients(plan, hard))


def test_labels_are_smoothed_after_the_threshold_which_would_undo_it() -> None:
    plan = a_plan(loss="bce", label_smoothing=0.3, bce_threshold=0.2)
    hard = functional.one_hot(a_batch(plan).targets, 3).float()
    assert close(gradients_of(plan), bce_gradients(plan, hard * 0.7 + 0.1))
    assert not close(gradients_of(plan), bce_gradients(plan, hard))


def test_a_share_counts_by_the_threshold_whatever_the_smoothing() -> None:
    task = Classification(a_plan(loss="bce", label_smoothing=0.1, bce_threshold=0.2))
    for share, present in ((0.21, True), (0.19, False)):
        targets = torch.tensor([[share, 1 - share, 0.0]])
        logits = torch.tensor([[0.5, -0.5, 0.25]])
        smooth = torch.tensor([[0.9 * present + 0.1 / 3, 0.9 + 0.1 / 3, 0.1 / 3]])
        expected = functional.binary_cross_entropy_with_logits(logits, smooth)
        assert float(task.loss_of(logits, targets)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("changes", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_mixing_reaches_images_and_loss(changes: dict[str, Any]) -> None:
    plan = a_plan(**changes)
    batch = a_batch(plan)
    images = plan.preprocess.normalize(batch.pixels)
    targets = soft_targets(batch.targets, 3)
    choice = choose_mix(plan.recipe.mix, step_generator(plan.seed, 0), 8, 8)
    assert choice is not None
    apply_mix(images, targets, choice)
    network = create(plan.backbone, seed=plan.seed).train()
    torch.autograd.backward(functional.cross_entropy(network(images), targets))
    assert close(gradients_of(plan), gradients(network))
    assert not close(gradients_of(plan), gradients_of(a_plan()))


def test_mixing_is_another_in_another_step() -> None:
    plan = a_plan(mixup=1.0)
    results = []
    for step in (0, 0, 1):
        updater = an_updater(plan)
        updater.gradients(a_batch(plan), step)
        results.append(gradients(updater.network))
    assert changed(results[0], results[1]) == set()
    assert changed(results[0], results[2]) == set(results[0])


def test_a_mixed_batch_does_not_depend_on_how_it_is_cut() -> None:
    whole = gradients_of(a_plan(batch_norm="frozen", cutmix=1.0))
    assert close(gradients_of(a_plan(batch_norm="frozen", cutmix=1.0, micro_batch_size=4)), whole)


# -- clipping ------------------------------------------------------------------------------------------


def norm_of(network: torch.nn.Module) -> float:
    return math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients(network).values()))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_long_gradient_is_scaled_down(precision: str) -> None:
    plan = a_plan(clip_norm=0.01, precision=precision, momentum=0.0, weight_decay=0.0)
    updater = an_updater(plan)
    before = state(updater.network)
    an_update(updater, plan)
    moved = [
        float((parameter.detach() - before[name]).square().sum())
        for name, parameter in updater.network.named_parameters()
    ]
    # Plain SGD at a rate of 0.1: the way of all weights together is a tenth of the clipped norm.
    assert math.sqrt(sum(moved)) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_a_short_gradient_stays() -> None:
    plan = a_plan(clip_norm=1000.0)
    updater = an_updater(plan)
    updater.gradients(a_batch(plan), 0)
    before = norm_of(updater.network)
    updater.apply(0, 0.1)
    assert norm_of(updater.network) == pytest.approx(before)


# -- held still ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 4, 1])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_frozen_stages_keep_weights_and_statistics(optimizer: str, size: int | None) -> None:
    # Three micro-batches: a third of three times a number is another number in the last bit.
    plan = a_plan(frozen_stages=2, optimizer=optimizer, micro_batch_size=size)
    network = create(plan.backbone)
    nn.init.normal_(network.bn1.running_mean)  # type: ignore[arg-type]  # one that rounding would show in
    nn.init.uniform_(network.bn1.running_var)  # type: ignore[arg-type]
    updater = an_updater(plan, network)
    before = state(network)
    for step in range(3):
        assert an_update(updater, plan, step)
    assert {name.split(".")[0] for name in changed(before, state(network))} == {"layer2", "fc"}


@pytest.mark.parametrize("size", [None, 4])
def test_frozen_bn_keeps_its_statistics_and_learns_its_scales(size: int | None) -> None:
    plan = a_plan(batch_norm="frozen", micro_batch_size=size)
    updater = an_updater(plan)
    before = state(updater.network)
    an_update(updater, plan)
    moved = changed(before, state(updater.network))
    assert not [name for name in moved if "running" in name or "num_batches" in name]
    assert {"bn1.weight", "bn1.bias"} <= moved


def test_frozen_bn_uses_the_statistics_that_it_came_with() -> None:
    plan = a_plan(batch_norm="frozen")
    assert close(gradients_of(plan), expected_gradients(plan))
    assert not close(gradients_of(plan), gradients_of(a_plan()))


def test_the_norms_that_learn_are_those_of_no_frozen_stage() -> None:
    network = create(TINY)
    names = {module: name for name, module in network.named_modules()}

    def learning(**fields: Any) -> set[str]:
        return {names[norm].split(".")[0] for norm in learning_norms(network, a_plan(**fields).recipe)}

    assert learning() == {"bn1", "layer1", "layer2"}
    assert learning(frozen_stages=2) == {"layer2"}
    assert learning(batch_norm="frozen") == set()


# -- the network's own random choices ------------------------------------------------------------------


def drawing(**fields: Any) -> Plan:
    return a_plan(stochastic_depth=0.5, **fields)


def test_stochastic_depth_repeats_in_the_same_step_and_differs_in_another() -> None:
    results = []
    for step in (3, 3, 4):
        updater = an_updater(drawing())
        updater.gradients(a_batch(drawing()), step)
        results.append(gradients(updater.network))
    assert changed(results[0], results[1]) == set()
    assert changed(results[0], results[2]) == set(results[0])


def test_stochastic_depth_follows_from_the_seed() -> None:
    network = create(TINY, seed=5)
    results = []
    for seed in (0, 1):
        plan = drawing(seed=seed)
        own = create(plan.backbone)
        own.load_state_dict(network.state_dict())
        updater = an_updater(plan, own)
        updater.gradients(a_batch(plan), 0)
        results.append(gradients(own))
    assert changed(*results) != set()


def test_micro_batches_of_a_step_draw_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[tuple[int, int, int]] = []

    def listen(seed: int, step: int, micro_batch: int) -> int:
        seeds.append((seed, step, micro_batch))
        return 1

    monkeypatch.setattr("deepresidual.training.updater.network_seed", listen)
    plan = drawing(micro_batch_size=4, seed=8)
    an_updater(plan).gradients(a_batch(plan), 2)
    assert seeds == [(8, 2, 0), (8, 2, 1), (8, 2, 2)]


@pytest.mark.parametrize("spec", [TINY, dataclasses.replace(TINY, stochastic_depth=0.5)])
def test_torchs_global_random_state_is_left_alone(spec: ResNetSpec) -> None:
    torch.manual_seed(77)
    before = torch.get_rng_state()
    plan = a_plan(spec, mixup=1.0)
    an_update(an_updater(plan), plan)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_choices_of_its_own_the_network_is_not_given_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.manual_seed", lambda _: pytest.fail("the random state was touched"))
    plan = a_plan()
    assert an_update(an_updater(plan), plan)


# -- precision -----------------------------------------------------------------------------------------


def test_fp16_scales_the_loss_and_unscales_the_gradients() -> None:
    plan = a_plan(precision="fp16", batch_norm="frozen")
    updater = an_updater(plan)
    assert updater.scaler.is_enabled()
    before = state(updater.network)
    assert an_update(updater, plan)
    reference = an_updater(a_plan(batch_norm="frozen"))
    an_update(reference, plan)
    theirs = state(reference.network)
    for name, tensor in state(updater.network).items():
        torch.testing.assert_close(tensor - before[name], theirs[name] - before[name], rtol=0.05, atol=2e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_fp16_leaves_an_update_out_whose_gradients_overflow(optimizer: str) -> None:
    plan = a_plan(precision="fp16", optimizer=optimizer)
    updater = an_updater(plan)
    assert an_update(updater, plan, 0)
    scale, before = updater.scaler.get_scale(), state(updater.network)
    assert updater.gradients(a_batch(plan), 1)
    gradient = body_of(updater.network).fc.weight.grad
    assert gradient is not None
    gradient.fill_(math.inf)
    updater.apply(1, 0.1)
    moved = changed(before, state(updater.network))
    assert not [name for name in moved if "running" not in name and "num_batches" not in name]
    assert updater.scaler.get_scale() == scale / 2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_gradients_and_statistics_stay_float32(precision: str) -> None:
    plan = a_plan(precision=precision)
    updater = an_updater(plan)
    updater.gradients(a_batch(plan), 0)
    tensors = [*gradients(updater.network).values(), *updater.network.parameters()]
    tensors += [buffer for buffer in updater.network.buffers() if buffer.is_floating_point()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


# -- a loss that is not finite -------------------------------------------------------------------------


def poison(monkeypatch: pytest.MonkeyPatch, updater: Updater, *, micro_batch: int = 0) -> None:
    """Let the loss of one micro-batch be infinite."""
    loss, calls = updater.task.loss, iter(range(1000))

    def poisoned(*arguments: Any) -> BatchSums:
        sums = loss(*arguments)
        bad = next(calls) == micro_batch
        return dataclasses.replace(sums, loss=sums.loss * math.inf) if bad else sums

    monkeypatch.setattr(updater.task, "loss", poisoned)


@pytest.mark.parametrize("micro_batch", [0, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_a_loss_that_is_not_finite_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, micro_batch: int
) -> None:
    plan = a_plan(non_finite="skip", optimizer=optimizer, micro_batch_size=4, ema_decay=0.9)
    updater = an_updater(plan)
    an_update(updater, plan, 0)
    assert updater.average is not None
    optimizer_before = {
        (index, key): value.clone()
        for index, entry in enumerate(updater.optimizer.state.values())
        for key, value in entry.items()
    }
    before, average = state(updater.network), state(updater.average.network)
    poison(monkeypatch, updater, micro_batch=micro_batch)
    assert not updater.gradients(a_batch(plan, seed=1), 1)
    assert changed(before, state(updater.network)) == set()
    assert changed(average, state(updater.average.network)) == set()
    for index, entry in enumerate(updater.optimizer.state.values()):
        for key, value in entry.items():
            assert torch.equal(value, optimizer_before[index, key])
    assert gradients(updater.network) == {}


def test_a_finite_loss_with_an_infinite_gradient_changes_nothing() -> None:
    plan = a_plan(non_finite="skip", micro_batch_size=4)
    updater = an_updater(plan)
    before = state(updater.network)
    hook = cast("Any", body_of(updater.network).fc.weight.register_hook)
    hook(lambda gradient: gradient * math.inf)
    assert not updater.gradients(a_batch(plan), 0)
    assert changed(before, state(updater.network)) == set()
    assert gradients(updater.network) == {}


def test_the_next_step_is_as_if_the_bad_one_had_never_been(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = a_plan(non_finite="skip", micro_batch_size=4)
    ends = []
    for poisoned in (False, True):
        updater = an_updater(plan)
        an_update(updater, plan, 0)
        if poisoned:
            with monkeypatch.context() as patch:
                poison(patch, updater, micro_batch=1)
                updater.gradients(a_batch(plan, seed=1), 1)
        an_update(updater, plan, 2)
        ends.append(state(updater.network))
    assert changed(*ends) == set()


# -- counting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 4])
def test_an_update_returns_sums_of_losses_and_right_answers(size: int | None) -> None:
    plan = a_plan(micro_batch_size=size, batch_norm="frozen")
    updater = an_updater(plan)
    batch = a_batch(plan)
    network = create(plan.backbone, seed=plan.seed).eval()
    logits = network(plan.preprocess.normalize(batch.pixels)).detach()
    counted = updater.gradients(batch, 0)
    assert counted is not None
    meter = Meter(CPU)
    meter.add(counted)
    sums = meter.peek()
    assert sums.loss == pytest.approx(float(functional.cross_entropy(logits, batch.targets, reduction="sum")))
    assert sums.parts == {"right": int(np.sum(logits.argmax(dim=1).numpy() == batch.targets.numpy()))}
