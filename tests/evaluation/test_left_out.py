"""An evaluation of a run leaves out what the run was trained on, by content, and says how many."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import deepresidual
from deepresidual.errors import DataError
from deepresidual.evaluation import EvaluationSetup
from tests.conftest import write_photos, write_splits
from tests.training.parts import a_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ of 48 pictures for training, and run/ and other/, which were trained on them."""
    folder = tmp_path_factory.mktemp("trained")
    photos = write_splits(folder / "photos")
    for name in ("run", "other"):
        a_run(photos, folder / name, {"steps": 1})
    return folder


@pytest.fixture
def mixed(trained: Path, tmp_path: Path) -> Path:
    """A test split of 15 new pictures and of 7 that were trained on, under other names."""
    write_photos(tmp_path / "mixed" / "test", 5, seed=2)
    write_photos(tmp_path / "mixed" / "train", 1, seed=3)
    for number in range(7):
        source = trained / "photos" / "train" / "red" / f"red-{number:03}.png"
        shutil.copy(source, tmp_path / "mixed" / "test" / "red" / f"again-{number}.png")
    return tmp_path / "mixed"


@pytest.mark.parametrize("model", ["run", "run/model"])
def test_images_that_were_trained_on_are_left_out_and_counted(
    trained: Path, mixed: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = deepresidual.evaluate(trained / model, mixed, num_workers=0)
    assert (evaluation.count, evaluation.split) == (15, "test")
    said = (
        "7 of 22 images were used for training and are left out (same content); --keep-training-images counts"
    )
    assert said in capsys.readouterr().err
    every = deepresidual.evaluate(trained / model, mixed, keep_training_images=True, num_workers=0)
    assert every.count == 22
    assert "7 of 22 images were used for training and counted" in capsys.readouterr().err


def test_what_any_member_was_trained_on_is_left_out(trained: Path, mixed: Path) -> None:
    setup = EvaluationSetup.open([trained / "other", trained / "run"], mixed, num_workers=0)
    assert setup.num_left_out == 7
    assert setup.ensemble().evaluation.count == 15


def test_a_run_without_the_record_is_known_by_names_and_sizes(
    trained: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / "samples" / "train.sha256.gz").unlink()
    shutil.rmtree(mixed / "test")
    shutil.copytree(trained / "photos" / "test", mixed / "test")  # which the run held out
    shutil.copy(trained / "photos" / "train" / "red" / "red-012.png", mixed / "test" / "blue")
    evaluation = deepresidual.evaluate(tmp_path / "run", mixed, num_workers=0)
    assert evaluation.count == 15
    assert (
        "1 of 16 images was used for training and is left out (same name and size)" in capsys.readouterr().err
    )


def test_where_nothing_would_be_left_a_sentence_says_what_to_do(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "photos" / "train", tmp_path / "seen" / "val")
    with pytest.raises(
        DataError,
        match=r"^all 48 images of seen \(val\) were used for training \(same content\); expected images that "
        "the model has not seen; --keep-training-images measures on them all the same$",
    ):
        deepresidual.evaluate(trained / "run", tmp_path / "seen", num_workers=0)


def test_the_training_split_is_measured_where_it_is_asked_for(trained: Path) -> None:
    photos = trained / "photos"
    assert deepresidual.evaluate(trained / "run", photos, split="train", num_workers=0).count == 48
    assert deepresidual.evaluate(trained / "run", photos, num_workers=0).count == 15


def test_a_model_that_is_of_no_run_is_measured_on_everything(
    trained: Path, mixed: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "run" / "model", tmp_path / "model")
    assert deepresidual.evaluate(tmp_path / "model", mixed, num_workers=0).count == 22


def test_the_command_says_how_many_in_json(
    trained: Path, mixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from deepresidual.cli.evaluate import evaluate

    assert evaluate([str(trained / "run"), str(mixed)], workers=0, json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["num_left_out"], document["count"]) == (7, 15)
