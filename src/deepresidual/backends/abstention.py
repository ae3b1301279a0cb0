"""``Abstention``: from which probability on a classifier answers, and what that was chosen by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepresidual.errors import ConfigurationError
from deepresidual.runtime.strict_json import Between, RecordError, check


@dataclass(frozen=True)
class Abstention:
    """A probability below which an image has no answer; kept in ``config.json``.

    Attributes:
        min_probability: The probability of the best class from which on there is an answer.
        precision_target: The share of right answers that it was chosen for.
        chosen_on: Name of the split that it was chosen on.
        count: Images of that split.
        answered: How many of them have an answer.
        correct: How many of these are right.
        fingerprint: Fingerprint of that split.
    """

    min_probability: float
    precision_target: float
    chosen_on: str
    count: int
    answered: int
    correct: int
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: object) -> Abstention:
        """Build it from what :meth:`to_dict` returned.

        Raises:
            ConfigurationError: A field is missing or of another type, or no probability.
        """
        number = Between(0, whole=True)
        kinds = {
            "min_probability": Between(0, 1),
            "precision_target": Between(0, 1),
            "chosen_on": str,
            "count": number,
            "answered": number,
            "correct": number,
            "fingerprint": str,
        }
        try:
            check(fields, kinds)
        except RecordError as error:
            raise ConfigurationError(f"the abstention cannot be read ({error})") from error
        known: Mapping[str, Any] = fields  # type: ignore[assignment]  # checked above
        return cls(**{name: known[name] for name in kinds})
