"""Answer an option that a command does not have: by its name here, or by the nearest of that command.

``foreign_options.tsv`` has a row for each option that people know from other tools (timm's and fastai's
scripts, ultralytics, torchvision's references, Keras): the option, the commands where it is answered, and
what to write here. ``{value}`` stands for the value that was given. A row for ``--option=value`` answers a
value that an option of the command does not take.
"""

from __future__ import annotations

import csv
from importlib import resources
from typing import TYPE_CHECKING

from deepresidual.errors import ConfigurationError, nearest, quoted
from deepresidual.recipe import RENAMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["foreign_options", "refuse_foreign_options", "unknown_words"]


def foreign_options(command: str) -> dict[str, str]:
    """Return the options of other tools that are answered at a command, each with what to write here."""
    table = resources.files("deepresidual.cli") / "foreign_options.tsv"
    rows = csv.DictReader(table.read_text("utf-8").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row["option"]: row["answer"] for row in rows if command in row["commands"].split()}


def refuse_foreign_options(command: str, words: Sequence[str]) -> None:
    """Answer an option of another tool, or one that has another name now, by what it is called here.

    Raises:
        ConfigurationError: There is one among the words that follow a command.
    """
    answers = foreign_options(command)
    for place, word in enumerate(words):
        if word == "--":
            return
        name, value = _option(word)
        renamed = RENAMED.get(name.removeprefix("--").replace("-", "_")) if command == "train" else None
        if renamed and name.startswith("--"):
            raise ConfigurationError(f"{name} is now --{renamed.replace('_', '-')}")
        if answer := answers.get(name):
            following = words[place + 1] if place + 1 < len(words) else ""
            value = value or ("" if following.startswith("-") else following) or "VALUE"
            placed = answer.replace("{value}", value)
            placed = answers.get(placed.replace(" ", "="), placed)
            raise ConfigurationError(f"residual {command} has no option {name}", remedy=_remedy(placed))
        value = value or (words[place + 1] if place + 1 < len(words) else "")
        if answer := answers.get(f"{name}={value.lower()}"):
            raise ConfigurationError(f"residual {command} has no {name} {value}", remedy=_remedy(answer))


def _remedy(answer: str) -> str:
    return f"here it is {answer}" if answer.startswith("-") else answer


def unknown_words(command: str, words: Sequence[str], options: Iterable[str]) -> ConfigurationError:
    """Return the error for words that a command does not know, at least one.

    Args:
        command: Name of the command.
        words: The words, in order.
        options: The options of the command.
    """
    name = next((_option(word)[0] for word in words if word.startswith("-")), None)
    if name is None:
        return ConfigurationError(
            f"residual {command} has no argument for {quoted(words[0])}",
            remedy=f"see 'residual {command} --help'",
        )
    found = f"residual {command} has no option {name}"
    close = _begun(name, options) or nearest(name, options, cutoff=0.65)
    foreign = foreign_options(command)
    if not close and (meant := nearest(name, foreign, cutoff=0.8)):
        return ConfigurationError(
            f"{found} (nearest: {meant[0]} of other tools)",
            remedy=_remedy(foreign[meant[0]].replace("{value}", "VALUE")),
        )
    return ConfigurationError(
        f"{found} (nearest: {', '.join(close)})" if close else found,
        remedy=f"see 'residual {command} --help-all'",
    )


def _option(word: str) -> tuple[str, str]:
    """Return the option that a word begins with, spelled as options are, and the value behind ``=``."""
    name, _, value = word.partition("=")
    return (name.replace("_", "-") if name.startswith("--") else name), value


def _begun(name: str, options: Iterable[str]) -> list[str]:
    """Return the first few options that begin with what was given."""
    return [option for option in options if option.startswith(name)][:3] if len(name) > 3 else []
