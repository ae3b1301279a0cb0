"""Report at the end of a command the files that could not be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.cli.output import complain
from deepresidual.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepresidual.backends import FoundImages

__all__ = ["exit_code_of"]


def exit_code_of(model: str, found: FoundImages, errors: Sequence[str]) -> int:
    """Print how many files could not be used, if any, and return the exit code of the command.

    Args:
        model: The model, as the user called it.
        found: What there was to do.
        errors: Why files of it could not be used, one reason each.
    """
    from deepresidual.backends.classifier import NOT_FINITE, NOT_FINITE_REMEDY

    num_not_finite = sum(error == NOT_FINITE for error in errors)
    num_bad = len(errors) - num_not_finite
    clauses = []
    if num_not_finite:
        clauses.append(
            f"{model}: its outputs are not finite for {num_not_finite} of {len(found.files)} files, "
            f"as named above; {NOT_FINITE_REMEDY}"
        )
    if num_bad:
        clauses.append(f"{num_bad} of {len(found.files)} files could not be used, as named above")
    if found.unusable:
        paths = "1 path stands" if len(found.unusable) == 1 else f"{len(found.unusable)} paths stand"
        clauses.append(f"{paths} for no image, as named above")
    if not clauses:
        return 0
    complain("; ".join(clauses))
    return DataError.exit_code
