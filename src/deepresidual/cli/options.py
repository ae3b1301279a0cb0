"""Declare options of commands: optional ones, paths, and the fields of a dataclass."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
import types
from contextvars import ContextVar
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import tyro

from deepresidual.cli.parse_errors import in_a_sentence
from deepresidual.cli.unknown_options import refuse_foreign_options, unknown_words
from deepresidual.fields import sentences
from deepresidual.runtime.files import expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tyro.constructors import StructConstructorSpec, StructFieldSpec, StructTypeInfo

__all__ = [
    "REGISTRY",
    "LocalPath",
    "Maybe",
    "as_options",
    "is_brief",
    "option_names",
    "option_spec",
    "print_completion",
    "run",
]

T = TypeVar("T")

Maybe: TypeAlias = Annotated[T | None, tyro.conf.arg(help_behavior_hint="")]
"""An option whose default is decided later; its help says by what."""

LocalPath: TypeAlias = Annotated[
    Path,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: expanded(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A file or folder; a leading ``~`` is expanded, which the shell does not do in ``--out=~/x``."""

REGISTRY = tyro.constructors.ConstructorRegistry()
"""Constructors of dataclasses of options for tyro; :func:`as_options` adds one."""


def as_options(
    kind: type[Any],
    *,
    without: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
    explained: Mapping[str, str] | None = None,
) -> None:
    """Make an option of each field of a dataclass, explained by the sentence under the field.

    Args:
        kind: The dataclass.
        without: Fields that are no options.
        renamed: Names of options that differ from those of the fields.
        explained: Other sentences than those under the fields.
    """
    names = {field.name: field.name for field in dataclasses.fields(kind) if field.name not in without}
    names |= renamed or {}
    explained, hints = {**sentences(kind), **(explained or {})}, get_type_hints(kind)
    fields = tuple(
        tyro.constructors.StructFieldSpec(
            names[field.name], _option_type(hints[field.name]), field.default, explained[field.name]
        )
        for field in dataclasses.fields(kind)
        if field.name in names
    )

    def built(**values: Any) -> Any:
        return kind(**{field: values[option] for field, option in names.items()})

    @REGISTRY.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        return option_spec(built, fields) if info.type is kind else None


# -- help ------------------------------------------------------------------------------------------------

_EVERYDAY = {
    "train": frozenset(
        [
            "model",
            "out",
            "weights",
            "minutes",
            "recipe",
            "epochs",
            "batch_size",
            "learning_rate",
            "image_px",
            "validation",
            "seed",
            "precision",
            "device",
            "resume",
            "dry_run",
            "json",
        ]
    ),
    "evaluate": frozenset(
        [
            "split",
            "views",
            "image_px",
            "details",
            "metric",
            "predictions",
            "top_k",
            "corrupt",
            "fit_temperature",
            "batch_size",
            "precision",
            "device",
            "json",
        ]
    ),
}
"""The options that ``--help`` of a command with many shows; ``--help-all`` shows every one."""

_CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)

_shown: ContextVar[frozenset[str] | None] = ContextVar("_shown", default=None)


def run(name: str, function: Callable[..., int], words: Sequence[str]) -> int:
    """Run a command with the words that follow its name, or show its help and leave.

    Raises:
        ConfigurationError: There is an option that the command does not have, a value that it cannot have, or
            an argument too many.
    """
    refuse_foreign_options(name, words)
    shown = _EVERYDAY.get(name) if {"-h", "--help"} & set(words) else None
    outer = _shown.set(shown)
    try:
        with in_a_sentence():
            call, unknown = tyro.cli(
                _deferred(_with_everyday_options(function) if shown else function),
                prog=f"residual {name}",
                args=["--help" if word == "--help-all" else word for word in words],
                config=_CONFIG,
                registry=REGISTRY,
                return_unknown_args=True,
            )
    finally:
        _shown.reset(outer)
        if shown:
            from deepresidual.cli.output import print_line

            print_line(f"Every option, under headings: residual {name} --help-all")
    if unknown:
        raise unknown_words(name, unknown, option_names(name, function))
    return call()


def option_names(name: str, function: Callable[..., int]) -> list[str]:
    """Return the options of a command, as its help lists them."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(function, prog=f"residual {name}", args=["--help"], config=_CONFIG, registry=REGISTRY)
    return re.findall(r"^\W +(?:-\w, )?(--[\w-]+)", said.getvalue(), re.MULTILINE)


def print_completion(shell: str, commands: Mapping[str, Callable[..., int]]) -> None:
    """Print the script that completes commands and their options in a shell."""
    with contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            dict(commands),
            prog="residual",
            args=["--tyro-print-completion", shell],
            config=_CONFIG,
            registry=REGISTRY,
        )


def _deferred(function: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Return a function of the same arguments that returns the call, to be made when all words are known."""

    @functools.wraps(function)
    def bound(*args: Any, **options: Any) -> Callable[[], int]:
        return functools.partial(function, *args, **options)

    return bound


def is_brief() -> bool:
    """Return whether only the everyday options are shown."""
    return _shown.get() is not None


def option_spec(build: Callable[..., Any], fields: Sequence[StructFieldSpec]) -> StructConstructorSpec:
    """Return tyro's specification of a value built from options; ``--help`` shows the everyday ones."""
    return tyro.constructors.StructConstructorSpec(
        build,
        tuple(
            dataclasses.replace(field, type=_hidden_unless_shown(field.name, field.type)) for field in fields
        ),
    )


def _hidden_unless_shown(name: str, hint: Any) -> Any:
    shown = _shown.get()
    is_group = hasattr(hint, "__metadata__") and dataclasses.is_dataclass(hint.__origin__)
    return hint if shown is None or name in shown or is_group else Annotated[hint, tyro.conf.Suppress]


def _with_everyday_options(function: Callable[..., int]) -> Callable[..., int]:
    """Return a copy of a command, to be shown, with its other options suppressed."""
    assert isinstance(function, types.FunctionType)  # noqa: S101  # for mypy
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    copy.__kwdefaults__, copy.__doc__ = function.__kwdefaults__, function.__doc__
    options = function.__kwdefaults__ or {}
    copy.__annotations__ = {
        name: _hidden_unless_shown(name, hint) if name in options else hint
        for name, hint in get_type_hints(function, include_extras=True).items()
    }
    return copy


def _option_type(hint: Any) -> Any:
    """Return a type that can be written on the command line: ``str`` where one of several types is text."""
    if not isinstance(hint, types.UnionType) and get_origin(hint) is not Union:
        return hint
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return Annotated[(str if str in kinds else kinds[0]) | None, tyro.conf.arg(help_behavior_hint="")]
