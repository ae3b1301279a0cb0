"""A recipe as a value: every choice of how a network is trained, and nothing about data or hardware."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from residual.errors import ConfigurationError, UnknownNameError
from residual.recipe import Augment

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Recipe", "Schedule"]

Schedule: TypeAlias = Literal["constant", "step", "cosine"]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained with SGD and momentum.

    Attributes:
        name: What it is called.
        epochs: Passes over the training samples; the last may be cut short by ``steps``.
        steps: Updates in all; where given it takes the place of ``epochs``.
        batch_size: Images an update.
        learning_rate: Highest learning rate.
        schedule: What becomes of it: ``constant``; ``step``: times ``decay`` at each milestone; ``cosine``:
            half a cosine down to zero.
        milestones: Where ``step`` drops, as fractions of the run.
        decay: Factor of each drop.
        warmup_epochs: Epochs of linear rise from nothing to the highest learning rate.
        momentum: Momentum of SGD.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: L2 penalty on every parameter, as in fb.resnet.torch.
        label_smoothing: Probability that the target gives to all classes alike, 0 to 1.
        augment: How training images are varied.

    Raises:
        ConfigurationError: A field is out of range, naming the field and the range.
    """

    name: str
    epochs: float
    batch_size: int
    learning_rate: float
    steps: int | None = None
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    augment: Augment = dataclasses.field(default_factory=Augment)

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise ConfigurationError(
                f"schedule is {self.schedule!r}", expected=f"one of {', '.join(get_args(Schedule))}"
            )
        for name, low, high in (
            ("epochs", 0, 1e6),
            ("batch_size", 1, 65_536),
            ("learning_rate", 0, 1000),
            ("decay", 0, 1),
            ("warmup_epochs", 0, 1e6),
            ("momentum", 0, 1),
            ("weight_decay", 0, 1),
            ("label_smoothing", 0, 1),
        ):
            value = getattr(self, name)
            whole = name == "batch_size"
            if type(value) is not int and (whole or type(value) is not float):
                raise ConfigurationError(
                    f"{name} is {value!r}", expected=f"a {'whole ' if whole else ''}number"
                )
            exclusive = name in ("epochs", "learning_rate", "decay")
            if not math.isfinite(value) or not low <= value <= high or (exclusive and value == 0):
                raise ConfigurationError(
                    f"{name} is {value}",
                    expected=f"a number {'above' if exclusive else 'from'} {low} to {high:g}",
                )
        if self.steps is not None and (type(self.steps) is not int or not 1 <= self.steps <= 10**9):
            raise ConfigurationError(f"steps is {self.steps}", expected="1 to 1,000,000,000")
        if list(self.milestones) != sorted(self.milestones) or not all(0 < at < 1 for at in self.milestones):
            raise ConfigurationError(
                f"milestones are {list(self.milestones)}",
                expected="rising fractions of the run between 0 and 1",
            )
        if self.nesterov and not self.momentum:
            raise ConfigurationError("nesterov needs momentum", expected="a momentum above 0")

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe with ``changes`` to its fields, or to those of its ``augment``.

        A number of epochs takes the place of a number of steps.

        Raises:
            UnknownNameError: There is no such field; the message names the nearest.
        """
        own = {field.name for field in dataclasses.fields(self)} - {"name", "augment"}
        varied = {field.name for field in dataclasses.fields(Augment)}
        for name in changes:
            if name not in own | varied:
                raise UnknownNameError("recipe field", name, sorted(own | varied))
        values = {name: value for name, value in changes.items() if name in own}
        if "epochs" in values and "steps" not in values:
            values["steps"] = None
        augment = dataclasses.replace(
            self.augment, **{name: value for name, value in changes.items() if name in varied}
        )
        return dataclasses.replace(self, augment=augment, **values)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Build a recipe from what :meth:`to_dict` returned."""
        try:
            values = dict(fields)
            values["augment"] = Augment(**values["augment"])
            values["milestones"] = tuple(values["milestones"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ConfigurationError(f"the recipe cannot be read ({error})") from error
