"""Read settings out of the configuration of another library: nested mappings, each value checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from deepresidual.errors import ConfigurationError, shortened

Value = TypeVar("Value")


class Settings:
    """A configuration, or nothing, in which every setting has its usual value.

    Attributes:
        is_there: Whether there is a configuration.
    """

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        self.is_there = document is not None
        self._document = document or {}

    def get(self, path: str, usual: Value) -> Value:
        """Return a setting by its names joined by dots; ``usual`` where it is not given, or null.

        Raises:
            ConfigurationError: It is of another type than the usual value; lists are tuples, of numbers.
        """
        found = self.raw(path)
        if found is None:
            return usual
        given = _as_tuples(found)
        if isinstance(usual, float) and type(given) is int:
            given = float(given)
        if type(given) is not type(usual) or not _is_numeric(given):
            raise ConfigurationError(
                f"{path} of the configuration is {shortened(repr(found), 80)}",
                expected=f"a value like {usual!r}",
            )
        result: Value = given
        return result

    def raw(self, path: str) -> Any:
        """Return a setting as it is; ``None`` where it is not given. Lists count from 0."""
        found: Any = self._document
        for name in path.split("."):
            if isinstance(found, list | tuple) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def require(self, path: str, usual: Value, what: str) -> None:
        """Refuse a setting that is not the usual one.

        Args:
            path: The setting.
            usual: Its usual value, which is all that Residual has.
            what: What the setting is about, for the message.

        Raises:
            ConfigurationError: It is another one.
        """
        if (found := self.get(path, usual)) != usual:
            raise ConfigurationError(f"{what} ({path}) is {found!r}", expected=f"{usual!r}")


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _is_numeric(value: Any) -> bool:
    """Return whether a tuple holds numbers, or tuples of them; anything else is what its type says."""
    if not isinstance(value, tuple):
        return True
    return all(_is_numeric(item) if isinstance(item, tuple) else type(item) in (int, float) for item in value)
