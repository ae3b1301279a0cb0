"""Errors: one sentence, the right exit code, and safe passage between processes."""

from __future__ import annotations

import pickle

import pytest

from residual import errors
from residual.errors import DataError, ResidualError, UnknownNameError, nearest

EXIT_CODES = {
    "ResidualError": 1,
    "RunError": 1,
    "ConfigurationError": 2,
    "UnknownNameError": 2,
    "DataError": 3,
    "ModelFileError": 3,
    "MissingDependencyError": 4,
    "DivergedError": 5,
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
