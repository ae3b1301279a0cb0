"""``residual evaluate`` and ``residual compare`` as a user calls them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from deepresidual.cli import main
from deepresidual.evaluation import evaluate
from deepresidual.models import TorchClassifier, create, save
from tests.conftest import SMALL_INPUT, TINY, write_photos

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def models(tmp_path: Path, tiny_model: TorchClassifier) -> list[str]:
    names = []
    for seed in (0, 1, 2):
        model = TorchClassifier(
            create(TINY, seed=seed), tiny_model.label_names, dataclasses.replace(SMALL_INPUT, resize_px=9)
        )
        save(model, tmp_path / f"model-{seed}")
        names.append(str(tmp_path / f"model-{seed}"))
    return names


def document(capsys: Capture) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert read.pop("schema_version") == 1
    return read


def test_one_model_gives_what_python_gives(models: list[str], photos: Path, capsys: Capture) -> None:
    options = ["--views", "ten-crop", "--workers", "0"]
    assert main(["evaluate", models[0], str(photos), *options, "--json"]) == 0
    read = document(capsys)
    measured = evaluate(models[0], photos, views="ten-crop", num_workers=0)
    assert (read.pop("model"), read.pop("data"), read.pop("views")) == (
        models[0],
        str(photos),
        {"kind": "ten-crop"},
    )
    assert read == json.loads(json.dumps(measured.to_dict()))
    assert main(["evaluate", models[0], str(photos), *options, "--details"]) == 0
    out = capsys.readouterr().out
    low, high = measured.top1_interval
    for text in (
        f"{measured.top1_count}",
        f"{100 * low:.2f} – {high:.2%}",
        f"{measured.ece:.2%}",
        "precision",
        "green",
    ):
        assert text in out


def test_several_models_are_an_ensemble_and_data_comes_last(
    models: list[str], photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    write_photos(photos / "val", 4, seed=2)
    predictions = tmp_path / "together.parquet"
    options = [
        "--choose-on",
        "val",
        "--fit-temperature",
        "val",
        "--predictions",
        str(predictions),
        "--top-k",
        "2",
    ]
    assert main(["evaluate", *models, str(photos), *options, "--json"]) == 0
    read = document(capsys)
    assert (read["models"], read["data"], read["split"], read["count"]) == (models, str(photos), "test", 15)
    assert [row["name"] for row in read["members"]] == models
    assert read["steps"][0]["name"] in models
    assert read["temperature"]["fit_count"] == 12
    assert predictions.exists()
    assert main(["evaluate", *models, str(photos), *options]) == 0
    out = capsys.readouterr().out
    assert "chosen on val, the best first:" in out
    assert "temperature " in out
    assert f"the mean of the probabilities of {len(read['steps'])} of 3 models:" in out
    assert re.search(r"\d+ of 15 right: \d+ % \(\d+–\d+ %\); always 'blue': 33 %", out)
    assert "top-5" not in out
    assert (read["baseline_class"], read["baseline_top1"]) == ("blue", 1 / 3)


def test_where_one_model_stands_alone_the_data_are_the_digits(tmp_path: Path, capsys: Capture) -> None:
    network = create(dataclasses.replace(TINY, num_classes=10))
    save(TorchClassifier(network, tuple("0123456789"), SMALL_INPUT), tmp_path / "model")
    assert main(["evaluate", str(tmp_path / "model"), "--json"]) == 0
    read = document(capsys)
    assert (read["data"], read["count"]) == ("digits", 351)


def test_top5_is_in_the_tables_of_many_classes(tmp_path: Path, capsys: Capture) -> None:
    network = create(dataclasses.replace(TINY, num_classes=11))
    save(TorchClassifier(network, (*"0123456789", "none"), SMALL_INPUT), tmp_path / "model")
    model = str(tmp_path / "model")
    assert main(["evaluate", model, model, "digits", "--details"]) == 0
    assert capsys.readouterr().out.count("top-5") == 2


def test_spoiled_images_are_measured_beside_the_others(
    models: list[str], photos: Path, capsys: Capture
) -> None:
    command = ["evaluate", models[0], str(photos), "--corrupt", "jpeg=5,50", "size=4", "blur=2"]
    assert main([*command, "--json"]) == 0
    read = document(capsys)
    assert [(row["kind"], row["level"]) for row in read["corruptions"]] == [
        ("jpeg", 5), ("jpeg", 50), ("size", 4), ("blur", 2)
    ]  # fmt: skip
    assert read["top1"] == evaluate(models[0], photos).top1
    assert {row["count"] for row in read["corruptions"]} == {15}
    assert main(command) == 0
    out = capsys.readouterr().out
    assert f"as they are: {evaluate(models[0], photos).in_words()}\n" in out
    assert "always 'blue': 33 %" in out
    assert "size=4" in out


def test_two_files_of_predictions_are_compared(
    models: list[str], photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.jsonl")]
    for model, file in zip(models, files, strict=False):
        assert main(["evaluate", model, str(photos), "--predictions", file]) == 0
    capsys.readouterr()
    assert main(["compare", *files, "--json"]) == 0
    read = document(capsys)
    assert (read["first"], read["second"], read["count"]) == (*files, 15)
    assert read["top1"] == [evaluate(model, photos).top1 for model in models[:2]]
    assert (read["baseline_class"], read["baseline_top1"]) == ("blue", 1 / 3)
    assert main(["compare", *files]) == 0
    out = capsys.readouterr().out
    assert f"p = {read['p_value']:.3g} (McNemar's test, exact binomial)" in out
    assert re.search(r"33.33%\s+5\s+–\s+always 'blue'", out)
    assert main(["compare", files[0], str(tmp_path / "c.csv")]) == 3
    assert "c.csv cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["M", "D", "--choose-on", "train"],
            2,
            "--choose-on is given for one model; expected two models or more",
        ),
        (["M", "D", "--top-k", "3"], 2, "--top-k is given without --predictions; name a file for them"),
        (["M", "M", "D", "--corrupt", "jpeg=1"], 2, "--corrupt is given for 2 models; expected one model"),
        (
            ["M", "D", "--corrupt", "jpeg=1", "--predictions", "x.csv"],
            2,
            "--corrupt is given with --predictions",
        ),
        (["M", "D", "--corrupt", "fog=1"], 2, "unknown kind of corruption 'fog'"),
        (
            ["M", "D", "--views", "multi-scale", "--sizes", "8,x"],
            2,
            "--sizes is '8,x'; expected whole numbers",
        ),
        (["M", "D", "--sizes", "8"], 2, "sizes are given for the views 'one'"),
        (
            ["M", "D", "--fit-temperature", "test"],
            2,
            "'test' is the split to report and the one to fit a temp",
        ),
        (["M", "D", "--fit-temperature", "val"], 2, "has no split 'val'"),
        (["M", "D", "--predictions", "x.txt"], 2, "the file for predictions is 'x.txt'"),
        (["M", "gone", "D"], 3, "gone does not exist"),
        (["M", "D", "--image-px", "8", "--resize-px", "4"], 2, "crop_px is 8 and resize_px is 4"),
        ([], 2, "there is no MODEL; expected a model folder or a run folder, and DATA"),
    ],
)
def test_what_does_not_go_together_is_said(
    models: list[str], photos: Path, capsys: Capture, arguments: list[str], code: int, message: str
) -> None:
    stands_for = {"M": models[0], "D": str(photos)}
    assert main(["evaluate", *(stands_for.get(word, word) for word in arguments)]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
