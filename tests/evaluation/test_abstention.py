"""From which probability on a model answers: shown, kept with the model, and measured on other images."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from deepresidual.backends.abstention import Abstention
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.evaluation import Evaluation, evaluate
from deepresidual.evaluation.abstention import Answers, answers_needed, lower_bounds
from deepresidual.models import TorchClassifier, load, save
from deepresidual.models.config import keep_abstention

Capture = pytest.CaptureFixture[str]

_RULE = Abstention(0.5, 0.95, "val", 100, 80, 80, "0123")


def _answers(confidences: list[float], correct: list[bool]) -> Answers:
    """Return answers of a two-class model with these probabilities of the first class."""
    answers = Answers()
    share = torch.tensor(confidences, dtype=torch.float64)
    labels = torch.tensor([0 if right else 1 for right in correct])
    answers.add(torch.stack([share.log(), (1 - share).log()], dim=1), labels)
    return answers


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    for correct, count in ((0, 5), (1, 1), (38, 39), (59, 59), (950, 1000)):
        (bound,) = lower_bounds(np.array([correct]), np.array([count]))
        expected = binomtest(correct, count, alternative="greater").proportion_ci(0.95, "exact").low
        assert bound == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("target", "needed"), [(0.95, 59), (0.9, 29), (0.99, 299), (0.5, 5)])
def test_so_many_answers_without_a_mistake_are_needed(target: float, needed: int) -> None:
    assert answers_needed(target) == needed
    assert lower_bounds(np.array([needed]), np.array([needed]))[0] >= target
    assert lower_bounds(np.array([needed - 1]), np.array([needed - 1]))[0] < target


def test_the_smallest_threshold_that_is_shown_is_chosen() -> None:
    # 80 right answers from 0.8 on, then as many wrong ones, of which not even one can be borne.
    confidences = [*np.linspace(0.99, 0.8, 80), *np.linspace(0.7, 0.6, 80)]
    rule = _answers(confidences, [True] * 80 + [False] * 80).choose(0.95, "val", "f")
    assert (rule.chosen_on, rule.count, rule.precision_target) == ("val", 160, 0.95)
    assert (rule.answered, rule.correct) == (80, 80)
    assert rule.min_probability == 0.75  # half-way to the next, so that the last digits do not matter


def test_equal_probabilities_are_answered_together() -> None:
    # Of those at 0.7 the right ones come first by chance; a threshold cannot part them from the others.
    confidences = [0.9] * 70 + [0.7] * 60
    rule = _answers(confidences, [True] * 90 + [False] * 40).choose(0.95, "val", "f")
    assert (rule.answered, rule.min_probability) == (70, 0.8)


@given(
    st.lists(st.tuples(st.floats(0.51, 0.99), st.booleans()), min_size=30, max_size=120),
    st.sampled_from([0.5, 0.7, 0.9]),
)
def test_what_is_chosen_keeps_its_promise_on_its_images(
    rows: list[tuple[float, bool]], target: float
) -> None:
    answers = _answers([row[0] for row in rows], [row[1] for row in rows])
    try:
        rule = answers.choose(target, "val", "f")
    except DataError:
        return
    measured = answers.measured(rule, "f")
    assert measured.is_chosen_here
    assert (measured.answered, measured.correct) == (rule.answered, rule.correct)
    assert lower_bounds(np.array([rule.correct]), np.array([rule.answered]))[0] >= target
    # No smaller threshold is shown: with the next probability the bound is too low, and so with all below.
    for below in {row[0] for row in rows if row[0] < rule.min_probability}:
        wider = [right for share, right in rows if share >= below]
        assert lower_bounds(np.array([sum(wider)]), np.array([len(wider)]))[0] < target


def test_too_few_images_say_how_many_are_needed() -> None:
    with pytest.raises(
        DataError,
        match=r"^with 20 images of val a precision of 0\.95 cannot be shown: 59 answers without a mis",
    ):
        _answers([0.9] * 20, [True] * 20).choose(0.95, "val", "f")


def test_a_target_that_is_not_reached_says_what_is() -> None:
    # The second of 60 is wrong, and so are ten at the end.
    correct = [True, False, *[True] * 58, *[False] * 10]
    answers = _answers([*np.linspace(0.99, 0.8, 60), *[0.6] * 10], correct)
    with pytest.raises(
        DataError,
        match=r"^on 70 images of val a precision of 0\.95 is not shown at any probability: of the 60 surest "
        r"answers 59 are right, which shows 0\.92; give more images, or a lower --precision-target$",
    ):
        answers.choose(0.95, "val", "f")


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, math.nan])
def test_a_target_is_a_share(target: float) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^precision_target is .*; expected a number above 0 and below"
    ):
        _answers([0.9] * 9, [True] * 9).choose(target, "val", "f")


# -- in the model folder ---------------------------------------------------------------------------------


def test_a_model_keeps_it_and_nothing_else_changes(tmp_path: Path, tiny_model: TorchClassifier) -> None:
    save(tiny_model, tmp_path / "model")
    before = json.loads((tmp_path / "model" / "config.json").read_text())
    assert load(tmp_path / "model").abstention is None
    keep_abstention(tmp_path / "model", _RULE)
    after = json.loads((tmp_path / "model" / "config.json").read_text())
    assert after["residual"].pop("abstention") == _RULE.to_dict()
    assert after == before
    model = load(tmp_path / "model")
    assert model.abstention == _RULE
    save(model, tmp_path / "copy")
    assert load(tmp_path / "copy").abstention == _RULE


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ([], "the abstention cannot be read"),
        ({**_RULE.to_dict(), "min_probability": 2}, "the abstention cannot be read .*min_probability is 2"),
        ({"min_probability": 0.5}, "the abstention cannot be read"),
    ],
)
def test_a_damaged_record_is_named(
    tmp_path: Path, tiny_model: TorchClassifier, section: object, message: str
) -> None:
    save(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    config["residual"]["abstention"] = section
    file.write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / "model")


# -- evaluate and predict --------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, tiny_model: TorchClassifier, photos: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a model folder in the current folder, beside ``photos`` with a split called val."""
    monkeypatch.chdir(tmp_path)
    save(tiny_model, "model")
    (photos / "train").rename(photos / "val")
    return "model"


def test_it_is_chosen_on_one_split_and_measured_on_the_other(model: str, capsys: Capture) -> None:
    assert main(["evaluate", model, "photos", "--precision-target", "0.05", "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)
    assert chosen["split"] == "val"
    assert chosen["abstention"]["is_chosen_here"]
    assert chosen["abstention"]["coverage"] == 1  # a target that chance reaches
    assert Evaluation.from_dict(chosen).to_dict()["abstention"] == chosen["abstention"]
    assert main(["evaluate", model, "photos"]) == 0
    out = capsys.readouterr().out
    assert " on (chosen on val for a precision of 0.05): " in out
    tested = evaluate(model, "photos").abstention
    assert tested is not None
    assert not tested.is_chosen_here
    assert tested.rule == load(model).abstention
    # Other views give other probabilities, for which it was not chosen.
    assert evaluate(model, "photos", views="flip").abstention is None


def test_a_temperature_does_not_move_the_threshold(model: str) -> None:
    plain = evaluate(model, "photos", split="val", precision_target=0.05)
    fitted = evaluate(model, "photos", split="val", precision_target=0.05, fit_temperature="test")
    assert fitted.temperature is not None
    assert fitted.abstention == plain.abstention


def test_below_the_threshold_there_is_no_class(model: str, capsys: Capture) -> None:
    file = "photos/test/red/red-000.png"
    assert main(["predict", model, file, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert "unsure" not in row
    probability = row["predictions"][0]["probability"]
    for limit, is_unsure in ((probability - 0.01, False), (probability + 0.01, True)):
        options = ["predict", model, file, "--min-probability", f"{limit:.6f}"]
        assert main([*options, "--json"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["results"] == [{**row, "unsure": is_unsure}]
        assert "That is no detector of strangers" in err
        assert main([*options, "--format", "csv"]) == 0
        _, line = capsys.readouterr().out.splitlines()
        name = "" if is_unsure else row["predictions"][0]["class"]
        assert line == f"{file},{name},{probability:.6f},"
        assert main(options) == 0
        assert (
            capsys.readouterr()
            .out.splitlines()[1]
            .startswith(f"unsure: {row['predictions'][0]['class']}" if is_unsure else name)
        )


def test_auto_is_what_the_model_keeps(model: str, capsys: Capture) -> None:
    assert main(["predict", model, "photos/test", "--min-probability", "auto"]) == 2
    assert capsys.readouterr().err == (
        "error: --min-probability is auto, and nothing was chosen for model; expected a number from 0 to 1; "
        "choose one with 'residual evaluate model DATA --precision-target 0.95'\n"
    )
    keep_abstention(model, Abstention(1.0, 0.95, "val", 100, 80, 80, ""))
    assert main(["predict", model, "photos/test", "--min-probability", "auto", "--json"]) == 0
    assert all(row["unsure"] for row in json.loads(capsys.readouterr().out)["results"])


@pytest.mark.parametrize("value", ["much", "-1", "1.5", "nan"])
def test_a_threshold_is_a_probability(model: str, capsys: Capture, value: str) -> None:
    assert main(["predict", model, "photos/test", f"--min-probability={value}"]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: --min-probability is '{value}'; expected auto, or a number"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["resnet20-digits", "digits"],
            "--precision-target is kept in the model, and resnet20-digits is no fol",
        ),
        (["model", "model", "photos"], "--precision-target is given for 2 models"),
        (["model", "photos", "--corrupt", "jpeg=10"], "--precision-target is given with --corrupt"),
        (
            ["model", "photos", "--views", "flip"],
            "a precision target is given with other views than the central",
        ),
    ],
)
def test_where_it_could_not_be_kept_or_used_nothing_is_chosen(
    model: str, capsys: Capture, arguments: list[str], message: str
) -> None:
    assert main(["evaluate", *arguments, "--precision-target", "0.5"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_refusal_changes_nothing(model: str, capsys: Capture) -> None:
    before = Path("model/config.json").read_text()
    assert main(["evaluate", model, "photos", "--precision-target", "0.999", "--predictions", "p.csv"]) == 3
    assert "cannot be shown: 2,995 answers without a mistake are needed" in capsys.readouterr().err
    assert Path("model/config.json").read_text() == before
    assert not Path("p.csv").exists()
