"""``Head``: which maps the classifier reads, and what it keeps of each; the mean of the last is usual.

A classifier on the last map alone is the head of the papers. Features of several stages, and deviations
beside means, serve a classifier that is fitted to a backbone learned on something else: of a network trained
on small pictures the earlier stages and the deviations hold what the last mean no longer does.

Example:
    >>> Head(stages=("layer2", "layer3"), statistics=("mean", "std")).to_dict()
    {'stages': ['layer2', 'layer3'], 'statistics': ['mean', 'std']}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from deepresidual.errors import ConfigurationError, quoted
from deepresidual.fields import check_names

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Head", "Statistic"]

Statistic: TypeAlias = Literal["mean", "std"]
"""What is kept of a channel of a map: the mean over its positions, or the standard deviation (of the
population, without Bessel's correction)."""

_MOST_STAGES = 8


@dataclass(frozen=True)
class Head:
    """What the classifier reads: of each stage, each statistic over the positions of each channel.

    Features are ordered by stage, then by statistic, then by channel.

    Attributes:
        stages: Names of the stages that are read, ``layer1`` and so on, in the order of the network, the
            last one among them. Empty: the last alone.
        statistics: Statistics of each channel, in the order ``mean``, ``std``.

    Raises:
        ConfigurationError: A field is out of range, naming the field.
    """

    stages: tuple[str, ...] = ()
    statistics: tuple[Statistic, ...] = ("mean",)

    def __post_init__(self) -> None:
        if not _is_texts(self.stages) or len(set(self.stages)) < len(self.stages):
            raise ConfigurationError(
                f"stages of the head is {quoted(self.stages)}", expected="names of stages, each once"
            )
        if len(self.stages) > _MOST_STAGES:
            raise ConfigurationError(
                f"the head reads {len(self.stages)} stages", expected=f"at most {_MOST_STAGES}"
            )
        known = get_args(Statistic)
        in_order = _is_texts(self.statistics) and self.statistics == tuple(
            name for name in known if name in self.statistics
        )
        if not in_order or not self.statistics:
            raise ConfigurationError(
                f"statistics of the head is {quoted(self.statistics)}",
                expected=f"one or both of {', '.join(known)}, in this order",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        return {"stages": list(self.stages), "statistics": list(self.statistics)}

    @classmethod
    def from_dict(cls, fields: object) -> Head:
        """Build a head from JSON types; unknown, missing and mistyped fields are errors.

        Raises:
            ConfigurationError: A field is unknown, missing, of the wrong type or out of range.
        """
        if not isinstance(fields, dict):
            raise ConfigurationError(
                f"head is {quoted(fields)}", expected="an object of stages and statistics"
            )
        values: Mapping[str, Any] = fields
        check_names(values, ("stages", "statistics"), ("stages", "statistics"), "the head")
        stages, statistics = (
            tuple(value) if isinstance(value, list) else value
            for value in (values["stages"], values["statistics"])
        )
        return cls(stages, statistics)


def _is_texts(value: object) -> bool:
    return type(value) is tuple and all(type(item) is str for item in value)


USUAL_HEAD = Head()
"""The mean of the last map, as in the papers."""
