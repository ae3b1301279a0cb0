"""Every field of a recipe as an option of the command line, typed and explained as the recipe itself says."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_origin

import tyro

from deepresidual.errors import ConfigurationError
from deepresidual.recipe import RENAMED, setting_homes
from deepresidual.recipe.fields import field_types

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NO_CHANGES", "RecipeOptions", "explanations", "recipe_changes", "refuse_old_names"]

YesNo = Literal["yes", "no"]


def refuse_old_names(words: Sequence[str]) -> None:
    """Answer an option that has another name now with that name.

    Raises:
        ConfigurationError: There is one among the words of a command line.
    """
    for word in words:
        option = word.partition("=")[0]
        new = RENAMED.get(option.removeprefix("--").replace("-", "_"))
        if new and option.startswith("--"):
            raise ConfigurationError(f"{option} is now --{new.replace('_', '-')}")


def explanations(kind: type[Any]) -> dict[str, str]:
    """Return what the docstring of a dataclass says of each attribute, on one line."""
    text = inspect.getdoc(kind) or ""
    _, _, attributes = text.partition("Attributes:\n")
    attributes = attributes.split("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", attributes, re.MULTILINE | re.DOTALL)
    return {name: " ".join(words.split()).replace("``", "") for name, words in found}


def _option_type(hint: Any) -> Any:
    members = [member for member in getattr(hint, "__args__", ()) if member is not type(None)]
    if get_origin(hint) not in (Literal, tuple) and members:
        hint = members[0]
    return YesNo if hint is bool else hint


def _one_of(choices: tuple[str, ...]) -> tyro.constructors.PrimitiveConstructorSpec[str]:
    """Take one of ``choices``; by itself tyro would offer ``None`` among them, and not in their order."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(choices) + "}",
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: value is None or value in choices,
        str_from_instance=lambda value: [value],
        choices=choices,
    )


def _options() -> type[Any]:
    fields: list[tuple[str, Any, Any]] = []
    for name, home in setting_homes().items():
        kind = _option_type(field_types(home)[name])
        help_text = explanations(home).get(name, "")
        if name == "batch_size":
            kind = int | Literal["auto"]
            help_text += " auto: the recipe's, in micro-batches that fit into memory."
        option = tyro.conf.arg(help=help_text, help_behavior_hint="")
        annotated: Any = Annotated[kind | None, option]
        if get_origin(kind) is Literal:
            annotated = Annotated[annotated, _one_of(get_args(kind))]
        fields.append((name, annotated, dataclasses.field(default=None)))
    return dataclasses.make_dataclass("RecipeOptions", fields, frozen=True)


if TYPE_CHECKING:
    RecipeOptions: TypeAlias = Any
    NO_CHANGES: Any
else:
    RecipeOptions = _options()
    """What may be changed of a recipe; ``None`` leaves the recipe's own value."""
    NO_CHANGES = RecipeOptions()


def recipe_changes(options: Any) -> dict[str, Any]:
    """Return the fields that were set on the command line, as :meth:`Recipe.changed` takes them."""
    changes: dict[str, Any] = {}
    homes = setting_homes()
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value is None or value == "auto":
            continue
        is_bool = field_types(homes[field.name])[field.name] is bool
        changes[field.name] = value == "yes" if is_bool else value
    return changes
