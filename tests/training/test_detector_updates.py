"""An update of a detector: however a batch is spread, the same regions are learned from, and alike."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest
import torch

from deepresidual.backends.detector import TorchDetector
from deepresidual.data.augment import Window
from deepresidual.data.loader import BadSample, Batch
from deepresidual.data.masks import Crop
from deepresidual.data.objects import Objects, ObjectsBatch
from deepresidual.models import create
from deepresidual.nn.detection import Detector, sampling
from deepresidual.preprocess import Preprocess
from deepresidual.runs.plan import Plan
from deepresidual.runtime.distributed import SINGLE
from deepresidual.spec import DetectorSpec
from deepresidual.tasks import task_of
from deepresidual.training.updater import Updater
from tests.detectors import TINY_C4_MASKS, TINY_DETECTOR, TINY_MASKS, TINY_PYRAMID
from tests.training.parts import a_plan, changed, gradients, state

SIDE = 32
GRAY = Preprocess(SIDE, SIDE, (0.5,), (0.25,), channels="gray", fit="whole")
BOTH = pytest.mark.parametrize("spec", [TINY_DETECTOR, TINY_PYRAMID], ids=["c4", "fpn"])
EACH = pytest.mark.parametrize(
    "spec",
    [TINY_DETECTOR, TINY_PYRAMID, TINY_C4_MASKS, TINY_MASKS],
    ids=["c4", "fpn", "c4-masks", "fpn-masks"],
)


def plan_of(spec: DetectorSpec = TINY_DETECTOR, **fields: Any) -> Plan:
    """Return the plan of a run with a tiny detector, whose BN is frozen unless told."""
    in_gray = dataclasses.replace(spec, backbone=dataclasses.replace(spec.backbone, in_channels=1))
    own = {"task": "detection", "classes": tuple("0123456789"), "batch_norm": "frozen", **fields}
    return dataclasses.replace(a_plan(preprocess=GRAY, **own), spec=in_gray)


def objects_of(place: int, *, empty: tuple[int, ...] = ()) -> Objects:
    """Return the objects of a view: none, one or two, of which the third image's last is a crowd."""
    height = SIDE - 4 * (place % 3)
    window = Window((height, SIDE), SIDE, (1.0, 1.0), (0.0, 0.0), (0, 0, SIDE, height))
    count = 0 if place in empty else place % 3
    boxes = np.array([[2, 3, 12, 14], [10 + place % 7, 8, 22 + place % 7, 20]], np.float32)[:count]
    crowd = np.array([False, place == 2])[:count]
    crops = tuple(
        Crop(left, top, np.tri(bottom - top, right - left, dtype=np.uint8))
        for left, top, right, bottom in boxes.astype(int).tolist()
    )
    labels = np.arange(count) + place % 8
    return Objects(boxes, labels, crowd, crops=crops, window=window, seed=1000 + place)


def batch_of(plan: Plan, *, missing: tuple[int, ...] = (), empty: tuple[int, ...] = ()) -> Batch:
    """Return a whole batch of noise; ``missing`` are places of samples that could not be read."""
    size = plan.recipe.batch_size
    pixels = np.random.default_rng(0).integers(0, 256, (size, SIDE, SIDE, 1), dtype=np.uint8)
    places = torch.tensor([place for place in range(size) if place not in missing], dtype=torch.int64)
    here = places.tolist()
    return Batch(
        pixels=torch.from_numpy(pixels)[places],
        targets=ObjectsBatch(tuple(objects_of(place, empty=empty) for place in here))
        if here
        else torch.zeros(0).long(),  # as the loader gives them
        positions=torch.stack([torch.zeros_like(places), places, torch.zeros_like(places)], dim=1),
        places=places,
        keys=[f"sample {place}" for place in here],
        bad=[BadSample(place, f"sample {place}", "damaged") for place in missing],
    )


def updater_of(plan: Plan) -> Updater:
    network = create(plan.spec, seed=plan.seed).to(memory_format=torch.channels_last)
    return Updater(network, plan, SINGLE, task_of(plan))


def gradients_of(plan: Plan, **batch: Any) -> dict[str, torch.Tensor]:
    updater = updater_of(plan)
    assert updater.gradients(batch_of(plan, **batch), step=0) is not None
    return gradients(updater.network)


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.allclose(first[name], second[name], rtol=1e-4, atol=1e-6) for name in first)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, list[int], list[int]]]:
    """What is drawn: seed, use, and the places of positive and negative boxes."""
    seen: list[tuple[int, str, list[int], list[int]]] = []
    usual = sampling.draw_samples

    def listen(matches: Any, samples: int, share: float, seed: int, use: Any) -> Any:
        positive, negative = usual(matches, samples, share, seed, use)
        seen.append((seed, use, positive.tolist(), negative.tolist()))
        return positive, negative

    for module in ("proposals", "regions"):
        monkeypatch.setattr(f"deepresidual.nn.detection.{module}.draw_samples", listen)
    return seen


@EACH
@pytest.mark.parametrize("size", [1, 2, 4])
def test_micro_batches_add_up_to_the_gradients_of_the_batch(
    spec: DetectorSpec, size: int, drawn: list[Any]
) -> None:
    whole = gradients_of(plan_of(spec))
    of_whole = sorted(drawn)
    drawn.clear()
    assert close(gradients_of(plan_of(spec, micro_batch_size=size)), whole)
    assert sorted(drawn) == of_whole
    assert len(of_whole) == 2 * 12


@EACH
def test_every_weight_has_a_gradient_where_no_image_has_an_object(spec: DetectorSpec) -> None:
    # DistributedDataParallel waits for all of them, and would do so for ever.
    plan = plan_of(spec)
    names = {name for name, _ in create(plan.spec).named_parameters()}
    nothing = gradients_of(plan, empty=tuple(range(12)))
    assert set(nothing) == names
    assert float(nothing["roi_heads.box_predictor.cls_score.bias"].abs().sum()) > 0
    assert not nothing["roi_heads.box_predictor.bbox_pred.bias"].any()


@EACH
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_a_micro_batch_whose_samples_are_all_missing_teaches_nothing(
    spec: DetectorSpec, batch_norm: str
) -> None:
    plan = plan_of(spec, batch_norm=batch_norm, micro_batch_size=4)
    lost = updater_of(plan)
    before = state(lost.network)
    assert lost.gradients(batch_of(plan, missing=tuple(range(12))), step=0) is not None
    found = gradients(lost.network)
    assert set(found) == {name for name, _ in lost.network.named_parameters()}
    assert not any(gradient.any() for gradient in found.values())
    assert changed(before, state(lost.network)) <= {name for name in before if "num_batches_tracked" in name}


@EACH
def test_a_missing_sample_leaves_the_others_their_weight_and_their_company(spec: DetectorSpec) -> None:
    plan = plan_of(spec, micro_batch_size=4)
    without = gradients_of(plan, missing=(4, 5, 6, 7))
    alone = gradients_of(plan, missing=(0, 1, 2, 3, 8, 9, 10, 11))
    assert close({name: value + alone[name] for name, value in without.items()}, gradients_of(plan))


@BOTH
def test_bn_that_learns_takes_its_statistics_from_a_micro_batch(spec: DetectorSpec) -> None:
    learning = plan_of(spec, batch_norm="train")
    assert not close(
        gradients_of(plan_of(spec, batch_norm="train", micro_batch_size=4)), gradients_of(learning)
    )
    assert changed(gradients_of(learning), gradients_of(learning)) == set()


@BOTH
def test_checkpointed_activations_give_the_same_bits(spec: DetectorSpec) -> None:
    backbone = dataclasses.replace(spec.backbone, activation_checkpointing=True)
    plans = [
        plan_of(each, batch_norm="train") for each in (spec, dataclasses.replace(spec, backbone=backbone))
    ]
    assert plans[1].backbone.activation_checkpointing
    assert changed(*(gradients_of(plan) for plan in plans)) == set()


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    plan = plan_of(batch_norm="train", non_finite="skip")
    updater = updater_of(plan)
    weights = dict(updater.network.named_parameters())
    torch.nn.init.constant_(weights["roi_heads.box_predictor.cls_score.bias"], float("nan"))
    before = state(updater.network)
    assert updater.gradients(batch_of(plan), step=0) is None
    after = state(updater.network)
    assert all(torch.equal(before[name].nan_to_num(7), after[name].nan_to_num(7)) for name in before)
    assert not gradients(updater.network)


@BOTH
@pytest.mark.parametrize("frozen", [1, 2])
def test_frozen_stages_stay(spec: DetectorSpec, frozen: int) -> None:
    plan = plan_of(spec, batch_norm="train", frozen_stages=frozen, micro_batch_size=4)
    updater = updater_of(plan)
    before = state(updater.network)
    assert updater.gradients(batch_of(plan), step=0) is not None
    updater.apply(0, 0.1)
    stages = {name.split(".")[2] for name in changed(before, state(updater.network)) if ".body." in name}
    assert stages == {"layer1", "layer2", "layer3"} - ({"layer1"} if frozen == 2 else set())


@BOTH
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near(spec: DetectorSpec, precision: str) -> None:
    exact = gradients_of(plan_of(spec))
    updater = updater_of(plan_of(spec, precision=precision))
    assert updater.gradients(batch_of(plan_of(spec)), step=0) is not None
    name = "roi_heads.box_predictor.cls_score.bias"
    scale = updater.scaler.get_scale() if precision == "fp16" else 1.0
    torch.testing.assert_close(gradients(updater.network)[name] / scale, exact[name], rtol=0.1, atol=0.02)


@BOTH
def test_an_image_is_seen_as_in_evaluation_where_bn_is_frozen(spec: DetectorSpec) -> None:
    plan = plan_of(spec, batch_size=3)
    updater, batch = updater_of(plan), batch_of(plan)
    sums = updater.gradients(batch, step=0)
    assert sums is not None
    model = TorchDetector(cast("Detector", updater.network), plan.classes, plan.preprocess)
    pixels, objects = batch.pixels.numpy(), list(batch.targets)
    found, losses = model.detections_and_losses(pixels, objects)
    alone = model.detections(pixels, [each.window for each in objects])
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)
    assert {name: float(value) for name, value in sums[0].parts.items()} == pytest.approx(losses, rel=1e-5)
