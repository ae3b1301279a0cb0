"""Say in one sentence why a value of an option cannot be taken: tyro draws a box around several.

tyro prints what is wrong and leaves with 2; there is no exception to catch. So what it prints is caught, and
what matters of it is said as every other error of a command is.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import TYPE_CHECKING

from deepresidual.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = {"FLOAT": "a number", "INT": "a whole number"}
_WHAT_FOLLOWS = re.compile(r"Got errors:|Argument helptext:|For full helptext")
_VALUE = re.compile(r"Error parsing (?P<option>\S+): (?P<why>.*)")
_KIND = re.compile(r"no type matching (?P<kind>\w+) could be instantiated from \['(?P<value>.*?)'\]")
_WHOLE = re.compile(r"invalid literal for int\(\) with base 10: '(?P<value>.*)'")
_REAL = re.compile(r"could not convert string to float: '(?P<value>.*)'")
_CHOICE = re.compile(
    r"invalid choice '(?P<value>.*)' for argument '(?P<option>.*?)'\. Expected one of (?P<all>.*)"
)
_MISSING = re.compile(r"Missing value for argument '(?P<option>.*?)'")


@contextlib.contextmanager
def in_a_sentence() -> Iterator[None]:
    """Turn the box that tyro draws within the block into an error of one sentence.

    Raises:
        ConfigurationError: An option has no value, or one that it cannot have.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise _error(said.getvalue()) from None


def _error(box: str) -> ConfigurationError:
    # Where the encoding lacks lines, the box is drawn of +, - and |.
    lines = [
        re.sub(r"[╭╮╰╯─│+|-]{3,}|^[│|╭╰+]|[│|╮╯+]$", "", line.strip()).strip() for line in box.splitlines()
    ]
    text = " ".join(line for line in lines if line)
    return _sentence(_WHAT_FOLLOWS.split(text)[0].strip())


def _sentence(text: str) -> ConfigurationError:
    if found := _CHOICE.search(text):
        # tyro has them in no order, and None among them where an option may be left out.
        named = sorted(set(re.findall(r"'([^']*)'", found["all"])) - {"None"})
        choices = ", ".join(named) or found["all"]
        return ConfigurationError(f"{found['option']} is {found['value']!r}", expected=f"one of {choices}")
    if found := _MISSING.search(text):
        return ConfigurationError(f"{found['option']} has no value")
    if (parsed := _VALUE.search(text)) is None:
        return ConfigurationError(text.rstrip("."))
    option, why = parsed["option"], parsed["why"]
    if found := _KIND.search(why):
        expected = _NUMBERS.get(found["kind"], found["kind"])
    elif found := _WHOLE.search(why):
        expected = "a whole number"
    elif found := _REAL.search(why):
        expected = "a number"
    else:
        return ConfigurationError(f"{option}: {why.rstrip('.')}")
    return ConfigurationError(f"{option} is {found['value']!r}", expected=expected)
