r"""Text from elsewhere (names of files and classes, contents of files) as a line for people.

A name can hold line breaks, bytes that are no UTF-8, and characters by which it could steer a terminal or
turn the order of the text around. They are shown as the escapes that Python and JSON have for them.

Example:
    >>> printable("a\nb\x1b[2J")
    'a\\nb\\x1b[2J'
    >>> shortened("0123456789", 7)
    '012…789'
"""

from __future__ import annotations

import re
import textwrap

from deepresidual.errors import escaped

MESSAGE_LENGTH = 4_000
"""Characters of a message at most; Linux takes paths of up to 4,096 bytes."""


def printable(text: str) -> str:
    """Return text on one line, with the escapes of Python for what is not printed."""
    return escaped(text)


def shortened(text: str, length: int = MESSAGE_LENGTH) -> str:
    """Return text as :func:`printable`, without its middle where it has more than ``length`` characters."""
    # What is cut off anyway need not be escaped: a name may have megabytes.
    text = text if len(text) <= 2 * length else f"{text[:length]}…{text[-length:]}"
    shown = printable(text)
    if len(shown) <= length:
        return shown
    head = length // 2
    return f"{shown[:head]}…{shown[len(shown) - (length - head - 1) :]}"


def wrapped(line: str, columns: int) -> list[str]:
    """Return a line as lines of at most so many columns, broken between words.

    What follows the first goes on below the words behind its label, where there is one: a word in front of
    two spaces or more, or spaces alone. A word that is longer than a line, such as a path, stays whole.
    """
    if len(line) <= columns:
        return [line]
    label = re.match(r"(?:\S+ {2,}| +)", line)
    indent = " " * len(label[0]) if label and len(label[0]) < columns // 2 else ""
    return textwrap.wrap(
        line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
