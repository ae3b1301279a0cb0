"""What is settled before a detector is trained: its first weights, its views, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from deepresidual.backends.detector import TorchDetector
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.annotated.for_task import for_task
from deepresidual.errors import ConfigurationError
from deepresidual.models import TorchClassifier, create, save
from deepresidual.nn import BODY as PREFIX
from deepresidual.preprocess import Preprocess
from deepresidual.runs.plan import Plan
from deepresidual.spec import DetectorSpec, MaskHead, ResNetSpec
from deepresidual.tasks import task_of
from deepresidual.training.beginning import Beginning
from deepresidual.training.introduction import introduce
from deepresidual.training.networks import first_network
from deepresidual.training.options import TrainOptions
from deepresidual.training.plan import make_plan, settle_learning
from deepresidual.zoo.detectors import detector as zoo_detector
from tests.detectors import (
    BODY,
    SHAPES,
    TINY_DETECTOR,
    TINY_MASKS,
    TINY_PYRAMID,
    few_scenes,
    write_masks,
    write_shapes,
)
from tests.training.parts import CPU, state

CROP = Preprocess(24, 32, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> SampleSource:
    """Pictures of discs and squares."""
    return open_source(write_shapes(tmp_path_factory.mktemp("data") / "shapes", 6, 3))


@pytest.fixture(scope="module")
def scenes() -> SampleSource:
    """Scenes of digits, which are gray and of 64 px."""
    return few_scenes()


def classifier(folder: Path, spec: ResNetSpec = BODY) -> Path:
    """Write a classifier of three classes."""
    network = create(dataclasses.replace(spec, num_classes=3), seed=5)
    save(TorchClassifier(network, ("a", "b", "c"), CROP), folder)
    return folder


def detector(folder: Path, *labels: str, spec: DetectorSpec = TINY_DETECTOR) -> Path:
    """Write a detector."""
    network = create(dataclasses.replace(spec, num_classes=len(labels)), seed=5)
    save(TorchDetector(network, labels, dataclasses.replace(CROP, fit="whole", crop_px=32)), folder)
    return folder


def plan_of(source: SampleSource, model: Any = None, **options: Any) -> Plan:
    return settle_learning(source, model, TrainOptions(**options))


def tensors(plan: Plan, weights: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return those of a run's first network, and of one that is drawn from its seed alone."""
    task = task_of(plan)
    return state(first_network(plan, task, weights)), state(create(plan.spec, seed=plan.seed))


# -- first weights ---------------------------------------------------------------------------------------


def test_a_classifier_gives_its_network_and_nothing_else(shapes: SampleSource, tmp_path: Path) -> None:
    start = classifier(tmp_path / "start")
    plan = plan_of(shapes, weights=str(start))
    assert isinstance(plan.spec, DetectorSpec)
    assert (plan.spec.neck, plan.spec.num_classes, plan.spec.backbone.num_classes) == ("c4", 2, 0)
    first, drawn = tensors(plan, start)
    theirs = state(create(dataclasses.replace(BODY, num_classes=3), seed=5))
    for name, tensor in first.items():
        expected = theirs[name.removeprefix(PREFIX)] if name.startswith(PREFIX) else drawn[name]
        assert torch.equal(tensor, expected), name
    assert {f"{PREFIX}{name}" for name in theirs if not name.startswith("fc.")} <= set(first)


def test_its_preprocessing_shows_whole_images_as_large(shapes: SampleSource, tmp_path: Path) -> None:
    plan = plan_of(
        shapes, weights=str(classifier(tmp_path / "start")), changes={"crop_px": None, "train_px": None}
    )
    assert plan.preprocess == dataclasses.replace(CROP, fit="whole", crop_px=32)


def test_data_that_says_the_size_of_its_images_has_it_kept(scenes: SampleSource, tmp_path: Path) -> None:
    # The weights want three channels, and see them in gray colours.
    plan = plan_of(scenes, weights=str(classifier(tmp_path / "start")))
    assert plan.preprocess == dataclasses.replace(CROP, fit="whole", crop_px=64, resize_px=64)
    assert (plan.backbone.in_channels, plan.recipe.name) == (3, "digit_scenes")


def test_a_bundled_network_of_colours_learns_gray_scenes(scenes: SampleSource) -> None:
    plan = plan_of(scenes, weights="resnet56-cifar10")
    assert (plan.model, plan.preprocess.channels, plan.preprocess.crop_px) == ("resnet56-c4", "rgb", 64)


def test_a_detector_of_the_same_classes_gives_everything(shapes: SampleSource, tmp_path: Path) -> None:
    start = detector(tmp_path / "start", *shapes.classes)
    plan = plan_of(shapes, weights=str(start))
    assert (plan.model, plan.preprocess.fit) == ("custom", "whole")
    first, _ = tensors(plan, start)
    theirs = state(create(dataclasses.replace(TINY_DETECTOR, num_classes=2), seed=5))
    assert all(torch.equal(first[name], tensor) for name, tensor in theirs.items())


def test_a_detector_of_other_classes_gives_all_but_its_classifier(
    shapes: SampleSource, tmp_path: Path
) -> None:
    start = detector(tmp_path / "start", "one", "two")
    first, drawn = tensors(plan_of(shapes, weights=str(start)), start)
    theirs = state(create(dataclasses.replace(TINY_DETECTOR, num_classes=2), seed=5))
    for name, tensor in first.items():
        expected = drawn if name.startswith("roi_heads.box_predictor.") else theirs
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("labels", [("cat", "disc", "square"), ("square", "disc"), ("square", "hen")])
@pytest.mark.parametrize("masks", [False, True])
def test_classes_of_the_same_name_keep_their_rows_and_others_are_drawn(
    shapes: SampleSource, tmp_path: Path, labels: tuple[str, ...], masks: bool
) -> None:
    spec = TINY_MASKS if masks else TINY_PYRAMID
    source = open_source(write_masks(tmp_path / "masks")) if masks else shapes
    assert source.classes == ("disc", "square")
    start = detector(tmp_path / "start", *labels, spec=spec)
    first, drawn = tensors(plan_of(source, weights=str(start)), start)
    theirs = state(create(dataclasses.replace(spec, num_classes=len(labels)), seed=5))
    heads = [("box_predictor.cls_score", 1), ("box_predictor.bbox_pred", 4)]
    heads += [("mask_predictor.mask_fcn_logits", 1)] if masks else []
    compared = set()
    for layer, count in heads:
        for part in ("weight", "bias"):
            compared.add(name := f"roi_heads.{layer}.{part}")
            found, new, learned = (
                each[name].view(-1, count, *each[name].shape[1:]) for each in (first, drawn, theirs)
            )
            assert torch.equal(found[0], learned[0])  # the background
            for row, label in enumerate(source.classes, start=1):
                expected = learned[1 + labels.index(label)] if label in labels else new[row]
                assert torch.equal(found[row], expected), (name, label)
    assert all(torch.equal(first[name], theirs[name]) for name in first if name not in compared)


def test_rows_are_drawn_where_what_they_read_differs(shapes: SampleSource, tmp_path: Path) -> None:
    start = detector(tmp_path / "start", "disc", spec=TINY_PYRAMID)
    regions = dataclasses.replace(TINY_PYRAMID.regions, box_weights=(1.0, 1.0, 1.0, 1.0))
    plan = plan_of(shapes, dataclasses.replace(TINY_PYRAMID, regions=regions), weights=str(start))
    first, drawn = tensors(plan, start)
    head = [name for name in first if name.startswith("roi_heads.box_predictor.")]
    assert head
    assert all(torch.equal(first[name], drawn[name]) for name in head)


def test_the_first_lines_say_which_classes_keep_what_was_learned(
    shapes: SampleSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for labels, said in ((("square", "hen"), True), (("cow", "hen"), False)):
        start = str(detector(tmp_path / labels[0], *labels, spec=TINY_PYRAMID))
        introduce(plan_of(shapes, weights=start), shapes, Beginning(weights=start))
        told = "keeps what it learned of 1 of 2 classes: square" in capsys.readouterr().err
        assert told == said


def test_weights_of_another_network_are_refused(shapes: SampleSource, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="the weights are of another network and the model is resnet20-c4"
    ):
        plan_of(shapes, "resnet20", weights=str(classifier(tmp_path / "start")))
    with pytest.raises(ConfigurationError, match="the weights are of resnet56 and the model is resnet20-c4"):
        plan_of(shapes, "resnet20-c4", weights="resnet56-cifar10")
    start = detector(tmp_path / "detector", *shapes.classes)
    with pytest.raises(
        ConfigurationError, match="the weights are of another network and the model is resnet18-fpn"
    ):
        plan_of(shapes, "resnet18-fpn", weights=str(start))


def test_a_detector_does_not_learn_classes_of_images(photos: Path, tmp_path: Path) -> None:
    start = detector(tmp_path / "start", "cat", "dog")
    with pytest.raises(ConfigurationError, match="photos has no boxes, and the network detects objects"):
        plan_of(open_source(photos), weights=str(start))
    with pytest.raises(ConfigurationError, match="photos has no boxes, and the network detects objects"):
        plan_of(open_source(photos), TINY_DETECTOR)


# -- the network -----------------------------------------------------------------------------------------


def test_a_spec_has_the_classes_and_channels_of_the_data(shapes: SampleSource, scenes: SampleSource) -> None:
    plan = plan_of(shapes, TINY_DETECTOR)
    assert (plan.model, plan.spec.num_classes) == ("custom", 2)
    gray = plan_of(scenes, TINY_DETECTOR)
    assert (gray.spec.num_classes, gray.spec.in_channels) == (10, 1)


@pytest.mark.parametrize(
    ("model", "name"),
    [(None, "resnet20-c4"), ("resnet20", "resnet20-c4"), ("resnet18", "resnet18-fpn"), ("resnet18-c4",) * 2],
)
def test_the_detector_follows_from_images_and_network(shapes: SampleSource, model: str, name: str) -> None:
    assert plan_of(shapes, model).model == name


def test_small_networks_see_images_as_large_as_their_anchors_are_for(
    shapes: SampleSource, tmp_path: Path
) -> None:
    plan = plan_of(shapes, "resnet20-c4")
    assert (plan.preprocess.crop_px, plan.train_px) == (64, 64)
    assert plan_of(shapes, "resnet20-c4", image_px=96).preprocess.crop_px == 96
    assert plan_of(shapes, "resnet18-fpn-tiny").preprocess.crop_px == 416
    kept = detector(tmp_path / "kept", *shapes.classes, spec=zoo_detector("resnet20-c4", 2))
    assert plan_of(shapes, weights=kept).preprocess.crop_px == 32


def test_options_of_the_network_reach_its_backbone(shapes: SampleSource) -> None:
    changes = {"stochastic_depth": 0.1}
    plan = plan_of(shapes, TINY_DETECTOR, changes=changes, activation_checkpointing=True)
    assert plan.backbone.activation_checkpointing
    assert plan.backbone.stochastic_depth == 0.1


# -- recipes and what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [("detect_1x", 90_000), ("detect_3x", 270_000), ("mask_1x", 90_000), ("mask_3x", 270_000)],
)
def test_the_schedules_for_coco_are_planned(
    shapes: SampleSource, tmp_path: Path, recipe: str, steps: int
) -> None:
    start = classifier(
        tmp_path / "start", dataclasses.replace(BODY, stem="imagenet", depths=(1,) * 4, widths=(4,) * 4)
    )
    plan = plan_of(shapes, recipe=recipe, weights=str(start))
    assert (plan.total_steps, plan.recipe.batch_size, plan.recipe.micro_batch_size) == (steps, 16, 1)
    assert (plan.preprocess.crop_px, plan.preprocess.resize_px, plan.train_px) == (1333, 800, 1333)
    with pytest.raises(
        ConfigurationError,
        match=r"batch_norm is 'frozen' and there are no weights to begin with; expected statistics that were "
        r"learned; name weights with --weights, or choose --batch-norm train",
    ):
        plan_of(shapes, "resnet50", recipe=recipe)


def test_masks_are_learned_where_the_data_has_them(tmp_path: Path) -> None:
    data = write_masks(tmp_path / "masks", 6, 3)
    for model in ("resnet18", "resnet18-fpn-tiny", "resnet20-c4", None):
        plan = plan_of(open_source(data), model)
        assert isinstance(plan.spec, DetectorSpec)
        assert plan.spec.masks is not None
        assert "mask" in task_of(plan).parts
        assert "roi_heads.mask_predictor." in task_of(plan).head
        boxes = plan_of(for_task(open_source(data), "detect"), model)
        assert isinstance(boxes.spec, DetectorSpec)
        assert boxes.spec.masks is None
        assert boxes.model == plan.model
        assert "mask" not in task_of(boxes).parts
    asked = plan_of(open_source(data), TINY_MASKS)
    assert asked.spec == dataclasses.replace(TINY_MASKS, num_classes=2)


def test_a_detector_of_boxes_begins_one_of_masks_and_the_other_way_round(tmp_path: Path) -> None:
    data = open_source(write_masks(tmp_path / "masks", 6, 3))
    boxes = detector(tmp_path / "boxes", *SHAPES)
    plan = plan_of(data, weights=boxes)
    assert isinstance(plan.spec, DetectorSpec)
    assert plan.spec.masks == MaskHead(convs=0, channels=64)
    masks = detector(tmp_path / "of_masks", *SHAPES, spec=TINY_MASKS)
    assert plan_of(for_task(data, "detect"), weights=masks).spec == dataclasses.replace(
        TINY_PYRAMID, num_classes=2
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mixup": 0.2}, "mixup or cutmix"),
        ({"cutmix": 1.0}, "mixup or cutmix"),
        ({"loss": "bce"}, "loss 'bce'"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"classifier_init": "probe"}, "classifier_init 'probe'"),
        ({"head_stages": "all"}, "head_stages 'all'"),
        ({"precise_bn": 24}, "precise_bn"),
        ({"balance": "loss"}, "balance or class_prior"),
        ({"balance": "sampling"}, "balance or class_prior"),
        ({"subtract_mean": "pixel"}, "subtract_mean 'pixel'"),
        ({"warmup": "constant", "warmup_until_error": 0.5}, "warmup_until_error"),
    ],
)
def test_what_is_for_classes_is_refused(shapes: SampleSource, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"^recipe detect has {named}, and the data has boxes; expected"
    ):
        plan_of(shapes, TINY_DETECTOR, changes=changes)


@pytest.mark.parametrize("recipe", ["finetune", "imagenet2015", "rsb_a2", "cifar2015"])
def test_recipes_for_classes_are_refused(shapes: SampleSource, recipe: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"^recipe {recipe} has .*; expected a recipe for boxes: detect,"
    ):
        plan_of(shapes, TINY_DETECTOR, recipe=recipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frozen_stages": 5}, r"frozen_stages is 5; expected 0 to 4 \(the stem and 3 stages\)"),
        ({"early_stopping": 2}, "by the test images would spoil the figure"),
        ({"schedule": "plateau"}, "by the test images would spoil the figure"),
        ({"crop": "scale-jitter"}, "min_side_px is 256 and the training images have 320 px"),
    ],
)
def test_what_is_refused_of_classifiers_is_refused_of_detectors(
    shapes: SampleSource, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan_of(shapes, TINY_DETECTOR, changes=changes)


def test_a_detector_is_not_compiled(shapes: SampleSource) -> None:
    assert not make_plan(shapes, TINY_DETECTOR, TrainOptions(precision="fp32"), CPU).compiled
    options = TrainOptions(precision="fp32", compile="yes")
    with pytest.raises(
        ConfigurationError, match="compile is 'yes' and the network detects objects, .* no, or auto"
    ):
        make_plan(shapes, TINY_DETECTOR, options, CPU)
