"""A dry run: what a run would do, told without leaving a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deepresidual.cli import main
from deepresidual.errors import ConfigurationError
from deepresidual.training.options import TrainOptions
from deepresidual.training.preview import Preview, preview
from deepresidual.training.schedule import learning_rate
from tests.training.parts import a_plan, a_start


def a_preview(seconds_a_step: float = 0.5, **fields: Any) -> Preview:
    plan = a_plan(**fields)
    rates = tuple(
        learning_rate(plan.recipe, column * plan.total_steps // 64, plan.total_steps, plan.warmup_steps)
        for column in range(64)
    )
    return Preview(plan, rates, seconds_a_step, 123_000_000)


def previewed(photos: Path, **options: Any) -> Preview:
    usual = TrainOptions(
        weights=a_start(photos.parent / "start"),
        recipe="cifar",
        changes={"epochs": 2.0, "batch_size": 10},
        precision="fp32",
        device="cpu",
    )
    return preview(photos, options=usual, **options)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def command(photos: Path, *options: str) -> list[str]:
    start = photos.parent / "start"
    if not start.exists():
        a_start(start)
    arguments = ["train", str(photos), "--weights", str(start), "--recipe", "cifar", "--batch-size", "10"]
    return [*arguments, "--dry-run", *options]


@pytest.mark.parametrize("options", [[], ["--json"], ["--out", "run"], ["--batch-size", "auto"]])
def test_a_dry_run_writes_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = command(photos, *options)
    before = listing(tmp_path)
    assert main(arguments) == 0
    assert listing(tmp_path) == before


def test_a_dry_run_answers_in_json(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(photos, "--epochs", "3", "--warmup-epochs", "1", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["total_steps"], document["warmup_steps"], document["evaluations"]) == (15, 5, 3)
    assert document["plan"]["recipe"]["epochs"] == 3
    assert len(document["learning_rates"]) == 64
    assert document["seconds"] > 15 * document["seconds_a_step"]
    assert document["memory_bytes"] > 0


def test_a_dry_run_draws_the_schedule(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(photos, "--epochs", "3", "--seed", "1")) == 0
    text = capsys.readouterr().out
    assert text.startswith("learning rate of recipe cifar (cosine)\n     0.1 ┤")
    for line in (
        "15 steps = 3.1 epochs",
        "model       custom: 1,343 parameters",
        "images      48 of photos, 8 px",
    ):
        assert line in text
    assert "steps       15 of 10 images, 5 warm-up" in text
    assert "computing   fp32 (a short run), not compiled" in text


def picture(text: str) -> list[str]:
    """Return the columns of the picture, each from below."""
    lines = text.splitlines()
    drawn = [line[10:].ljust(64) for line in lines[1:9]]
    return ["".join(column)[::-1] for column in zip(*drawn, strict=True)]


def test_the_picture_is_as_high_as_the_rate() -> None:
    columns = picture(a_preview(schedule="step", milestones=(0.5, 0.75), step_decay=0.5, steps=640).to_text())
    assert columns[0] == columns[31] == "█" * 8
    assert columns[32] == columns[47] == "█" * 4 + " " * 4
    assert columns[48] == columns[63] == "█" * 2 + " " * 6


def test_the_picture_shows_the_warm_up() -> None:
    columns = picture(a_preview(schedule="constant", steps=64, warmup_steps=32).to_text())
    heights = [sum(cell == "█" for cell in column) for column in columns]
    assert heights[:32] == sorted(heights[:32])
    assert heights[3] < heights[20] < heights[40] == 8


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schedule": "plateau"}, True),
        ({"warmup": "constant", "warmup_until_error": 0.8}, True),
        ({"schedule": "step"}, False),
    ],
)
def test_what_follows_from_the_run_is_not_promised(fields: dict[str, Any], said: bool) -> None:
    assert ("follow from what will be measured" in a_preview(**fields).to_text()) is said


def test_the_time_is_that_of_updates_and_evaluations() -> None:
    shown = a_preview(0.5, epochs=3.0, batch_size=12)
    assert shown.plan.total_steps == 12
    assert shown.seconds == pytest.approx(12 * 0.5 + 3 * 15 * 0.5 / 12 / 3)
    assert "time        about 7 s, reading data not counted (0.5 s a step here)" in shown.to_text()
    assert "(1,014 s a step here)" in a_preview(1013.7).to_text()


def test_hours_are_told_in_hours() -> None:
    assert "time        about 10 h," in a_preview(36.0, steps=1000, evaluate_every=1000.0).to_text()


def test_sizes_that_differ_are_told() -> None:
    text = a_preview(start_px=12, train_px=24, steps=100).to_text()
    assert "12 px growing to 24 px, evaluated at 8 px" in text


def test_a_compiled_run_may_be_quicker() -> None:
    assert ", nor what compiling saves (" in a_preview(compiled=True).to_text()


def test_trying_steps_leaves_the_random_state_alone(photos: Path) -> None:
    import torch

    before = torch.get_rng_state()
    shown = previewed(photos, changes={"stochastic_depth": 0.5, "batch_size": 6})
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 < shown.seconds_a_step < 60


def test_what_a_run_refuses_its_preview_refuses(photos: Path) -> None:
    with pytest.raises(ConfigurationError, match="plateau by the test images would spoil"):
        previewed(photos, changes={"schedule": "plateau"})


def test_held_out_images_count_as_in_the_run(photos: Path) -> None:
    shown = previewed(photos, validation=0.25)
    assert (shown.plan.num_samples, shown.plan.num_held_out) == (36, 12)
