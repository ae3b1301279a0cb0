"""Introduce a run before its first step: the data, the network, the time; and on demand every setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from deepresidual.backends.classifier import ASKED_FOR
from deepresidual.data.expectation import expectation, few_in_words, images_a_class
from deepresidual.data.overlap import num_shared
from deepresidual.data.source import SampleSource
from deepresidual.data.source.annotated.split import DETECTION
from deepresidual.data.source.multilabel import MULTILABEL, labels_in_words
from deepresidual.models.config import read_config
from deepresidual.models.source import is_model_folder
from deepresidual.recipe import Recipe
from deepresidual.recipe.recipes import left_out
from deepresidual.runs.plan import Plan
from deepresidual.runtime.console import note, warn, warn_each
from deepresidual.runtime.openmp import spin_source
from deepresidual.runtime.processes import usable_cores
from deepresidual.spec import DetectorSpec
from deepresidual.training.beginning import Beginning
from deepresidual.training.head_rows import kept_in_words
from deepresidual.training.object_statistics import object_statistics, objects_in_words
from deepresidual.training.plan import SMALL_PX, usual_side_px

# A recipe that goes over the images so often is meant for other data.
_MANY_EPOCHS = 2000
_MOST_CLASSES = 6  # whose counts stand in a line
_LABEL = 12
_SMALL_PX = 64  # larger images are called photos


def introduce(plan: Plan, source: SampleSource, beginning: Beginning, minutes: float = 0.0) -> None:
    """Tell on stderr what a run learns, from what, with what network, and for how long.

    Args:
        plan: The plan of the run.
        source: Its data.
        beginning: What it begins with.
        minutes: Time that it may take; 0: as long as its recipe.
    """
    _tell(_images(plan), _data_lines(plan, source))
    warn_each(source.ignored)
    if not source.location:  # of files 'residual check' tells it
        warn_each(_shared(source))
    _tell("network", _network_lines(plan, source, beginning))
    _tell("time", _time_lines(plan, minutes))
    for sentence in _doubts(plan, source):
        warn(sentence)


def particulars(plan: Plan, num_ranks: int = 1) -> list[str]:
    """Return the settings of a run that decide its bits, a line each or several."""
    recipe = plan.recipe
    macs = plan.spec.num_macs(plan.preprocess.crop_px)
    reason = f" ({plan.precision_reason})" if plan.precision_reason not in ("", ASKED_FOR) else ""
    how = [f"{plan.precision}{reason}", "compiled" if plan.compiled else "not compiled", f"seed {plan.seed}"]
    how += [f"{num_ranks} ranks"] if num_ranks > 1 else []
    mirrored = "mirrored (--flip no for digits and text)" if recipe.augment.flip else "not mirrored"
    told = {
        "recipe": f"{recipe.name} ({recipe.fingerprint()}): {plan.total_steps:,} steps of "
        f"{recipe.batch_size}, {recipe.optimizer}, "
        f"learning rate {recipe.learning_rate:g} ({recipe.schedule})",
        "changed": "\n".join(_changed_fields(recipe)),
        "model": f"{plan.model}: {plan.spec.num_parameters:,} parameters, {macs / 1e6:,.0f} million "
        f"multiply-adds at {plan.preprocess.crop_px} px",
        "computing": ", ".join(how),
        "crop": f"{recipe.augment.crop}, {mirrored}",
    }
    return [
        f"{label if number == 0 else '':<{_LABEL}}{line}"
        for label, text in told.items()
        for number, line in enumerate(text.splitlines())
    ]


def _tell(label: str, lines: Iterator[str]) -> None:
    for line in lines:
        note(f"{label:<{_LABEL}}{line}")
        label = ""


def _images(plan: Plan) -> str:
    return "photos" if plan.preprocess.crop_px > _SMALL_PX else "images"


def _data_lines(plan: Plan, source: SampleSource) -> Iterator[str]:
    train, watched = source.split("train"), source.validation_split
    if plan.task == "classification":
        counts = images_a_class(train.labels, len(source.classes))
        yield f"{len(train):,} of {source.name} to learn from, {_classes(source.classes, counts)}"
        if plan.recipe.balance != "none" and plan.recipe.class_prior == "training":
            yield (
                "probabilities are for their frequencies; --class-prior equal finds more of the rare classes"
            )
        elif not plan.recipe.weighs_classes and (sentence := few_in_words(source.classes, counts)):
            yield sentence
    else:
        yield f"{len(train):,} of {source.name} to learn from, {_num_classes(source.classes)}"
        if plan.task == MULTILABEL:
            yield labels_in_words(source)
        elif plan.task == DETECTION:
            statistics = object_statistics(train, len(source.classes), plan.preprocess)
            yield from objects_in_words(statistics, source.classes, plan.preprocess, _images(plan))
    others = ", ".join(f"{len(split):,} {name}" for name, split in source.splits.items() if name != "train")
    yield f"{others}: held out" + ("" if "," not in others else f"; {watched} is watched")
    yield from (sentence for sentence in (source.held_out, *source.notes) if sentence)


def _shared(source: SampleSource) -> list[str]:
    """Return a sentence for every split that holds samples of the training split."""
    sentences = []
    for name, split in source.splits.items():
        if name != "train" and (count := num_shared(source.split("train"), split)):
            are = "is" if count == 1 else "are"
            sentences.append(
                f"{count:,} of {len(split):,} samples of {name} {are} in train as well: a figure on them "
                "says nothing of new images; take them out of one of the two"
            )
    return sentences


def _num_classes(classes: tuple[str, ...]) -> str:
    return "1 class" if len(classes) == 1 else f"{len(classes):,} classes"


def _classes(classes: tuple[str, ...], counts: list[int]) -> str:
    if len(classes) <= _MOST_CLASSES:
        listed = ", ".join(f"{name} {count:,}" for name, count in zip(classes, counts, strict=True))
        return f"{_num_classes(classes)}: {listed}"
    low, high = min(counts), max(counts)
    return f"{len(classes):,} classes of {low:,}" + (f" to {high:,}" if high > low else "")


def _network_lines(plan: Plan, source: SampleSource, beginning: Beginning) -> Iterator[str]:
    millions = plan.spec.num_parameters / 1e6
    yield f"{plan.model} at {plan.preprocess.crop_px} px, {millions:,.3g} million parameters"
    if beginning.line:
        without = beginning.line.removeprefix("none")
        is_without = without != beginning.line
        yield f"no weights to begin with{without}" if is_without else f"begins with {beginning.line}"
    if plan.task == DETECTION and (sentence := _classes_kept(plan, beginning)):
        yield sentence
    if plan.task == "classification":
        counts = images_a_class(source.split("train").labels, len(source.classes))
        yield expectation(counts, beginning.begins_with).partition(": ")[2]
    yield from beginning.notes
    for change in left_out(plan.recipe.name, plan.backbone):
        if not getattr(plan.recipe, change.field):
            yield f"without {change.field} on this network: {change.reason}"


def _classes_kept(plan: Plan, beginning: Beginning) -> str:
    """Return of which classes a detector that a run begins with has learned something."""
    if not beginning.weights or not is_model_folder(beginning.weights):
        return ""
    config = read_config(beginning.weights)
    return kept_in_words(plan.classes, config.label_names) if isinstance(config.spec, DetectorSpec) else ""


def _time_lines(plan: Plan, minutes: float) -> Iterator[str]:
    epochs = plan.total_steps * plan.recipe.batch_size / max(1, plan.num_samples)
    if minutes:
        cores = usable_cores()
        on = f"{cores} core{'s' if cores > 1 else ''}"
        length = f"at most {minutes:g} min of training on {on} (--minutes)"
    else:
        digits = 0 if epochs >= 100 else 1
        length = f"{epochs:,.{digits}f} epochs, {plan.total_steps:,} updates of {plan.recipe.batch_size:,}"
    yield f"{length}; Ctrl-C saves, --resume goes on"
    if spin_source() == "torch imported first":
        yield (
            "torch was imported before deepresidual, so idle threads spin as long as OpenMP lets them, which "
            "is slow beside other programs; import deepresidual first"
        )


def _doubts(plan: Plan, source: SampleSource) -> Iterator[str]:
    """Yield what is most likely not meant."""
    recipe = plan.recipe
    epochs = plan.total_steps * recipe.batch_size / max(1, plan.num_samples)
    if epochs > _MANY_EPOCHS:
        yield (
            f"recipe {recipe.name} goes {epochs:,.0f} times over {plan.num_samples:,} images: it is meant "
            "for many more; leave --recipe out, or say how long with --epochs or --minutes"
        )
    elif recipe.batch_size > plan.num_samples and plan.total_steps:
        yield (
            f"a batch of {recipe.batch_size:,} is more than all {plan.num_samples:,} training images; "
            "--batch-size 32 is usual for so few"
        )
    is_small = isinstance(plan.spec, DetectorSpec) and plan.backbone.stem == "cifar"
    if is_small and usual_side_px(source) > SMALL_PX:
        yield (
            f"{plan.model} is for images of up to {SMALL_PX} px and these are larger: it sees them at "
            f"{plan.preprocess.crop_px} px; leave {'--weights' if plan.weights else '--model'} out to have a "
            "network for photos"
        )
    if not plan.weights and (recipe.frozen_stages or recipe.batch_norm == "frozen"):
        what = f"frozen_stages {recipe.frozen_stages}" if recipe.frozen_stages else "batch_norm frozen"
        yield f"{what} holds still what was never trained; start from a model with --weights"


def _changed_fields(recipe: Recipe) -> list[str]:
    """Return the fields that are not at their default, a few a line."""
    words = [
        f"{field.name} {value}"
        for part in (recipe, recipe.augment, recipe.mix)
        for field in fields(part)
        if field.name not in ("name", "augment", "mix", "batch_size", "optimizer", "schedule")
        and (value := getattr(part, field.name)) != field.default
    ]
    return [", ".join(words[first : first + 5]) for first in range(0, len(words), 5)]
