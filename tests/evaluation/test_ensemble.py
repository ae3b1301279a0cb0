"""Ensembles: means by hand, contributions by leaving out, the choice against trying everything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deepresidual.errors import ConfigurationError
from deepresidual.evaluation import EvaluationSetup, evaluate
from deepresidual.evaluation.ensemble import choose_members
from deepresidual.evaluation.results import read_results
from deepresidual.models import TorchClassifier, create
from tests.conftest import SMALL_INPUT, TINY
from tests.evaluation.parts import Gray, Memory, by_hand, softmax, source_of

NAMES = ("a", "b", "c")


def images_of(seed: int, count: int) -> Memory:
    """Return noisy images whose brightest channel is the class."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count).tolist()
    images = []
    for label in labels:
        image = generator.integers(0, 200, (8, 8, 3))
        image[:, :, label] += 30
        images.append(image.astype(np.uint8))
    return Memory(images, labels)


def members(*seeds: int) -> list[TorchClassifier]:
    return [TorchClassifier(create(TINY, seed=seed), NAMES, SMALL_INPUT) for seed in seeds]


def test_the_mean_of_probabilities_by_hand() -> None:
    # Channels (1, 0, 0): a member of sharpness 1 and one of sharpness 3, and one that takes b for a.
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, :, 0] = 1
    source = source_of(test=Memory([image], [0]))
    models = [by_hand(Gray(1)), by_hand(Gray(3)), by_hand(Gray(2), names=("b", "a", "c"))]
    shares = np.stack(
        [softmax(np.array([1.0, 0, 0])), softmax(np.array([3.0, 0, 0])), softmax(np.array([0, 2.0, 0]))]
    )
    measured = EvaluationSetup.open(models, source, num_workers=0).ensemble()
    assert measured.evaluation.loss == pytest.approx(-np.log(shares.mean(axis=0)[0]))
    assert measured.evaluation.top1 == 1
    assert [member.top1 for member in measured.members] == [1, 1, 0]
    assert [member.loss for member in measured.members] == pytest.approx(list(-np.log(shares[:, 0])))
    # Two that are right outvote the third, one alone does not: 0.58 + 0.11 and 0.21 + 0.79.
    assert [member.contribution for member in measured.members] == [0, 1, 0]
    assert [member.name for member in measured.members] == ["model 1", "model 2", "model 3"]


def test_metrics_of_members_are_those_they_have_alone() -> None:
    source, models = source_of(test=images_of(0, 60)), members(1, 2, 3)
    setup = EvaluationSetup.open(models, source, num_workers=0, views="flip", batch_size=7)
    together = setup.ensemble()
    for member, model in zip(together.members, models, strict=True):
        alone = evaluate(model, source, num_workers=0, views="flip")
        assert (member.top1, member.top5, member.top1_interval) == (
            alone.top1,
            alone.top5,
            alone.top1_interval,
        )
        assert member.loss == pytest.approx(alone.loss)
        assert member.chosen


def test_a_contribution_is_what_the_ensemble_loses_without_the_member() -> None:
    source, models = source_of(test=images_of(1, 90)), members(1, 2, 3)
    together = EvaluationSetup.open(models, source, num_workers=0).ensemble()
    for number, member in enumerate(together.members):
        rest = [model for other, model in enumerate(models) if other != number]
        without = EvaluationSetup.open(rest, source, num_workers=0).ensemble()
        assert member.contribution == pytest.approx(together.evaluation.top1 - without.evaluation.top1)


def test_an_ensemble_of_one_model_twice_is_that_model() -> None:
    source, (model,) = source_of(test=images_of(2, 40)), members(5)
    together = EvaluationSetup.open([model, model], source, num_workers=0).ensemble().evaluation
    alone = evaluate(model, source, num_workers=0)
    assert together.confusions == alone.confusions
    assert together.loss == pytest.approx(alone.loss)


# -- choice --------------------------------------------------------------------------------------------


def test_the_choice_takes_the_best_step_every_time_and_stops() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (200,), generator=generator)
    scores = torch.randn(6, 200, 5, generator=generator)
    scores[torch.arange(6)[:, None], torch.arange(200), labels] += torch.tensor(
        [0.1, 1.2, 0.9, 1.0, 0.0, 0.8]
    )[:, None]

    def quality(chosen: list[int]) -> tuple[int, float]:
        mean = scores[chosen].double().softmax(dim=2).mean(dim=0)
        right = int((mean.argmax(dim=1) == labels).sum())
        return right, float(mean.gather(1, labels[:, None]).log().sum())

    picked = [member for member, _ in choose_members(scores, labels)]
    assert 1 < len(picked) < 6
    assert picked[0] == max(range(6), key=lambda member: quality([member]))
    for count in range(1, len(picked) + 1):
        candidates = [
            quality([*picked[: count - 1], member])
            for member in range(6)
            if member not in picked[: count - 1]
        ]
        found = quality(picked[:count])
        assert found[0] == max(candidates)[0]
        assert found[1] == pytest.approx(max(candidates)[1])
    rest = [member for member in range(6) if member not in picked]
    assert all(quality([*picked, member]) < quality(picked) for member in rest)


def test_of_equal_members_the_first_is_taken_and_no_more() -> None:
    scores = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    labels = scores.argmax(dim=1)
    (step,) = choose_members(torch.stack([scores, scores]), labels)
    assert (step[0], step[1].top1) == (0, 1)


def test_members_are_chosen_on_one_split_and_measured_on_another() -> None:
    source = source_of(val=images_of(3, 80), test=images_of(4, 50))
    models = [by_hand(Gray(0.05), SMALL_INPUT), *members(1, 2)]
    measured = EvaluationSetup.open(models, source, num_workers=0).ensemble(choose_on="val")
    on_val = [evaluate(model, source, split="val", num_workers=0).top1 for model in models]
    assert measured.chosen_on == "val"
    assert measured.steps[0].top1 == max(on_val) == on_val[0]
    chosen = [model for model, member in zip(models, measured.members, strict=True) if member.chosen]
    assert len(chosen) == len(measured.steps)
    again = (
        evaluate(chosen[0], source, num_workers=0)
        if len(chosen) == 1
        else EvaluationSetup.open(chosen, source, num_workers=0).ensemble().evaluation
    )
    assert measured.evaluation.top1 == again.top1
    assert (measured.evaluation.split, measured.evaluation.count) == ("test", 50)
    document = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert [row["chosen"] for row in document["members"]] == [member.chosen for member in measured.members]
    assert (document["chosen_on"], len(document["steps"])) == ("val", len(measured.steps))


def test_a_temperature_of_an_ensemble_is_that_of_its_mean(tmp_path: Path) -> None:
    source = source_of(val=images_of(3, 80), test=images_of(4, 50))
    measured = EvaluationSetup.open(
        members(1, 2), source, fit_temperature="val", predictions=tmp_path / "a.csv", num_workers=0
    ).ensemble()
    fitted = measured.evaluation.temperature
    assert fitted is not None
    assert (fitted.fit_count, fitted.split) == (80, "val")
    on_val = EvaluationSetup.open(members(1, 2), source, split="val", num_workers=0).ensemble().evaluation
    assert fitted.value != 1
    assert on_val.count == 80
    right = sum(label == predicted for label, predicted in read_results(tmp_path / "a.csv").values())
    assert right == measured.evaluation.top1_count


def test_what_cannot_be_an_ensemble_is_refused() -> None:
    source = source_of(val=images_of(0, 6), test=images_of(1, 6))
    (model,) = members(1)
    other = TorchClassifier(create(TINY), ("a", "b", "d"), SMALL_INPUT)
    with pytest.raises(ConfigurationError, match="an ensemble of 1; expected 2 models or more"):
        EvaluationSetup.open([model], source).ensemble()
    with pytest.raises(
        ConfigurationError,
        match=r"model 2 and model 1 know different classes \(only the first: d; only the second: c\)",
    ):
        EvaluationSetup.open([model, other], source).ensemble()
    with pytest.raises(
        ConfigurationError, match="'test' is the split to report and the one to choose members on"
    ):
        EvaluationSetup.open([model, model], source).ensemble(choose_on="test")
