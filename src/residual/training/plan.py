"""The plan of a run: everything that decides its bits, settled before a file is written.

What was left open ("auto", no recipe named) is decided here once and recorded; a resumed run reads the
record instead of deciding again, so a choice never changes half-way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from residual import zoo
from residual.data.decode import decode
from residual.data.sampler import steps_until_epoch
from residual.errors import ConfigurationError, DataError
from residual.preprocess import Preprocess
from residual.spec import ResNetSpec
from residual.training.recipe import Recipe
from residual.training.recipes import named_recipe, recipe_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from residual.data.source import SampleSource
    from residual.runtime.device import Precision

__all__ = ["Plan", "make_plan"]

# digits of scikit-learn: mean 4.88 and standard deviation 6.02 of ink, on a scale of 0 to 16.
_DIGITS = Preprocess(crop_px=16, resize_px=16, mean=(0.305,), std=(0.376,), channels="gray")


@dataclass(frozen=True)
class Plan:
    """A run before it starts.

    Attributes:
        model: Name of the network in the zoo.
        spec: Its architecture, with the classes and channels of the data.
        preprocess: How images become its input.
        recipe: How it is trained.
        seed: Decides the first weights, the order and every augmentation.
        precision: Precision of the forward and backward pass.
        data: Name of the data set.
        classes: Names of its classes.
        num_samples: Size of its training split.
        fingerprint: Hashes of its splits.
    """

    model: str
    spec: ResNetSpec
    preprocess: Preprocess
    recipe: Recipe
    seed: int
    precision: Precision
    data: str
    classes: tuple[str, ...]
    num_samples: int
    fingerprint: dict[str, str]

    def __post_init__(self) -> None:
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise ConfigurationError(f"seed is {self.seed!r}", expected="a whole number from 0 to 2^63 - 1")

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return self.recipe.steps or self.first_step_of_epoch(self.recipe.epochs)

    @property
    def warmup_steps(self) -> int:
        """Updates of the linear rise, at most the whole run."""
        return min(self.first_step_of_epoch(self.recipe.warmup_epochs), self.total_steps)

    def first_step_of_epoch(self, epoch: float) -> int:
        """Return the number of updates after which ``epoch`` epochs have been seen."""
        return steps_until_epoch(epoch, self.num_samples, self.recipe.batch_size)

    def epoch_ends(self) -> list[int]:
        """Return the steps after which the run is evaluated and saved: every epoch's end and the last."""
        ends: list[int] = []
        epoch = 1
        while (end := self.first_step_of_epoch(epoch)) < self.total_steps:
            ends += [end] if end > (ends[-1] if ends else 0) else []
            epoch += 1
        return [*ends, self.total_steps]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        return {
            "model": self.model,
            "spec": self.spec.to_dict(),
            "preprocess": self.preprocess.to_dict(),
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "precision": self.precision,
            "data": self.data,
            "classes": list(self.classes),
            "num_samples": self.num_samples,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Plan:
        """Build a plan from what :meth:`to_dict` returned."""
        try:
            return cls(
                **{
                    **fields,
                    "spec": ResNetSpec.from_dict(fields["spec"]),
                    "preprocess": Preprocess.from_dict(fields["preprocess"]),
                    "recipe": Recipe.from_dict(fields["recipe"]),
                    "classes": tuple(fields["classes"]),
                }
            )
        except (TypeError, KeyError) as error:
            raise ConfigurationError(f"the plan cannot be read ({error})") from error

    def differences(self, other: Plan) -> list[str]:
        """Return ``field: here → there`` for every field in which ``other`` differs."""
        return _differences("", self.to_dict(), other.to_dict())


def make_plan(
    source: SampleSource,
    *,
    model: str | None,
    recipe: Recipe | str | None,
    changes: Mapping[str, Any],
    image_px: int | None,
    seed: int,
    precision: Precision,
) -> Plan:
    """Settle every choice of a run.

    Args:
        source: The data set, with a training split.
        model: Name of a network; chosen by the size of the images where left out.
        recipe: A recipe or its name; the one that suits data and network where left out.
        changes: Fields of the recipe, and of its ``augment``, that take the place of the recipe's own.
        image_px: Side of the network's input; the usual one where left out.
        seed: Decides the first weights, the order and every augmentation.
        precision: Precision of the forward and backward pass.

    Raises:
        ConfigurationError: A name is unknown or a value is out of range.
        DataError: The data set has no split to train or to evaluate on, or an image cannot be decoded.
    """
    if "train" not in source.splits:
        raise DataError(f"{source.name} has no training split", expected="a folder or file called 'train'")
    _ = source.validation_split  # without one the first evaluation would fail, after an epoch
    name = model or _default_model(source)
    spec = zoo.entry(name).spec
    chosen = recipe if isinstance(recipe, Recipe) else None
    if chosen is None:
        chosen = named_recipe(recipe) if isinstance(recipe, str) else recipe_for(source.name, spec)
    preprocess = _DIGITS if source.name == "digits" else zoo.default_preprocess(spec)
    if image_px is not None:
        if type(image_px) is not int:
            raise ConfigurationError(f"image_px is {image_px!r}", expected="a whole number")
        preprocess = preprocess.at_size(image_px)
    settled = chosen.changed(changes)
    last_px = [layer.out_px for layer in spec.layers(preprocess.crop_px) if layer.kind == "conv"][-1]
    if settled.batch_size * last_px**2 == 1:
        raise ConfigurationError(
            f"batch_size 1 at {preprocess.crop_px} px leaves batch normalization one value a channel",
            remedy="raise --batch-size or --image-px",
        )
    return Plan(
        model=name,
        spec=replace(spec, num_classes=len(source.classes), in_channels=preprocess.num_channels),
        preprocess=preprocess,
        recipe=settled,
        seed=seed,
        precision=precision,
        data=source.name,
        classes=source.classes,
        num_samples=len(source.split("train")),
        fingerprint={split: samples.fingerprint() for split, samples in source.splits.items()},
    )


def _default_model(source: SampleSource) -> str:
    """Return the network for a data set when none is asked for: by the size of its first images."""
    split = source.split("train")
    sides = []
    for index in range(min(8, len(split))):
        sample = split.read(index)
        try:
            sides.append(min(decode(sample.content).shape[:2]))
        except DataError as error:
            raise DataError(
                f"{sample.key}: {error}", remedy="repair or remove this file, then start again"
            ) from error
    return "resnet20" if np.median(sides) <= 64 else "resnet18"


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
    return [f"{prefix.removesuffix('.')}: {here} → {there}"]
