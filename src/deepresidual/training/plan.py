"""Making the plan of a run: everything that decides its bits, settled before a file is written.

What was left open ("auto", no recipe named) is decided here once and recorded; a resumed run reads the
record instead of deciding again, so a choice never changes half-way.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from deepresidual import zoo
from deepresidual.backends.precision import settle_precision
from deepresidual.data.augment import check_augment
from deepresidual.data.decode import decode
from deepresidual.data.expectation import images_a_class
from deepresidual.data.loader import BadSample, require_none_bad
from deepresidual.data.source import SampleSource
from deepresidual.data.source.annotated.split import DETECTION
from deepresidual.data.source.base import fingerprint_of
from deepresidual.data.source.multilabel import MULTILABEL, targets_of
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.models import Model, load_network, model_folder
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Recipe
from deepresidual.recipe.recipes import earlier_recipe, named_recipe, recipe_for
from deepresidual.runs.plan import Plan, in_earlier_terms
from deepresidual.runtime.files import sha256_of
from deepresidual.runtime.processes import usable_cores
from deepresidual.spec import DetectorSpec, Head, NetworkSpec, ResNetSpec
from deepresidual.training.compiling import resolve_compile
from deepresidual.training.detectors import (
    DETECT,
    check_detection,
    compiled_detector,
    settled_detector,
    wants_small_images,
    whole_images,
)
from deepresidual.training.optimizer import check_frozen_stages
from deepresidual.training.options import TrainOptions
from deepresidual.training.pixel_statistics import measured_preprocess

# A run of fewer operations than this is over in a minute on two cores: to measure which precision is faster
# would take a part of what there is to win.
_FLOP_WORTH_MEASURING = 5e12


# Evaluations of a run that chooses by them take at most this share of the time of its updates.
_EVALUATION_SHARE = 0.25
SMALL_PX = 64
"""Shorter side in pixels up to which images are for the networks of CIFAR."""


def make_plan(
    source: SampleSource,
    model: str | NetworkSpec | None,
    options: TrainOptions,
    device: torch.device,
    *,
    recorded: Plan | None = None,
) -> Plan:
    """Settle every choice of a run.

    Args:
        source: The data set, with a training split, after :func:`hold_out`.
        model: Name of a network, or a spec. Default: chosen by the size of the images.
        options: How to train.
        device: Where the network is trained.
        recorded: The plan of the run that goes on: what it had decided itself is not decided again.

    Raises:
        ConfigurationError: A name is unknown or a value is out of range.
        DataError: The data set has no split to train or to evaluate on, or an image cannot be decoded.
    """
    return settle_computing(
        settle_learning(source, model, options, recorded=recorded), options, device, recorded
    )


def settle_learning(
    source: SampleSource,
    model: str | NetworkSpec | None,
    options: TrainOptions,
    *,
    recorded: Plan | None = None,
) -> Plan:
    """Settle all of a plan that no measurement decides; it computes in float32, not compiled."""
    source.require_training_splits()
    start = load_network(options.weights) if options.weights is not None else None
    name, network = _settled_model(source, model, start, recorded)
    spec = _body(network)
    if start and _backbone(spec) != _backbone(_body(start.spec)):
        raise ConfigurationError(
            f"the weights are of {zoo.name_of(start.spec) or 'another network'} and the model is {name}",
            remedy="leave out --model",
        )
    usual = _usual_preprocess(source, spec, start)
    if wants_small_images(source, model, network, options):
        is_kept = start is not None and isinstance(start.spec, DetectorSpec)
        options = replace(options, image_px=usual.crop_px if is_kept else SMALL_PX)
    detects = isinstance(network, DetectorSpec)
    if detects:
        usual = whole_images(usual, source.preprocess)
    recipe = _settled_recipe(source, options, spec, usual.crop_px, recorded, has_weights=start is not None)
    recipe = _fitted_to_data(source, options, recipe)
    if detects:
        check_detection(recipe, has_weights=start is not None)
    if start is not None and _has_its_classifier(start, source, options, recipe):
        recipe = replace(recipe, classifier_init="random", head_stages="last")
    _check_selection(source, recipe)
    check_frozen_stages(spec, recipe.frozen_stages)
    preprocess = _settled_preprocess(source, options, recipe, usual, recorded)
    spec = replace(
        spec,
        num_classes=0 if detects else len(source.classes),
        head=Head(spec.stage_names, ("mean", "std")) if recipe.head_stages == "all" else spec.head,
        in_channels=preprocess.num_channels,
        zero_init_last_bn=_settled_zero_init(recipe, spec, recorded),
        stochastic_depth=recipe.stochastic_depth or spec.stochastic_depth,
        activation_checkpointing=options.activation_checkpointing or spec.activation_checkpointing,
    )
    plan = Plan(
        model=name,
        spec=replace(network, backbone=spec) if isinstance(network, DetectorSpec) else spec,
        preprocess=preprocess,
        recipe=recipe,
        seed=options.seed,
        precision="fp32",
        precision_reason="",
        compiled=False,
        weights=_digest(options.weights) if options.weights is not None else "",
        data=source.name,
        classes=source.classes,
        num_samples=len(source.split("train")),
        num_held_out=len(source.split(source.validation_split)),
        validation=options.validation or 0.0,
        bad_samples=options.bad_samples,
        fingerprint={split: fingerprint_of(samples) for split, samples in source.splits.items()},
        task=source.task,
        class_counts=_class_counts(source, recipe),
    )
    if isinstance(options.recipe, Recipe) or "start_px" in options.changes:
        _check_growth(plan)
    _check_images(plan)
    return plan


def settle_computing(
    plan: Plan, options: TrainOptions, device: torch.device, recorded: Plan | None = None
) -> Plan:
    """Return a plan with its precision and compilation settled, which may be measured."""
    plan = _with_precision(plan, options, device, recorded)
    return replace(plan, compiled=_settled_compile(plan, options, device, recorded))


def _body(spec: NetworkSpec) -> ResNetSpec:
    return spec if isinstance(spec, ResNetSpec) else spec.backbone


def _backbone(spec: ResNetSpec) -> ResNetSpec:
    """Return the spec apart from what a run sets by its data."""
    return replace(spec, num_classes=1, in_channels=1, head=Head())


def _settled_model(
    source: SampleSource, model: str | NetworkSpec | None, start: Model | None, recorded: Plan | None
) -> tuple[str, NetworkSpec]:
    """Return the network and its name, which is ``custom`` where the zoo has none."""
    if source.task == DETECTION:
        is_small = model is None and usual_side_px(source) <= SMALL_PX
        return settled_detector(source, model, start, recorded, is_small=is_small)
    if isinstance(model, DetectorSpec) or (start is not None and isinstance(start.spec, DetectorSpec)):
        raise ConfigurationError(f"{source.name} has no boxes, and the network detects objects")
    if isinstance(model, ResNetSpec):
        return zoo.name_of(model) or "custom", model
    if start is not None and model in (None, "custom"):
        return model or zoo.name_of(start.spec) or "custom", start.spec
    # When no network is asked for, the size of the images decides.
    name = model or ("resnet20" if usual_side_px(source) <= SMALL_PX else "resnet18")
    spec = zoo.entry(name).spec
    # A row of the zoo may be mended; a run goes on with the network that its name meant when it began.
    return name, recorded.backbone.architecture if recorded is not None and recorded.model == name else spec


def _settled_zero_init(recipe: Recipe, spec: ResNetSpec, recorded: Plan | None) -> bool:
    """Return whether the last BNs begin at zero; the spec refuses it where they could not leave that state.

    A run that began before that was refused goes on: its weights are there.
    """
    if recorded is not None and recorded.recipe.zero_init_last_bn and spec.why_no_zero_init:
        return recorded.backbone.zero_init_last_bn
    return recipe.zero_init_last_bn or spec.zero_init_last_bn


def _usual_preprocess(source: SampleSource, spec: ResNetSpec, start: Model | None) -> Preprocess:
    if start is not None:
        return start.preprocess
    return source.preprocess or zoo.default_preprocess(spec)


def _settled_recipe(
    source: SampleSource,
    options: TrainOptions,
    spec: ResNetSpec,
    usual_px: int,
    recorded: Plan | None,
    *,
    has_weights: bool,
) -> Recipe:
    if isinstance(options.recipe, Recipe):
        chosen = options.recipe
    elif options.recipe is not None:
        chosen = named_recipe(options.recipe, spec)
    else:
        usual = DETECT if source.task == DETECTION else None
        finetunes = has_weights and usual is None
        chosen = recipe_for(spec, "finetune" if finetunes else source.suggested_recipe or usual)
    changes = dict(options.changes)
    own_px = chosen.crop_px or usual_px
    if options.image_px not in (None, own_px) and not isinstance(options.recipe, Recipe):
        # The sizes of a named recipe are those for its own input.
        changes = {"train_px": None, "start_px": None, "crop_px": None, "resize_px": None, **changes}
    recipe = chosen.changed(changes)
    if recorded is not None and recipe != recorded.recipe:
        bases = [chosen] if isinstance(options.recipe, Recipe) else [chosen, earlier_recipe(chosen)]
        earlier = (in_earlier_terms(base.changed(changes), len(source.classes)) for base in bases)
        recipe = next((one for one in earlier if one == recorded.recipe), recipe)
    if options.image_px is not None and recipe.crop_px not in (None, options.image_px):
        raise ConfigurationError(
            f"image_px is {options.image_px} and crop_px is {recipe.crop_px}", expected="one of both"
        )
    return recipe


def _settled_preprocess(
    source: SampleSource, options: TrainOptions, recipe: Recipe, preprocess: Preprocess, recorded: Plan | None
) -> Preprocess:
    image_px = options.image_px if options.image_px is not None else recipe.crop_px
    if image_px is not None:
        if type(image_px) is not int:
            raise ConfigurationError(f"image_px is {image_px!r}", expected="a whole number")
        preprocess = preprocess.at_size(image_px)
    if recipe.resize_px is not None:
        preprocess = replace(preprocess, resize_px=recipe.resize_px)
    if recipe.interpolation is not None:
        preprocess = replace(preprocess, interpolation=recipe.interpolation)
    if recipe.subtract_mean == "fixed":
        return preprocess
    sides = _training_sides(recipe, preprocess)
    if recipe.subtract_mean == "pixel" and sides != {preprocess.crop_px}:
        raise ConfigurationError(
            f"subtract_mean is 'pixel', and training images have {_listed(sides)} px and evaluated ones "
            f"{preprocess.crop_px} px",
            expected="the same size, or subtract_mean 'channel'",
        )
    if recorded is not None and recorded.recipe.subtract_mean == recipe.subtract_mean:
        # Measured when the run began, on data whose fingerprint guards it; all else must be as it was.
        before = recorded.preprocess
        return replace(
            preprocess,
            mean=before.mean,
            std=before.std,
            mean_image=before.mean_image if before.crop_px == preprocess.crop_px else None,
        )
    return measured_preprocess(
        source.split("train"),
        preprocess,
        per_pixel=recipe.subtract_mean == "pixel",
        skip_bad=options.bad_samples == "skip",
    )


def _with_precision(plan: Plan, options: TrainOptions, device: torch.device, recorded: Plan | None) -> Plan:
    """Return the plan with the precision that was asked for, recorded, or measured to be the faster."""
    if options.precision == "auto" and recorded is not None:
        return replace(plan, precision=recorded.precision, precision_reason=recorded.precision_reason)
    # Multiply and add; the backward pass is two of the forward's.
    flop = 6 * plan.spec.num_macs(plan.train_px) * plan.recipe.batch_size * plan.total_steps
    if options.precision == "auto" and device.type == "cpu" and flop < _FLOP_WORTH_MEASURING:
        return replace(plan, precision="fp32", precision_reason="a short run")
    settled = settle_precision(options.precision, plan.backbone, device, image_px=plan.train_px)
    return replace(plan, precision=settled.precision, precision_reason=settled.reason)


def _settled_compile(plan: Plan, options: TrainOptions, device: torch.device, recorded: Plan | None) -> bool:
    if isinstance(plan.spec, DetectorSpec):
        return compiled_detector(options.compile)
    if options.compile == "auto" and recorded is not None:
        return recorded.compiled
    steps = range(0, plan.total_steps, max(1, plan.total_steps // 1000))
    return resolve_compile(
        options.compile,
        device,
        plan.backbone,
        image_px=plan.train_px,
        num_sizes=len({plan.side_px(step) for step in steps}),
        batch_size=plan.recipe.batch_size,
        total_steps=plan.total_steps,
        num_cores=usable_cores(),
    )


def _training_sides(recipe: Recipe, preprocess: Preprocess) -> set[int]:
    """Return the side of the training images at the start and at the end of a run, in pixels."""
    last = recipe.train_px or preprocess.crop_px
    return {min(recipe.start_px or last, last), last}


def _listed(sides: set[int]) -> str:
    return " to ".join(str(side) for side in sorted(sides))


def _check_growth(plan: Plan) -> None:
    """Refuse a start beyond the end that was asked for; one that a named recipe has is passed over."""
    start_px = plan.recipe.start_px
    if start_px is not None and start_px > plan.train_px:
        raise ConfigurationError(
            f"start_px is {start_px} and training images end with {plan.train_px} px",
            expected=f"a start_px of at most {plan.train_px}",
        )


def _check_images(plan: Plan) -> None:
    """Refuse what would fail at the first image, or at the first of another size."""
    recipe, preprocess = plan.recipe, plan.preprocess
    sides = _training_sides(recipe, preprocess)
    smallest, largest = min(sides), max(sides)
    if preprocess.mean_image is not None and sides != {preprocess.crop_px}:
        raise ConfigurationError(
            f"the mean image of the weights has {preprocess.crop_px} px and training images have "
            f"{_listed(sides)} px",
            expected="the same size",
            remedy="choose one size with --image-px, for which its average takes its place",
        )
    check_augment(recipe.augment, preprocess, largest)
    last_px = [layer.out_px for layer in plan.backbone.layers(smallest) if layer.kind == "conv"][-1]
    together = recipe.micro_batch_size or recipe.batch_size
    if recipe.batch_norm == "train" and together * last_px**2 == 1:
        name = "micro_batch_size" if recipe.micro_batch_size else "batch_size"
        raise ConfigurationError(
            f"{name} 1 at {smallest} px leaves batch normalization one value a channel",
            remedy=f"raise --{name.replace('_', '-')} or --image-px",
        )


def _has_its_classifier(start: Model, source: SampleSource, options: TrainOptions, recipe: Recipe) -> bool:
    """Return whether fine-tuning goes on with the weights' classifier, which is for the same classes."""
    asked = {"classifier_init", "head_stages"} & set(options.changes)
    if isinstance(options.recipe, Recipe) or asked or recipe.name != "finetune":
        return False
    return start.label_names == source.classes


def _fitted_to_data(source: SampleSource, options: TrainOptions, recipe: Recipe) -> Recipe:
    """Return a recipe that chooses by held-out images as it is for data without them, or with few."""
    is_asked = isinstance(options.recipe, Recipe) or "keep_model" in options.changes
    if source.task == MULTILABEL:
        recipe = _with_label_loss(recipe, options)
    if recipe.keep_model != "best-loss" or is_asked:
        return recipe
    if source.validation_split == source.evaluation_split:
        recipe = replace(recipe, keep_model="average", early_stopping=0)
    if "evaluate_every" not in options.changes:
        # An image is evaluated in a third of the time that training on it takes.
        num_held_out, num_samples = len(source.split(source.validation_split)), len(source.split("train"))
        share = num_held_out / 3 / num_samples
        recipe = replace(recipe, evaluate_every=float(max(1, math.ceil(share / _EVALUATION_SHARE))))
    return recipe


def _class_counts(source: SampleSource, recipe: Recipe) -> tuple[int, ...]:
    """Return the training images of each class, where the recipe depends on them.

    Raises:
        ConfigurationError: The recipe weighs classes in a way that the task or the loss has not.
    """
    if not recipe.weighs_classes:
        return ()
    train = source.split("train")
    if source.task == MULTILABEL:
        if recipe.balance == "sampling" or recipe.class_prior != "training":
            what = (
                "balance 'sampling'"
                if recipe.balance == "sampling"
                else f"class_prior {recipe.class_prior!r}"
            )
            raise ConfigurationError(
                f"{what} for several labels an image",
                expected="balance 'loss'",
                remedy="which labels are given is settled by their thresholds",
            )
        return tuple(targets_of(train).sum(axis=0).tolist())
    if source.task != "classification":
        raise ConfigurationError(f"balance for the task {source.task}", expected="classes")
    if recipe.loss != "cross-entropy":
        raise ConfigurationError(
            f"balance is {recipe.balance!r}, class_prior {recipe.class_prior!r} and loss {recipe.loss!r}",
            expected="cross-entropy, whose probabilities can be corrected",
        )
    return tuple(images_a_class(train.labels, len(source.classes)))


def _with_label_loss(recipe: Recipe, options: TrainOptions) -> Recipe:
    """Return a recipe whose loss is for several labels an image.

    A sum over the labels in place of a cross-entropy: its gradients are of the size that the recipe's
    learning rates are for. (By the mean mAP was 30 instead of 37 % after 94 updates on digits side by side.)
    """
    if options.changes.get("loss", "bce") != "bce":
        raise ConfigurationError(
            f"loss is {options.changes['loss']!r} for several labels an image", expected="bce"
        )
    if recipe.loss == "bce":
        return recipe
    return replace(recipe, loss="bce", bce_sum=options.changes.get("bce_sum", True))


def _check_selection(source: SampleSource, recipe: Recipe) -> None:
    """Refuse to choose by the images that are to give the final figure: it would flatter."""
    chooses = (
        recipe.keep_model in ("best", "best-loss") or recipe.early_stopping or recipe.schedule == "plateau"
    )
    if chooses and source.validation_split == "test":
        what = "plateau" if recipe.schedule == "plateau" else "choosing the best weights or the end"
        raise ConfigurationError(
            f"{what} by the test images would spoil the figure that they are for",
            remedy="hold out training images with --validation 0.1",
        )


def usual_side_px(source: SampleSource) -> float:
    """Return the median of the shorter sides of the first training images, in pixels.

    Those that cannot be decoded are left to the run, which stops at them or skips them.

    Raises:
        DataError: None of them can be decoded.
    """
    split = source.split("train")
    sides: list[int] = []
    bad: list[BadSample] = []
    for index in range(min(8, len(split))):
        key = f"sample {index}"
        try:
            sample = split.read(index)
            key = sample.key
            sides.append(min(decode(sample.content).shape[:2]))
        except DataError as error:
            bad.append(BadSample(index, key, str(error).removeprefix(f"{key}: ")))
    if not sides:
        require_none_bad(bad)
    return float(np.median(sides))


def _digest(model: str | Path) -> str:
    return sha256_of(model_folder(model) / "model.safetensors")[:32]
