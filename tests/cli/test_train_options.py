"""Every field of a recipe is an option of ``residual train`` and arrives as what it is."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from deepresidual.cli import main
from deepresidual.cli.recipe_options import RecipeOptions
from deepresidual.fields import sentences
from deepresidual.recipe import GROUPS, RENAMED, Recipe, setting_homes
from deepresidual.recipe.recipes import NAMES
from deepresidual.training.options import TrainOptions
from tests.recipe.test_fields import CHOICES, YES_NO, another
from tests.suites import short

PLAIN = Recipe(name="plain")


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the arguments of ``deepresidual.train``, filled once a command was run."""
    arguments: dict[str, Any] = {}

    def listen(data: object, model: object, out: object, options: TrainOptions, **others: Any) -> None:
        fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        arguments.update(fields, data=data, model=model, out=out, **others)
        raise KeyboardInterrupt  # enough was heard

    monkeypatch.setattr("deepresidual.training.launch.train", listen)
    return arguments


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def words(name: str, value: Any) -> list[str]:
    if name in YES_NO:
        return ["yes" if value else "no"]
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


def test_every_field_has_an_option_and_arrives_typed(received: dict[str, Any]) -> None:
    values = {name: another(name) for name in setting_homes()}
    assert (
        main(["train", *(word for name in values for word in (option(name), *words(name, values[name])))])
        == 130
    )
    assert received["changes"] == values
    assert {name: type(value) for name, value in received["changes"].items()} == {
        name: type(value) for name, value in values.items()
    }


def test_what_is_yes_or_no_can_be_turned_off(received: dict[str, Any]) -> None:
    main(["train", *(word for name in YES_NO for word in (option(name), "no"))])
    assert received["changes"] == dict.fromkeys(YES_NO, False)


def test_nothing_said_changes_nothing(received: dict[str, Any]) -> None:
    main(["train"])
    assert received["changes"] == {}


def test_an_automatic_batch_keeps_the_recipes_and_asks_for_the_memory(received: dict[str, Any]) -> None:
    main(["train", "--batch-size", "auto"])
    assert (received["changes"], received["fit_memory"]) == ({}, True)


def test_a_batch_that_is_said_is_not_fitted(received: dict[str, Any]) -> None:
    main(["train", "--batch-size", "32"])
    assert (received["changes"], received["fit_memory"]) == ({"batch_size": 32}, False)


def test_what_is_not_of_the_recipe_arrives_too(received: dict[str, Any]) -> None:
    main(
        [
            "train", "digits", "--model", "resnet18", "--out", "run", "--weights", "resnet18",
            "--recipe", "fb90",
            "--validation", "0.1", "--minutes", "5", "--bad-samples", "skip", "--image-px", "64", "--seed",
            "3", "--precision", "fp16", "--compile", "no", "--activation-checkpointing", "--device", "cpu",
            "--workers", "2",
            "--checkpoint-minutes", "1.5", "--tensorboard", "--resume", "--checkpoint", "12",
            "--group", "plant", "--labels", "one", "--task", "segment",
        ]
    )  # fmt: skip
    assert received == {
        "data": "digits",
        "model": "resnet18",
        "out": "run",
        "weights": "resnet18",
        "recipe": "fb90",
        "changes": {},
        "fit_memory": False,
        "validation": 0.1,
        "minutes": 5.0,
        "group": "plant",
        "labels": "one",
        "task": "segment",
        "bad_samples": "skip",
        "image_px": 64,
        "seed": 3,
        "precision": "fp16",
        "compile": "no",
        "activation_checkpointing": True,
        "device": "cpu",
        "num_workers": 2,
        "checkpoint_minutes": 1.5,
        "tensorboard": True,
        "resume": True,
        "checkpoint": 12,
    }


def helped(word: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="0"):
        main(["train", word])
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_every_option_is_explained_by_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    # A word is cut at a dash where a line ends; compared without blanks.
    bare = helped("--help-all", capsys).replace(" ", "")
    explained = {name: sentences(home)[name] for name, home in setting_homes().items()}
    assert [name for name, words in explained.items() if words.replace(" ", "") not in bare] == []
    assert [name for name in explained if f"{option(name)}" not in bare] == []


def test_options_of_the_recipe_stand_under_headings(capsys: pytest.CaptureFixture[str]) -> None:
    text = helped("--help-all", capsys)
    headings = [text.index(f" {heading} options ") for heading in GROUPS]
    assert headings == sorted(headings)
    assert (
        text.index(" loss options ")
        < text.index("--label-smoothing")
        < text.index(" batch normalization options ")
    )


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_help_shows_the_everyday_options_and_where_the_others_are(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = helped(word, capsys)
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
    assert {"--model", "--out", "--epochs", "--batch-size", "--learning-rate", "--resume"} <= shown
    assert shown.isdisjoint({"--beta2", "--checkpoint-minutes", "--mixup"})
    assert len(shown) < 20
    assert text.endswith("Every option, under headings: residual train --help-all")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["train", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("misspelled", "meant"),
    [
        ("--learnin-rate", "--learning-rate"),
        ("--lable-smoothing", "--label-smoothing"),
        ("--warmup-epoch", "--warmup-epochs"),
        ("--ema-deccay", "--ema-decay"),
        ("--seeed", "--seed"),
    ],
)
def test_a_misspelled_option_gets_the_nearest(
    misspelled: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", misspelled, "0.1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: residual train has no option {misspelled} (nearest: {meant}")


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_option_is_answered_with_the_new_one(
    old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([option(old), "1"], [f"{option(old)}=1"]):
        assert main(["train", *words]) == 2
        assert capsys.readouterr().err == f"error: {option(old)} is now {option(new)}\n"


@pytest.mark.parametrize(
    "name",
    short(["epochs", "steps", "micro_batch_size", "milestones", "mixup", "pad_px"], "epochs", "milestones"),
)
def test_a_word_where_a_number_belongs_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert option(name) in refused([option(name), "many"], capsys)


@pytest.mark.parametrize("name", short(CHOICES, *list(CHOICES)[:2]))
def test_an_unknown_choice_is_refused_with_those_that_there_are(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused([option(name), "other"], capsys)
    assert f"{option(name)} is 'other'; expected one of " in said
    assert another(name) in said.partition("; expected one of ")[2]


@pytest.mark.parametrize("name", short(YES_NO, *YES_NO[:1]))
def test_what_is_yes_or_no_is_not_something_else(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{option(name)} is 'true'; expected one of " in refused([option(name), "true"], capsys)


@pytest.mark.parametrize("name", ["flip", "schedule", "steps", "clip_norm"])
def test_none_is_not_a_value(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert option(name) in refused([option(name), "None"], capsys)


def test_a_value_out_of_range_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--learning-rate", "-1", "--out", "unused"]) == 2
    assert capsys.readouterr().err == ("error: learning_rate is -1.0; expected a number above 0 to 1000\n")


def test_changes_hold_only_what_was_said() -> None:
    options = RecipeOptions({"momentum": 0.5, "flip": "no", "batch_size": "auto"})
    assert options.fit_memory
    assert options.changes == {"momentum": 0.5, "flip": False}


def test_the_help_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = set(re.findall(r"\w+", capsys.readouterr().out))
    assert set(NAMES) <= shown
