"""``residual check`` as a user calls it: table, JSON, CSV, exit codes, and files with hostile names."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepresidual.cli import main
from deepresidual.data import check_samples
from deepresidual.runtime.printable import printable
from tests.commands import Commands, Done
from tests.data.annotations import voc_xml, voc_year
from tests.data.bad_files import ERRORS, WARNINGS, plant

Capture = pytest.CaptureFixture[str]
# In this process output is UTF-8 to the letter; a name that is not goes through a process of its own below.
READABLE = tuple(bad for bad in (*ERRORS, *WARNINGS) if "\udce9" not in bad.path)


def test_a_clean_folder(photos: Path, capsys: Capture) -> None:
    assert main(["check", str(photos)]) == 0
    assert capsys.readouterr().out == (
        "train: 48 images, 16 a class: too few photos to learn from scratch; learned weights (--weights) "
        f"or more images usually help\n{photos}: images in train 48, test 15; nothing to find fault with\n"
    )


def test_every_bad_file_is_in_the_table(tmp_path: Path, capsys: Capture) -> None:
    data = plant(tmp_path / "data", READABLE)
    assert main(["check", str(data)]) == 3
    out = capsys.readouterr().out
    for bad in READABLE:
        shown = printable(bad.path)
        severity = "warning" if bad in WARNINGS else "error"
        (row,) = [line for line in out.splitlines() if line.startswith(" ") and f" {shown} " in line]
        assert row.split()[:2] == [severity, bad.kind]
    num_errors = len(READABLE) - len(WARNINGS)
    assert out.splitlines()[-1] == (
        f"{data}: images in train 62, val 11; {num_errors} errors, {len(WARNINGS)} warnings"
    )
    assert "\x1b" not in out


def test_warnings_alone_leave_with_zero(tmp_path: Path, capsys: Capture) -> None:
    data = plant(tmp_path / "data", WARNINGS[:1])
    assert main(["check", str(data)]) == 0
    assert capsys.readouterr().out.endswith("images in train 25, val 6; 0 errors, 1 warning\n")


def test_min_px_reaches_the_check(photos: Path, capsys: Capture) -> None:
    assert main(["check", str(photos), "--min-px", "25", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"tiny": 2}


def test_the_json_document_has_everything(tmp_path: Path, capsys: Capture) -> None:
    data = plant(tmp_path / "data", READABLE)
    assert main(["check", str(data), "--json", "--workers", "1"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert list(document) == [
        "schema_version",
        "data",
        "ok",
        "num_samples",
        "num_classes",
        "images_per_class",
        "counts",
        "findings",
    ]
    assert (document["schema_version"], document["data"], document["ok"]) == (1, str(data), False)
    assert (document["num_samples"], document["num_classes"]) == ({"train": 62, "val": 11}, 2)
    assert sum(document["counts"].values()) == len(document["findings"]) == len(READABLE)
    found = sorted((finding["kind"], finding["key"]) for finding in document["findings"])
    assert found == sorted((bad.kind, bad.path) for bad in READABLE)
    assert set(document["findings"][0]) == {"kind", "severity", "split", "key", "detail"}


def test_a_kind_that_is_frequent_is_cut_in_the_table_only(photos: Path, capsys: Capture) -> None:
    for number in range(30):
        (photos / "train" / "red" / f"z-{number:02d}.png").write_bytes(b"")
    assert main(["check", str(photos)]) == 3
    out = capsys.readouterr().out
    assert out.count("the file is empty (0 bytes)") == 20
    assert "and 10 more like these" in out
    assert "30 errors, 0 warnings" in out


def test_a_folder_that_cannot_be_opened(tmp_path: Path, capsys: Capture) -> None:
    assert main(["check", str(tmp_path)]) == 3
    out = capsys.readouterr().out
    assert out.startswith(f"error: {tmp_path} holds no images; expected train/CLASS/IMAGE")
    assert "annotated as COCO JSON" in out
    assert main(["check", str(tmp_path / "gone"), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["num_samples"], document["counts"]) == (False, {}, {"structure": 1})
    assert document["findings"][0]["detail"].startswith(f"{tmp_path / 'gone'} does not exist; expected ")


@pytest.mark.parametrize("missing", ["train", "test"])
def test_check_and_train_refuse_the_same_in_the_same_words(
    photos: Path, tmp_path: Path, capsys: Capture, missing: str
) -> None:
    (photos / missing).rename(photos / "spare")
    (photos / missing).mkdir()
    picture = next(path for path in (photos / "spare").rglob("*") if path.is_file())
    (photos / missing / picture.name).write_bytes(picture.read_bytes())
    assert main(["check", str(photos), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    (error,) = [item["detail"] for item in document["findings"] if item["severity"] == "error"]
    assert main(["train", str(photos), "--steps", "1", "--out", str(tmp_path / "run")]) == 3
    assert capsys.readouterr().err.endswith(f"error: {error}\n")
    assert f"({missing}/ is not used: 1 image without class folders)" in error
    assert not (tmp_path / "run").exists()


def test_an_unknown_kind_of_data_is_usage(capsys: Capture) -> None:
    assert main(["check", "cifr10:somewhere"]) == 2
    assert capsys.readouterr().err == ("error: unknown kind of data 'cifr10' (nearest: cifar10, cifar100)\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-px", "-1"], "error: min_px is -1; expected 0 to 16384\n"),
        (["--workers", "-1"], "error: num_workers is -1; expected 0 to 256\n"),
    ],
)
def test_options_out_of_range(photos: Path, capsys: Capture, options: list[str], message: str) -> None:
    assert main(["check", str(photos), *options]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", message)


def test_the_csv_has_all_findings_and_no_formula(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    names = ["=cmd()|x.png", "+1.png", "-1.png", "@SUM(A1).png", "plain, with comma.png"]
    for name in names:
        (photos / "train" / "red" / name).write_bytes(b"")
    (photos / "=cmd()").mkdir()
    assert main(["check", str(photos), "--out", str(tmp_path / "found.csv")]) == 3
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["severity", "kind", "split", "about", "what"]
    assert {row["about"] for row in rows if row["kind"] == "empty"} == {f"train/red/{name}" for name in names}
    assert [row["about"] for row in rows if row["kind"] == "ignored"] == ["'=cmd()/"]


def test_a_csv_that_cannot_be_written(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["check", str(photos), "--out", str(tmp_path / "gone" / "found.csv")]) == 1
    assert capsys.readouterr().err.startswith(
        f"error: cannot write {tmp_path / 'gone' / 'found.csv'} (No such"
    )


def test_names_that_are_not_utf8_reach_every_form_of_output(tmp_path: Path, commands: Commands) -> None:
    data = plant(tmp_path / "data", tuple(bad for bad in ERRORS if "\udce9" in bad.path))
    words = ["check", str(data), "--out", str(tmp_path / "found.csv")]
    done = commands.run(*words, "--json")
    assert (done.code, "Traceback" in done.err) == (3, False), done.err
    (finding,) = json.loads(done.out)["findings"]
    assert os.fsencode(finding["key"]) == b"train/bee/caf\xe9.jpg"
    assert b"caf\\udce9.jpg" in (tmp_path / "found.csv").read_bytes()
    table = commands.run(*words)
    assert (table.code, "Traceback" in table.err) == (3, False), table.err
    assert r"train/bee/caf\udce9.jpg" in table.out


def interrupt_the_command() -> None:
    """Plant in a command: the worker that judges the first images sends the command Ctrl-C."""
    check_samples._judge_all = _interrupted


def _interrupted(indices: range, judge: Callable[[range], Any] = check_samples._judge_all) -> Any:
    os.kill(os.getppid(), signal.SIGINT)
    return judge(indices)


def test_ctrl_c_leaves_with_130_and_no_traceback(photos: Path, commands: Commands) -> None:
    plant = "tests.cli.test_check:interrupt_the_command"
    done = commands.run("check", str(photos), "--workers", "2", plant=plant)
    assert done == Done(130, "", "error: interrupted\n")


def test_data_with_boxes_gets_tables_of_its_objects(tmp_path: Path, capsys: Capture) -> None:
    xml = {"a03": voc_xml(("cat", (1, 1, 10, 20)), ("dog", (12, 3, 30, 22)))}
    data = voc_year(tmp_path / "data", {"train": [f"a{row:02d}" for row in range(12)], "val": ["v0"]}, xml)
    assert main(["check", str(data)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    few_to_measure = (
        "warning few-samples val only 1 object to measure by: one more that is found is 100 points of recall"
    )
    assert [
        line.split() for line in lines if line.startswith(("warning", "train ", "val", "cat", "dog"))
    ] == [
        ["warning", "missing-class", "val", "dog", "no", "object", "of", "this", "class"],
        ["warning", "few-samples", "train", "dog", "only", "1", "object", "to", "learn", "from"],
        few_to_measure.split(),
        ["train", "12", "0", "13", "1.1", "0", "0", "14", "·", "14", "·", "16"],
        ["val", "1", "0", "1", "1.0", "0", "0", "14", "·", "14", "·", "14"],
        ["cat", "12", "1"],
        ["dog", "1", "0"],
    ]
    advice = "learned weights (--weights) or more objects usually help"
    assert lines[-2] == f"train: 12 images with 13 objects, 1 to 12 a class: {advice}"
    assert lines[-1] == f"{data}: images in train 12, val 1; 0 errors, 3 warnings"
    assert main(["check", str(data), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images_per_class"] == {"cat": 12, "dog": 1}
    assert list(document["objects"]) == ["train", "val"]
    assert document["objects"]["train"]["per_class"] == {"cat": 12, "dog": 1}


def test_of_many_classes_the_rarest_are_in_the_table(tmp_path: Path, capsys: Capture) -> None:
    boxes = [(f"c{number:02d}", (1, 1, 12, 20)) for number in range(30) for _ in range(30 - number)]
    stems = [f"a{row:02d}" for row in range(3)]
    data = voc_year(tmp_path / "data", {"train": stems, "val": ["v0"]}, {"a00": voc_xml(*boxes)})
    assert main(["check", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines if re.match(r" c\d\d +\d", line)]
    assert shown == [f"c{number:02d}" for number in range(29, 11, -1)]
    assert [line.strip() for line in lines if "more classes" in line or "with more" in line] == [
        "and 12 classes with more"
    ]
