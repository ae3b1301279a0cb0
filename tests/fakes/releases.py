"""Rows for the table of released weights, of networks so small that a test can fetch them."""

from __future__ import annotations

import dataclasses
import io

import pytest
import torch

from deepresidual.models import create
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec
from deepresidual.zoo import released as table
from deepresidual.zoo.released import ReleasedWeights, released

TINY = dataclasses.replace(
    released("resnet18"),
    name="tiny.tv_in1k",
    aliases=("tiny.V1",),
    network="tiny",  # none of the zoo, so any will do
    hub_id="someone/tiny",
    url="",
    num_classes=3,
    num_parameters=20_000,
    preprocess=Preprocess(crop_px=32, resize_px=36, mean=(0.5,) * 3, std=(0.25,) * 3),
)


def add_rows(monkeypatch: pytest.MonkeyPatch, *rows: ReleasedWeights) -> None:
    """Let the table of released weights have these rows as well, in the place of those of their names."""
    names = {row.name for row in rows}
    all_rows = (*(row for row in table._rows() if row.name not in names), *rows)
    by_name = {name: row for row in all_rows for name in (row.name, *row.aliases)}
    monkeypatch.setattr(table, "_rows", lambda: all_rows)
    monkeypatch.setattr(table, "_by_name", lambda: by_name)


def small_checkpoint() -> bytes:
    """Return a torch file of four small stages and 3 classes, under torchvision's names."""
    spec = ResNetSpec(unit="basic", depths=(1, 1, 1, 1), widths=(4, 8, 16, 32), num_classes=3)
    buffer = io.BytesIO()
    torch.save(create(spec).state_dict(), buffer)
    return buffer.getvalue()
