"""Where the last BN of every F may start at zero: the refusal, held against what a few steps of SGD do."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepresidual import zoo
from deepresidual.errors import ConfigurationError
from deepresidual.models import create
from deepresidual.spec import Arrangement, ResNetSpec, Shortcut, Unit

SPEC = ResNetSpec(unit="basic", depths=(1, 2), widths=(4, 8), stem="cifar", num_classes=4)
ENDS_WITH_BN: tuple[Arrangement, ...] = ("original", "relu-before-addition", "relu-only-preactivation")


def after_ten_steps(spec: ResNetSpec) -> tuple[float, float]:
    """Train with the last BNs at zero, asked for or not.

    Returns:
        The largest share of a last BN's scales that are still exactly zero, and the smallest of the units'
        largest gradients of their first convolution.
    """
    network = create(dataclasses.replace(spec, zero_init_last_bn=False), seed=0).train()
    last = "bn3" if spec.unit == "bottleneck" else "bn2"
    units = [network.get_submodule(unit.name) for unit in spec.units()]
    scales = [unit.get_submodule(last).get_parameter("weight") for unit in units]
    firsts = [unit.get_submodule("conv1").get_parameter("weight") for unit in units]
    for scale in scales:
        nn.init.zeros_(scale)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 8, 8, generator=generator)
    labels = torch.randint(0, 4, (16,), generator=generator)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    largest = [0.0] * len(firsts)
    for _ in range(10):
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        largest = [
            max(before, float(weight.grad.abs().max()) if isinstance(weight.grad, Tensor) else 0.0)
            for before, weight in zip(largest, firsts, strict=True)
        ]
        optimizer.step()
    return max(float((scale == 0).float().mean()) for scale in scales), min(largest)


@pytest.mark.parametrize("unit", get_args(Unit))
@pytest.mark.parametrize("shortcut", get_args(Shortcut))
@pytest.mark.parametrize("arrangement", ENDS_WITH_BN)
def test_zero_init_is_refused_exactly_where_it_kills(
    arrangement: Arrangement, shortcut: Shortcut, unit: Unit
) -> None:
    gate_bias = -6.0 if shortcut.endswith("gating") else 0.0
    spec = dataclasses.replace(
        SPEC, arrangement=arrangement, shortcut=shortcut, unit=unit, gate_bias=gate_bias
    )
    torch.manual_seed(0)  # of the shortcuts' dropout
    still_zero, gradient = after_ten_steps(spec)
    if spec.why_no_zero_init:
        assert still_zero >= 0.5
    else:
        assert gradient > 0
        assert still_zero < 0.2  # one of eight channels may be negative for all sixteen images


@pytest.mark.parametrize("shortcut", get_args(Shortcut))
@pytest.mark.parametrize("arrangement", ["bn-after-addition", "full-preactivation"])
def test_zero_init_is_refused_where_no_bn_ends_the_residual_function(
    arrangement: Arrangement, shortcut: Shortcut
) -> None:
    spec = dataclasses.replace(SPEC, arrangement=arrangement, shortcut=shortcut)
    assert "F does not end with BN" in spec.why_no_zero_init


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plain56", "shortcut is 'none': a plain net would put out zero and never learn; expected false"),
        ("plain18", "shortcut is 'none'"),
        (
            "resnet110.relubefore",
            "'relu-before-addition', whose ReLU after the BN passes no gradient at zero",
        ),
        ("resnet20", "shortcut 'A' pads with channels of zeros, which would stay zero for ever"),
        ("resnet20.akamaster", "shortcut 'A-both-sides' pads with channels of zeros"),
        ("resnet110.dropout", "shortcut 'dropout' pads with channels of zeros"),
        ("resnet110.exclusive-gating", "shortcut 'exclusive-gating' pads with channels of zeros"),
        ("resnet18.preact", "'full-preactivation', where F does not end with BN"),
    ],
)
def test_zero_init_is_refused_in_named_networks_that_it_kills(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"zero_init_last_bn is true and .*{message}"):
        dataclasses.replace(zoo.entry(name).spec, zero_init_last_bn=True)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet34.c", "resnet164", "resnet50.tf"])
def test_zero_init_is_taken_where_projections_widen(name: str) -> None:
    assert dataclasses.replace(zoo.entry(name).spec, zero_init_last_bn=True).zero_init_last_bn


def test_a_shortcut_scaled_by_zero_is_no_shortcut() -> None:
    spec = dataclasses.replace(SPEC, widths=(4, 4), shortcut="scaled", shortcut_scale=0.0)
    assert "shortcut_scale is 0" in spec.why_no_zero_init
    assert after_ten_steps(spec) == (1.0, 0.0)


def test_option_a_that_pads_nothing_may_start_at_zero() -> None:
    spec = dataclasses.replace(SPEC, widths=(4, 4), shortcut="A")
    assert spec.why_no_zero_init == ""
    assert after_ten_steps(spec)[0] == 0


@pytest.mark.parametrize("name", ["plain20", "resnet20", "resnet18"])
def test_a_stored_spec_from_before_the_refusal_is_still_read(name: str) -> None:
    spec = zoo.entry(name).spec
    read = ResNetSpec.from_dict({**spec.to_dict(), "zero_init_last_bn": True})
    assert read.architecture == spec
    assert read.zero_init_last_bn == (name == "resnet18")
