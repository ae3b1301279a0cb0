"""Outcomes of images: of each its name, and a result or the error that says why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from deepresidual.errors import DataError, ModelFileError, ResidualError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


def all_good(outcomes: Iterable[tuple[str, T | ResidualError]]) -> Iterator[T]:
    """Yield results, and raise the first error with the name of its image."""
    for number, (name, outcome) in enumerate(outcomes, start=1):
        if isinstance(outcome, ModelFileError):
            raise ModelFileError(f"{name or f'image {number}'}: {outcome.found}", remedy=outcome.remedy)
        if isinstance(outcome, ResidualError):
            if name:
                raise DataError(f"{name}: {outcome}") from outcome
            raise outcome
        yield outcome
