"""Every command as a user calls it: what it prints, and the exit code."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from deepresidual import __version__, zoo
from deepresidual.cli import main
from deepresidual.models import TorchClassifier, save
from tests.commands import Commands

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path, tiny_model: TorchClassifier) -> str:
    save(tiny_model, tmp_path / "model")
    return str(tmp_path / "model")


def train_arguments(photos: Path, out: Path) -> list[str]:
    options = "--model resnet20 --image-px 8 --batch-size 10 --precision fp32 --epochs 2"
    return ["train", str(photos), *options.split(), "--out", str(out)]


def as_json(capsys: Capture) -> dict[str, object]:
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    return document


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"residual {__version__}\n"


def test_without_arguments_there_is_help(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([])
    assert "residual train PHOTOS --out RUN" in capsys.readouterr().out


def test_an_unknown_command_gets_the_nearest(capsys: Capture) -> None:
    assert main(["trian"]) == 2
    expected = "error: unknown command 'trian' (nearest: train); see 'residual --help'\n"
    assert capsys.readouterr().err == expected


def test_an_unknown_option_is_usage_and_gets_the_nearest(capsys: Capture) -> None:
    assert main(["train", "--modle", "resnet18"]) == 2
    assert "no option --modle (nearest: --model" in capsys.readouterr().err


def test_models_lists_every_network_with_its_counts(capsys: Capture) -> None:
    assert main(["models", "--json"]) == 0
    rows = as_json(capsys)["models"]
    assert isinstance(rows, list)
    assert [(row["name"], row["layers"], row["parameters"], row["macs"]) for row in rows] == [
        (entry.name, entry.spec.num_layers, entry.spec.num_parameters, entry.num_macs)
        for entry in zoo.entries()
    ]


def test_models_prints_a_table_that_is_not_cut_through_a_pipe(capsys: Capture) -> None:
    assert main(["models", "resnet5*"]) == 0
    out = capsys.readouterr().out
    assert "stride on the first 1×1 as in the paper" in out
    assert "25,557,032" in out


def test_models_shows_one(capsys: Capture) -> None:
    assert main(["models", "resnet50.v1"]) == 0
    assert "stride on   1x1" in capsys.readouterr().out


def test_train_evaluate_predict(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    assert main([*train_arguments(photos, out), "--json"]) == 0
    trained = as_json(capsys)
    assert (trained["run"], trained["status"]) == (str(out), "finished")
    assert main(["evaluate", str(out), str(photos), "--json"]) == 0
    measured = as_json(capsys)
    assert main(["evaluate", str(out), "--json"]) == 0  # by itself a run is measured on its own data
    assert as_json(capsys) == measured
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert measured["count"] == 15
    assert {name: measured[name] for name in ("top1", "top5", "loss")} == {
        name: last[name] for name in ("top1", "top5", "loss")
    }
    for name in ("split", "top1", "top5", "loss", "count"):
        assert trained[name] == last[name]
    assert main(["predict", str(out), str(photos / "test"), "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    right = sum(Path(row["path"]).parent.name == row["class"] for row in rows)
    assert (len(rows), right / 15) == (15, measured["top1"])


def test_train_ends_with_where_things_lie(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(train_arguments(photos, tmp_path / "run")) == 0
    run = tmp_path / "run"
    measured, empty, *commands = capsys.readouterr().out.splitlines()
    assert re.match(r"test +\d+ of 15 right: \d+ % \(\d+–\d+ %\); always 'blue': 33 %(; |$)", measured)
    assert empty == ""
    assert commands[0] == f"look        {run / 'report.html'}"
    assert [line.split()[:3] for line in commands[1:4]] == [
        ["measure", "residual", "evaluate"],
        ["use", "residual", "predict"],
        ["explain", "residual", "explain"],
    ]
    for line in commands[1:4]:  # to be copied
        assert main(shlex.split(line)[2:]) == 0, line


def test_options_reach_the_run(photos: Path, tmp_path: Path) -> None:
    options = (
        "--steps 2 --learning-rate 0.03 --schedule step --warmup-epochs 0 --momentum 0.8 --recipe photos "
        "--weight-decay 0.001 --label-smoothing 0.1 --crop random-resized --flip no --seed 5"
    )
    arguments = ["train", str(photos), "--model", "resnet20", "--image-px", "8", *options.split()]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    recipe = plan["recipe"]
    assert (plan["seed"], plan["preprocess"]["crop_px"]) == (5, 8)
    assert [recipe[name] for name in ("name", "steps", "learning_rate", "schedule")] == [
        "photos",
        2,
        0.03,
        "step",
    ]
    assert [recipe[name] for name in ("momentum", "weight_decay", "label_smoothing")] == [0.8, 0.001, 0.1]
    assert (recipe["augment"]["crop"], recipe["augment"]["flip"]) == ("random-resized", False)


def test_evaluate_prints_a_table(model: str, photos: Path, capsys: Capture) -> None:
    assert main(["evaluate", model, str(photos)]) == 0
    out = capsys.readouterr().out
    sentence = next(line for line in out.splitlines() if line.startswith(f"{model} on {photos} (test): "))
    assert re.search(r"\d+ of 15 right: .*; always 'blue': 33 %", sentence)
    assert re.search(r"class\s+images\s+predicted\s+precision\s+recall\s+F1", out)
    assert "ECE" not in out
    assert main(["evaluate", model, str(photos), "--details"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"split\s+images\s+right\s+top-1\s+95 % interval\s+baseline\s+loss\s+ECE", out)


@pytest.mark.parametrize("top_k", [1, 3])
def test_predict_writes_csv(model: str, photos: Path, capsys: Capture, top_k: int) -> None:
    arguments = ["predict", model, str(photos / "test" / "red"), "--format", "csv", "--top-k", str(top_k)]
    assert main(arguments) == 0
    rows = list(csv.reader(capsys.readouterr().out.splitlines()))
    more = ["class_2", "probability_2", "class_3", "probability_3"] if top_k == 3 else []
    assert rows[0] == ["path", "class", "probability", *more, "error"]
    assert len(rows) == 6
    assert sum(float(row[at]) for row in rows[1:] for at in range(2, 2 * top_k + 1, 2)) <= 5.0001


def test_predict_writes_json_lines_with_errors_in_place(model: str, photos: Path, capsys: Capture) -> None:
    bad = photos / "test" / "red" / "zz.png"
    bad.write_bytes(b"")
    assert main(["predict", model, str(bad.parent), "--format", "jsonl", "--top-k", "2"]) == 3
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [len(row["predictions"]) for row in rows] == [2, 2, 2, 2, 2, 0]
    assert rows[-1] == {"path": str(bad), "predictions": [], "error": "the file is empty (0 bytes)"}
    assert "error: 1 of 6 files could not be used, as named above" in captured.err


def test_predict_writes_one_document(model: str, photos: Path, capsys: Capture) -> None:
    assert main(["predict", model, str(photos / "test"), "--json"]) == 0
    document = as_json(capsys)
    assert document["count"] == 15


def test_predict_without_a_path_is_usage(model: str, capsys: Capture) -> None:
    assert main(["predict", model]) == 2
    assert capsys.readouterr().err.startswith("error: there is no PATH; expected image files")


def test_predict_prints_no_control_characters(model: str, photos: Path, capsys: Capture) -> None:
    source = photos / "test" / "red" / "red-000.png"
    source.rename(source.with_name("evil\x1b[2J.png"))
    assert main(["predict", model, str(photos / "test" / "red")]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_doctor_finds_this_machine_healthy(capsys: Capture) -> None:
    assert main(["doctor", "--json"]) == 0
    document = as_json(capsys)
    assert document["ok"] is True
    checks = document["checks"]
    assert isinstance(checks, list)
    assert [row["check"] for row in checks] == [
        "python",
        "torch",
        "device",
        "load",
        "precision",
        "decoders",
        "network",
        "detector",
        "data",
    ]


def test_doctor_names_what_is_missing(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepresidual.runtime.provenance._PACKAGES", ("torch", "no-such-package"))
    assert main(["doctor"]) == 4
    assert "BAD  python     ModuleNotFoundError: no-such-package not installed" in capsys.readouterr().out


# -- as processes ------------------------------------------------------------------------------------


def test_file_names_need_not_be_utf8(photos: Path, tmp_path: Path, commands: Commands) -> None:
    red = photos / "test" / "red"
    folder = os.fsencode(red)
    for number, path in enumerate(sorted(red.iterdir())):
        path.rename(os.fsdecode(folder + b"/caf\xe9-%d.png" % number))
    trained = commands.run(*train_arguments(photos, tmp_path / "run"), "--json")
    assert trained.code == 0, trained.err
    for kind in ("csv", "jsonl", "table"):
        done = commands.run("predict", str(tmp_path / "run"), str(red), "--format", kind)
        assert done.code == 0, done.err
        if kind == "jsonl":
            paths = [json.loads(line)["path"] for line in done.out.splitlines()]
            assert sorted(os.fsencode(path) for path in paths) == [
                folder + b"/caf\xe9-%d.png" % number for number in range(5)
            ]


def test_a_reader_that_leaves_is_no_error(model: str, photos: Path, commands: Commands) -> None:
    reading, writing = os.pipe()
    with (photos.parent / "err").open("w+") as err:
        words = ["predict", model, str(photos), "--format", "csv", "--batch-size", "1"]
        child = commands.begin(*words, stdout=writing, stderr=err.fileno())
        os.close(writing)
        with os.fdopen(reading) as reader:
            assert reader.readline() == "path,class,probability,error\n"
        assert commands.wait(child) == 0
        err.seek(0)
        assert err.read() == ""


def test_ctrl_c_saves_and_leaves_with_130_and_the_run_goes_on(
    photos: Path, tmp_path: Path, commands: Commands
) -> None:
    arguments = train_arguments(photos, tmp_path / "run")
    arguments[arguments.index("--epochs") + 1] = "2000"
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        child = commands.begin(*arguments, "--workers", "1", stdout=out.fileno(), stderr=err.fileno())
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and "evaluation" in metrics.read_text()):
        time.sleep(0.1)
    os.killpg(child.process, signal.SIGINT)  # as a terminal does: to every process of the group
    said = tmp_path / "err"
    assert commands.wait(child) == 130, said.read_text()
    assert "Traceback" not in said.read_text()
    assert f"--resume --out {tmp_path / 'run'}" in (tmp_path / "out").read_text()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "interrupted"
    checkpoint = tmp_path / "run" / "checkpoints" / f"step-{record['step']}"
    assert (checkpoint / "state.json").exists()
    assert (tmp_path / "run" / "report.html").exists()
