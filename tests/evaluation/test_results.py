"""Results of single images: the same in every format, in the order of the split, whole or not at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from deepresidual.errors import ConfigurationError, DataError, RunError
from deepresidual.evaluation import compare, evaluate
from deepresidual.evaluation.results import columns_of, read_results
from deepresidual.models import TorchClassifier
from tests.evaluation.parts import Gray, Memory, by_hand, noise, softmax, source_of


def rows_of(path: Path) -> list[dict[str, object]]:
    match path.suffix:
        case ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                texts = list(csv.DictReader(file))
            numbers = {"probability": float, "loss": float, "rank": int, "probability_2": float}
            return [{name: numbers.get(name, str)(cell) for name, cell in row.items()} for row in texts]
        case ".jsonl":
            return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        case _:
            rows: list[dict[str, object]] = pq.read_table(path).to_pylist()
            return rows


def test_every_format_holds_the_same_in_the_order_of_the_split(tmp_path: Path) -> None:
    images = [noise(seed, 2, 2) // 64 for seed in range(23)]
    labels = [seed % 3 for seed in range(23)]
    source = source_of(test=Memory(images, labels))
    found = {}
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        measured = evaluate(
            by_hand(Gray()), source, predictions=tmp_path / name, top_k=2, batch_size=5, num_workers=2
        )
        found[name] = rows_of(tmp_path / name)
    rows = found["a.csv"]
    assert found["a.jsonl"] == rows
    assert found["a.parquet"] == rows
    assert list(rows[0]) == [
        "key", "label", "predicted", "probability", "loss", "rank", "predicted_2", "probability_2"
    ]  # fmt: skip
    assert [row["key"] for row in rows] == [f"image-{number}" for number in range(23)]
    for image, label, row in zip(images, labels, rows, strict=True):
        shares = softmax(image.mean(axis=(0, 1)))
        order = sorted(range(3), key=lambda index: -shares[index])
        assert (row["label"], row["predicted"], row["predicted_2"]) == (
            "abc"[label],
            "abc"[order[0]],
            "abc"[order[1]],
        )
        assert row["probability"] == pytest.approx(shares[order[0]], rel=1e-6)
        assert row["probability_2"] == pytest.approx(shares[order[1]], rel=1e-6)
        assert row["loss"] == pytest.approx(-np.log(shares[label]), rel=1e-6, abs=1e-6)
        assert row["rank"] == order.index(label) + 1
    assert sum(row["rank"] == 1 for row in rows) == measured.top1_count
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(found)
    assert compare(tmp_path / "a.csv", tmp_path / "a.parquet").both_correct == measured.top1_count


def test_many_rows_go_through_parquet_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepresidual.runtime.table_file._ROW_GROUP", 4)
    source = source_of(test=Memory([noise(seed, 2, 2) for seed in range(11)], [0] * 11))
    evaluate(by_hand(Gray()), source, predictions=tmp_path / "a.parquet", batch_size=3, num_workers=0)
    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups == 2
    assert list(read_results(tmp_path / "a.parquet")) == [f"image-{number}" for number in range(11)]


def test_ties_are_ranked_as_argmax_breaks_them() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0]] * 3)
    columns = columns_of(scores, torch.tensor([0, 1, 2]), torch.zeros(3), ["x", "y", "z"], ("a", "b", "c"), 1)
    assert columns["predicted"] == ["b", "b", "b"]
    assert columns["rank"] == [3, 1, 2]


def test_odd_names_come_back(tmp_path: Path) -> None:
    scores, labels = torch.eye(3), torch.tensor([0, 1, 2])
    keys = ["caf\udce9.png", 'with "quotes", commas\nand lines', "日本.png"]
    columns = columns_of(scores, labels, torch.zeros(3), keys, ("a", "b", "c"), 1)
    from deepresidual.runtime.table_file import table_writer

    for name in ("a.csv", "a.jsonl", "a.parquet"):
        with table_writer(tmp_path / name) as write:
            write(columns)
        assert list(read_results(tmp_path / name)) == ["caf\\udce9.png", *keys[1:]]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_an_evaluation_that_fails_leaves_the_old_file(
    tiny_model: TorchClassifier, photos: Path, name: str
) -> None:
    (photos / "test" / "red" / "zz.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    file = photos.parent / name
    file.write_text("what was there before")
    with pytest.raises(DataError, match=r"test/red/zz\.jpg: damaged JPEG"):
        evaluate(tiny_model, photos, predictions=file, batch_size=2)
    assert file.read_text() == "what was there before"
    assert [path.name for path in photos.parent.iterdir() if path.name.endswith(".tmp")] == []


def test_what_cannot_be_written_is_said_before_anything_is_computed(
    tiny_model: TorchClassifier, photos: Path
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"the file for predictions is 'a\.xlsx'; expected a name in \.csv"
    ):
        evaluate(tiny_model, photos, predictions="a.xlsx")
    with pytest.raises(RunError, match=r"cannot write .*gone/a\.csv \(No such file or directory\)"):
        evaluate(tiny_model, photos, predictions=photos / "gone" / "a.csv")
    with pytest.raises(ConfigurationError, match="top_k is 4; expected 1 to 3"):
        evaluate(tiny_model, photos, predictions=photos.parent / "a.csv", top_k=4)
    assert not (photos.parent / "a.csv").exists()
