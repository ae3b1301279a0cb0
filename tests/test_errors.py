"""Errors: one sentence, the right exit code, and safe passage between processes."""

from __future__ import annotations

import pickle

import pytest

from deepresidual import errors
from deepresidual.errors import (
    MAX_CLAUSE,
    DataError,
    ResidualError,
    UnknownNameError,
    kind_of,
    listed,
    nearest,
    quoted,
)

EXIT_CODES = {
    "ResidualError": 1,
    "RunError": 1,
    "ConfigurationError": 2,
    "UnknownNameError": 2,
    "DataError": 3,
    "ModelFileError": 3,
    "MissingDependencyError": 4,
    "DivergedError": 5,
    "MachineError": 4,
    "UnreachableError": 4,
}


def test_every_error_has_its_exit_code() -> None:
    found = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, ResidualError)
    }
    assert found == EXIT_CODES


def test_a_message_joins_what_was_found_what_is_allowed_and_what_to_do() -> None:
    assert (
        str(DataError("x is 3", expected="1 or 2", remedy="change x")) == "x is 3; expected 1 or 2; change x"
    )


@pytest.mark.parametrize(
    "error", [DataError("found", remedy="do"), UnknownNameError("model", "a", ["b"])], ids=["data", "name"]
)
def test_errors_survive_pickling(error: ResidualError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)


def test_the_nearest_names_come_first_whatever_their_case() -> None:
    assert nearest("ResNet5", ["plain18", "resnet56", "resnet50"])[0] in ("resnet56", "resnet50")
    assert nearest("zzz", ["plain18"]) == []


def test_what_a_message_quotes_is_cut_to_a_length_that_one_reads() -> None:
    message = str(DataError("x" * 200_000 + " in the middle of nothing", expected="y" * 200_000))
    assert len(message) < 2 * MAX_CLAUSE + 50
    assert message.startswith("x" * 1000)
    assert " in the middle of nothing; expected " in message
    message = str(UnknownNameError("model", "n" * 200_000, ["resnet18"]))
    assert message.startswith("unknown model 'nnn")
    assert len(message) < 200


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("short", "'short'"),
        ("a" * 1000, "'" + "a" * 97 + " …"),
        (b"a" * 1000, "b'" + "a" * 96 + " …"),
        (list(range(1000)), None),
        ("\x1b[2J", r"'\x1b[2J'"),
        ("\udc80", r"'\udc80'"),
        ([10**5000], "a list"),
    ],
)
def test_a_value_is_quoted_in_a_hundred_characters(value: object, shown: str | None) -> None:
    text = quoted(value)
    assert len(text) <= 100
    assert shown is None or text == shown


def test_a_value_that_nests_without_end_is_named_by_its_type() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert quoted(value) == "a list"


def test_no_message_steers_a_terminal_or_breaks_an_encoding() -> None:
    error = DataError("a\x1b[2J\nb\u2028c\ud800d\u202ee", expected="\x00", remedy="ok é 図 🙂 \u3000")
    assert str(error) == r"a\x1b[2J\nb\u2028c\ud800d\u202ee; expected \x00; ok é 図 🙂 " + "\u3000"
    str(error).encode("utf-8")
    # What is escaped once is not escaped again when one error tells of another.
    assert DataError(str(error)).found == str(error)


def test_a_list_shows_its_beginning_and_says_how_much_is_left() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(1234)], 3) == "0, 1, 2 and 1,231 more"
    assert len(listed(["x" * 10_000] * 20)) < MAX_CLAUSE


def test_a_type_has_the_article_that_it_is_spoken_with() -> None:
    named = [type(name, (), {}) for name in ("ndarray", "Image", "uint8", "Tensor", "NoneType")]
    assert [kind_of(kind()) for kind in named] == [
        "an ndarray",
        "an Image",
        "a uint8",
        "a Tensor",
        "a NoneType",
    ]
    assert (kind_of(1), kind_of("")) == ("an int", "a str")
