"""A recipe as a value: every choice of how a network is trained, and nothing about data or hardware."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.recipe.augment import Augment, Mix
from deepresidual.recipe.fields import check_fields, number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RENAMED", "Recipe", "setting_homes", "with_new_names"]

Optimizer: TypeAlias = Literal["sgd", "adamw", "lamb"]
Schedule: TypeAlias = Literal["constant", "step", "cosine", "plateau"]
WarmupShape: TypeAlias = Literal["linear", "constant"]
Loss: TypeAlias = Literal["cross-entropy", "bce"]
SubtractMean: TypeAlias = Literal["fixed", "channel", "pixel"]
Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
NonFinite: TypeAlias = Literal["stop", "skip", "rollback"]
KeepModel: TypeAlias = Literal["last", "best"]
BatchNorm: TypeAlias = Literal["train", "frozen"]

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


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        name: What it is called.
        epochs: Passes over the training samples; the last may be cut short by ``steps``.
        steps: Updates in all; where given it takes the place of ``epochs``.
        batch_size: Images an update, over all ranks.
        micro_batch_size: Images that go through the network together; a batch is so many of them, spread
            over ranks or one after the other. BN takes its statistics from one. Left out: what a rank holds.
        repeated_augmentation: How often an image comes in a batch, each time varied differently (Hoffer et
            al. 2019, arXiv 1901.09335). An epoch has as many images as ever: it sees this fraction of them.
        optimizer: ``sgd`` with momentum; ``adamw`` (Loshchilov and Hutter 2019, arXiv 1711.05101); ``lamb``
            (You et al. 2019, arXiv 1904.00962).
        learning_rate: Highest learning rate.
        momentum: Momentum of SGD; the first beta of AdamW and LAMB.
        nesterov: Whether SGD's momentum is Nesterov's.
        beta2: Decay of AdamW's and LAMB's mean of squares.
        weight_decay: L2 penalty of SGD; decoupled decay of AdamW and LAMB.
        norm_weight_decay: That of BN's scales and shifts; left out: as ``weight_decay``.
        bias_weight_decay: That of the other biases; left out: as ``weight_decay``.
        backbone_lr_scale: Learning rate of all but the classifier, as a multiple of ``learning_rate``.
        frozen_stages: Stages, counted from the stem, that keep their weights: 1 is the stem alone.
        batch_norm: ``frozen``: BN keeps and uses the statistics that it came with.
        sync_batch_norm: Whether BN takes its statistics over all ranks' images.
        schedule: What becomes of the learning rate: ``constant``; ``step``: times ``step_decay`` at each
            milestone; ``cosine``: half a cosine down to ``final_learning_rate``; ``plateau``: times
            ``step_decay`` where the held-out error has not fallen for ``patience`` evaluations.
        milestones: Where ``step`` drops, as fractions of the run.
        step_decay: Factor of each drop.
        patience: Evaluations without a lower error before ``plateau`` drops.
        final_learning_rate: Where ``cosine`` ends.
        warmup_epochs: Epochs before the highest learning rate.
        warmup_steps: Updates before it; where given it takes the place of ``warmup_epochs``.
        warmup: ``linear``: a rise from ``warmup_learning_rate``; ``constant``: that rate, then a jump.
        warmup_learning_rate: Learning rate at the beginning of the warm-up.
        warmup_until_error: Training error, as a fraction, below which a ``constant`` warm-up ends (2015,
            section 4.2: 0.8), at ``warmup_epochs`` at the latest.
        loss: ``cross-entropy``, or ``bce``: binary cross-entropy of each class, averaged over the classes.
        label_smoothing: Probability that the target gives to all classes alike, 0 to 1.
        bce_threshold: Target above which ``bce`` takes a class for wholly present, before labels are
            smoothed; 0: targets stay as mixed.
        bce_sum: Whether ``bce`` is summed over the classes instead (timm's ``--bce-sum``).
        clip_norm: Largest norm of the gradient; larger ones are scaled down to it. (timm's LAMB does so at
            1.)
        zero_init_last_bn: Whether the last BN of every F starts at zero (Goyal et al. 2017); refused in
            networks that would not leave that state: plain nets, option A.
        stochastic_depth: Probability that training drops the last unit's F (Huang et al. 2016).
        ema_decay: Weight of the past in an exponential moving average of the weights, which is what is
            evaluated and kept then; 0: none.
        ema_every: Updates between two of its updates.
        precise_bn: Images over which BN's statistics are computed anew before every evaluation, with the
            weights held still (Wu and Johnson 2021, arXiv 2105.07576); 0: the running averages.
        evaluate_every: Epochs between two evaluations; the last epoch is always evaluated.
        keep_model: Which weights the run keeps as its model: of the last evaluation, or of the best one.
        early_stopping: Evaluations without a lower error after which the run ends; 0: never.
        non_finite: What a loss or gradient that is not finite does before the update: ``stop`` the run;
            ``skip`` the update; ``rollback`` as if it and the ``rollback_steps`` before had not been tried.
        rollback_steps: Updates before the bad one that ``rollback`` leaves out, too: a loss that explodes has
            begun to before it is infinite (after Chowdhery et al. 2022, arXiv 2204.02311, section 5.1, who
            went back by about 100 and left out 200 to 500).
        train_px: Side of the training images in pixels; left out: of the evaluated ones.
        start_px: Side of the training images at the start, from which it grows to ``train_px`` on a line
            over the first ``growth_share`` of the run (Howard 2018; Tan and Le 2021, arXiv 2104.00298).
        growth_share: Share of the run over which the side grows.
        crop_px: Side of the evaluated images in pixels; left out: the network's usual one.
        resize_px: Shorter side of the evaluated images before the crop; left out: the network's usual ratio.
        interpolation: Filter of every resize, in training and in evaluation; left out: the network's usual
            one, or that of the weights.
        subtract_mean: What is subtracted: ``fixed`` numbers; the training images' mean of each ``channel``,
            with their standard deviation; or that of each ``pixel`` (2015, sections 3.4 and 4.2).
        augment: How training images are varied.
        mix: How they are mixed in pairs.

    Raises:
        ConfigurationError: A field is out of range, naming the field and the range.
    """

    name: str
    epochs: float = number(30.0, above=True)
    steps: int | None = number(None, 1, 1e9)
    batch_size: int = number(128, 1, 65_536)
    micro_batch_size: int | None = number(None, 1, 65_536)
    repeated_augmentation: int = number(1, 1, 64)
    optimizer: Optimizer = "sgd"
    learning_rate: float = number(0.1, 0, 1000, above=True)
    momentum: float = number(0.9, 0, 1, below=True)
    nesterov: bool = False
    beta2: float = number(0.999, 0, 1, below=True)
    weight_decay: float = number(1e-4, 0, 1)
    norm_weight_decay: float | None = number(None, 0, 1)
    bias_weight_decay: float | None = number(None, 0, 1)
    backbone_lr_scale: float = number(1.0, 0, 1)
    frozen_stages: int = number(0, 0, 9)
    batch_norm: BatchNorm = "train"
    sync_batch_norm: bool = False
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    step_decay: float = number(0.1, 0, 1, above=True)
    patience: int = number(5, 1, 10_000)
    final_learning_rate: float = number(0.0, 0, 1000)
    warmup_epochs: float = number(0.0)
    warmup_steps: int | None = number(None, 0, 1e9)
    warmup: WarmupShape = "linear"
    warmup_learning_rate: float = number(0.0, 0, 1000)
    warmup_until_error: float | None = number(None, 0, 1)
    loss: Loss = "cross-entropy"
    label_smoothing: float = number(0.0, 0, 1)
    bce_threshold: float = number(0.0, 0, 1, below=True)
    bce_sum: bool = False
    clip_norm: float | None = number(None, 0, above=True)
    zero_init_last_bn: bool = False
    stochastic_depth: float = number(0.0, 0, 0.99)
    ema_decay: float = number(0.0, 0, 1, below=True)
    ema_every: int = number(1, 1)
    precise_bn: int = number(0, 0, 1e9)
    evaluate_every: float = number(1.0, 0.001)
    keep_model: KeepModel = "last"
    early_stopping: int = number(0, 0, 10_000)
    non_finite: NonFinite = "stop"
    rollback_steps: int = number(100, 1, 1e9)
    train_px: int | None = number(None, 1, 16_384)
    start_px: int | None = number(None, 1, 16_384)
    growth_share: float = number(0.8, 0, 1, above=True)
    crop_px: int | None = number(None, 1, 16_384)
    resize_px: int | None = number(None, 1, 16_384)
    interpolation: Interpolation | None = None
    subtract_mean: SubtractMean = "fixed"
    augment: Augment = dataclasses.field(default_factory=Augment)
    mix: Mix = dataclasses.field(default_factory=Mix)

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
        own, augment, mix = (
            {name: value for name, value in changes.items() if homes[name] is home}
            for home in (Recipe, Augment, Mix)
        )
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
        if self.interpolation is None:
            del fields["interpolation"]
        if self.augment.pad_fill == "black":
            del fields["augment"]["pad_fill"]
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
    """Return every field that can be set by name, with the dataclass that holds it."""
    homes: dict[str, type[Any]] = {}
    for home in (Recipe, Augment, Mix):
        for field in dataclasses.fields(home):
            if field.name not in ("name", "augment", "mix"):
                homes[field.name] = home
    return homes
