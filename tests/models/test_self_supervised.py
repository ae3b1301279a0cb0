"""Backbones of self-supervised methods, in files laid out as their authors released them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from deepresidual.models import create, load
from deepresidual.models.convert import convert
from deepresidual.models.fetching import SourceFiles
from deepresidual.models.foreign import read_foreign
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.released import released
from tests.conversion.in_process import read_in_this_process

SPEC = ResNetSpec(unit="bottleneck", depths=(1, 1, 1, 1), widths=(4, 8, 16, 32), num_classes=0)
State = dict[str, torch.Tensor]


def state(seed: int = 1) -> State:
    return dict(create(SPEC, seed=seed).state_dict())


def under(prefix: str, tensors: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def linear(name: str, rows: int, columns: int, *, bias: bool = True) -> State:
    return {
        f"{name}.weight": torch.ones(rows, columns),
        **({f"{name}.bias": torch.ones(rows)} if bias else {}),
    }


def norm(name: str, size: int) -> State:
    ones = {part: torch.ones(size) for part in ("weight", "bias", "running_mean", "running_var")}
    return {
        f"{name}.{part}": tensor for part, tensor in {**ones, "num_batches_tracked": torch.tensor(1)}.items()
    }


NUM = SPEC.num_features
# MoCo v2: a projector of two layers in the place of the classifier; v3: of three with BN.
TWO_LAYERS = {**linear("fc.0", NUM, NUM), **linear("fc.2", 16, NUM)}
THREE_LAYERS = {
    **linear("fc.0", 32, NUM, bias=False),
    **norm("fc.1", 32),
    **linear("fc.3", 16, 32, bias=False),
    **norm("fc.4", 16),
}
PREDICTOR = {**linear("0", 32, 16, bias=False), **norm("1", 32), **linear("3", 16, 32, bias=False)}
PROJECTION = {
    **linear("projection_head.0", 32, NUM),
    **norm("projection_head.1", 32),
    **linear("projection_head.3", 16, 32),
}


def moco_v2() -> dict[str, Any]:
    return {
        "epoch": 800,
        "arch": "resnet50",
        "state_dict": {
            **under("module.encoder_q.", {**state(), **TWO_LAYERS}),
            **under("module.encoder_k.", {**state(2), **TWO_LAYERS}),
            "module.queue": torch.ones(16, 64),
            "module.queue_ptr": torch.tensor([0]),
        },
        "optimizer": {"state": {}, "param_groups": []},
    }


def moco_v3() -> dict[str, Any]:
    return {
        "epoch": 1000,
        "arch": "resnet50",
        "state_dict": {
            **under("module.base_encoder.", {**state(), **THREE_LAYERS}),
            **under("module.momentum_encoder.", {**state(2), **THREE_LAYERS}),
            **under("module.predictor.", PREDICTOR),
        },
    }


LAYOUTS: dict[str, tuple[Any, dict[str, int]]] = {
    # Name of released weights: the file, and how many tensors are dropped of which module.
    "dino.resnet50": (state(), {}),
    "vicreg.resnet50": (state(), {}),
    "barlowtwins.resnet50": (state(), {}),
    "mocov2.resnet50.800ep": (
        moco_v2(),
        {"module.encoder_q.fc": 4, "module.encoder_k.": len(state()) + 4, "counter": 1, "outside": 1},
    ),
    "mocov3.resnet50.1000ep": (
        moco_v3(),
        {"module.base_encoder.fc": 12, "module.momentum_encoder.": len(state()) + 12, "module.predictor": 7},
    ),
    "swav.resnet50.800ep": (
        under("module.", {**state(), **PROJECTION, **linear("prototypes", 300, 16, bias=False)}),
        {"module.projection_head": 10},
    ),
    "deepclusterv2.resnet50.800ep": (
        under(
            "module.",
            {
                **state(),
                **PROJECTION,
                **linear("prototypes.prototypes0", 300, 16, bias=False),
                **linear("prototypes.prototypes1", 300, 16, bias=False),
            },
        ),
        {"module.projection_head": 11},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_backbone_is_read_and_what_is_dropped_is_counted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in_this_process(monkeypatch)
    document, dropped = LAYOUTS[name]
    file = tmp_path / "weights.pth"
    torch.save(document, file)
    done = convert(file, tmp_path / "model")
    assert done.num_classes == 0
    read = load(tmp_path / "model").network.state_dict()
    expected = state()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[key], expected[key]) for key in expected)
    assert len(done.dropped) == len(dropped)
    for module, count in dropped.items():
        assert [n for why, n in done.dropped.items() if module in why] == [count], done.dropped
    # As these released weights, it says no assumptions about what is known.
    release = dataclasses.replace(released(name), network="tiny")
    model = read_foreign(SourceFiles(file, "sha256-0", file.name), release=release).model
    assert model.provenance["licence"] == release.licence
    assert model.preprocess == release.preprocess
    assert "assumed" not in model.provenance or "every stage strides" in model.provenance["assumed"]
    assert ("dropped" in model.provenance) == bool(dropped)


def test_every_released_backbone_has_its_layout_here() -> None:
    from deepresidual.zoo.released import list_released

    without = [name for name in list_released() if not released(name).num_classes]
    assert set(without) - set(LAYOUTS) == {"resnet50.bamboo"}  # a folder of timm's
