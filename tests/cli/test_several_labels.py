"""Several labels an image, as a user sees them: tables of an evaluation, files of predictions, a check."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepresidual.backends import FilePrediction
from deepresidual.backends.classifier import Prediction
from deepresidual.cli import main
from deepresidual.cli.label_tables import print_labels
from deepresidual.evaluation.multilabel import measure
from deepresidual.prediction.label_rows import LabelRows
from deepresidual.runtime.table_file import table_writer
from tests.evaluation.test_multilabel import Scored, scores_of

Capture = pytest.CaptureFixture[str]

RESULTS = (
    FilePrediction("a.png", Prediction(("cat", "dog"), (0.99, 0.97))),
    FilePrediction("b.png", Prediction((), ())),
    FilePrediction("c.png", None, "it is empty"),
)


def written(file: Path) -> Path:
    """Write the results into a file and return it."""
    rows = LabelRows(has_lists=file.suffix != ".csv")
    with table_writer(file, rows.types()) as write:
        for result in RESULTS:
            write(rows.columns(result))
    return file


def test_parquet_and_json_lines_have_lists(tmp_path: Path) -> None:
    expected = [
        {"path": "a.png", "labels": ["cat", "dog"], "probabilities": [0.99, 0.97], "error": ""},
        {"path": "b.png", "labels": [], "probabilities": [], "error": ""},
        {"path": "c.png", "labels": None, "probabilities": None, "error": "it is empty"},
    ]
    table = pq.read_table(written(tmp_path / "rows.parquet"))
    assert table.to_pylist() == expected
    assert table.schema.field("labels").type == pa.list_(pa.string())
    assert table.schema.field("probabilities").type == pa.list_(pa.float64())
    lines = written(tmp_path / "rows.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == expected


def test_csv_keeps_its_bars(tmp_path: Path) -> None:
    with written(tmp_path / "rows.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["path", "labels", "probabilities", "error"],
            ["a.png", "cat|dog", "0.990000|0.970000", ""],
            ["b.png", "", "", ""],
            ["c.png", "", "", "it is empty"],
        ]


def test_the_table_marks_labels_whose_f1_is_not_above_always_yes(capsys: Capture) -> None:
    measured = measure(scores_of(100, strength=0.0), Scored(), "test")
    print_labels(measured)
    out = capsys.readouterr().out
    losing = [row.name for row in measured.per_class if row.loses_to_always_yes(100)]
    assert losing
    for name in ("bird", "cat", "dog"):
        (row,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert row.rstrip().endswith("% *") == (name in losing)
    assert f"{len(losing)} of 3 labels" in out
    assert "not shown to be better than giving every label to every image" in out


def test_without_such_labels_there_are_no_marks(capsys: Capture) -> None:
    print_labels(measure(scores_of(100, strength=9.0), Scored(), "test"))
    out = capsys.readouterr().out
    assert "*" not in out
    assert "), better than giving every label to every image" in out


def test_a_check_tells_images_from_labels(photos: Path, capsys: Capture) -> None:
    rows = ["path,labels,split"]
    for split in ("train", "test"):
        for file in sorted((photos / split).rglob("*.png")):
            colour = file.parent.name
            rows.append(
                f"{file.relative_to(photos).as_posix()},{colour}{'|' * (colour != 'red')}"
                f"{'red' * (colour != 'red')},{split}"
            )
    table = photos / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    assert main(["check", str(table)]) == 0
    out = capsys.readouterr().out
    assert "train: 48 images with 80 labels, 16 to 48 images a label: too few photos to learn" in out
    assert "images in train 48, test 15" in out
