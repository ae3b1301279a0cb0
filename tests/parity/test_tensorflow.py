"""The article's graph, run by TensorFlow, against ours: the same logits from its checkpoint."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from deepresidual import zoo
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.readers import read
from deepresidual.conversion.readers.tensorflow_checkpoint import reason_left_out
from deepresidual.conversion.tensorflow import TensorFlow
from deepresidual.conversion.translation import read_tensors, write_tensors
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError
from deepresidual.models import load
from deepresidual.models.convert import convert
from deepresidual.models.network import create
from tests.parity.agreement import converted

if TYPE_CHECKING:
    from torch import Tensor

    from deepresidual.spec import ResNetSpec
    from tests.parity.conftest import Parity

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="tensorflow is not installed; not every Python has it",
)

PROGRAM = Path(__file__).parent / "article_tensorflow.py"
NUM_CLASSES = 5
SIDES = (224, 200)  # at both the last map is 7 px; SAME puts its odd pixels at different maps
SCOPE = "tower/resnet50"
SPEC = dataclasses.replace(zoo.entry("resnet50.tf").spec, num_classes=NUM_CLASSES)


def run_article(mode: str, folder: Path, *arguments: object) -> None:
    command = [sys.executable, str(PROGRAM), mode, str(folder), str(NUM_CLASSES), *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.fixture(scope="module")
def article(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("article")
    run_article("draw", folder, SCOPE, *SIDES)
    return folder


@pytest.mark.test_all
@needs_tensorflow
@pytest.mark.parametrize("side", SIDES)
def test_checkpoint_gives_the_logits_of_the_article(article: Path, side: int, parity: Parity) -> None:
    checkpoint = read(article / "model.ckpt")
    network, recognition = converted(TensorFlow(), checkpoint)
    assert recognition.spec == SPEC
    assert f"{SCOPE}/block2/bottlencek1/conv_1/kernel" in recognition.evidence
    images, theirs = (
        torch.from_numpy(np.load(article / f"{what}{side}.npy")) for what in ("images", "logits")
    )
    assert theirs.shape == (2, NUM_CLASSES)
    assert 0.2 < theirs.abs().max() < 50
    assert (theirs[0] - theirs[1]).abs().max() > 0.05, "both images give the same"
    with torch.inference_mode():
        ours = network(images.permute(0, 3, 1, 2))
    parity("resnet50.tf", "tensorflow", "in", (ours - theirs).abs().max().item(), 1e-4)


def check_trained(folder: Path, side: int, dropped: dict[str, int], parity: Parity) -> None:
    """Convert what a training graph saved; hold logits and what is dropped against the graph."""
    # The folder, whose file ``checkpoint`` names the newest, as a user of TensorFlow has it.
    done = convert(folder, folder / "model")
    assert done.dropped == dropped
    model = load(folder / "model")
    images, theirs = (
        torch.from_numpy(np.load(folder / f"{what}{side}.npy")) for what in ("images", "logits")
    )
    assert 0.2 < theirs.abs().max() < 50
    with torch.inference_mode():
        ours = model.network(images.permute(0, 3, 1, 2))
    parity("resnet50.tf", "tensorflow", "in", (ours - theirs).abs().max().item(), 1e-4)
    averaged = [line for line in done.assumed if "as the last step left them" in line]
    assert bool(averaged) is any("exponential" in reason for reason in dropped)


BIASED = "moving averages before their correction, kept beside the corrected ones that are read"
COUNTS = "count the updates of moving averages; not used at inference"
OPTIMIZER = "the optimizer's; not used at inference"
AVERAGES = "exponential moving averages, kept beside the variables that are read"
# 17 convolutions with a BN each and the classifier: 53 trained variables and 34 moving averages.
DROPPED = {OPTIMIZER: 53 + 1, AVERAGES: 53, BIASED: 34, COUNTS: 34}


def test_stored_variables_of_the_article_give_its_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The article's training graph of two channels, as TensorFlow left it once: see article_tensorflow.py."""
    with np.load(PROGRAM.parent / "written" / "article.npz") as file:
        variables = dict(file.items())
    theirs = torch.from_numpy(variables.pop("logits"))
    spec = dataclasses.replace(SPEC, depths=(1, 1, 1, 1), widths=(2, 4, 8, 16))
    row = dataclasses.replace(zoo.entry("resnet50.tf"), spec=spec)
    monkeypatch.setattr("deepresidual.conversion.tensorflow.entry", lambda _: row)
    left_out = {name: reason for name in variables if (reason := reason_left_out(name))}
    assert Counter(left_out.values()) == DROPPED
    tensors = {name: torch.from_numpy(variables[name]) for name in variables.keys() - left_out.keys()}
    network, recognition = converted(TensorFlow(), checkpoint_of(tensors))
    assert recognition.spec == spec
    assert f"{SCOPE}/block2/bottlencek1/conv_1/kernel" in recognition.evidence
    images = torch.arange(2 * 193 * 193 * 3, dtype=torch.float64).pow(1.5).sin().reshape(2, 193, 193, 3)
    with torch.inference_mode():
        ours = network(images.float().permute(0, 3, 1, 2))
    assert (theirs[0] - theirs[1]).abs().max() > 0.05, "both images give the same"
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@needs_tensorflow
@pytest.mark.test_all
def test_a_trained_checkpoint_of_a_short_form_of_the_article_gives_its_logits(
    tmp_path: Path, parity: Parity
) -> None:
    run_article("train", tmp_path, "resnet50", 193, "averaged", "1,1,1,1", 2)
    check_trained(tmp_path, 193, DROPPED, parity)


@needs_tensorflow
@pytest.mark.test_all
@pytest.mark.parametrize(
    ("optimizer", "dropped"),
    [
        # 53 convolutions with a BN each and the classifier: 161 trained variables and 106 moving averages;
        # beside Momentum's slots global_step, beside Adam's two a variable beta1_power and beta2_power, too.
        ("momentum", {OPTIMIZER: 161 + 1, BIASED: 106, COUNTS: 106}),
        ("adam", {OPTIMIZER: 2 * 161 + 3, BIASED: 106, COUNTS: 106}),
    ],
)
def test_a_trained_checkpoint_of_the_article_gives_its_logits(
    tmp_path: Path, parity: Parity, optimizer: str, dropped: dict[str, int]
) -> None:
    run_article("train", tmp_path, "resnet50", 224, optimizer, "3,4,6,3", 3)
    check_trained(tmp_path, 224, dropped, parity)


def article_variables(spec: ResNetSpec, scope: str = "resnet50/") -> dict[str, Tensor]:
    state = create(spec).state_dict()
    tensors = write_tensors(TensorFlow().translation(spec), state)
    return {name.replace("resnet50/", scope, 1): tensor for name, tensor in tensors.items()}


def checkpoint_of(tensors: dict[str, Tensor]) -> ForeignCheckpoint:
    return ForeignCheckpoint(Path("model.ckpt"), "tensorflow", tensors, "0" * 64)


def test_names_are_those_of_the_listing() -> None:
    names = set(article_variables(SPEC))
    assert {
        "resnet50/conv1/kernel",
        "resnet50/bn1/moving_variance",
        "resnet50/block2/bottlencek1/conv_4/kernel",
        "resnet50/block2/bottlencek1/bn_4/gamma",
        "resnet50/block5/bottlencek3/bn_3/beta",
        "resnet50/fc6/weight",
    } <= names
    # 53 convolutions with a BN each, and the classifier
    assert len(names) == 53 * 5 + 2


@pytest.mark.parametrize("scope", ["", "net/", "a/b/"])
def test_scope_depths_and_spellings_may_differ(scope: str) -> None:
    spec = dataclasses.replace(SPEC, depths=(1, 2, 1, 1), num_classes=3, in_channels=1)
    state = create(spec, seed=4).state_dict()
    tensors = {
        name.replace("resnet50/", scope, 1)
        .replace("bottlencek", "bottleneck")
        .replace("fc6/weight", "fc6/weights")
        .replace("fc6/bias", "fc6/biases"): tensor
        for name, tensor in write_tensors(TensorFlow().translation(spec), state).items()
    }
    kernel = f"{scope}block2/bottleneck1/conv_1/kernel"
    extra = {
        f"{kernel}/ExponentialMovingAverage": "moving average",
        f"{scope}{scope}bn1/moving_mean/biased_1": "before their correction",
        f"{scope}{scope}bn1/moving_mean/local_step": "count the updates",
        f"{kernel}/Momentum": "optimizer",
        "global_step": "optimizer",
    }
    extra["best_accuracy"] = "single numbers"
    checkpoint = checkpoint_of(tensors | {name: torch.zeros(()) for name in extra})
    recognition = TensorFlow().recognize(checkpoint)
    assert recognition is not None
    assert recognition.spec == spec
    assert recognition.preprocess.channels == "gray"
    translation = TensorFlow().translation(spec, checkpoint)
    assert set(translation.dropped) == set(extra)
    assert all(why in translation.dropped[name] for name, why in extra.items())
    back = read_tensors(translation, checkpoint.tensors, state, "x")
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_unknown_variables_are_refused() -> None:
    checkpoint = checkpoint_of(article_variables(SPEC) | {"resnet50/other/kernel": torch.zeros(2)})
    translation = TensorFlow().translation(SPEC, checkpoint)
    assert not translation.dropped
    with pytest.raises(ModelFileError, match=r"\+ resnet50/other/kernel \(2,\)"):
        read_tensors(translation, checkpoint.tensors, create(SPEC).state_dict(), "x")


def test_other_checkpoints_are_not_recognized() -> None:
    assert TensorFlow().recognize(checkpoint_of({"conv1/kernel": torch.zeros(1)})) is None
    checkpoint = dataclasses.replace(checkpoint_of(article_variables(SPEC)), format="torch")
    assert TensorFlow().recognize(checkpoint) is None


@pytest.mark.parametrize(
    ("removed", "match"),
    [
        ("resnet50/conv1/", r"resnet50/conv1/kernel is missing; expected 4 axes"),
        ("resnet50/fc6/", r"resnet50/fc6/weight is missing; expected 2 axes"),
        ("resnet50/block3/", r"have \[3, 0, 6, 3\] units; expected block2 to block5"),
        ("resnet50/block5/", r"have \[3, 4, 6\] units; expected block2 to block5"),
    ],
)
def test_incomplete_checkpoints_are_refused(removed: str, match: str) -> None:
    tensors = {name: value for name, value in article_variables(SPEC).items() if not name.startswith(removed)}
    with pytest.raises(ModelFileError, match=match):
        TensorFlow().recognize(checkpoint_of(tensors))


def test_there_is_no_reference_and_nothing_else_has_these_names() -> None:
    with pytest.raises(MissingDependencyError, match="tensorflow has no implementation in Python to compare"):
        TensorFlow().reference(checkpoint_of({}), SPEC)
    with pytest.raises(ConfigurationError, match=r"no such network: stride_on is '3x3' and there '1x1'"):
        TensorFlow().translation(zoo.entry("resnet50").spec)
