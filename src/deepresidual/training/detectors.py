"""The detector of a run: settled from what was asked for, from the first weights and from the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from deepresidual import zoo
from deepresidual.data.source import SampleSource
from deepresidual.data.source.annotated.for_task import has_masks
from deepresidual.errors import ConfigurationError
from deepresidual.models import Model
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Recipe
from deepresidual.runs.plan import Plan
from deepresidual.spec import DetectorSpec, NetworkSpec, ResNetSpec
from deepresidual.training.options import TrainOptions
from deepresidual.zoo.detectors import detector, detector_of, is_detector, name_of, with_masks

DETECT = "detect"
"""Name of the recipe for photos with boxes."""


def settled_detector(
    source: SampleSource,
    model: str | NetworkSpec | None,
    start: Model | None,
    recorded: Plan | None,
    *,
    is_small: bool,
) -> tuple[str, DetectorSpec]:
    """Return the detector of a run and its name, which is ``custom`` where the zoo has none.

    Args:
        source: The data.
        model: Name of a detector or of its network, or a spec. Default: chosen by the size of the images, and
            of photos by whether there are weights to begin with.
        start: The weights to begin with: of a detector, or of a network that classifies.
        recorded: The plan of the run that goes on.
        is_small: Whether the images are for the networks of CIFAR.

    Raises:
        UnknownNameError: There is no such network, or no such kind of detector.
    """
    name, spec = _of_boxes(source, model, start, is_small=is_small)
    if (
        recorded is not None
        and recorded.model == name != "custom"
        and isinstance(recorded.spec, DetectorSpec)
    ):
        return name, recorded.spec  # a row of the zoo may be mended; a run goes on with what it had
    if not has_masks(source):
        return name, replace(spec, masks=None)
    return name, spec if spec.masks is not None else with_masks(spec)


def _of_boxes(
    source: SampleSource, model: str | NetworkSpec | None, start: Model | None, *, is_small: bool
) -> tuple[str, DetectorSpec]:
    """Return the name of the detector of a run, and what it is for boxes."""
    num_classes = len(source.classes)
    if isinstance(model, DetectorSpec):
        return name_of(model) or "custom", replace(model, num_classes=num_classes)
    if isinstance(model, ResNetSpec):
        return "custom", detector_of(model, _usual_kind(model), num_classes)
    if start is not None and isinstance(start.spec, DetectorSpec) and model in (None, "custom"):
        return model or "custom", replace(start.spec, num_classes=num_classes)
    if model is None and start is not None and isinstance(start.spec, ResNetSpec):
        network = zoo.name_of(start.spec)
        if network is None:
            return "custom", detector_of(start.spec, _usual_kind(start.spec), num_classes)
        model = f"{network}-{_usual_kind(start.spec)}"
    name = model or ("resnet20-c4" if is_small else "resnet18-fpn-tiny")
    if not is_detector(name):
        name = f"{name}-{'c4' if zoo.entry(name).spec.stem == 'cifar' else 'fpn'}"
    return name, detector(name, num_classes)


def _usual_kind(spec: ResNetSpec) -> str:
    return "c4" if spec.stem == "cifar" else "fpn-slim"


def wants_small_images(
    source: SampleSource, model: str | NetworkSpec | None, network: NetworkSpec, options: TrainOptions
) -> bool:
    """Return whether the anchors of a detector are those for small images, and nothing says their size.

    The recipe for photos says one of photos, in which all objects are larger than these anchors.
    """
    is_said = options.image_px is not None or options.recipe is not None or "crop_px" in options.changes
    if is_said or source.preprocess is not None or isinstance(model, DetectorSpec):
        return False
    return isinstance(network, DetectorSpec) and network.backbone.stem == "cifar"


def whole_images(record: Preprocess, of_data: Preprocess | None) -> Preprocess:
    """Return the preprocessing of a detector from that of the weights: the whole image, as large.

    Args:
        record: That of a detector, which is taken as it is, or of a classifier, whose images were smaller.
        of_data: What the data itself says of its images.
    """
    if record.fit == "whole":
        return record
    if of_data is not None and of_data.fit == "whole":
        crop_px, resize_px = of_data.crop_px, of_data.resize_px
    else:
        crop_px = resize_px = record.resize_px
    return replace(record, fit="whole", crop_px=crop_px, resize_px=resize_px, mean_image=None)


def check_detection(recipe: Recipe, *, has_weights: bool) -> None:
    """Refuse what a recipe has for classes and a detector does not have.

    Raises:
        ConfigurationError: Naming the field.
    """
    for name, is_asked in (
        ("mixup or cutmix", bool(recipe.mix)),
        ("loss 'bce'", recipe.loss != "cross-entropy"),
        ("label_smoothing", recipe.label_smoothing > 0),
        ("classifier_init 'probe'", recipe.classifier_init == "probe"),
        ("head_stages 'all'", recipe.head_stages == "all"),
        ("precise_bn", recipe.precise_bn > 0),
        ("balance or class_prior", recipe.weighs_classes),
        ("subtract_mean 'pixel'", recipe.subtract_mean == "pixel"),
        ("warmup_until_error", recipe.warmup_until_error is not None),
    ):
        if is_asked:
            raise ConfigurationError(
                f"recipe {recipe.name} has {name}, and the data has boxes",
                expected="a recipe for boxes: detect, detect_1x, detect_3x, mask_1x, mask_3x or digit_scenes",
            )
    if recipe.batch_norm == "frozen" and not has_weights:
        raise ConfigurationError(
            "batch_norm is 'frozen' and there are no weights to begin with",
            expected="statistics that were learned",
            remedy="name weights with --weights, or choose --batch-norm train",
        )


def compiled_detector(asked: str) -> Literal[False]:
    """Return that a detector is not compiled: the numbers of its proposals and regions change at every step.

    torch would compile anew for each (minutes for the first steps of the smallest detector).

    Raises:
        ConfigurationError: It is asked for.
    """
    if asked == "yes":
        raise ConfigurationError(
            "compile is 'yes' and the network detects objects, whose number differs from step to step",
            expected="no, or auto",
        )
    return False
