"""The errors that Residual raises on purpose, each with the facts a user needs.

Every message is one sentence of up to three clauses: what was found, what is allowed, what to do.
The command line prints it after ``error:`` and leaves with the class's exit code; no traceback.

Example:
    >>> raise ConfigurationError("learning_rate is -1", expected="a number above 0")
    Traceback (most recent call last):
    residual.errors.ConfigurationError: learning_rate is -1; expected a number above 0
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ConfigurationError",
    "DataError",
    "DivergedError",
    "MachineError",
    "MissingDependencyError",
    "ModelFileError",
    "ResidualError",
    "RunError",
    "UnknownNameError",
    "nearest",
]


class ResidualError(Exception):
    """Base of all deliberate errors.

    Args:
        found: What was found, as a clause without a final period.
        expected: What is allowed there, completing "expected …".
        remedy: What the user can do about it, as an imperative clause.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        self.is_echo = False
        """Whether another process that trains with this one met the error, and tells the user."""
        clauses = [found, f"expected {expected}" if expected else "", remedy]
        super().__init__("; ".join(clause for clause in clauses if clause))

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default protocol, and errors cross process borders.
        return (_rebuild, (type(self), self.found, self.expected, self.remedy))


def _rebuild(kind: type[ResidualError], found: str, expected: str, remedy: str) -> ResidualError:
    error = kind.__new__(kind)
    ResidualError.__init__(error, found, expected=expected, remedy=remedy)
    return error


class RunError(ResidualError):
    """The run itself failed: a disk is full, a folder cannot be written (exit code 1)."""

    exit_code = 1


class ConfigurationError(ResidualError, ValueError):
    """An argument, option or combination of options is not allowed (exit code 2)."""

    exit_code = 2


class DataError(ResidualError):
    """A data set or image cannot be used (exit code 3)."""

    exit_code = 3


class ModelFileError(ResidualError):
    """A model folder or weight file cannot be used (exit code 3)."""

    exit_code = 3


class MissingDependencyError(ResidualError):
    """Something that the command needs is not installed (exit code 4)."""

    exit_code = 4


class MachineError(ResidualError):
    """The machine or its network is not as the command needs it (exit code 4)."""

    exit_code = 4


class DivergedError(ResidualError):
    """Training produced a loss that is not finite (exit code 5)."""

    exit_code = 5


class UnknownNameError(ConfigurationError):
    """A name is not among the known ones; the message names the nearest.

    Args:
        kind: What the name stands for, for example ``"model"``.
        name: The name that was given.
        choices: All names that exist.
        remedy: How to list the choices.
    """

    def __init__(self, kind: str, name: str, choices: Iterable[str], remedy: str = "") -> None:
        choices = list(choices)
        close = nearest(name, choices)
        listed = ", ".join(choices[:8]) + (", …" if len(choices) > 8 else "")
        super().__init__(
            f"unknown {kind} {name!r}" + (f" (nearest: {', '.join(close)})" if close else ""),
            expected="" if close else f"one of {listed}",
            remedy=remedy,
        )


def nearest(name: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` of ``choices`` that look like ``name``, the nearest first."""
    folded = {choice.casefold(): choice for choice in choices}
    return [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, count, cutoff=0.5)]
