"""Maps of single objects: against autograd step by step, where the evidence is, what becomes of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from deepresidual.backends.detector import TorchDetector
from deepresidual.data.augment import center_choice, window_of
from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.explanation.object_maps import (
    OBJECT_METHODS,
    ObjectMaps,
    ObjectMethod,
    object_layer_names,
    object_maps,
)
from deepresidual.nn.detection import Stages
from deepresidual.spec import MaskHead, Neck
from tests.explanation.squares import SIDE, Box, drawn_squares, fresh, picture, trained

NECKS: tuple[Neck, ...] = ("c4", "fpn")
MASKS = MaskHead(bins=4, convs=1, channels=8)


def maps_of(
    detector: TorchDetector, pixels: NDArray[np.uint8], choose: Callable[[Stages], int], **options: Any
) -> ObjectMaps:
    record = detector.preprocess
    window = window_of(center_choice(record, SIDE, SIDE), SIDE, SIDE, record, SIDE)
    return object_maps(detector, pixels, window, choose, **options)


def nearest(box: Box, label: int) -> Callable[[Stages], int]:
    """Return what chooses the object of a class that is most like a box."""

    def choose(stages: Stages) -> int:
        distances = (stages.found.boxes - torch.tensor(box)).abs().sum(dim=1)
        return int(torch.where(stages.found.labels == label, distances, torch.inf).argmin())

    return choose


def part_of(values: Tensor, box: Box) -> Tensor:
    left, top, right, bottom = box
    return values[top:bottom, left:right]


def pictures(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    return [picture(generator, drawn_squares(generator)) for _ in range(count)]


# -- the formula -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", OBJECT_METHODS)
def test_the_map_of_c4_is_that_of_the_shared_map(method: ObjectMethod) -> None:
    detector, (pixels,) = fresh("c4", masks=MASKS), pictures(1)
    maps = maps_of(detector, pixels, lambda _: 1, method=method)
    network, stages = detector.network, maps.stages
    images = detector.preprocess.normalize(torch.from_numpy(pixels)[None])
    (shared,) = (each.detach().requires_grad_() for each in network.backbone(images))
    region, label = stages.proposals[stages.regions[1]], int(stages.found.labels[1])
    logits, _ = network.roi_heads.predict([shared], [region[None]], network.backbone.last_stage)
    own = stages.found.boxes[1][None]
    of_mask = network.roi_heads.mask_logits([shared], [own], network.backbone.last_stage)[0, 1 + label]
    inside = of_mask >= 0
    scores = (logits[0, 1 + label], of_mask[inside].mean() if inside.any() else of_mask.mean())
    assert maps.mask_values is not None
    for score, values in zip(scores, (maps.values, maps.mask_values), strict=True):
        (gradient,) = torch.autograd.grad(score, shared, retain_graph=True)
        weights = gradient if method == "hires-cam" else gradient.mean(dim=(2, 3), keepdim=True)
        evidence = (weights * shared).sum(dim=1).relu().detach()
        expected = functional.interpolate(evidence[:, None], (SIDE, SIDE), mode="bilinear")[0, 0]
        expected *= evidence[0].numel() / SIDE**2  # a place is many pixels
        assert expected.max() > 0
        torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


def test_a_pyramid_has_the_evidence_of_all_maps_that_it_reads() -> None:
    """As a sum over pixels: what each map of the backbone has alone, in one layer after the other."""
    detector, (pixels,) = fresh("fpn"), pictures(1)
    joined = maps_of(detector, pixels, lambda _: 0)
    assert joined.mask_values is None
    single = [maps_of(detector, pixels, lambda _: 0, layer=name).values for name in detector.spec.read_stages]
    # The last map reaches the levels by the pyramid alone, in both cases; those before it by later maps, too.
    assert joined.values.sum() > single[-1].sum() > 0
    assert joined.values.shape == (SIDE, SIDE)


@pytest.mark.parametrize("neck", NECKS)
def test_every_layer_that_is_named_has_a_map(neck: Neck) -> None:
    detector, (pixels,) = fresh(neck), pictures(1)
    names = object_layer_names(detector.network)
    assert {"conv1", "layer1", "layer2.0", "last"} <= set(names)
    assert ("layer3" in names) == (neck == "fpn")
    for name in names:
        values = maps_of(detector, pixels, lambda _: 0, layer=name).values
        assert values.shape == (SIDE, SIDE), name
        assert values.isfinite().all(), name


def test_what_cannot_be_is_said() -> None:
    detector, (pixels,) = fresh("c4"), pictures(1)
    with pytest.raises(ConfigurationError, match="layer3.0 is the head of each region .* up to layer2"):
        maps_of(detector, pixels, lambda _: 0, layer="layer3.0")
    with pytest.raises(ConfigurationError, match=r"unknown layer 'lyer2' \(nearest: layer2"):
        maps_of(detector, pixels, lambda _: 0, layer="lyer2")
    with pytest.raises(UnknownNameError, match="unknown method of a detector 'score-cam'"):
        maps_of(detector, pixels, lambda _: 0, method="score-cam")


def test_the_detector_is_left_as_it_was() -> None:
    detector, (pixels,) = fresh("fpn", masks=MASKS), pictures(1)
    network = detector.network.train()
    network.backbone.body.conv1.requires_grad_(requires_grad=False)
    network.rpn.head.eval()

    def state() -> list[object]:
        return [
            [module.training for module in network.modules()],
            [(each.requires_grad, each.grad) for each in network.parameters()],
            [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in network.modules()],
            network.backbone.body.spec,
            detector.weights_sha256(),
        ]

    before = state()
    first = maps_of(detector, pixels, lambda _: 0)
    assert state() == before

    def explode(_stages: Stages) -> int:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        maps_of(detector, pixels, explode)
    assert state() == before
    with torch.inference_mode():
        assert torch.equal(maps_of(detector, pixels, lambda _: 0).values, first.values)


# -- where the evidence is -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned() -> TorchDetector:
    # Of c4 no heat can leave the region; that of a pyramid passes maps which see far beyond it.
    return trained("fpn")


def cases(count: int = 4) -> list[tuple[NDArray[np.uint8], tuple[Box, Box]]]:
    """Return pictures, each with the boxes of its red and its blue object."""
    generator, found = np.random.default_rng(9), []
    for _ in range(count):
        squares = drawn_squares(generator)
        found.append((picture(generator, squares), (squares[0].box, squares[1].box)))
    return found


def test_the_heat_lies_in_the_object_that_is_asked_for(learned: TorchDetector) -> None:
    """Of two objects in one picture; grad-cam warms what resembles them as well."""
    shares: dict[ObjectMethod, list[float]] = {method: [] for method in OBJECT_METHODS}
    for pixels, boxes in cases():
        for label, box in enumerate(boxes):
            for method, of_method in shares.items():
                values = maps_of(learned, pixels, nearest(box, label), method=method).values
                of_method.append(float(part_of(values, box).sum() / values.sum()))
            values = maps_of(learned, pixels, nearest(box, label)).values
            assert part_of(values, box).sum() > 10 * part_of(values, boxes[1 - label]).sum()
    # A box is a seventh of the picture at most.
    assert np.mean(shares["hires-cam"]) > 0.75
    assert np.mean(shares["grad-cam"]) < 0.8 * np.mean(shares["hires-cam"])


def fall(
    detector: TorchDetector, pixels: NDArray[np.uint8], box: Box, label: int, hidden: NDArray[np.bool_]
) -> float:
    """Return what the logit of an object's class loses when some pixels of its box become background."""
    (left, top, right, bottom), logits = box, list[float]()
    changed = pixels.copy()
    changed[top:bottom, left:right][hidden] = 105
    network = detector.network
    for each in (pixels, changed):
        with torch.no_grad():
            maps = network.backbone(detector.preprocess.normalize(torch.from_numpy(each)[None]))
            read = maps[: len(detector.spec.read_stages)]
            of_region, _ = network.roi_heads.predict(
                read, [torch.tensor([box], dtype=torch.float32)], network.backbone.last_stage
            )
        logits.append(float(of_region[0, 1 + label]))
    return logits[0] - logits[1]


def quarter(values: Tensor, *, warmest: bool) -> NDArray[np.bool_]:
    """Return the warmest quarter of the pixels, or the coldest."""
    order = np.argsort(values.numpy().ravel(), kind="stable")
    count = len(order) // 4
    hidden = np.zeros(len(order), np.bool_)
    hidden[order[-count:] if warmest else order[:count]] = True
    return hidden.reshape(values.shape)


def test_what_is_warm_decides_the_score_and_other_weights_give_another_map(learned: TorchDetector) -> None:
    """A map that would stay with other weights explains nothing (Adebayo et al. 2018)."""
    others = [fresh("fpn", seed) for seed in (1, 2)]
    warm, cold, warm_of_others, correlations = [], [], [], []
    for pixels, boxes in cases():
        for label, box in enumerate(boxes):
            heat = part_of(maps_of(learned, pixels, nearest(box, label)).values, box)
            warm.append(fall(learned, pixels, box, label, quarter(heat, warmest=True)))
            cold.append(fall(learned, pixels, box, label, quarter(heat, warmest=False)))
            for other in others:
                of_other = part_of(maps_of(other, pixels, nearest(box, label)).values, box)
                warm_of_others.append(fall(learned, pixels, box, label, quarter(of_other, warmest=True)))
                if of_other.any():
                    correlations.append(spearmanr(heat.flatten(), of_other.flatten()).statistic)
    assert np.mean(np.array(warm) > cold) > 0.8
    assert np.mean(warm) > 2 * np.mean(cold)
    assert np.mean(warm) > 1.1 * np.mean(warm_of_others)
    assert np.mean(correlations) < 0.6
