"""The fields of a recipe, in groups; the sentence under a field is its help on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from deepresidual.fields import number

__all__ = [
    "AveragingFields",
    "BeginningFields",
    "ChoiceFields",
    "LengthFields",
    "LossFields",
    "NormalizationFields",
    "OptimizerFields",
    "RegularizationFields",
    "SafetyFields",
    "ScheduleFields",
    "SizeFields",
]

Optimizer: TypeAlias = Literal["sgd", "adamw", "lamb"]
Schedule: TypeAlias = Literal["constant", "step", "cosine", "plateau"]
WarmupShape: TypeAlias = Literal["linear", "constant"]
Loss: TypeAlias = Literal["cross-entropy", "bce"]
SubtractMean: TypeAlias = Literal["fixed", "channel", "pixel"]
Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
Balance: TypeAlias = Literal["none", "loss", "sampling"]
ClassPrior: TypeAlias = Literal["training", "equal"]
NonFinite: TypeAlias = Literal["stop", "skip", "rollback"]
KeepModel: TypeAlias = Literal["last", "best", "best-loss", "average"]
HeadStages: TypeAlias = Literal["last", "all"]
ClassifierInit: TypeAlias = Literal["random", "probe"]
BatchNorm: TypeAlias = Literal["train", "frozen"]


@dataclass(frozen=True)
class LengthFields:
    """Length of the run, and sizes of its batches."""

    epochs: float = number(30.0, above=True)
    """Passes over the training samples; the last may be cut short by ``steps``."""
    steps: int | None = number(None, 0, 1e9)
    """Updates in all, in place of ``epochs``; 0: the run keeps what it begins with."""
    batch_size: int = number(128, 1, 65_536)
    """Images an update, over all ranks."""
    micro_batch_size: int | None = number(None, 1, 65_536)
    """Images that go through the network together; a batch is so many of them, spread over ranks or one after
    the other. BN takes its statistics from one. Default: what a rank holds."""
    repeated_augmentation: int = number(1, 1, 64)
    """How often an image comes in a batch, each time varied differently (Hoffer et al. 2019, arXiv
    1901.09335). An epoch has as many images as ever, so with n it sees 1/n of them."""


@dataclass(frozen=True)
class BeginningFields:
    """What the run begins with, and which stages learn when."""

    classifier_init: ClassifierInit = "random"
    """First weights of the classifier: ``random``, or those of the weights where the classes are the same;
    or those of a ``probe``, a logistic regression on the features of the training images at the beginning.
    """
    head_stages: HeadStages = "last"
    """What the classifier reads: means of the ``last`` stage's map (or what that of the weights reads), or
    means and deviations of the maps of ``all`` stages, which helps where the network has learned from other
    images than these."""
    unfreeze_share: float = number(0.0, 0, 1)
    """Share of the updates after the warm-up over which stages begin to learn one after the other, the last
    one first; in the warm-up only that one and the classifier do (Howard and Ruder 2018, arXiv 1801.06146,
    section 3.3). 0: all learn from the beginning."""


@dataclass(frozen=True)
class OptimizerFields:
    """The update of the weights, and which of them it leaves alone."""

    optimizer: Optimizer = "sgd"
    """``sgd`` with momentum; ``adamw`` (Loshchilov and Hutter 2019, arXiv 1711.05101); ``lamb`` (You et al.
    2019, arXiv 1904.00962)."""
    learning_rate: float = number(0.1, 0, 1000, above=True)
    """Highest learning rate."""
    momentum: float = number(0.9, 0, 1, below=True)
    """Momentum of SGD; the first beta of AdamW and LAMB."""
    nesterov: bool = False
    """Whether SGD's momentum is Nesterov's."""
    beta2: float = number(0.999, 0, 1, below=True)
    """Decay of AdamW's and LAMB's mean of squares."""
    weight_decay: float = number(1e-4, 0, 1)
    """L2 penalty of SGD; decoupled decay of AdamW and LAMB."""
    norm_weight_decay: float | None = number(None, 0, 1)
    """Weight decay of BN's scales and shifts. Default: ``weight_decay``."""
    bias_weight_decay: float | None = number(None, 0, 1)
    """Weight decay of the other biases. Default: ``weight_decay``."""
    backbone_lr_scale: float = number(1.0, 0, 1)
    """Learning rate of all except the classifier, as a multiple of ``learning_rate``."""
    stage_lr_decay: float = number(1.0, 0, 1, above=True)
    """Learning rate of each stage, as a multiple of that of the stage after it (by layers: ``layer_decay`` of
    Clark et al. 2020, arXiv 2003.10555)."""
    frozen_stages: int = number(0, 0, 9)
    """Stages, counted from the stem, that keep their weights: 1 is the stem alone."""
    clip_norm: float | None = number(None, 0, above=True)
    """Largest norm of the gradient; larger ones are scaled down to it. (timm's LAMB does so at 1.)"""


@dataclass(frozen=True)
class ScheduleFields:
    """The learning rate over the run."""

    schedule: Schedule = "cosine"
    """Course of the learning rate: ``constant``; ``step``: times ``step_decay`` at each milestone;
    ``cosine``: half a cosine down to ``final_learning_rate``; ``plateau``: times ``step_decay`` when the
    held-out error has not fallen for ``patience`` evaluations."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Where ``step`` drops, as fractions of the run."""
    step_decay: float = number(0.1, 0, 1, above=True)
    """Factor of each drop."""
    patience: int = number(5, 1, 10_000)
    """Evaluations without a lower error before ``plateau`` drops."""
    final_learning_rate: float = number(0.0, 0, 1000)
    """Where ``cosine`` ends."""
    warmup_epochs: float = number(0.0)
    """Epochs before the highest learning rate."""
    warmup_steps: int | None = number(None, 0, 1e9)
    """Updates before the highest learning rate, in place of ``warmup_epochs``."""
    warmup: WarmupShape = "linear"
    """``linear``: a rise from ``warmup_learning_rate``; ``constant``: that rate, then a jump."""
    warmup_learning_rate: float = number(0.0, 0, 1000)
    """Learning rate at the beginning of the warm-up."""
    warmup_until_error: float | None = number(None, 0, 1)
    """Training error, as a fraction, below which a ``constant`` warm-up ends (2015, section 4.2: 0.8), at
    ``warmup_epochs`` at the latest."""


@dataclass(frozen=True)
class LossFields:
    """What is minimized."""

    loss: Loss = "cross-entropy"
    """``cross-entropy``, or ``bce``: binary cross-entropy of each class, averaged over the classes."""
    label_smoothing: float = number(0.0, 0, 1)
    """Probability that the target gives to all classes alike, 0 to 1."""
    bce_threshold: float = number(0.0, 0, 1, below=True)
    """Target above which ``bce`` takes a class for wholly present, before labels are smoothed; 0: targets
    stay as mixed."""
    bce_sum: bool = False
    """Whether ``bce`` is summed over the classes instead (timm's ``--bce-sum``)."""
    balance: Balance = "none"
    """How all classes come to weigh the same where some have few images: class weights in the ``loss``, or
    ``sampling``, which draws all equally often. Probabilities are corrected for it (``class_prior``)."""
    class_prior: ClassPrior = "training"
    """Frequencies of the classes that probabilities are for: those of the ``training`` images, or all
    ``equal``, which finds more of the rare ones (logit adjustment, Menon et al. 2021, arXiv 2007.07314)."""


@dataclass(frozen=True)
class NormalizationFields:
    """Batch normalization."""

    batch_norm: BatchNorm = "train"
    """``frozen``: BN keeps and uses the statistics that it came with."""
    sync_batch_norm: bool = False
    """Whether BN takes its statistics over all ranks' images."""
    precise_bn: int = number(0, 0, 1e9)
    """Images over which BN's statistics are computed anew before every evaluation, with the weights held
    still (Wu and Johnson 2021, arXiv 2105.07576); 0: the running averages."""


@dataclass(frozen=True)
class RegularizationFields:
    """Changes of the network in training only."""

    zero_init_last_bn: bool = False
    """Whether the last BN of every F starts at zero (Goyal et al. 2017); refused in networks that would not
    leave that state: plain nets, option A."""
    stochastic_depth: float = number(0.0, 0, 0.99)
    """Probability that training drops the last unit's F (Huang et al. 2016)."""


@dataclass(frozen=True)
class AveragingFields:
    """The moving average of the weights."""

    ema_decay: float = number(0.0, 0, 1, below=True)
    """Weight of the past in an exponential moving average of the weights, which is what is evaluated and kept
    then; 0: none."""
    ema_every: int = number(1, 1)
    """Updates between two of its updates."""


@dataclass(frozen=True)
class ChoiceFields:
    """When the run evaluates, which weights it keeps, and when it ends early."""

    evaluate_every: float = number(1.0, 0.001)
    """Epochs between two evaluations; the last epoch is always evaluated."""
    keep_model: KeepModel = "last"
    """Which weights the run keeps as its model: of the ``last`` evaluation, of the ``best`` one by its error
    or by its loss (``best-loss``), or the ``average`` of the first and the last (``average_share``)."""
    average_share: float = number(0.5, 0, 1)
    """Share of the learned weights in the average with the first ones, which ``average`` keeps and
    ``best-loss`` tries at the end (Wortsman et al. 2022, arXiv 2109.01903)."""
    early_stopping: int = number(0, 0, 10_000)
    """Evaluations without a lower error after which the run ends; 0: never."""


@dataclass(frozen=True)
class SafetyFields:
    """Losses and gradients that are not finite."""

    non_finite: NonFinite = "stop"
    """What a loss or gradient that is not finite does before the update: ``stop`` the run; ``skip`` the
    update; ``rollback`` as if it and the ``rollback_steps`` before had not been tried."""
    rollback_steps: int = number(100, 1, 1e9)
    """Updates before the bad one that ``rollback`` leaves out, too: a loss that explodes has begun to before
    it is infinite (after Chowdhery et al. 2022, arXiv 2204.02311, section 5.1, who went back by about 100 and
    left out 200 to 500)."""


@dataclass(frozen=True)
class SizeFields:
    """Sizes of images, their filter and their mean."""

    train_px: int | None = number(None, 1, 16_384)
    """Side of the training images in pixels. Default: of the evaluated ones."""
    start_px: int | None = number(None, 1, 16_384)
    """Side of the training images at the start, from which it grows to ``train_px`` on a line over the first
    ``growth_share`` of the run (Howard 2018; Tan and Le 2021, arXiv 2104.00298)."""
    growth_share: float = number(0.8, 0, 1, above=True)
    """Share of the run over which the side grows."""
    crop_px: int | None = number(None, 1, 16_384)
    """Side of the evaluated images in pixels. Default: the network's usual one."""
    resize_px: int | None = number(None, 1, 16_384)
    """Shorter side of the evaluated images before the crop. Default: the network's usual ratio."""
    interpolation: Interpolation | None = None
    """Filter of every resize, in training and in evaluation. Default: the network's usual one, or that of the
    weights."""
    subtract_mean: SubtractMean = "fixed"
    """What is subtracted: ``fixed`` numbers; the training images' mean of each ``channel``, with their
    standard deviation; or that of each ``pixel`` (2015, sections 3.4 and 4.2)."""
