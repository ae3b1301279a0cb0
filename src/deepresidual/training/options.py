"""``TrainOptions``: how to train, as a value without torch; the command line is made from it."""

from __future__ import annotations

from collections.abc import Mapping  # the command line reads the annotations
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from deepresidual.errors import ConfigurationError, quoted
from deepresidual.fields import check_choices, field_types, replaced
from deepresidual.recipe import Recipe, setting_homes
from deepresidual.runtime.compute import PrecisionChoice
from deepresidual.training.compiling import CompileChoice


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train; what is ``None`` or ``auto`` is settled by the plan of the run."""

    weights: str | Path | None = None
    """What to begin with: a model or run folder, the name of a bundled model or of released weights, a hub
    id, a URL or a file. ``none``: from nothing. Default for photos: released weights that suit the
    machine."""

    recipe: Recipe | str | None = None
    """A recipe, or the name of one, of which ``residual train --help`` lists all. Default: the one that suits
    data and model."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe to set, for example ``{"epochs": 5, "flip": False}``."""

    labels: Literal["one", "several"] | None = None
    """Labels of an image: ``one`` or ``several``. Default: told by the data; asked for where a table leaves
    it open."""

    task: Literal["detect", "segment"] | None = None
    """What is learned of objects: ``detect`` boxes alone, ``segment`` boxes and masks. Default: boxes, and
    masks where the data has them."""

    fit_memory: bool = False
    """Halve the micro-batch until it fits into memory, and keep the batch."""

    validation: float | None = None
    """Share of the training images to hold out, to watch and to choose by. Default: none; for recipe
    ``finetune`` a fifth of each class, unless there are val and test, or a class has under 25 images."""

    group: str | None = None
    r"""What belongs together and may not stand on both sides of a split: a column of the table, or a pattern
    with one part in parentheses for the file name, such as ``(.*)_\d+``."""

    minutes: float | None = None
    """Minutes that the updates may take, in place of ``epochs`` and ``steps``. Default: 10 for recipe
    ``finetune`` on a CPU, and at most its epochs."""

    bad_samples: Literal["stop", "skip"] = "stop"
    """Stop at an unreadable image, or skip, name and count it. Beyond one in a hundred the run stops all the
    same."""

    image_px: int | None = None
    """Side of the network's input in pixels. Default: the model's own."""

    seed: int = 0
    """Decides the first weights, the order of samples and every augmentation. The same seed with the same
    precision gives the same weights on the same machine."""

    precision: PrecisionChoice = "auto"
    """``auto`` measures whether bf16 is faster for this network on this machine; fp16 scales the loss.
    Weights and updates stay float32."""

    compile: CompileChoice = "auto"
    """``auto`` compiles the network if the run is long enough for it to pay."""

    activation_checkpointing: bool = False
    """Keep only each unit's input for the backward pass: less memory for more time, with the same bits."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``."""

    num_workers: int | None = None
    """Threads that load images. Does not change the result. Default: chosen for the machine."""

    checkpoint_minutes: float = 15.0
    """Longest time between two checkpoints; each evaluation saves one as well."""

    tensorboard: bool = False
    """Write the metrics for TensorBoard as well."""

    def __post_init__(self) -> None:
        check_choices(self)


def with_keywords(options: TrainOptions | None, keywords: Mapping[str, Any]) -> TrainOptions:
    """Return options with some of their fields replaced.

    Raises:
        ConfigurationError: There is no such field; the message says how what is meant is called.
    """
    for name, value in keywords.items():
        meant = OTHER_NAMES.get(name, name)
        if name in field_types(TrainOptions):
            continue
        if meant in setting_homes():
            raise ConfigurationError(
                f"train has no keyword {name!r}",
                remedy=f"it is a field of the recipe: changes={{{meant!r}: {quoted(value, 40)}}}",
            )
        if meant != name:
            raise ConfigurationError(f"train has no keyword {name!r}", remedy=f"here it is {meant}")
    changed = replaced(options or TrainOptions(), keywords, "train")
    for name, value in changed.changes.items():
        meant = OTHER_NAMES.get(name, name)
        if name not in setting_homes() and (meant in field_types(TrainOptions) or meant in _ARGUMENTS):
            raise ConfigurationError(
                f"changes has {name!r}, which is no field of the recipe",
                remedy=f"it is an option of train: {meant}={quoted(value, 40)}",
            )
    return changed


# Of `train`, beside the fields of its options.
_ARGUMENTS = ("data", "model", "out", "resume", "checkpoint")


OTHER_NAMES = {
    "lr": "learning_rate",
    "optim": "optimizer",
    "batch": "batch_size",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "imgsz": "image_px",
    "image_size": "image_px",
    "workers": "num_workers",
    "pretrained": "weights, and learned ones are the default for photos",
    "output_dir": "out",
    "validation_data": "a mapping {'train': …, 'val': …} as data",
    "class_names": "deepresidual.open_dataset(data, class_names=…) as data",
}
"""What other libraries call a keyword of ``train``, and what to write here."""


class TrainKeywords(TypedDict, total=False):
    """The fields of :class:`TrainOptions` as keyword arguments."""

    weights: str | Path | None
    recipe: Recipe | str | None
    changes: Mapping[str, Any]
    labels: Literal["one", "several"] | None
    task: Literal["detect", "segment"] | None
    fit_memory: bool
    validation: float | None
    group: str | None
    minutes: float | None
    bad_samples: Literal["stop", "skip"]
    image_px: int | None
    seed: int
    precision: PrecisionChoice
    compile: CompileChoice
    activation_checkpointing: bool
    device: str
    num_workers: int | None
    checkpoint_minutes: float
    tensorboard: bool
