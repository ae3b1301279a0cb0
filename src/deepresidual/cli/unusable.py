"""Tell of files that could not be used: as they come, and at the end of a command."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from deepresidual.cli.output import complain, counted
from deepresidual.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepresidual.data.source import IgnoredFile

__all__ = ["FileErrors", "exit_code_of", "warn_of_others"]

# Files of one reason that are named; --json, --format and --out have all.
_NAMED = 8
# Of other files in folders.
_OTHERS = 3


class FileErrors:
    """Why files could not be used: warns of the first few of each reason, and of the rest by their number."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self._counts: Counter[str] = Counter()

    def add(self, path: str, reason: str) -> None:
        """Note a file, and warn of it unless several with this reason have been named."""
        from deepresidual.runtime.console import warn

        self.reasons.append(reason)
        self._counts[reason] += 1
        if self._counts[reason] <= self._most(reason):
            warn(f"{path}: {reason}")

    def end(self) -> None:
        """Warn of the number of files that were not named."""
        from deepresidual.runtime.console import warn

        for reason, count in self._counts.items():
            more = count - self._most(reason)
            if more > 0:
                warn(f"and {more:,} more: {reason}")

    def in_words(self) -> str:
        """Return how many of the rows are errors, after a comma; nothing where none is."""
        count = len(self.reasons)
        return f", {count:,} of them {'an error' if count == 1 else 'errors'}" if count else ""

    def _most(self, reason: str) -> int:
        from deepresidual.data.formats import HEIC_MISSING

        # One folder of a phone may hold thousands, and one word about them is enough.
        return 1 if reason.startswith(HEIC_MISSING) else _NAMED


def warn_of_others(ignored: Sequence[IgnoredFile]) -> None:
    """Warn in one line of the files in folders that are not used."""
    from deepresidual.runtime.console import warn

    if len(ignored) < 2:
        for file in ignored:
            warn(str(file))
        return
    # What is no image is no surprise: the other reasons come first.
    ordered = sorted(ignored, key=lambda file: file.reason.startswith("no image"))
    named = "; ".join(f"{file.path}: {file.reason}" for file in ordered[:_OTHERS])
    more = "; …" if len(ordered) > _OTHERS else ""
    warn(f"{len(ignored):,} other files are not used ({named}{more})")


def exit_code_of(model: str, num_files: int, unusable: Sequence[DataError], errors: Sequence[str]) -> int:
    """Print how many files could not be used, if any, and return the exit code of the command.

    Args:
        model: The model, as the user called it.
        num_files: Files that there were to use.
        unusable: What is wrong with paths that stood for none.
        errors: Why files could not be used, one reason each.
    """
    from deepresidual.backends.classifier import NOT_FINITE, NOT_FINITE_REMEDY

    num_not_finite = sum(error == NOT_FINITE for error in errors)
    num_bad = len(errors) - num_not_finite
    clauses = []
    if num_not_finite:
        clauses.append(
            f"{model}: its outputs are not finite for {num_not_finite:,} of {counted(num_files, 'file')}, "
            f"as named above; {NOT_FINITE_REMEDY}"
        )
    if num_bad:
        clauses.append(f"{num_bad:,} of {counted(num_files, 'file')} could not be used, as named above")
    if unusable:
        paths = "1 path stands" if len(unusable) == 1 else f"{len(unusable)} paths stand"
        clauses.append(f"{paths} for no image, as named above")
    if not clauses:
        return 0
    complain("; ".join(clauses))
    return DataError.exit_code
