"""JSON from elsewhere, read strictly: UTF-8 without a mark, no name twice, no NaN, bounded, of a known form.

Python's own reader takes all of these silently; of a name given twice it keeps the last, so two programs
can read one file differently. What a document has to hold is said by a *kind*:

========================  ====================================================================
``str``, ``bool``         text, true or false
``int``, ``float``        a whole number; a number, which may be a whole one
``Between(low, high)``    a number in a range; ``Between(low, high, whole=True)`` a whole one
``list``, ``dict``        any list, any object
``[kind]``                a list of that kind
``{str: kind}``           an object whose values are of that kind
``{"a": k, "b?": k}``     an object with these fields, of which ``b`` may be absent, and others
``(kind, kind)``          either; ``None`` is null
========================  ====================================================================

Example:
    >>> check(parse(b'{"step": "x"}'), {"step": int})
    Traceback (most recent call last):
    deepresidual.runtime.strict_json.RecordError: step is 'x', not a whole number
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual.errors import ModelFileError, kind_of
from deepresidual.runtime import git_lfs

Kind = Any
"""What a value has to be; see the table above."""

MAX_CONFIG_BYTES = 64_000_000  # a million class names fit; a config of gigabytes is an attack
MAX_RECORD_BYTES = 512_000_000  # what a run has written; the metrics of a million evaluations fit

_MAX_DEPTH, _TOO_DEEP = 100, "nested too deep"
_SHOWN_CHARACTERS = 60
# Sums of 64-bit hashes are the largest numbers that we write. Beyond them arithmetic may overflow.
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1


class RecordError(ValueError):
    """A document does not hold what it should; the message says where and what."""


@dataclass(frozen=True)
class Between:
    """A number in a range.

    Attributes:
        low: The lowest.
        high: The highest; ``None``: any.
        whole: Whether it has to be a whole number.
    """

    low: float
    high: float | None = None
    whole: bool = False


# -- documents -------------------------------------------------------------------------------------------


def read_object(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read the JSON object in the file at ``path``.

    Raises:
        ModelFileError: The file cannot be read, is larger than ``max_bytes``, or is no strict JSON object.
    """
    git_lfs.refuse_pointer(path, ModelFileError)
    return parse_object(_content(path, max_bytes), str(path))


def read_record(path: Path, kind: Kind = dict) -> Any:
    """Read the JSON document in the file at ``path``, and check its form.

    Raises:
        FileNotFoundError: There is no such file.
        ModelFileError: It cannot be read, or does not hold what it should; the message names file and field.
    """
    content = _content(path, MAX_RECORD_BYTES, must_exist=False)
    try:
        document = parse(content)
        check(document, kind)
    except RecordError as error:
        raise ModelFileError(f"{path} is damaged ({error})") from error
    return document


def parse_object(content: bytes, source: str) -> dict[str, Any]:
    """Parse ``content`` as one JSON object; ``source`` names it in errors.

    Raises:
        ModelFileError: It is no JSON in UTF-8, no object, nested too deep, or names something twice.
    """
    try:
        document = parse(content)
    except RecordError as error:
        if str(error) == _TOO_DEEP:
            raise ModelFileError(
                f"{source} is not plain JSON ({error})", expected=f"{_MAX_DEPTH} levels at most"
            ) from error
        raise ModelFileError(f"{source} is not JSON in UTF-8 ({error})") from error
    if not isinstance(document, dict):
        raise ModelFileError(f"{source} holds {kind_of(document)}", expected="a JSON object")
    return document


def parse(content: bytes) -> Any:
    """Parse ``content`` as one JSON document.

    Raises:
        RecordError: It is no JSON in UTF-8, nested too deep, names something twice, or holds a number that
            no computation could take.
    """
    try:
        document = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except RecursionError as error:
        raise RecordError(_TOO_DEEP) from error
    except UnicodeDecodeError as error:
        raise RecordError("a byte that is no UTF-8") from error
    except RecordError:
        raise
    except ValueError as error:
        raise RecordError(" ".join(str(error).split())[:200]) from error
    if content.count(b"[") + content.count(b"{") > _MAX_DEPTH and _depth(document) > _MAX_DEPTH:
        raise RecordError(_TOO_DEEP)
    return document


def _content(path: Path, max_bytes: int, *, must_exist: bool = True) -> bytes:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ModelFileError(f"{path} has {size:,} bytes", expected=f"at most {max_bytes:,}")
        with path.open("rb") as file:
            return file.read(max_bytes)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_exist:
            raise
        raise ModelFileError(f"cannot read {path} ({error.strerror or error})") from error


def _depth(document: Any) -> int:
    """Return how deep lists and objects are nested, or one more than is allowed."""
    level, depth = [document], 0
    while level and depth <= _MAX_DEPTH:
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        level, depth = [value for value in inner if isinstance(value, dict | list)], depth + 1
    return depth


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise RecordError(f"the name {name[:100]!r} is there twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> float:
    raise RecordError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise RecordError(f"the number {text[:_SHOWN_CHARACTERS]} is too large")
    return number


def _bounded(text: str) -> int:
    if len(text) > len(str(_HIGHEST)) or not _LOWEST <= int(text) <= _HIGHEST:
        raise RecordError(f"the number {text[:_SHOWN_CHARACTERS]} is too large")
    return int(text)


# -- lines -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A line of a file of JSON documents.

    Attributes:
        number: Which, from 1.
        content: Its bytes, without the line break.
        document: What it holds; ``None`` where it is damaged.
        damage: What is wrong with it; empty where nothing is.
        is_whole: Whether a line break ends it; the last line may still be being written.
    """

    number: int
    content: bytes
    document: Any
    damage: str
    is_whole: bool


def read_lines(
    path: Path, kind: Kind = dict, more: Callable[[Any], Kind] = lambda _document: dict
) -> list[Line]:
    """Read a file with a JSON document a line; what is wrong with a line stands in it.

    Args:
        path: The file.
        kind: What every line has to hold.
        more: Returns what a line of that kind has to hold besides.

    Raises:
        FileNotFoundError: There is no such file.
        ModelFileError: The file cannot be read, or is too large.
    """
    contents = _content(path, MAX_RECORD_BYTES, must_exist=False).split(b"\n")
    lines = []
    for number, content in enumerate(contents, start=1):
        is_whole = number < len(contents)
        if not is_whole and not content:
            break
        document, damage = None, ""
        try:
            document = parse(content)
            check(document, kind)
            check(document, more(document))
        except RecordError as error:
            document, damage = None, str(error)
        lines.append(Line(number, content, document, damage, is_whole))
    return lines


# -- kinds -----------------------------------------------------------------------------------------------


def check(value: Any, kind: Kind, where: str = "") -> None:
    """Check that a value is of a kind.

    Args:
        value: What :func:`parse` returned.
        kind: What it has to be; see the table of the module.
        where: Where it stands.

    Raises:
        RecordError: It is not; the message says where, and what is there.
    """
    if problem := next(_problems(value, kind, where), ""):
        raise RecordError(problem)


def damage_in(document: dict[str, Any], kind: dict[str, Kind]) -> dict[str, str]:
    """Return what is wrong with each field of an object, by name; the fields that are sound are left out."""
    fields = {
        name.removesuffix("?"): next(_problems(document, {name: value}, ""), "")
        for name, value in kind.items()
    }
    return {name: problem for name, problem in fields.items() if problem}


def _problems(value: Any, kind: Kind, where: str) -> Iterator[str]:
    """Yield what is wrong with a value, the first first."""
    place = where or "it"
    if isinstance(kind, tuple):
        if all(next(_problems(value, one, where), "") for one in kind):
            yield f"{place} is {_shown(value)}, not {' or '.join(map(_described, kind))}"
    elif isinstance(kind, list):
        if not isinstance(value, list):
            yield f"{place} is {_shown(value)}, not a list"
            return
        for number, item in enumerate(value):
            yield from _problems(item, kind[0], f"{where}[{number}]")
    elif isinstance(kind, dict):
        if not isinstance(value, dict):
            yield f"{place} is {_shown(value)}, not an object"
            return
        yield from _problems_of_fields(value, kind, where)
    elif not _is(value, kind):
        yield f"{place} is {_shown(value)}, not {_described(kind)}"


def _problems_of_fields(value: dict[str, Any], kind: dict[Any, Kind], where: str) -> Iterator[str]:
    prefix = f"{where}." if where else ""
    if str in kind:
        for name, item in value.items():
            yield from _problems(item, kind[str], f"{prefix}{name[:_SHOWN_CHARACTERS]}")
        return
    for wanted, inner in kind.items():
        name = wanted.removesuffix("?")
        if name in value:
            yield from _problems(value[name], inner, f"{prefix}{name}")
        elif name == wanted:
            yield f"{prefix}{name} is missing"


def _is(value: Any, kind: Kind) -> bool:
    if isinstance(kind, Between):
        is_number = type(value) is int or (type(value) is float and not kind.whole)
        return is_number and kind.low <= value and (kind.high is None or value <= kind.high)
    if kind is None:
        return value is None
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def _described(kind: Kind) -> str:
    if isinstance(kind, Between):
        what = "a whole number" if kind.whole else "a number"
        return f"{what} from {kind.low:,} {'on' if kind.high is None else f'to {kind.high:,}'}"
    if isinstance(kind, list | dict):
        kind = type(kind)
    names = {
        None: "null",
        str: "text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names[kind]


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            dots = "…" if len(value) > _SHOWN_CHARACTERS else ""
            return ascii(value[:_SHOWN_CHARACTERS]) + dots
        case list():
            return f"a list of {len(value):,}"
        case dict():
            return "an object"
        case _:
            return str(value)
