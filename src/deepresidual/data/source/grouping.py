r"""Groups: samples that belong together, as photos of one object do, and may not stand on both sides.

``--group`` names a column of the table, or is a pattern with one part in parentheses that finds the name of
the group in the file name: with ``(.*)_\d+`` the photos ``cup_1.jpg`` and ``cup_2.jpg`` are of the group
``cup``. A pattern with a slash is looked for in the whole path. A sample without a group stands alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from deepresidual.data.source.base import WHOLE, SampleSource, Split, names_of
from deepresidual.data.source.stratified import unit_of, unit_of_group
from deepresidual.errors import ConfigurationError


def grouped_by_pattern(source: SampleSource, pattern: str) -> SampleSource:
    """Return a data set whose samples are grouped by their names.

    Args:
        source: The data set, before it is divided.
        pattern: A regular expression with one group.

    Raises:
        ConfigurationError: It is none, or finds no group.
    """
    expression = _compiled(pattern)
    splits = {WHOLE: source.whole} if source.whole is not None else source.splits
    named = {
        name: [_found(expression, key) for key in names_of(split)]
        for name, split in splits.items()
        if split is not None
    }
    if not any(group is not None for groups in named.values() for group in groups):
        example = next((split.key(0) for split in splits.values() if split), "")
        raise ConfigurationError(
            f"the pattern '{pattern}' finds no group in the names of {source.name}, such as {example!r}",
            expected="a pattern that is found in file names, or with a slash in whole paths",
        )
    groups = {name: units(split, named[name]) for name, split in splits.items() if split is not None}
    return dataclasses.replace(source, groups=groups)


def units(split: Split, groups: Iterable[str | None]) -> list[bytes]:
    """Return the unit of every sample, given the name of its group; ``None`` or empty: it stands alone."""
    return [
        unit_of_group(group) if group else unit_of(split.key(index), name)
        for index, (group, name) in enumerate(zip(groups, names_of(split), strict=True))
    ]


def num_groups(units: Sequence[bytes]) -> int:
    """Return how many units hold several samples."""
    seen: dict[bytes, int] = {}
    for unit in units:
        seen[unit] = seen.get(unit, 0) + 1
    return sum(count > 1 for count in seen.values())


def _found(expression: re.Pattern[str], key: str) -> str | None:
    name = key if "/" in expression.pattern else key.rsplit("/", 1)[-1]
    found = expression.search(name)
    return found[1] if found else None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise _no_group(pattern, f"no pattern ({error})") from error
    if expression.groups != 1:
        raise _no_group(pattern, f"a pattern with {expression.groups} parts in parentheses")
    return expression


def _no_group(pattern: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"group is '{pattern}', which is no column of the data and {what}",
        expected="a column of the table, or a pattern with one part in parentheses, such as '(.*)_\\d+'",
    )
