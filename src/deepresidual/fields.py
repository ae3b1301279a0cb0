"""Fields of values that carry their range and their sentence, so that all about one stands in one place.

Example:
    >>> @dataclass(frozen=True)
    ... class Warmup:
    ...     epochs: float = number(5.0, 0, 1e6)
    ...     "Epochs before the highest learning rate."
    ...     def __post_init__(self) -> None:
    ...         check_fields(self)
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import sys
import types
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from deepresidual.errors import ConfigurationError, nearest

__all__ = [
    "check_choices",
    "check_fields",
    "check_names",
    "check_seed",
    "field_types",
    "is_whole",
    "number",
    "replaced",
    "sentences",
]

_REQUIRED = dataclasses.MISSING


def number(
    default: Any = _REQUIRED, low: float = 0, high: float = 1e6, *, above: bool = False, below: bool = False
) -> Any:
    """Declare a number from ``low`` to ``high``; ``above`` and ``below`` leave that end out."""
    return dataclasses.field(
        default=default, metadata={"low": low, "high": high, "above": above, "below": below}
    )


def field_types(kind: type[Any]) -> dict[str, Any]:
    """Return the resolved annotation of every field of a dataclass."""
    return _field_types(cast(Any, kind))


@functools.cache
def _field_types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def is_whole(value: object, low: int, high: int) -> bool:
    """Return whether a value is a whole number from ``low`` to ``high``; ``True`` is none."""
    return type(value) is int and low <= value <= high


def check_seed(seed: object) -> None:
    """Refuse what is no seed.

    Raises:
        ConfigurationError: It is not a whole number from 0 to 2^63 - 1.
    """
    if not is_whole(seed, 0, 2**63 - 1):
        raise ConfigurationError(f"seed is {seed!r}", expected="a whole number from 0 to 2^63 - 1")


def sentences(kind: type[Any]) -> dict[str, str]:
    """Return the sentence under each field of a dataclass and its bases, on one line and without markup."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        found |= _sentences(base.__module__).get(base.__name__, {})
    return {name: found[name] for name in (field.name for field in dataclasses.fields(kind)) if name in found}


@functools.cache
def _sentences(module: str) -> dict[str, dict[str, str]]:
    """Return the sentences under the fields of each class of a module."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        owner.name: {
            field.target.id: " ".join(under.value.value.split()).replace("``", "")
            for field, under in itertools.pairwise(owner.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(under, ast.Expr)
            and isinstance(under.value, ast.Constant)
            and isinstance(under.value.value, str)
        }
        for owner in tree.body
        if isinstance(owner, ast.ClassDef)
    }


Options = TypeVar("Options")


def replaced(options: Options, keywords: Mapping[str, Any], function: str) -> Options:
    """Return a dataclass with some of its fields replaced.

    Args:
        options: The dataclass.
        keywords: New values by the name of the field.
        function: Name of the function that was called with them, for the message.

    Raises:
        ConfigurationError: There is no such field; the message names the nearest.
    """
    known = [field.name for field in dataclasses.fields(cast(Any, options))]
    for name in keywords:
        if name not in known:
            raise ConfigurationError(
                f"{function} has no keyword {name!r}",
                expected=f"one of {', '.join(nearest(name, known) or known)}",
            )
    changed: Options = dataclasses.replace(cast(Any, options), **keywords)
    return changed


def check_names(names: Collection[str], known: Collection[str], required: Collection[str], what: str) -> None:
    """Check the names of a JSON object that holds a dataclass.

    Raises:
        ConfigurationError: A name is unknown or missing; ``what`` names the object.
    """
    for name in names:
        if name not in known:
            expected = ", ".join(nearest(name, known) or known)
            raise ConfigurationError(f"unknown field {name!r} in {what}", expected=expected)
    for name in required:
        if name not in names:
            raise ConfigurationError(f"{what} has no field {name!r}")


def check_fields(value: Any, *, as_json: bool = False) -> None:
    """Check every field of a dataclass against its annotation and its range.

    Args:
        value: The dataclass.
        as_json: Name expected values as JSON does.

    Raises:
        ConfigurationError: A field has another type or is out of range; the message names both.
    """
    hints = field_types(type(value))
    for field in dataclasses.fields(value):
        _check(field.name, getattr(value, field.name), hints[field.name], field.metadata, as_json=as_json)


def check_choices(value: Any) -> None:
    """Check the fields of a dataclass that are one of several words, or yes or no.

    Raises:
        ConfigurationError: A field is something else; the message names what it can be.
    """
    for name, hint in field_types(type(value)).items():
        if hint is bool or get_origin(hint) is Literal:
            _check(name, getattr(value, name), hint, {}, as_json=False)


def _check(name: str, value: Any, hint: Any, limits: Any, *, as_json: bool) -> None:
    or_none = ""
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return
        hint = next(member for member in get_args(hint) if member is not type(None))
        or_none = " or none" if as_json else ""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ConfigurationError(f"{name} is {value!r}", expected=f"one of {', '.join(get_args(hint))}")
    elif hint is bool:
        if type(value) is not bool:
            raise ConfigurationError(
                f"{name} is {value!r}", expected="true or false" if as_json else "True or False"
            )
    elif hint in (int, float):
        _check_number(name, value, whole=hint is int, limits=limits, finite=as_json, or_none=or_none)
    elif get_origin(hint) is tuple:
        whole = get_args(hint)[0] is int
        if type(value) is not tuple or (whole and any(type(item) is not int for item in value)):
            expected = limits.get("expected", "a tuple of numbers")
            raise ConfigurationError(f"{name} is {value!r}", expected=expected)
        for item in () if whole else value:
            _check_number(name, item, whole=False, limits=limits)
    elif hint is str and type(value) is not str:
        raise ConfigurationError(f"{name} is {value!r}", expected="a text")
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint) and type(value) is not hint:
        raise ConfigurationError(f"{name} is {value!r}", expected=f"an instance of {hint.__name__}")


def _check_number(
    name: str, value: Any, *, whole: bool, limits: Any, finite: bool = False, or_none: str = ""
) -> None:
    # True is an int to Python, and NaN a float.
    is_number = type(value) is int or (not whole and type(value) is float)
    if not is_number or (finite and not math.isfinite(value)):
        kind = "whole " if whole else "finite " if finite else ""
        raise ConfigurationError(f"{name} is {value!r}", expected=f"a {kind}number{or_none}")
    if not limits:
        return
    low, high, above, below = limits["low"], limits["high"], limits["above"], limits["below"]
    is_end = (above and value == low) or (below and value == high)
    if not math.isfinite(value) or not low <= value <= high or is_end:
        first, last = "above" if above else "from", "and below" if below else "to"
        raise ConfigurationError(f"{name} is {value}", expected=f"a number {first} {low:g} {last} {high:g}")
