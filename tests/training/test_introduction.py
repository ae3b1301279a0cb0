"""What a run says of itself before its first step: in a terminal of 80 columns, without jargon."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from deepresidual import zoo
from deepresidual.data.source import open_source
from deepresidual.models import load
from deepresidual.recipe.recipes import named_recipe
from deepresidual.runs.read import read_plan
from deepresidual.training.beginning import Beginning
from deepresidual.training.introduction import introduce, particulars
from deepresidual.training.options import TrainOptions
from deepresidual.training.plan import settle_learning
from tests.detectors import write_shapes
from tests.training.parts import a_plan, a_run

pytestmark = pytest.mark.usefixtures("no_report")

Capture = pytest.CaptureFixture[str]


def test_a_run_introduces_itself(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    a_run(photos, tmp_path / "run", {"steps": 1, "ema_decay": 0.5, "mixup": 0.2, "flip": False}, seed=4)
    said = capsys.readouterr().err
    for line in (
        r"images +48 of photos to learn from, 3 classes: blue 16, green 16, red 16",
        r" +15 test: held out",
        r"network +custom at 8 px, [\d.]+ million parameters",
        r"time +0\.2 epochs, 1 updates of 10; Ctrl-C saves, --resume goes on",
        f"run +{re.escape(str(tmp_path / 'run'))}",
    ):
        assert re.search(f"^{line}$", said, re.MULTILINE), line
    for jargon in ("sgd", "multiply-adds", "fp32", "learning rate", "fingerprint"):
        assert jargon not in said
    settings = "\n".join(particulars(read_plan(tmp_path / "run")[0]))
    fingerprint = load(tmp_path / "run").provenance["recipe_fingerprint"]
    assert f"cifar ({fingerprint}): 1 steps of 10, sgd, learning rate 0.05 (cosine)" in settings
    for field in ("ema_decay 0.5", "mixup 0.2", "steps 1", "learning_rate 0.05"):
        assert field in settings
    assert re.search(
        r"^model +custom: [\d,]+ parameters, \d+ million multiply-adds at 8 px$", settings, re.MULTILINE
    )
    assert "computing   fp32, not compiled, seed 4" in settings
    assert "crop        pad, not mirrored" in settings


def introduced(photos: Path, capsys: Capture, **fields: Any) -> str:
    introduce(a_plan(**fields), open_source(photos), Beginning())
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"steps": 1, "batch_size": 64}, "a batch of 64 is more than all 48 training images"),
        ({"steps": 10_000, "batch_size": 12}, "goes 2,500 times over 48 images: it is meant for many more"),
        ({"steps": 1, "batch_norm": "frozen"}, "batch_norm frozen holds still what was never trained"),
        ({"steps": 1}, ""),
    ],
)
def test_what_is_most_likely_not_meant_is_said(
    photos: Path, capsys: Capture, fields: dict[str, Any], said: str
) -> None:
    told = introduced(photos, capsys, **fields)
    assert said in told
    assert ("warning" in told) is bool(said)


def test_minutes_are_said_in_place_of_updates(photos: Path, capsys: Capture) -> None:
    introduce(a_plan(), open_source(photos), Beginning(), minutes=10)
    said = capsys.readouterr().err
    assert re.search(r"^time +at most 10 min of training on \d+ core", said, re.MULTILINE)


def test_what_a_recipe_leaves_out_on_a_network_is_said(photos: Path, capsys: Capture) -> None:
    source = open_source(photos)
    recipe = named_recipe("rsb_a2", zoo.entry("plain20").spec)
    introduce(dataclasses.replace(a_plan(zoo.entry("plain20").spec), recipe=recipe), source, Beginning())
    said = capsys.readouterr().err
    assert "without zero_init_last_bn on this network: shortcut is 'none': a plain net would" in said
    assert "without stochastic_depth on this network: a plain net would drop everything" in said
    residual_spec = zoo.entry("resnet18").spec
    recipe = named_recipe("rsb_a2", residual_spec)
    introduce(dataclasses.replace(a_plan(residual_spec), recipe=recipe), source, Beginning())
    assert "without" not in capsys.readouterr().err


@pytest.mark.parametrize(("height", "is_told"), [(100, True), (24, False)])
def test_a_detector_of_small_images_on_photos_is_doubted(
    tmp_path: Path, capsys: Capture, height: int, is_told: bool
) -> None:
    source = open_source(write_shapes(tmp_path / "boxes", 6, 3, height=height))
    introduce(settle_learning(source, "resnet20", TrainOptions()), source, Beginning())
    doubt = "resnet20-c4 is for images of up to 64 px and these are larger: it sees them at 64 px; leave"
    assert (doubt in " ".join(capsys.readouterr().err.split())) is is_told
