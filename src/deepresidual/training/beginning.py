"""Settle what a run begins with: learned weights where there are some for its data, and with them the recipe.

Without ``--weights`` photos begin with released weights, those of the network that was asked for or of one
that this machine trains in a reasonable time. Where they are neither in the cache nor to be fetched, a
bundled network takes their place. What a recipe or a data set trains from nothing by its source begins so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepresidual import zoo
from deepresidual.data.expectation import BeginsWith
from deepresidual.data.source import SampleSource
from deepresidual.data.source.annotated.split import DETECTION
from deepresidual.data.source.multilabel import MULTILABEL, targets_of
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import MachineError, ModelFileError, ResidualError
from deepresidual.models.weights import ResolvedWeights, resolve_weights
from deepresidual.recipe import Recipe
from deepresidual.runs.read import read_plan
from deepresidual.runtime.processes import usable_cores
from deepresidual.spec import DetectorSpec, NetworkSpec, ResNetSpec
from deepresidual.training.options import TrainOptions
from deepresidual.training.plan import SMALL_PX, usual_side_px
from deepresidual.zoo.detectors import backbone_name
from deepresidual.zoo.released import default_release

NOTHING = "none"
"""The value of ``weights`` that begins from nothing."""

_BUNDLED, _BUNDLED_PX = "resnet56-cifar10", 96
# Of the recipes these alone begin with what a network has learned.
_BEGIN_WITH_WEIGHTS = ("probe", "finetune", "detect", "detect_1x", "detect_3x", "mask_1x", "mask_3x")
_TASKS_WITH_WEIGHTS = ("classification", MULTILABEL, DETECTION)
_MANY_CORES, _FEW_PHOTOS = 8, 5000
# With fewer images a class a fifth of them teaches more than it tells: of 100 a class three to five points
# were lost by holding it out.
_FEWEST_TO_HOLD_OUT = 200
_HELD_OUT_SHARE = 0.2


@dataclass(frozen=True)
class Beginning:
    """What a run begins with.

    Attributes:
        weights: Path of the weights; empty: none.
        name: The name by which they are had again; empty: none.
        begins_with: What kind of weights they are.
        model: Name of the network, where that is asked for or follows.
        recipe: Name of the recipe, where that follows.
        image_px: Side of the input, where that follows.
        validation: Share of the training images that is held out of each class; 0: none.
        line: What to say of it, without the word in front.
        licence: Licence of released weights; empty: none, or not known.
        notes: What else has to be said of them, a sentence each.
    """

    weights: str = ""
    name: str = ""
    begins_with: BeginsWith = "scratch"
    model: str | None = None
    recipe: str | None = None
    image_px: int | None = None
    validation: float = 0.0
    line: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types, for ``run.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Beginning:
        """Build it from what :meth:`to_dict` returned."""
        return cls(**{**fields, "notes": tuple(fields["notes"])})


def settle_beginning(
    source: SampleSource, model: str | NetworkSpec | None, options: TrainOptions, device: torch.device
) -> Beginning:
    """Settle the weights that a run begins with, and what follows from them.

    Args:
        source: The data, as it was opened.
        model: Name of a network, or a spec; ``None``: none is asked for.
        options: How to train.
        device: Where the network is trained.

    Raises:
        ModelFileError: There are no such weights, or they cannot be used.
        RunError: Weights that were asked for cannot be fetched.
        DataError: An image that decides cannot be decoded.
    """
    if not options.validation:
        source.require_training_splits()
    name = model if isinstance(model, str) else None
    if options.weights == NOTHING:
        found = Beginning(model=name, line="none, as asked")
    elif options.weights is not None:
        found = _with_weights(resolve_weights(options.weights), name, options)
    elif reason := _why_nothing(source, model, options):
        found = Beginning(model=name, line=f"none: {reason}")
    else:
        found = _default(source, name, options, device)
    if source.task == DETECTION:
        found = replace(found, recipe=None)  # weights or not, it is that of photos with boxes
    return replace(found, validation=_share_to_hold_out(source, options, found.recipe))


def recorded_beginning(run: Path) -> Beginning:
    """Return what the run in a folder began with; runs of earlier versions say nothing of it.

    Raises:
        ConfigurationError: There is no run.
        ModelFileError: ``run.json`` is damaged.
    """
    _, record = read_plan(run)
    fields = record.get("begins_with")
    try:
        return Beginning.from_dict(fields) if fields is not None else Beginning()
    except (TypeError, KeyError) as error:
        raise ModelFileError(f"{run / 'run.json'} is damaged (begins_with: {error})") from error


def begun(options: TrainOptions, beginning: Beginning) -> TrainOptions:
    """Return the options with what a beginning has settled."""
    return replace(
        options,
        weights=beginning.weights or None,
        recipe=options.recipe if options.recipe is not None else beginning.recipe,
        image_px=options.image_px if options.image_px is not None else beginning.image_px,
        validation=options.validation if options.validation is not None else beginning.validation,
    )


def with_held_out(source: SampleSource, options: TrainOptions, beginning: Beginning) -> SampleSource:
    """Return the data with the split that the run chooses by."""
    if options.validation is not None:
        return hold_out(source, options.validation)
    # Where there is a val, that gives the final figure.
    return hold_out(source, beginning.validation, "tune" if "val" in source.splits else "val")


# -- with weights or from nothing -------------------------------------------------------------------------


def _why_nothing(source: SampleSource, model: str | NetworkSpec | None, options: TrainOptions) -> str:
    """Return why a run for which no weights are named begins from nothing; empty: it does not."""
    recipe = options.recipe
    if isinstance(model, ResNetSpec | DetectorSpec):
        return "the network is one's own"
    if source.task not in _TASKS_WITH_WEIGHTS:
        return f"the task is {source.task}"
    if recipe is not None and (isinstance(recipe, Recipe) or recipe not in _BEGIN_WITH_WEIGHTS):
        return f"recipe {recipe.name if isinstance(recipe, Recipe) else recipe} begins from nothing"
    if model is not None:
        zoo.entry(backbone_name(model))  # an unknown name is an error
    if model is not None and default_release(_pretrained_name(model)) is None:
        return f"there are no released weights of {model}"
    if recipe is None and source.suggested_recipe is not None:
        return f"the recipe for {source.name} begins from nothing"
    if source.task == DETECTION and model is None and usual_side_px(source) <= SMALL_PX:
        return f"there are none for boxes in images of up to {SMALL_PX} px"
    return ""


def _pretrained_name(model: str) -> str:
    """Return the name of the network whose released weights a network or a detector begins with."""
    has_half_the_width = model.endswith("-fpn-tiny")
    return model if has_half_the_width else backbone_name(model)


def _default(
    source: SampleSource, model: str | None, options: TrainOptions, device: torch.device
) -> Beginning:
    """Return the released weights to begin with; where they cannot be had, bundled ones, or nothing."""
    if model is None and usual_side_px(source) <= SMALL_PX:
        return _with_weights(resolve_weights(_BUNDLED), None, options)
    network = backbone_name(model) if model else _usual_network(source, device)
    release = default_release(network)
    assert release is not None  # noqa: S101  # _why_nothing has looked
    try:
        return _with_weights(resolve_weights(release.name), model, options)
    except ResidualError as error:
        why, remedy = error.found, ""
        if isinstance(error, MachineError):
            remedy = (
                "to have weights of ImageNet, on a machine with a network run 'residual fetch "
                f"{release.name} --to {network}', copy the folder here and give --weights {network}"
            )
    notes = (remedy,) if remedy else ()
    if model is not None or source.task == DETECTION:
        return Beginning(model=model, line=f"none, since {why}", notes=notes)
    found = _with_weights(resolve_weights(_BUNDLED), None, options, image_px=_BUNDLED_PX)
    return replace(found, line=f"{found.line}, since {why}", notes=notes)


def _with_weights(
    found: ResolvedWeights,
    model: str | None,
    options: TrainOptions,
    *,
    image_px: int | None = None,
) -> Beginning:
    return Beginning(
        weights=str(found.path),
        name=found.name,
        model=model,
        recipe=None if options.recipe is not None else "finetune",
        image_px=image_px,
        begins_with="released" if found.kind != "bundled" else "bundled",
        line=found.description,
        notes=found.notes,
        licence=found.licence,
    )


def _usual_network(source: SampleSource, device: torch.device) -> str:
    """Return the network that this machine fine-tunes in minutes."""
    if device.type != "cpu":
        return "resnet50"
    if source.task == DETECTION:
        return "resnet18"
    has_time = usable_cores() >= _MANY_CORES and len(source.split("train")) <= _FEW_PHOTOS
    return "resnet50" if has_time else "resnet18"


# -- a split to choose by -------------------------------------------------------------------------------


def _chooses(options: TrainOptions, recipe: str | None) -> bool:
    """Return whether the recipe chooses weights by their loss on a split of its own."""
    named = options.recipe if options.recipe is not None else recipe
    if isinstance(named, Recipe):
        return named.keep_model == "best-loss"
    kept = options.changes.get("keep_model", "best-loss" if named == "finetune" else "last")
    return bool(kept == "best-loss")


def _share_to_hold_out(source: SampleSource, options: TrainOptions, recipe: str | None) -> float:
    if options.validation is not None or _has_own_splits(source) or not _chooses(options, recipe):
        return 0.0
    return _HELD_OUT_SHARE if min(_counts(source)) >= _FEWEST_TO_HOLD_OUT else 0.0


def _has_own_splits(source: SampleSource) -> bool:
    return {"val", "test"} <= set(source.splits)


def _counts(source: SampleSource) -> list[int]:
    """Return the number of training images of each class that has any."""
    train = source.split("train")
    if source.task == MULTILABEL:
        counts = targets_of(train).sum(axis=0)
    else:
        counts = np.bincount(np.asarray(train.labels, dtype=np.int64))
    return [int(count) for count in counts if count]
