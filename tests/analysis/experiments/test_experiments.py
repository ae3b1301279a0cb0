"""Every experiment runs to its end at smoke scale, draws, and judges; at paper scale it is the paper's."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepresidual.analysis.experiments import EXPERIMENTS, Experiment, experiment, lesions, record, reproduce
from deepresidual.analysis.experiments.complexity import WINNERS
from deepresidual.recipe.recipes import named_recipe
from deepresidual.training.options import TrainOptions
from deepresidual.zoo import name_of
from tests.suites import short

pytestmark = pytest.mark.usefixtures("no_report")

OPTIONS = TrainOptions(device="cpu", num_workers=0, precision="fp32")
ON_CIFAR = [one for one in EXPERIMENTS if one.name not in ("complexity", "imagenet")]


def drawn(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L"))


def check_outputs(out: Path, document: dict[str, Any]) -> None:
    """Hold what was written against what was measured."""
    assert json.loads((out / "results.json").read_text("utf-8")) == json.loads(json.dumps(document))
    assert document["status"] == "finished"
    assert document["figures"]
    for name in document["figures"]:
        gray = drawn(out / f"{name}.png")
        # Something is drawn, over most of the picture, and told apart without colour.
        inked = gray < 200
        rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
        assert np.ptp(rows) > 0.7 * gray.shape[0], name
        assert np.ptp(columns) > 0.7 * gray.shape[1], name
        svg = (out / f"{name}.svg").read_text("utf-8")
        assert svg.lstrip().startswith("<?xml")
        assert re.search(r"\(%\)|10⁹|norm|deviation", svg), name
    table = (out / "table.md").read_text("utf-8")
    for verdict in document["verdicts"]:
        assert verdict["claim"] in table
        assert verdict["verdict"] in ("PASS", "FAIL", "open")
        assert verdict["source"]
        assert verdict["tolerance"]


def test_bottlenecks_at_paper_scale_are_the_zoos_with_the_stride_on_the_first_1x1() -> None:
    arms = [arm for one in ON_CIFAR for arm in one.arms("paper") if arm.network.unit == "bottleneck"]
    assert arms
    for arm in arms:
        assert arm.network.stride_on == "1x1"
        assert name_of(arm.network), arm.name


@pytest.mark.parametrize("one", short(ON_CIFAR, experiment("lesions")), ids=lambda one: one.name)
def test_smoke_runs_to_its_end(one: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesions, "_DRAWS", 1)
    result = reproduce(one, scale="smoke", out=tmp_path / "out", options=OPTIONS)
    assert result.exit_code == 0
    check_outputs(tmp_path / "out", result.document)
    arms = {arm.name: arm for arm in one.arms("smoke")}
    assert [arm["name"] for arm in result.document["arms"]] == list(arms)
    for arm in result.document["arms"]:
        assert len(arm["runs"]) == arms[arm["name"]].num_seeds
        for column in one.columns:
            assert column.name in arm["summary"], column
    # What is judged is there: nothing is open but for want of a second seed.
    for verdict in result.document["verdicts"]:
        assert "not measured" not in verdict["measured"], verdict


@pytest.mark.test_all  # draws
def test_complexity_draws_what_it_counts(tmp_path: Path) -> None:
    result = reproduce(experiment("complexity"), scale="paper", out=tmp_path / "out", options=OPTIONS)
    check_outputs(tmp_path / "out", result.document)


def test_complexity_needs_no_training_and_finds_the_paper_s_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "save_figure", lambda figure, _path: figure.axes[0].get_title())
    result = reproduce(experiment("complexity"), scale="paper", out=tmp_path / "out", options=OPTIONS)
    assert result.document["data"] is None
    assert {row["verdict"] for row in result.document["verdicts"]} == {"PASS"}
    assert len(result.document["verdicts"]) == 14
    assert set(result.document["figures"]) == {"errors-over-cost", "stages", "winners"}
    table = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "| conv5_x | 7 × 7 | 3×3, 512, 3×3, 512 (× 2) |" in table
    assert "| multiply-adds (10⁹) | | 1.795 | 3.644 | 3.858 | 7.570 | 11.282 |" in table
    assert [winner.top5_error for winner in WINNERS][-1] == 3.57


def write_imagenet(root: Path) -> Path:
    """Write photos of several shapes as ImageNet lies on a disk: train/ and val/ by WordNet id."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 5)):
        for number, wordnet in enumerate(("n01440764", "n01443537", "n02102040")):
            folder = root / split / wordnet
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = 60 + 10 * (index % 3), 90 - 10 * (index % 2)
                color = np.array([[40, 200, 90], [180, 30, 60], [90, 90, 200]][number])
                pixels = (
                    (color + generator.integers(-40, 40, (height, width, 3))).clip(0, 255).astype(np.uint8)
                )
                stem = (
                    f"{wordnet}_{index}" if split == "train" else f"ILSVRC2012_val_{number * 5 + index:08d}"
                )
                Image.fromarray(pixels).save(folder / f"{stem}.JPEG")
    return root


@pytest.mark.test_all
def test_imagenet_runs_on_a_miniature_of_its_folders(tmp_path: Path) -> None:
    data = write_imagenet(tmp_path / "imagenet")
    out = tmp_path / "out"
    result = reproduce(experiment("imagenet"), data, scale="smoke", out=out, options=OPTIONS)
    check_outputs(out, result.document)
    assert result.document["data"]["num_samples"] == {"train": 36, "val": 15}
    assert not result.document["comparable"]
    for arm in result.document["arms"]:
        figures = arm["runs"][0]["figures"]
        assert {"test_error", "ten_crop_error", "ten_crop_top5_error", "multi_scale_error"} < set(figures)
        assert figures["ten_crop_top5_error"] == 0  # three classes
    record = json.loads((out / "arms" / "resnet-34" / "seed-0" / "run.json").read_text("utf-8"))
    plan = record["plan"]
    assert plan["recipe"]["augment"]["crop"] == "scale-jitter"
    assert plan["preprocess"]["mean_image"]["side_px"] == 32
    assert plan["spec"]["depths"] == [3, 4, 6, 3]


@pytest.mark.parametrize(
    ("name", "recipe", "networks"),
    [
        (
            "degradation",
            "cifar2015",
            [f"{kind}{layers}" for layers in (20, 32, 44, 56, 110) for kind in ("plain", "resnet")],
        ),
        ("depth", "cifar2015", ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202"]),
        (
            "shortcuts",
            "cifar2016",
            [
                "resnet110",
                None,
                "resnet110.c",
                "resnet110.scaled",
                "resnet110.exclusive-gating",
                "resnet110.shortcut-only-gating",
                None,
                "resnet110.dropout",
                "plain110",
            ],
        ),
        (
            "arrangements",
            "cifar2016",
            [
                f"resnet{layers}{kind}"
                for layers in (110, 164)
                for kind in ("", ".bnadd", ".relubefore", ".reluonly", ".preact")
            ],
        ),
        (
            "preactivation",
            "cifar2016",
            [f"resnet{layers}{kind}" for layers in (110, 164, 1001) for kind in ("", ".preact")],
        ),
        (
            "imagenet",
            "imagenet2015",
            [
                "plain18",
                "resnet18.a",
                "plain34",
                "resnet34.a",
                "resnet34",
                "resnet34.c",
                "resnet50.v1",
                "resnet101.v1",
                "resnet152.v1",
            ],
        ),
    ],
)
def test_at_paper_scale_networks_and_recipes_are_the_paper_s(
    name: str, recipe: str, networks: list[str | None]
) -> None:
    arms = experiment(name).arms("paper")
    assert [name_of(arm.network) for arm in arms] == networks
    for arm in arms:
        assert arm.recipe == named_recipe(recipe, arm.network)
        assert arm.image_px in (None, 224)
    use = experiment(name).data["paper"]
    assert (use.num_train, use.num_test, use.default) == (None, None, "")


@pytest.mark.parametrize("one", EXPERIMENTS, ids=lambda one: one.name)
@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_arms_differ_in_the_network_alone(one: Experiment, scale: Any) -> None:
    arms = one.arms(scale)
    assert len({arm.name for arm in arms}) == len({arm.label for arm in arms}) == len(arms)
    if scale != "paper":  # whose recipes hang on depth, as the paper's do
        assert len({(arm.recipe, arm.image_px) for arm in arms}) <= 1
    if scale == "laptop":
        assert all(arm.num_seeds >= 3 for arm in arms)
    for arm in arms:
        assert re.fullmatch(r"[a-z0-9-]+", arm.name)


def test_plain_and_residual_arms_have_the_same_parameters() -> None:
    for scale in ("smoke", "laptop", "paper"):
        arms = {arm.name: arm for arm in experiment("degradation").arms(scale)}
        for name, arm in arms.items():
            if name.startswith("plain"):
                twin = arms[name.replace("plain", "resnet")]
                assert arm.network.num_parameters == twin.network.num_parameters
                assert arm.network == dataclasses.replace(twin.network, shortcut="none")


def test_published_results_are_those_of_the_network_that_an_arm_stands_for() -> None:
    arms = {arm.name: arm for arm in experiment("shortcuts").arms("laptop")}
    assert [row.top1_error for row in arms["identity"].published] == [6.61]
    assert [row.top1_error for row in arms["shortcut-gate-0"].published] == [12.86]
    assert arms["dropout"].published[0].is_lower_bound
    depth = experiment("depth").arms("paper")
    assert [[row.top1_error for row in arm.published] for arm in depth] == [
        [8.75],
        [7.51],
        [7.17],
        [6.97],
        [6.43, 6.61],
        [7.93],
    ]
    arrangements = {arm.name: arm for arm in experiment("arrangements").arms("paper")}
    table_2 = {name: arm.published[0].top1_error for name, arm in arrangements.items()}
    assert table_2 == {
        "original-110": 6.61,
        "bn-after-110": 8.17,
        "relu-before-110": 7.84,
        "relu-only-110": 6.71,
        "full-110": 6.37,
        "original-164": 5.93,
        "bn-after-164": 6.50,
        "relu-before-164": 6.14,
        "relu-only-164": 5.91,
        "full-164": 5.46,
    }
