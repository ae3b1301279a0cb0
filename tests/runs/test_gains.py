"""What each part of a fine-tuning gained, and the command that repeats it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deepresidual.runs.gains import gains_in_words, stages_of
from deepresidual.runs.read import RunFiles
from deepresidual.runs.repeat import command_again, command_to_repeat


def row(
    step: int, loss: float, top1: float, split: str = "val", candidate: str = "average"
) -> dict[str, Any]:
    return {"step": step, "loss": loss, "top1": top1, "split": split, "candidate": candidate}


def a_run(keep_model: str, *candidates: dict[str, Any], classifier_init: str = "probe") -> RunFiles:
    recipe = {"keep_model": keep_model, "classifier_init": classifier_init}
    held_out = [row(0, 0.6, 0.7), row(7, 0.4, 0.8), row(14, 0.5, 0.9), row(14, 0.3, 0.95, "test")]
    return RunFiles(Path("run"), {"plan": {"recipe": recipe}}, [], held_out, None, list(candidates))


def test_the_model_of_the_lowest_loss_is_the_kept_one() -> None:
    average = row(14, 0.45, 0.85)
    assert [(stage.name, stage.step, stage.is_kept) for stage in stages_of(a_run("best-loss", average))] == [
        ("probe", 0, False),
        ("fine-tuned", 7, True),
        ("average", 14, False),
    ]
    assert gains_in_words(a_run("best-loss", average)) == [
        "probe       val: top-1 70.00%, loss 0.6000",
        "fine-tuned  val: top-1 80.00%, loss 0.4000, kept: the lowest loss",
        "average     val: top-1 85.00%, loss 0.4500",
    ]


def test_without_a_choice_the_average_is_kept_and_the_last_evaluation_shown() -> None:
    stages = stages_of(a_run("average", row(14, 0.7, 0.6)))
    assert [(stage.name, stage.step, stage.is_kept) for stage in stages] == [
        ("probe", 0, False),
        ("fine-tuned", 14, False),
        ("average", 14, True),
    ]


def test_where_nothing_was_learned_the_probe_is_kept() -> None:
    stages = stages_of(a_run("average", row(14, 0.6, 0.7, candidate="probe")))
    assert [(stage.name, stage.is_kept) for stage in stages] == [("probe", True), ("fine-tuned", False)]


def test_of_several_labels_an_image_the_figure_is_map() -> None:
    run = a_run("best-loss", row(14, 0.45, 0.85))
    for line in (*run.held_out, *run.candidates):
        line["map"] = line.pop("top1")
    assert gains_in_words(run) == [
        "probe       val: mAP 70.00%, loss 0.6000",
        "fine-tuned  val: mAP 80.00%, loss 0.4000, kept: the lowest loss",
        "average     val: mAP 85.00%, loss 0.4500",
    ]


def test_of_another_task_nothing_is_said() -> None:
    run = a_run("best-loss", row(14, 0.45, 0.85))
    del run.held_out[-1]["top1"]
    assert stages_of(run) == []


def test_other_runs_have_no_such_steps() -> None:
    assert stages_of(a_run("last", classifier_init="random")) == []


def a_record(words: list[str], **begins_with: Any) -> dict[str, Any]:
    recipe = {"name": "finetune", "steps": 120, "warmup_steps": 12}
    plan = {"recipe": recipe, "precision": "fp32", "compiled": False}
    return {
        "command": words,
        "plan": plan,
        "length": {},
        "begins_with": {"name": "resnet18.tv_in1k", **begins_with},
    }


SETTLED = (
    "--weights resnet18.tv_in1k --recipe finetune --steps 120 --warmup-steps 12 --precision fp32 --compile no"
)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["photos"], "photos"),
        (["my photos", "--minutes", "3", "--out", "runs/a", "--seed", "2"], "'my photos' --seed 2"),
        (["photos", "--minutes=3", "--out=runs/a", "--resume"], "photos"),
        (["photos", "--weights", "resnet18", "--precision", "auto"], "photos"),
    ],
)
def test_a_run_of_minutes_is_repeated_by_its_numbers_of_updates(words: list[str], kept: str) -> None:
    found = command_to_repeat(a_record(["residual", "train", *words]))
    assert found == f"residual train {kept} {SETTLED}"


def test_the_size_that_followed_from_the_bundled_network_is_said() -> None:
    record = a_record(["residual", "train", "photos"], name="resnet56-cifar10", image_px=96)
    assert "--image-px 96 --weights resnet56-cifar10" in command_to_repeat(record)
    record["command"] += ["--image-px", "64"]
    assert "--image-px 96" not in command_to_repeat(record)


def test_a_run_of_epochs_repeats_by_its_own_command() -> None:
    record = a_record(["residual", "train", "photos"])
    del record["length"]
    assert command_to_repeat(record) == ""
    assert command_to_repeat(a_record(["python", "mine.py"])) == ""


@pytest.mark.parametrize(
    ("words", "changed", "again"),
    [
        (["photos", "--minutes", "3", "--out=runs/a", "--json"], {}, "/my/photos --minutes 3"),
        (["photos", "--minutes=3", "--seed", "2"], {"--epochs": "8"}, "/my/photos --seed 2 --epochs 8"),
        (["--image-px", "96", "--out", "a"], {"--image-px": 128}, "/my/photos --image-px 128"),
        (["--seed", "2", "photos"], {}, "--seed 2 photos"),
        ([], {}, "/my/photos"),
    ],
)
def test_a_run_again_keeps_its_options(words: list[str], changed: dict[str, Any], again: str) -> None:
    assert command_again(a_record(["residual", "train", *words]), "/my/photos", changed) == (
        f"residual train {again}"
    )


def test_a_run_of_python_is_again_one_of_its_data() -> None:
    assert command_again(a_record(["python", "mine.py"]), "DATA") == "residual train DATA"
