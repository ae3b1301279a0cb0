"""The plan of a run as a value: everything that decides its bits.

:func:`deepresidual.training.plan.make_plan` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from deepresidual.data.sampler import steps_until_epoch
from deepresidual.errors import ConfigurationError
from deepresidual.fields import check_seed
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Recipe
from deepresidual.runtime.compute import Precision
from deepresidual.spec import DetectorSpec, NetworkSpec, ResNetSpec

BadSamples: TypeAlias = Literal["stop", "skip"]

# Sides of growing training images are multiples of this: few sizes, and whole pixels after every stride.
_SIDE_MULTIPLE = 4

_SHOWN_CHARACTERS = 80  # of a value in a list of differences


@dataclass(frozen=True)
class Plan:
    """A run before it starts.

    Attributes:
        model: Name of the network in the zoo.
        spec: Its architecture, with the classes and channels of the data.
        preprocess: How images become its input.
        recipe: Its optimization and augmentation.
        seed: Decides the first weights, the order and every augmentation.
        precision: Precision of the forward and backward pass.
        precision_reason: Why this one: asked for, or what was measured; empty in runs of older versions.
        compiled: Whether the network is compiled.
        weights: SHA-256 of the weights to start from; empty where they are drawn.
        data: Name of the data set.
        classes: Names of its classes.
        num_samples: Size of its training split.
        num_held_out: Size of the split that training watches.
        validation: Share of the training images that is held out.
        bad_samples: Stop at, or skip, unreadable samples.
        fingerprint: Hashes of the splits.
        task: What is learned; a name of :data:`deepresidual.tasks.task.TASKS`.
        class_counts: Training images of each class, where training depends on them; else empty.
    """

    model: str
    spec: NetworkSpec
    preprocess: Preprocess
    recipe: Recipe
    seed: int
    precision: Precision
    precision_reason: str
    compiled: bool
    weights: str
    data: str
    classes: tuple[str, ...]
    num_samples: int
    num_held_out: int
    validation: float
    bad_samples: BadSamples
    fingerprint: dict[str, str]
    task: str = "classification"
    class_counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @property
    def backbone(self) -> ResNetSpec:
        """The residual network: all of the network, or the part of a detector that reads the image."""
        return self.spec if isinstance(self.spec, ResNetSpec) else self.spec.backbone

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        steps = self.recipe.steps
        return steps if steps is not None else self.first_step_of_epoch(self.recipe.epochs)

    @property
    def warmup_steps(self) -> int:
        """Updates of the warm-up, at most the whole run."""
        steps = self.recipe.warmup_steps
        if steps is None:
            steps = self.first_step_of_epoch(self.recipe.warmup_epochs)
        return min(steps, self.total_steps)

    @property
    def train_px(self) -> int:
        """Side of the training images at the end of the run, in pixels."""
        return self.recipe.train_px or self.preprocess.crop_px

    def side_px(self, step: int) -> int:
        """Return the side of the training images of update ``step``, in pixels."""
        first, last = self.recipe.start_px, self.train_px
        if first is None or first >= last:
            return last
        progress = min(1.0, step / (self.recipe.growth_share * self.total_steps))
        return min(last, first + int(progress * (last - first) / _SIDE_MULTIPLE + 0.5) * _SIDE_MULTIPLE)

    def first_step_of_epoch(self, epoch: float) -> int:
        """Return the number of updates after which ``epoch`` epochs have been seen."""
        return steps_until_epoch(epoch, self.num_samples, self.recipe.batch_size)

    def evaluation_steps(self) -> list[int]:
        """Return the steps after which the run is evaluated and saved; the last step is always one."""
        ends: list[int] = []
        number = 1
        while (end := self.first_step_of_epoch(number * self.recipe.evaluate_every)) < self.total_steps:
            ends += [end] if end > (ends[-1] if ends else 0) else []
            number += 1
        return [*ends, self.total_steps]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        return {
            **{
                name: getattr(self, name)
                for name in self.__dataclass_fields__
                # So older versions read what they know.
                if (name != "task" or self.task != "classification")
                and (name != "class_counts" or self.class_counts)
            },
            "spec": self.spec.to_dict(),
            "preprocess": self.preprocess.to_dict(),
            "recipe": self.recipe.to_dict(),
            "classes": list(self.classes),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Plan:
        """Build a plan from what :meth:`to_dict` returned, in this version or an earlier one."""
        try:
            kind = DetectorSpec if "backbone" in fields["spec"] else ResNetSpec
            spec, recipe = kind.from_dict(fields["spec"]), Recipe.from_dict(fields["recipe"])
            if "bce_sum" not in fields["recipe"]:
                recipe = in_earlier_terms(recipe, spec.num_classes)
            return cls(
                **{
                    "precision_reason": "",
                    **fields,
                    "spec": spec,
                    "preprocess": Preprocess.from_dict(fields["preprocess"]),
                    "recipe": recipe,
                    "classes": tuple(fields["classes"]),
                    "class_counts": tuple(fields.get("class_counts", ())),
                }
            )
        except (TypeError, KeyError) as error:
            raise ConfigurationError(f"the plan cannot be read ({error})") from error

    def differences(self, other: Plan) -> list[str]:
        """Return ``field: here → there`` for every field that differs in ``other``, except the reason."""
        alike = replace(other, precision_reason=self.precision_reason)
        return _differences("", self.to_dict(), alike.to_dict())


def in_earlier_terms(recipe: Recipe, num_classes: int) -> Recipe:
    """Translate a recipe from before ``bce_sum``: it meant a sum, of labels smoothed before the threshold.

    Smoothing makes of a target t (1 − ε)·t + ε / classes, so where a threshold follows it only moves that.
    """
    if recipe.loss != "bce":
        return recipe
    threshold, smoothing = recipe.bce_threshold, recipe.label_smoothing
    if threshold and 0 < smoothing < 1:
        moved = (threshold - smoothing / num_classes) / (1 - smoothing)
        recipe = replace(recipe, bce_threshold=min(max(moved, 1e-9), 1 - 1e-9), label_smoothing=0.0)
    return replace(recipe, bce_sum=True)


def _differences(prefix: str, here: Any, there: Any) -> list[str]:
    if isinstance(here, dict) and isinstance(there, dict):
        names = dict.fromkeys([*here, *there])
        return [
            line
            for name in names
            for line in _differences(f"{prefix}{name}.", here.get(name), there.get(name))
        ]
    if here == there:
        return []
    return [f"{prefix.removesuffix('.')}: {_short(here)} → {_short(there)}"]


def _short(value: Any) -> str:
    # A mean image is a hundred thousand characters.
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
