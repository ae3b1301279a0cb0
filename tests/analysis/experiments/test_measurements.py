"""Gradients, responses and lesions are what their definitions say, computed here by other ways."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from deepresidual.analysis.experiments.experiment import FinishedRun
from deepresidual.analysis.experiments.gradients import gradient_norms, least_ratio
from deepresidual.analysis.experiments.images import Images
from deepresidual.analysis.experiments.lesions import units_swapped, without_units
from deepresidual.analysis.experiments.responses import response_deviations
from deepresidual.analysis.experiments.warmup import WARMUP
from deepresidual.data.source import open_source
from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.models import TorchClassifier, create
from deepresidual.spec import ResNetSpec
from tests.conftest import COLORS, SMALL_INPUT, TINY

SPEC = dataclasses.replace(TINY, depths=(3, 3))
PLAIN = dataclasses.replace(SPEC, shortcut="none")
PREACTIVATED = dataclasses.replace(SPEC, arrangement="full-preactivation")
IMAGES = Images(
    torch.randint(0, 256, (12, 8, 8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8),
    torch.arange(12) % 3,
)


def a_model(spec: ResNetSpec, seed: int = 5) -> TorchClassifier:
    """Return a model whose running statistics are not those of the beginning."""
    model = TorchClassifier(create(spec, seed=seed), tuple(COLORS), SMALL_INPUT)
    with torch.no_grad():
        model.network(SMALL_INPUT.normalize(IMAGES.pixels))
    model.network.eval()
    return model


def units_of(network: Any) -> dict[str, Any]:
    return {unit.name: network.get_submodule(unit.name) for unit in network.spec.units()}


# -- gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SPEC, PLAIN, PREACTIVATED])
def test_norms_of_gradients_are_autograd_s(spec: ResNetSpec) -> None:
    network = create(spec, seed=2)
    found = gradient_norms(network, SMALL_INPUT, IMAGES)
    # The same once more, unit by unit, keeping what autograd keeps.
    network.train()
    x = network.relu(network.bn1(network.conv1(SMALL_INPUT.normalize(IMAGES.pixels))))
    outputs = []
    for unit in units_of(network).values():
        x = unit(x)
        x.retain_grad()
        outputs.append(x)
    last = functional.relu(network.bn(x)) if spec.is_preactivated else x
    functional.cross_entropy(network.fc(last.mean(dim=(2, 3))), IMAGES.labels).backward()  # type: ignore[no-untyped-call]
    # A retained gradient is that of the tensor after what was done to it in place; nothing is here.
    expected = [float(output.grad.norm()) for output in outputs if output.grad is not None]
    assert found["unit"] == pytest.approx(expected, rel=1e-4)
    weights = [network.conv1, *(getattr(u, f"conv{n}") for u in units_of(network).values() for n in (1, 2))]
    assert found["weight"] == pytest.approx([float(conv.weight.grad.norm()) for conv in weights], rel=1e-4)
    assert ("identity" in found) == (spec.shortcut != "none")


def test_the_identity_term_and_the_residual_term_are_those_of_the_derivation() -> None:
    """∂loss/∂x_l = g + (∂ΣF/∂x_l)ᵀ·g with g = ∂loss/∂x_L; the second is computed here from Σ F itself."""
    network = create(PREACTIVATED, seed=2)
    found = gradient_norms(network, SMALL_INPUT, IMAGES)
    network.train()
    x = network.conv1(SMALL_INPUT.normalize(IMAGES.pixels))
    stage = [unit for name, unit in units_of(network).items() if name.startswith("layer1")]
    x_l = stage[0](x).detach().requires_grad_()
    x_last = stage[2](stage[1](x_l))
    end = x_last.detach().requires_grad_()
    out = end
    for name, unit in units_of(network).items():
        out = unit(out) if name.startswith("layer2") else out
    logits = network.fc(functional.relu(network.bn(out)).mean(dim=(2, 3)))
    (g,) = torch.autograd.grad(functional.cross_entropy(logits, IMAGES.labels), end)
    sum_of_f = x_last - x_l
    (residual,) = torch.autograd.grad(sum_of_f, x_l, grad_outputs=g)
    assert found["identity"][0] == pytest.approx(float(g.norm()), rel=1e-4)
    assert found["residual"][0] == pytest.approx(float(residual.norm()), rel=1e-3)
    assert found["unit"][0] == pytest.approx(float((g + residual).norm()), rel=1e-3)
    assert found["residual"][2] == 0


def test_the_least_ratio_leaves_out_the_last_units_whose_ratio_is_always_one() -> None:
    norms = {"unit": [6.0, 1.5, 1.0, 8.0, 2.0, 4.0], "identity": [1.0, 1.0, 1.0, 4.0, 4.0, 4.0]}
    assert least_ratio(PREACTIVATED, norms) == 0.5
    norms["unit"][4] = 20.0
    assert least_ratio(PREACTIVATED, norms) == 1.5  # not the 1 of the ends of both stages
    found = gradient_norms(create(PREACTIVATED, seed=2), SMALL_INPUT, IMAGES)
    ratios = [unit / end for unit, end in zip(found["unit"], found["identity"], strict=True)]
    assert ratios[2] == ratios[5] == 1
    assert least_ratio(PREACTIVATED, found) == min(ratios[0], ratios[1], ratios[3], ratios[4])


def test_measuring_gradients_leaves_the_network_as_it_was() -> None:
    network = create(SPEC, seed=2).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gradient_norms(network, SMALL_INPUT, IMAGES)
    assert not network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


# -- responses -------------------------------------------------------------------------------------------


def test_responses_are_deviations_behind_bn_before_relu_and_addition() -> None:
    model = a_model(SPEC)
    found = response_deviations(model, IMAGES, batch_size=5)
    network = model.network
    with torch.no_grad():
        x = network.bn1(network.conv1(SMALL_INPUT.normalize(IMAGES.pixels)))
        expected = [float(x.std(correction=0))]
        x = x.relu()
        for unit in units_of(network).values():
            inner = unit.bn1(unit.conv1(x))
            outer = unit.bn2(unit.conv2(inner.relu()))
            expected += [float(inner.std(correction=0)), float(outer.std(correction=0))]
            x = (outer + unit.downsample(x)).relu()
    assert found == pytest.approx(expected, rel=1e-4)


# -- warmup ----------------------------------------------------------------------------------------------


def test_early_loss_is_that_of_the_last_fifth_of_the_updates(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"event": "train", "step": step, "epoch": step / 21, "loss": loss, "top1": top1}
        for step, loss, top1 in [
            (8, 9.0, 0.0),
            (16, 8.0, 0.1),
            (18, 3.0, 0.2),
            (20, 2.0, 0.4),
            (21, 1.0, 1.0),
        ]
    ]
    rows.append({"event": "evaluation", "step": 21, "epoch": 1.0, "split": "test", "loss": 7.0, "top1": 0.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (arm, *_) = WARMUP.arms("smoke")
    source = open_source("digits")
    run = FinishedRun(tmp_path, arm, 10, a_model(SPEC), source, torch.device("cpu"))
    found = WARMUP.measure(run)
    # The updates 19 and 20, and 21: those of 17 and 18 begin before four fifths of 21.
    assert found.metrics["early_loss"] == pytest.approx((2 * 2.0 + 1.0) / 3)
    assert found.metrics["early_error"] == pytest.approx(1 - (2 * 0.4 + 1.0) / 3)
    assert found.series["update"] == [8, 16, 18, 20, 21]


# -- lesions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layer1.1", "layer2.0"])
@pytest.mark.parametrize("spec", [SPEC, PLAIN])
def test_without_a_unit_its_shortcut_remains(spec: ResNetSpec, name: str) -> None:
    model = a_model(spec)
    batch = SMALL_INPUT.normalize(IMAGES.pixels)
    with torch.no_grad():
        x = model.network.relu(model.network.bn1(model.network.conv1(batch)))
        for unit_name, unit in units_of(model.network).items():
            if unit_name != name:
                x = unit(x)
            elif name == "layer2.0":  # option A: every second pixel, and channels of noughts
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 4))
        expected = model.network.fc(x.mean(dim=(2, 3)))
    whole = logits_of(model)
    with without_units(model.network, [name]):
        found = logits_of(model)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, whole)
    assert torch.equal(logits_of(model), whole)
    assert not any(module._forward_hooks for module in model.network.modules())


def logits_of(model: TorchClassifier) -> torch.Tensor:
    return torch.from_numpy(model.logits(IMAGES.pixels.numpy()))


def test_swapped_units_run_in_the_other_order() -> None:
    model = a_model(SPEC)
    units = units_of(model.network)
    order = ["layer1.2", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer2.2"]
    with torch.no_grad():
        x = model.network.relu(model.network.bn1(model.network.conv1(SMALL_INPUT.normalize(IMAGES.pixels))))
        for name in order:
            x = units[name](x)
        expected = model.network.fc(x.mean(dim=(2, 3)))
    names = list(model.network.state_dict())
    with units_swapped(model.network, [("layer1.0", "layer1.1"), ("layer1.0", "layer1.2")]):
        torch.testing.assert_close(logits_of(model), expected)
    assert units_of(model.network) == units
    assert list(model.network.state_dict()) == names


def test_lesions_that_cannot_be_are_refused() -> None:
    with (
        pytest.raises(UnknownNameError, match=r"unknown unit 'layer3\.0'"),
        without_units(create(SPEC), ["layer3.0"]),
    ):
        pass
    with (
        pytest.raises(ConfigurationError, match="arrangement 'full-preactivation'; expected 'original'"),
        without_units(create(PREACTIVATED), ["layer1.0"]),
    ):
        pass
    network = create(SPEC)
    before = units_of(network)
    with (
        pytest.raises(ConfigurationError, match=r"layer1\.0 and layer2\.1 map different shapes"),
        units_swapped(network, [("layer1.0", "layer1.1"), ("layer1.0", "layer2.1")]),
    ):
        pass
    assert units_of(network) == before
    with pytest.raises(UnknownNameError, match="unknown unit"), units_swapped(network, [("layer1.0", "fc")]):
        pass
