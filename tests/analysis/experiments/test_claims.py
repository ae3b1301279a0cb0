"""What experiments claim, and what they print as published, is what the sources say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deepresidual.analysis.experiments import EXPERIMENTS, SCALES, Experiment, Scale, experiment
from deepresidual.analysis.experiments.experiment import ArmResult, Measurement, Results, Verdict
from deepresidual.analysis.experiments.record import judged_again

REPRODUCED = Path(__file__).parents[3] / "benchmarks" / "reproduced"


class Anything(dict[str, float]):
    """Figures of a run, whatever they are called: each its seed's."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def __contains__(self, _name: object) -> bool:
        return True

    def __missing__(self, _name: str) -> float:
        return 0.5 + 0.01 * self._seed


def verdicts_of(one: Experiment, scale: Scale) -> list[Verdict]:
    """Return all rows of an experiment, as if every arm had been run on the paper's images."""
    arms = {
        arm.name: ArmResult(arm, {seed: Measurement(Anything(seed)) for seed in range(3)})
        for arm in one.arms(scale)
    }
    return one.judge(Results(scale, arms, comparable=scale == "paper"))


def rows_with(one: Experiment, scale: Scale, words: str) -> list[Verdict]:
    return [row for row in verdicts_of(one, scale) if words in row.claim]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("one", EXPERIMENTS, ids=lambda one: one.name)
def test_no_number_is_published_of_training(one: Experiment, scale: Scale) -> None:
    """The tables are of errors on held-out images; of training there are figures, and one bound in a text."""
    for row in verdicts_of(one, scale):
        if row.claim == "1202 layers can be optimized":
            assert row.published == "< 0.1 %"  # 2015, section 4.2
        elif re.search("training|gradient|response", row.claim):
            assert not re.search("[0-9]", row.published), row
        if row.published and not row.published.startswith("not "):
            assert "ours" not in row.source, row


def test_the_original_unit_trains_worse_at_1001_layers_alone() -> None:
    """2016, section 4.2: at 110 and 164 layers pre-activation ends at a higher training loss."""
    preactivation = experiment("preactivation")
    for scale in ("smoke", "laptop"):
        assert [row.claim for row in verdicts_of(preactivation, scale) if "training" in row.claim] == []
    claims = [row.claim for row in rows_with(preactivation, "paper", "training")]
    assert claims == [
        "training loss at the end of pre-activation, 110 layers above that of original, 110 layers",
        "training loss at the end of pre-activation, 164 layers above that of original, 164 layers",
        "training error of original, 1001 layers above that of pre-activation, 1001 layers",
    ]
    tested = [row.published for row in rows_with(preactivation, "paper", "test error")[:3]]
    assert [re.findall(r"= (\S+) points", text) for text in tested] == [["0.24"], ["0.47"], ["2.69"]]


def test_a_depth_that_the_paper_has_not_is_called_ours() -> None:
    depth = experiment("depth")
    found = {row.claim: (row.published, row.source) for row in verdicts_of(depth, "laptop")}
    assert found["test error of ResNet-20 above that of ResNet-56"] == (
        "8.75 − 6.97 = 1.78 points (resnet20, resnet56)",
        "He et al. 2015, Table 6",
    )
    assert found["test error of ResNet-8 above that of ResNet-56"][1].startswith("ours: ")
    assert all("ours" not in row.source for row in verdicts_of(depth, "paper"))
    (optimized,) = rows_with(depth, "paper", "1202 layers can be optimized")
    assert "as they are; the paper's is of augmented ones" in optimized.tolerance


def test_warmup_claims_are_of_the_depths_that_the_papers_warm_up() -> None:
    warmup = experiment("warmup")
    for scale in SCALES:
        for arm in warmup.arms(scale):
            recipe = arm.recipe
            assert (recipe.learning_rate, recipe.schedule, recipe.epochs) == (0.1, "constant", 1)
            assert not any((recipe.warmup_epochs, recipe.warmup_steps, recipe.warmup_until_error))
            assert not set(arm.seeds) & {0, 1, 2}  # those that the design was tried with
    sources = [row.source for row in verdicts_of(warmup, "laptop")]
    assert [source.startswith("ours") for source in sources] == [True, True, False]
    assert all("He et al. 2016" in row.source for row in verdicts_of(warmup, "paper"))


def test_gradients_of_plain_nets_are_no_claim_of_the_papers() -> None:
    rows = rows_with(experiment("gradients"), "laptop", "of plain, 56 layers above that of")
    assert len(rows) == 5
    assert all("ours" in row.source or "Yang et al. 2019" in row.source for row in rows)
    (claim, *_) = rows_with(experiment("gradients"), "laptop", "much smaller")
    assert claim.published == 'no number: "unlikely to be canceled out"'


# -- what was measured, and what is made of it today -----------------------------------------------------


@pytest.mark.parametrize("file", sorted(REPRODUCED.glob("*.json")), ids=lambda file: file.stem)
def test_stored_verdicts_are_those_of_today(file: Path) -> None:
    document = json.loads(file.read_text("utf-8"))
    again = judged_again(experiment(document["experiment"]), document)
    assert json.loads(json.dumps(again)) == document, "run: python benchmarks/collect.py"
    # Nothing that was measured once is asked for in vain.
    assert all(row["measured"] != "not measured" for row in document["verdicts"])


def test_judging_again_changes_no_measurement() -> None:
    document = json.loads((REPRODUCED / "depth-laptop.json").read_text("utf-8"))
    old = {**document, "claim": "something else", "verdicts": []}
    assert judged_again(experiment("depth"), old) == document
    unknown = {**document["arms"][0], "name": "resnet-9000"}
    assert judged_again(experiment("depth"), {**old, "arms": [*document["arms"], unknown]})["verdicts"]
