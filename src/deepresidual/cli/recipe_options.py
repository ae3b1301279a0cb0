"""Every field of a recipe as an option of the command line, typed and explained as the recipe itself says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import tyro

from deepresidual.cli.options import REGISTRY, is_brief, option_spec
from deepresidual.fields import field_types, sentences
from deepresidual.recipe import GROUPS, setting_homes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tyro.constructors import StructConstructorSpec, StructFieldSpec, StructTypeInfo

__all__ = ["RecipeOptions"]

YesNo = Literal["yes", "no"]


@dataclass(frozen=True)
class RecipeOptions:
    """Fields of the recipe that were set on the command line; the others are as the recipe has them."""

    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fit_memory(self) -> bool:
        """Whether batches are split into micro-batches that fit into memory (``--batch-size auto``)."""
        return self.values.get("batch_size") == "auto"

    @property
    def changes(self) -> dict[str, Any]:
        """The fields as :meth:`Recipe.changed` takes them."""
        homes = setting_homes()
        return {
            name: value == "yes" if field_types(homes[name])[name] is bool else value
            for name, value in self.values.items()
            if value != "auto"
        }


@REGISTRY.struct_rule
def _rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Build the options from groups, each with its heading, and a group from its fields."""
    if info.type is RecipeOptions:
        return option_spec(_from_groups, [_group(heading, group) for heading, group in GROUPS.items()])
    if info.type in GROUPS.values():
        types, explained = field_types(info.type), sentences(info.type)
        return option_spec(
            dict,
            [
                tyro.constructors.StructFieldSpec(name, *_option(name, types[name], explained[name]))
                for name in types
            ],
        )
    return None


def _group(heading: str, group: type[Any]) -> StructFieldSpec:
    # The few options of the short help need no headings.
    argument = tyro.conf.arg(name="" if is_brief() else heading, prefix_name=False)
    kind: Any = Annotated[group, argument]
    return tyro.constructors.StructFieldSpec(
        heading, kind, tyro.MISSING_NONPROP, (group.__doc__ or "").partition("\n")[0]
    )


def _from_groups(**groups: dict[str, Any]) -> RecipeOptions:
    values = {name: value for group in groups.values() for name, value in group.items()}
    return RecipeOptions({name: value for name, value in values.items() if value is not None})


def _option(name: str, hint: Any, explained: str) -> tuple[Any, None, str]:
    """Return type, default and help of an option: none is the recipe's own value."""
    kind = _option_type(hint)
    if name == "batch_size":
        kind = int | Literal["auto"]
        explained += " auto: the recipe's, in micro-batches that fit into memory."
    annotated: Any = Annotated[kind | None, tyro.conf.arg(help_behavior_hint="")]
    if get_origin(kind) is Literal:
        annotated = Annotated[annotated, _one_of(get_args(kind))]
    return annotated, None, explained


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
