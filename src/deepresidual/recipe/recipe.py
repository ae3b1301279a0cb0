"""A recipe as a value: every choice of how a network is trained, and nothing about data or hardware."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.fields import check_fields
from deepresidual.recipe.augment import Augment, Mix
from deepresidual.recipe.groups import (
    AveragingFields,
    BeginningFields,
    ChoiceFields,
    LengthFields,
    LossFields,
    NormalizationFields,
    OptimizerFields,
    RegularizationFields,
    SafetyFields,
    ScheduleFields,
    SizeFields,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GROUPS", "RENAMED", "Recipe", "setting_homes", "with_new_names"]

GROUPS: dict[str, type[Any]] = {
    "length": LengthFields,
    "beginning": BeginningFields,
    "optimizer": OptimizerFields,
    "schedule": ScheduleFields,
    "loss": LossFields,
    "batch normalization": NormalizationFields,
    "regularization": RegularizationFields,
    "averaging": AveragingFields,
    "evaluation": ChoiceFields,
    "safety": SafetyFields,
    "sizes": SizeFields,
    "augmentation": Augment,
    "mixing": Mix,
}
"""The fields of a recipe, by the heading that they have in the help. JSON has them flat, except for those of
``augment`` and ``mix``."""

RENAMED = {
    "second_beta": "beta2",
    "decay": "step_decay",
    "backbone_rate": "backbone_lr_scale",
    "repeats": "repeated_augmentation",
    "growing": "growth_share",
    "mean": "subtract_mean",
    "pca_color": "pca_lighting",
    "select": "keep_model",
}
"""Fields by their names before they had those of other libraries; run folders and checkpoints hold them."""


_LATER: dict[str, Any] = {
    "interpolation": None,
    "classifier_init": "random",
    "head_stages": "last",
    "unfreeze_share": 0.0,
    "stage_lr_decay": 1.0,
    "average_share": 0.5,
    "balance": "none",
    "class_prior": "training",
}
"""Fields that came to recipes later, with the values that say nothing."""

_LATER_AUGMENT: dict[str, Any] = {"pad_fill": "black", "min_scale": 0.1, "max_scale": 2.0}
"""Fields that came to augmentations later, with the values that say nothing."""


@dataclass(frozen=True)
class Recipe(  # the last base comes first among the fields
    SizeFields,
    SafetyFields,
    ChoiceFields,
    AveragingFields,
    RegularizationFields,
    NormalizationFields,
    LossFields,
    ScheduleFields,
    OptimizerFields,
    BeginningFields,
    LengthFields,
):
    """Settings of a training; :mod:`deepresidual.recipe.groups` holds most of the fields.

    Raises:
        ConfigurationError: A field is out of range, naming the field and the range.
    """

    name: str = dataclasses.field(kw_only=True)
    """Its name."""
    augment: Augment = dataclasses.field(default_factory=Augment, kw_only=True)
    """Random changes of each training image."""
    mix: Mix = dataclasses.field(default_factory=Mix, kw_only=True)
    """Mixing of images in pairs."""

    def __post_init__(self) -> None:
        check_fields(self)
        if list(self.milestones) != sorted(self.milestones) or not all(0 < at < 1 for at in self.milestones):
            raise ConfigurationError(
                f"milestones are {list(self.milestones)}",
                expected="rising fractions of the run between 0 and 1",
            )
        if self.nesterov and not self.momentum:
            raise ConfigurationError("nesterov needs momentum", expected="a momentum above 0")
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ConfigurationError(
                f"micro_batch_size is {self.micro_batch_size} and batch_size is {self.batch_size}",
                expected="a batch of whole micro-batches",
            )
        if self.precise_bn and self.batch_norm == "frozen":
            raise ConfigurationError(
                "precise_bn would replace the statistics that batch_norm 'frozen' keeps",
                expected="one of both",
            )
        if self.warmup_until_error is not None and self.warmup != "constant":
            raise ConfigurationError(
                "warmup_until_error needs a constant warm-up", expected="warmup 'constant'"
            )

    @property
    def weighs_classes(self) -> bool:
        """Whether training depends on how many images each class has."""
        return self.balance != "none" or self.class_prior != "training"

    @property
    def measures_beginning(self) -> bool:
        """Whether what the run begins with is measured and kept before the first update."""
        return self.classifier_init == "probe" or self.keep_model in ("best-loss", "average")

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe with ``changes`` to its fields, or to those of its ``augment`` and ``mix``.

        A number of epochs takes the place of a number of steps.

        Raises:
            UnknownNameError: There is no such field; the message names the nearest.
            ConfigurationError: The field has another name now, or its value is not allowed.
        """
        homes = setting_homes()
        for name in changes:
            if name in RENAMED:
                raise ConfigurationError(f"{name} is now {RENAMED[name]}")
            if name not in homes:
                raise UnknownNameError("recipe field", name, sorted(homes))
        augment, mix = (
            {name: value for name, value in changes.items() if homes[name] is home} for home in (Augment, Mix)
        )
        own = {name: value for name, value in changes.items() if homes[name] not in (Augment, Mix)}
        if "epochs" in own and "steps" not in own:
            own["steps"] = None
        if "warmup_epochs" in own and "warmup_steps" not in own:
            own["warmup_steps"] = None
        return dataclasses.replace(
            self,
            augment=dataclasses.replace(self.augment, **augment),
            mix=dataclasses.replace(self.mix, **mix),
            **own,
        )

    def fingerprint(self) -> str:
        """Return a hash of every field, under its first name: what model cards and records say stays so."""
        fields = _renamed(self.to_dict(), {new: old for old, new in RENAMED.items()})
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back.

        What came to recipes later is there only where it says something, so that fingerprints and records of
        runs that do without stay what they were.
        """
        fields = dataclasses.asdict(self)
        for name, usual in _LATER.items():
            if fields[name] == usual:
                del fields[name]
        for name, usual in _LATER_AUGMENT.items():
            if fields["augment"][name] == usual:
                del fields["augment"][name]
        if self.loss != "bce" and not self.bce_sum:
            del fields["bce_sum"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Build a recipe from what :meth:`to_dict` returned, in this version or an earlier one.

        A field that is not there has the meaning that it had before there was one: ``bce`` was a sum then.
        """
        try:
            values = with_new_names(fields)
            values.setdefault("bce_sum", values.get("loss") == "bce")
            values["augment"] = Augment(**values["augment"])
            values["mix"] = Mix(**values["mix"])
            values["milestones"] = tuple(values["milestones"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ConfigurationError(f"the recipe cannot be read ({error})") from error


def with_new_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON fields of a recipe, of this version or an earlier one, under the names of this one."""
    return _renamed(fields, RENAMED)


def _renamed(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        names.get(name, name): _renamed(value, names) if isinstance(value, dict) else value
        for name, value in fields.items()
    }


def setting_homes() -> dict[str, type[Any]]:
    """Return every field that can be set by name, with the dataclass of its group."""
    return {field.name: group for group in GROUPS.values() for field in dataclasses.fields(group)}
