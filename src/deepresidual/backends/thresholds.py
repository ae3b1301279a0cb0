"""``Thresholds``: from which probability on an image is given a label, where it may have several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepresidual.data.source.multilabel import MULTILABEL
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.strict_json import Between, RecordError, check

__all__ = ["MULTILABEL", "Thresholds"]


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of all labels, and where they come from.

    Attributes:
        values: A probability for each label, in the model's order.
        chosen_on: Name of the split that they were chosen on.
        fingerprint: Fingerprint of that split; empty: not known.
    """

    values: tuple[float, ...]
    chosen_on: str
    fingerprint: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {"values": list(self.values), "chosen_on": self.chosen_on, "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], num_labels: int) -> Thresholds:
        """Build it from what :meth:`to_dict` returned.

        Raises:
            ConfigurationError: A field is missing or no probability.
        """
        try:
            check(fields, {"values": [Between(0, 1)], "chosen_on": str, "fingerprint": str})
        except RecordError as error:
            raise ConfigurationError(f"the thresholds cannot be read ({error})") from error
        if len(fields["values"]) != num_labels:
            raise ConfigurationError(
                f"there are {len(fields['values'])} thresholds for {num_labels} labels", expected="one each"
            )
        return cls(tuple(fields["values"]), fields["chosen_on"], fields["fingerprint"])
