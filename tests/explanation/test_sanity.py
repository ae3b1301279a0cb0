"""The maps lie where the evidence is known to be, for the class asked for, and depend on what was learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from deepresidual.explanation import METHODS, Method, activation_maps, enlarged
from deepresidual.models import TorchClassifier
from deepresidual.nn import ResNet, initialize
from tests.conftest import COLORS
from tests.explanation.blobs import BLOB, CORNERS, SIDE, picture, trained

NAMES = tuple(COLORS)
MARGIN = 4  # the layers around a position see somewhat more than their own pixels


@pytest.fixture(scope="module")
def model() -> TorchClassifier:
    return trained()


def heat_of(
    model: TorchClassifier, pictures: list[NDArray[np.uint8]], method: Method, names: list[str]
) -> torch.Tensor:
    rows = [NAMES.index(name) for name in names]
    maps = activation_maps(model, torch.from_numpy(np.stack(pictures)), method=method, rows=rows)
    return enlarged(maps.values, SIDE)


def share_inside(heat: torch.Tensor, corner: tuple[int, int]) -> float:
    """Return the share of the heat that lies on the square at ``corner``, give or take a margin."""
    top, left = (max(0, place - MARGIN) for place in corner)
    bottom, right = (place + BLOB + MARGIN for place in corner)
    return float(heat[top:bottom, left:right].sum() / heat.sum())


def test_the_network_has_learned_its_colours(model: TorchClassifier) -> None:
    generator = np.random.default_rng(5)
    pictures = [picture(generator, [(name, place)]) for name in NAMES for place in CORNERS.values()]
    said = model.predict(pictures)
    assert [one.classes[0] for one in said] == [name for name in NAMES for _ in CORNERS]


@pytest.mark.parametrize("method", METHODS)
def test_an_object_in_a_corner_has_its_heat_there(model: TorchClassifier, method: Method) -> None:
    generator = np.random.default_rng(6)
    cases = [(name, corner) for name in NAMES for corner in CORNERS.values()]
    pictures = [picture(generator, [(name, corner)]) for name, corner in cases]
    heat = heat_of(model, pictures, method, [name for name, _ in cases])
    for (name, corner), one in zip(cases, heat, strict=True):
        top, left = divmod(int(one.argmax()), SIDE)
        assert abs(top - corner[0] - BLOB / 2) <= BLOB, (name, corner)
        assert abs(left - corner[1] - BLOB / 2) <= BLOB, (name, corner)
        # The part that counts as inside is a fifth of the picture at most.
        assert share_inside(one, corner) > 0.5, (name, corner)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++"])
def test_of_two_objects_the_heat_is_on_the_one_that_is_asked_for(
    model: TorchClassifier, method: Method
) -> None:
    """The same picture twice: only the class that is asked for tells the maps apart."""
    generator = np.random.default_rng(7)
    for first, second in (("red", "blue"), ("green", "red"), ("blue", "green")):
        here, there = CORNERS["top left"], CORNERS["bottom right"]
        both = picture(generator, [(first, here), (second, there)])
        of_first, of_second = heat_of(model, [both, both], method, [first, second])
        assert share_inside(of_first, here) > 3 * share_inside(of_first, there)
        assert share_inside(of_second, there) > 3 * share_inside(of_second, here)


@pytest.mark.parametrize("method", METHODS)
def test_other_weights_give_another_map(model: TorchClassifier, method: Method) -> None:
    """Adebayo et al. 2018: a map that stays when the weights are drawn anew explains nothing."""
    generator = np.random.default_rng(8)
    cases = [(name, corner) for name in NAMES for corner in CORNERS.values()]
    pictures = [picture(generator, [(None, (14, 4)), (name, corner)]) for name, corner in cases]
    names = [name for name, _ in cases]
    learned = heat_of(model, pictures, method, names)
    same = [spearmanr(one.flatten(), one.flatten()).statistic for one in learned]
    assert min(same) == pytest.approx(1)

    correlations, shares = [], []
    for seed in range(3):
        network = ResNet(model.spec)
        initialize(network, seed)
        random = TorchClassifier(network, model.label_names, model.preprocess)
        for one, other, (_, corner) in zip(
            learned, heat_of(random, pictures, method, names), cases, strict=True
        ):
            if other.any():
                correlations.append(spearmanr(one.flatten(), other.flatten()).statistic)
                shares.append(share_inside(other, corner))
    assert len(correlations) > 12
    assert np.mean(correlations) < 0.5
    inside = np.mean([share_inside(one, corner) for one, (_, corner) in zip(learned, cases, strict=True)])
    assert np.mean(shares) < 0.7 * inside
