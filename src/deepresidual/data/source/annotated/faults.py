"""What the readers of annotations cannot use: all of it, so that nobody mends a data set file by file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deepresidual.errors import DataError


class AnnotationsError(DataError):
    """Several things in a data set cannot be used.

    Args:
        told: What the message says of them.
        faults: All of them, in the order in which they were met.
    """

    faults: tuple[DataError, ...] = ()

    def __init__(self, told: DataError, faults: Sequence[DataError]) -> None:
        super().__init__(told.found, expected=told.expected, remedy=told.remedy, kind=told.kind)
        self.faults = tuple(faults)


def faults_of(error: DataError) -> tuple[DataError, ...]:
    """Return everything that an error is about: several faults, or itself."""
    return error.faults if isinstance(error, AnnotationsError) and error.faults else (error,)


class Faults:
    """Faults that a reader has met, and goes on."""

    def __init__(self) -> None:
        self._met: list[DataError] = []

    def note(self, error: DataError) -> None:
        """Keep a fault."""
        self._met.append(error)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keep the fault that is raised within."""
        try:
            yield
        except DataError as error:
            self.note(error)

    def refuse(self) -> None:
        """Raise what was met, if anything was.

        Raises:
            DataError: The first fault, with the number of further ones.
        """
        if not self._met:
            return
        first, *more = self._met
        if not more:
            raise first
        many = f"'residual check' lists {len(more):,} more {'fault' if len(more) == 1 else 'faults'}"
        told = DataError(
            first.found,
            expected=first.expected,
            remedy="; ".join(filter(None, (first.remedy, many))),
            kind=first.kind,
        )
        raise AnnotationsError(told, [fault for error in self._met for fault in faults_of(error)])
