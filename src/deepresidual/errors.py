"""The errors that Residual raises on purpose, each with the facts a user needs.

Every message is one sentence of up to three clauses: what was found, what is allowed, what to do.
The command line prints it after ``error:`` and leaves with the class's exit code; no traceback.

What a file says may be megabytes long or steer a terminal. Every clause is therefore kept to one line of
:data:`MAX_CLAUSE` characters, with control characters and lone surrogates escaped.

Example:
    >>> raise ConfigurationError("learning_rate is -1", expected="a number above 0")
    Traceback (most recent call last):
    deepresidual.errors.ConfigurationError: learning_rate is -1; expected a number above 0
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "DISTRIBUTION",
    "ConfigurationError",
    "DataError",
    "DivergedError",
    "MachineError",
    "MissingDependencyError",
    "ModelFileError",
    "ResidualError",
    "RunError",
    "UnknownNameError",
    "UnreachableError",
    "escaped",
    "kind_of",
    "listed",
    "misspelled",
    "nearest",
    "quoted",
    "shortened",
]

DISTRIBUTION = "deepresidual"
"""Name on the package index, as in ``pip install deepresidual``."""

MAX_CLAUSE = 2000
"""Longest clause of a message in characters: ten differing tensors, or a path and a value."""


def escaped(text: str) -> str:
    r"""Return ``text`` on one line that any terminal and any encoding of Unicode can show.

    Control and format characters, line breaks and lone surrogates become escapes such as ``\x1b``.
    """
    if text.isprintable():
        return text
    return "".join(
        # Spaces of other widths are not "printable" to Python; Japanese names have them.
        letter
        if letter.isprintable() or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def shortened(text: str, most: int) -> str:
    """Return ``text`` with as much left out of its middle as goes beyond ``most`` characters."""
    if len(text) <= most:
        return text
    # What a message quotes stands between its subject and what follows from it; both ends matter.
    end = most // 4
    return f"{text[: most - end - 3]} … {text[-end:]}"


def listed(items: Sequence[str], most: int = 10) -> str:
    """Return the first ``most`` items, each cut to its share of a clause, and how many more there are."""
    shown = ", ".join(shortened(item, 3 * MAX_CLAUSE // (4 * most)) for item in items[:most])
    return shown + (f" and {len(items) - most:,} more" if len(items) > most else "")


def quoted(value: object, most: int = 100) -> str:
    """Return ``repr(value)`` in at most ``most`` characters, for a value that a file holds."""
    if isinstance(value, str | bytes) and len(value) > most:
        # Without a copy of it all.
        value = value[:most]
        return f"{repr(value)[: most - 2]} …"
    try:
        return shortened(escaped(repr(value)), most)
    except (RecursionError, ValueError):
        # Nested too deep, or an integer of thousands of digits, which Python does not write.
        return kind_of(value)


def kind_of(value: object) -> str:
    """Return the type of a value with its article, as it is spoken: ``an int``, ``an ndarray``, ``a str``."""
    name = type(value).__name__
    # The u of uint8 and Unpickler is the only vowel that a type begins with either way.
    return f"{'an' if re.match('[aeioAEIO]|nd', name) else 'a'} {name}"


class ResidualError(Exception):
    """Base of all deliberate errors.

    Args:
        found: What was found, as a clause without a final period.
        expected: What is allowed there, completing "expected …".
        remedy: What the user can do about it, as an imperative clause.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        self.found, self.expected, self.remedy = (
            shortened(escaped(clause), MAX_CLAUSE) for clause in (found, expected, remedy)
        )
        self.is_echo = False
        """Whether another process that trains with this one met the error, and tells the user."""
        clauses = [self.found, f"expected {self.expected}" if self.expected else "", self.remedy]
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
    """A data set or image cannot be used (exit code 3).

    Args:
        found: As in every error, like ``expected`` and ``remedy``.
        expected: What is allowed there.
        remedy: What the user can do about it.
        kind: Of an image or an annotation, what is wrong with it: one of the kinds of errors in
            ``data.check``. It stays in the process that raised the error.
    """

    exit_code = 3
    kind: str = ""

    def __init__(self, found: str, *, expected: str = "", remedy: str = "", kind: str = "") -> None:
        super().__init__(found, expected=expected, remedy=remedy)
        self.kind = kind


class ModelFileError(ResidualError):
    """A model folder or weight file cannot be used (exit code 3)."""

    exit_code = 3


class MissingDependencyError(ResidualError):
    """Something that the command needs is not installed (exit code 4)."""

    exit_code = 4

    @classmethod
    def of_extra(cls, found: str, extra: str) -> Self:
        """Return the error for what comes with an extra of this distribution.

        Args:
            found: What is needed and missing.
            extra: Name of the extra in the distribution's metadata, for example ``hub``.
        """
        return cls(found, remedy=f"run: pip install '{DISTRIBUTION}[{extra}]'")


class MachineError(ResidualError):
    """The machine or its network is not as the command needs it (exit code 4)."""

    exit_code = 4


class UnreachableError(MachineError):
    """A server does not answer, or not now, and no cache has what is wanted from it (exit code 4)."""


class DivergedError(ResidualError):
    """Training produced a loss that is not finite (exit code 5)."""

    exit_code = 5


_FEW = 8
"""Names that a message lists."""


class UnknownNameError(ConfigurationError):
    """A name is not among the known ones; the message names the nearest, and all where they are few.

    Args:
        kind: What the name stands for, for example ``"model"``.
        name: The name that was given.
        choices: All names that exist.
        remedy: How to list the choices.
    """

    def __init__(self, kind: str, name: str, choices: Iterable[str], remedy: str = "") -> None:
        choices = list(choices)
        close = nearest(name, choices)
        are_few = len(choices) <= _FEW
        some = ", ".join(choices[:_FEW]) + ("" if are_few else ", …")
        is_told = bool(close) and (not are_few or len(close) == len(choices))
        super().__init__(
            f"unknown {kind} {quoted(name)}" + (f" (nearest: {', '.join(close)})" if close else ""),
            expected="" if is_told else f"one of {some}",
            remedy=remedy,
        )


def nearest(name: str, choices: Iterable[str], count: int = 3, cutoff: float = 0.5) -> list[str]:
    """Return up to ``count`` of ``choices`` that look like ``name``, the nearest first.

    Args:
        name: What was given.
        choices: What there is.
        count: How many are returned at most.
        cutoff: Least similarity, from 0 to 1, as :func:`difflib.get_close_matches` has it.
    """
    folded = {choice.casefold(): choice for choice in choices}
    return [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, count, cutoff)]


def misspelled(name: str, choices: Iterable[str]) -> str:
    """Return the one of ``choices`` that ``name`` may be meant for; empty: there is none.

    Names that differ by their numbers stand for different things, as ``IMG_0012`` and ``IMG_0013``.
    """
    numbers = _numbers(name)
    alike = (choice for choice in choices if not numbers or _numbers(choice) in ([], numbers))
    return next(iter(nearest(name, alike, count=1, cutoff=0.8)), "")


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", name)]
