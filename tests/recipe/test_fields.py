"""Every field of a recipe: its type, its range, and what is said of a value that is not allowed."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal, get_args, get_origin

import pytest

from deepresidual.errors import ConfigurationError
from deepresidual.fields import check_fields, field_types, number, sentences
from deepresidual.recipe import Augment, Mix, Recipe, setting_homes

PLAIN = Recipe(name="plain")
HOMES = setting_homes()
FIELDS = {
    name: next(field for field in dataclasses.fields(home) if field.name == name)
    for name, home in HOMES.items()
}
TYPES = {name: field_types(home)[name] for name, home in HOMES.items()}


def member(name: str) -> Any:
    """Return the type of a field without ``None``."""
    kinds = [kind for kind in get_args(TYPES[name]) if kind is not type(None)]
    return TYPES[name] if get_origin(TYPES[name]) in (Literal, tuple) or not kinds else kinds[0]


NUMBERS = [name for name in FIELDS if member(name) in (int, float)]
WHOLE = [name for name in NUMBERS if member(name) is int]
CHOICES = [name for name in FIELDS if get_origin(member(name)) is Literal]
YES_NO = [name for name in FIELDS if member(name) is bool]
OPTIONAL = [name for name in FIELDS if type(None) in get_args(TYPES[name])]

# Fields that hold each other: a value at the end of a range needs company.
COMPANY: dict[str, dict[str, Any]] = {
    "micro_batch_size": {"batch_size": 65_536},
    "momentum": {"nesterov": False},
    "min_side_px": {"max_side_px": 16_384},
    "max_side_px": {"min_side_px": 1},
    "min_scale": {"max_scale": 100.0},
    "max_scale": {"min_scale": 1e-9},
    "warmup_until_error": {"warmup": "constant"},
}


def with_value(name: str, value: Any) -> Recipe:
    return PLAIN.changed({**COMPANY.get(name, {}), name: value})


def read(recipe: Recipe, name: str) -> Any:
    return getattr({Augment: recipe.augment, Mix: recipe.mix}.get(HOMES[name], recipe), name)


def inside(name: str, end: str) -> float:
    """Return the value of a range that is nearest to one of its ends."""
    limits = FIELDS[name].metadata
    low, high = limits["low"], limits["high"]
    if end == "low":
        value = low if not limits["above"] else low + (1 if name in WHOLE else 1e-9)
    else:
        value = high if not limits["below"] else high - 1e-9
    return int(value) if name in WHOLE else float(value)


def outside(name: str, end: str) -> float:
    limits = FIELDS[name].metadata
    if end == "low":
        value = limits["low"] if limits["above"] else limits["low"] - 1
    else:
        value = limits["high"] if limits["below"] else limits["high"] * 2
    return int(value) if name in WHOLE else float(value)


def test_every_field_has_its_sentence_and_its_group() -> None:
    names = {field.name for part in (Recipe, Augment, Mix) for field in dataclasses.fields(part)}
    assert names - {"name", "augment", "mix"} == set(HOMES)
    assert all(sentences(home)[name].endswith((".", ".)")) for name, home in HOMES.items())


def test_every_field_is_of_a_kind_that_is_tested() -> None:
    assert {*NUMBERS, *CHOICES, *YES_NO, "milestones"} == set(FIELDS)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range(name: str) -> None:
    assert {"low", "high", "above", "below"} == set(FIELDS[name].metadata)


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("name", NUMBERS)
def test_the_ends_of_a_range_are_allowed(name: str, end: str) -> None:
    assert read(with_value(name, inside(name, end)), name) == inside(name, end)


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_lies_beyond_a_range_is_refused_with_the_range(name: str, end: str) -> None:
    limits = FIELDS[name].metadata
    first = "above" if limits["above"] else "from"
    last = "and below" if limits["below"] else "to"
    expected = f"{name} is {outside(name, end)}; expected a number {first} {limits['low']:g} {last} "
    with pytest.raises(ConfigurationError, match=re.escape(expected)):
        with_value(name, outside(name, end))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in WHOLE])
def test_what_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is {value}; expected a number (from|above)"):
        with_value(name, value)


@pytest.mark.parametrize("value", [1.5, "1", True])
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_number_is_nothing_else(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is {value!r}; expected a whole number"):
        with_value(name, value)


@pytest.mark.parametrize("value", ["0.5", True, [0.5]])
@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in WHOLE])
def test_a_number_is_nothing_else(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{name} is {value!r}; expected a number")):
        with_value(name, value)


@pytest.mark.parametrize(("name", "choice"), [(n, choice) for n in CHOICES for choice in get_args(member(n))])
def test_every_choice_is_allowed(name: str, choice: str) -> None:
    assert read(with_value(name, choice), name) == choice


@pytest.mark.parametrize("name", CHOICES)
def test_another_choice_is_refused_with_those_that_there_are(name: str) -> None:
    listed = ", ".join(get_args(member(name)))
    with pytest.raises(ConfigurationError, match=f"{name} is 'other'; expected one of {listed}$"):
        with_value(name, "other")


@pytest.mark.parametrize("value", [0, 1, "yes", None])
@pytest.mark.parametrize("name", YES_NO)
def test_yes_and_no_are_true_and_false(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is {value!r}; expected True or False"):
        with_value(name, value)


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_may_be_left_out_may_be_none(name: str) -> None:
    assert read(with_value(name, None), name) is None


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - set(OPTIONAL)))
def test_what_may_not_be_left_out_may_not_be_none(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is None; expected a"):
        with_value(name, None)


@pytest.mark.parametrize("value", [0.5, [0.5], "0.5"])
def test_milestones_are_a_tuple(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"milestones is .*; expected a tuple of numbers"):
        with_value("milestones", value)


@pytest.mark.parametrize("value", [("half",), (True,), (None,)])
def test_milestones_are_numbers(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"milestones is .*; expected a number"):
        with_value("milestones", value)


@pytest.mark.parametrize("value", [(0.0,), (1.0,), (0.5, 0.4), (float("nan"),)])
def test_milestones_rise_between_0_and_1(value: object) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"milestones are \[.*\]; expected rising fractions of the run between 0 and 1",
    ):
        with_value("milestones", value)


@pytest.mark.parametrize(("name", "kind"), [("augment", "Augment"), ("mix", "Mix")])
def test_the_parts_of_a_recipe_are_what_they_are(name: str, kind: str) -> None:
    wrong: dict[str, Any] = {name: {}}
    with pytest.raises(ConfigurationError, match=rf"{name} is \{{\}}; expected an instance of {kind}"):
        dataclasses.replace(PLAIN, **wrong)


def test_a_name_is_a_text() -> None:
    with pytest.raises(ConfigurationError, match="name is 7; expected a text"):
        Recipe(name=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 10, "micro_batch_size": 4}, "micro_batch_size is 4 and batch_size is 10; expected a"),
        ({"warmup_until_error": 0.8}, "warmup_until_error needs a constant warm-up; expected warmup 'const"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs momentum; expected a momentum above 0"),
        ({"min_side_px": 300, "max_side_px": 256}, "min_side_px is 300 and max_side_px is 256; expected min"),
        (
            {"batch_norm": "frozen", "precise_bn": 10},
            "precise_bn would replace the statistics that batch_norm",
        ),
    ],
)
def test_fields_that_do_not_go_together_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PLAIN.changed(changes)


def another(name: str) -> Any:
    """Return an allowed value other than the default."""
    present = read(PLAIN, name)
    if name == "milestones":
        return (0.25, 0.5)
    if name in YES_NO:
        return not present
    if name in CHOICES:
        return next(choice for choice in get_args(member(name)) if choice != present)
    if name in COMPANY and name != "momentum":
        return {
            "warmup_until_error": 0.7,
            "micro_batch_size": 64,
            "min_side_px": 200,
            "max_side_px": 400,
            "min_scale": 0.5,
            "max_scale": 1.5,
        }[name]
    value = inside(name, "low")
    return value if value != present else value + (1 if name in WHOLE else 0.125)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_in_the_fingerprint(name: str) -> None:
    company = {"warmup": "constant"} if name == "warmup_until_error" else {}
    plain = PLAIN.changed(company)
    changed = plain.changed({name: another(name)})
    assert changed.fingerprint() != plain.fingerprint()
    assert Recipe.from_dict(changed.to_dict()) == changed


def test_the_name_is_in_the_fingerprint() -> None:
    assert Recipe(name="another").fingerprint() != PLAIN.fingerprint()


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    # It stands in model cards and run folders: a release that changes it says so, and this line with it.
    assert dataclasses.replace(PLAIN).fingerprint() == PLAIN.fingerprint()
    assert PLAIN.fingerprint() == "279c7119a1d2270a"


def test_a_recipe_with_a_field_of_another_version_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the recipe cannot be read .*'lookahead'"):
        Recipe.from_dict({**PLAIN.to_dict(), "lookahead": 5})


def test_a_recipe_without_its_augmentation_is_refused() -> None:
    fields = PLAIN.to_dict()
    del fields["augment"]
    with pytest.raises(ConfigurationError, match="the recipe cannot be read .'augment'"):
        Recipe.from_dict(fields)


def test_steps_of_the_warm_up_give_way_to_epochs() -> None:
    assert PLAIN.changed({"warmup_steps": 9}).changed({"warmup_epochs": 2.0}).warmup_steps is None


def test_steps_win_over_epochs_that_are_asked_for_together() -> None:
    changed = PLAIN.changed({"epochs": 2.0, "steps": 7})
    assert (changed.epochs, changed.steps) == (2.0, 7)


@dataclasses.dataclass(frozen=True)
class Sample:
    required: int = number(low=2, high=3)

    def __post_init__(self) -> None:
        check_fields(self)


def test_a_number_without_a_default_must_be_given() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'required'"):
        Sample()


class Other:
    """A class beside the dataclass whose sentences are read."""

    required: int = 7
    """Of another class."""


@dataclasses.dataclass(frozen=True)
class More(Sample):
    added: int = number(1)
    """Over two lines, with
    ``markup``."""
    silent: int = 0


def test_sentences_are_read_from_a_class_and_its_bases() -> None:
    assert sentences(More) == {"added": "Over two lines, with markup."}
    assert sentences(Recipe)["name"] == "Its name."
    assert sentences(Recipe)["epochs"].startswith("Passes over")
