"""The benchmark of training from end to end on sizes that take no time; times themselves are not tested."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import train
from benchmarks.plain_cifar import PlainCifarNet
from benchmarks.torchvision_detection import TorchvisionDetection, require_same_detections
from benchmarks.train import ROWS, benchmark_training
from deepresidual.benchmarks.measurement import Row
from deepresidual.benchmarks.train import DETECT_SLIM, Sizes
from deepresidual.benchmarks.training_sides import OurTraining, PlainTraining, Problem
from deepresidual.errors import RunError
from deepresidual.models import create
from deepresidual.zoo import entry
from tests.suites import short

SMALL = Sizes(
    imagenet_model="resnet18",
    imagenet_batch=4,
    imagenet_px=64,
    cifar_batch=4,
    epoch_batch=24,
    epoch_px=32,
    detector_batch=1,
    detector_px=64,
    compile_peers=False,
)
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings(
    # timm's and torch's own.
    "ignore:.*pin_memory.*",
    "ignore:Detected call of `lr_scheduler.step:UserWarning",
)


def test_names_of_rows_are_distinct() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {"detect", "detect-auto", "detect-slim"} < {row.name for row in ROWS}


# With our own network in place of the peers': nothing else of them is less.
SMALLEST = replace(SMALL, imagenet_model="resnet20", imagenet_px=32, epoch_model="resnet20")


def test_a_row_is_measured_against_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.setattr(train, "_network_of", lambda _package, model: create(model))
    (measured,) = benchmark_training(rows=["cpu-torchvision"], repetitions=2, sizes=SMALLEST).rows
    check(measured, "cpu-torchvision")


def test_a_detector_is_measured_against_torchvisions_of_the_same_spec() -> None:
    (measured,) = benchmark_training(rows=["detect-slim"], repetitions=1, sizes=SMALL).rows
    check(measured, "detect-slim")
    assert measured.details["ours"]["precision"] == measured.details["theirs"]["precision"] == "fp32"


def test_a_detector_that_finds_other_boxes_is_not_measured() -> None:
    problem = SMALL.detection(DETECT_SLIM)
    ours, theirs = OurTraining(problem), TorchvisionDetection(problem)
    require_same_detections(ours, theirs)
    ours.plan = replace(ours.plan, preprocess=replace(ours.plan.preprocess, mean=(0.1, 0.2, 0.3)))
    with pytest.raises(RunError, match="the sum of the scores in image 0"):
        require_same_detections(ours, theirs)


def check(measured: Row, name: str) -> None:
    assert measured.name == name
    assert measured.ratio is not None
    assert measured.ratio.lowest <= measured.ratio.median <= measured.ratio.highest
    assert measured.ours
    assert measured.theirs


@pytest.mark.test_all
@pytest.mark.parametrize(
    "row",
    [
        "cpu-torchvision",
        "memory",  # starts eight processes
        "cifar",  # compiles
    ],
)
def test_a_row_is_measured(row: str) -> None:
    pytest.importorskip("torchvision")
    (measured,) = benchmark_training(rows=[row], repetitions=1, sizes=SMALL).rows
    check(measured, row)


@pytest.mark.parametrize("sizes", short([SMALLEST, SMALL], SMALLEST), ids=lambda sizes: sizes.epoch_model)
def test_an_epoch_of_photos_is_measured(sizes: Sizes, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    if sizes is SMALLEST:
        spec = entry(sizes.epoch_model).spec
        monkeypatch.setattr(
            "timm.models.create_model",
            lambda _name, num_classes: create(replace(spec, num_classes=num_classes)),
        )
    (measured,) = benchmark_training(photos, rows=["epoch"], repetitions=1, sizes=sizes).rows
    assert measured.ratio is not None
    assert measured.details["images"] == 48


@pytest.mark.test_all  # a minute and more where bf16 is emulated; the other rows are in the fast form
def test_the_best_of_plain_torch_is_named_with_all_that_were_tried() -> None:
    pytest.importorskip("torchvision")
    (measured,) = benchmark_training(rows=["cpu-best"], repetitions=1, sizes=SMALL).rows
    trials = measured.details["seconds a step of one trial"]
    assert set(trials) == {
        f"eager, {layout}, {p}" for layout in ("NCHW", "channels-last") for p in ("fp32", "bf16")
    }
    assert measured.details["theirs"]["compiled"] is False


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        train, "find_spec", lambda name: None if name in ("timm", "torchvision") else found(name)
    )
    names = ["cpu-torchvision", "memory", "epoch"]
    result = benchmark_training(photos, rows=names, repetitions=1, sizes=SMALL)
    assert [row.reason for row in result.rows] == [
        "unmeasured: torchvision is not installed",
        "unmeasured: torchvision is not installed",
        "unmeasured: timm is not installed",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_rows_are_unmeasured() -> None:
    result = benchmark_training(rows=["gpu", "gpu-cifar"], repetitions=1, sizes=SMALL)
    assert [row.reason for row in result.rows] == ["unmeasured: no GPU here"] * 2


def test_without_a_folder_there_is_no_epoch() -> None:
    (row,) = benchmark_training(rows=["epoch"], repetitions=1, sizes=SMALL).rows
    assert row.reason == "unmeasured: no folder of photos was named (residual benchmark train DATA)"


def test_other_weights_are_noticed() -> None:
    ours = OurTraining(Problem("resnet20", 4, 32, 1, CPU))
    theirs = PlainTraining(PlainCifarNet(20), Problem("resnet20", 4, 32, 1, CPU))
    with pytest.raises(RunError, match="the loss of the first step is"):
        train._require_same_losses(ours, theirs)


def test_the_plain_network_is_ours() -> None:
    network, plain = create("resnet20", seed=0), PlainCifarNet(20)
    plain.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(plain.eval()(images), network.eval()(images), atol=1e-5)


def test_both_sides_stay_together_over_some_updates() -> None:
    problem = Problem("resnet20", 8, 32, 1, CPU)
    ours = OurTraining(problem)
    theirs = PlainTraining(PlainCifarNet(20), problem)
    theirs.network.load_state_dict(ours.network.state_dict())
    losses = [(ours.loss(), theirs.loss()) for _ in range(4)]
    tolerance = 1e-3 if ours.plan.precision == "fp32" else 0.1
    assert [here for here, _ in losses] == pytest.approx([there for _, there in losses], rel=tolerance)
