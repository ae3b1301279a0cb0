"""Data that have changed since a run began are refused, and the first difference is named.

CIFAR's files need no record: they are refused by their official checksums. Files are known by name, label and
size; one that was changed and kept its size is not noticed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepresidual.data.shard_writer import write_shards
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.base import fingerprint_of
from deepresidual.errors import ConfigurationError
from deepresidual.runs.folder import Run
from tests.conftest import write_photos
from tests.training.parts import a_plan

if TYPE_CHECKING:
    from collections.abc import Callable


def refused(opened: Callable[[], SampleSource], change: Callable[[], object], out: Path, said: str) -> None:
    """Start a run, change its data, and hold the refusal to its words."""

    def fingerprint(source: SampleSource) -> dict[str, str]:
        return {name: fingerprint_of(split) for name, split in source.splits.items()}

    source = opened()
    Run.start(out, a_plan(fingerprint=fingerprint(source)), source, {}).close()
    Run.resume(
        out, a_plan(fingerprint=fingerprint(opened())), opened(), {}
    ).close()  # nothing has changed yet
    change()
    changed = opened()
    with pytest.raises(
        ConfigurationError, match=rf"the data have changed since the run in \S+ began \({said}\); resume with"
    ):
        Run.resume(out, a_plan(fingerprint=fingerprint(changed)), changed, {})


def a_folder(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos" / "train", 4, side=8)
    write_photos(tmp_path / "photos" / "test", 2, side=8, seed=1)
    return tmp_path / "photos"


def test_a_file_more_is_refused(tmp_path: Path) -> None:
    train = a_folder(tmp_path) / "train" / "blue"
    refused(
        lambda: open_source(tmp_path / "photos"),
        lambda: shutil.copy(train / "blue-001.png", train / "blue-001b.png"),
        tmp_path / "run",
        "train: train/blue/blue-001b.png is there where train/blue/blue-002.png was",
    )


def test_a_file_less_at_the_end_is_refused(tmp_path: Path) -> None:
    train = a_folder(tmp_path) / "train"
    refused(
        lambda: open_source(tmp_path / "photos"),
        lambda: (train / "red" / "red-003.png").unlink(),
        tmp_path / "run",
        "train: train/red/red-003.png is gone",
    )


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    file = a_folder(tmp_path) / "test" / "green" / "green-001.png"
    size = file.stat().st_size
    refused(
        lambda: open_source(tmp_path / "photos"),
        lambda: file.write_bytes(file.read_bytes() + b"\0"),
        tmp_path / "run",
        f"test: test/green/green-001.png has the size {size + 1} and had {size}",
    )


def test_a_file_in_another_class_is_refused(tmp_path: Path) -> None:
    train = a_folder(tmp_path) / "train"
    refused(
        lambda: open_source(tmp_path / "photos"),
        lambda: (train / "blue" / "blue-000.png").rename(train / "green" / "blue-000.png"),
        tmp_path / "run",
        "train: train/blue/blue-001.png is there where train/blue/blue-000.png was",
    )


def test_a_new_split_is_refused(tmp_path: Path) -> None:
    photos = a_folder(tmp_path)
    refused(
        lambda: open_source(photos),
        lambda: shutil.copytree(photos / "test", photos / "val"),
        tmp_path / "run",
        "the split val is new",
    )


def test_another_label_in_a_table_of_files_is_refused(tmp_path: Path) -> None:
    photos = a_folder(tmp_path)
    table = tmp_path / "table.csv"
    files = sorted(photos.rglob("*.png"))
    rows = [f"{file},{file.parent.name},{file.relative_to(photos).parts[0]}" for file in files]
    table.write_text("\n".join(["path,label,split", *rows]))

    def relabel() -> None:
        text = table.read_text()
        table.write_text(text.replace("blue-002.png,blue,train", "blue-002.png,red,train"))

    refused(
        lambda: open_source(f"csv:{table}"),
        relabel,
        tmp_path / "run",
        r"train: \S+blue-002.png has the label 2 and had 0",
    )


def test_another_label_in_parquet_is_refused(tmp_path: Path) -> None:
    files = sorted(a_folder(tmp_path).rglob("*.png"))

    def write(labels: list[str]) -> None:
        images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
        (tmp_path / "table").mkdir(exist_ok=True)
        for split in ("train", "test"):
            table = pa.table({"image": images, "label": labels})
            pq.write_table(table, tmp_path / "table" / f"{split}.parquet")

    labels = [file.parent.name for file in files]
    write(labels)
    refused(
        lambda: open_source(tmp_path / "table"),
        lambda: write(["green", *labels[1:]]),
        tmp_path / "run",
        r"train: \S*blue-000.png has the label 1 and had 0",
    )


def test_a_sample_less_in_shards_is_refused(tmp_path: Path) -> None:
    photos, shards = a_folder(tmp_path), tmp_path / "shards"
    write_shards(open_source(photos), shards, seed=None)

    def write_again() -> None:
        shutil.rmtree(shards)
        (photos / "train" / "blue" / "blue-001.png").unlink()
        write_shards(open_source(photos), shards, seed=None)

    refused(
        lambda: open_source(f"shards:{shards}/*.tar"),
        write_again,
        tmp_path / "run",
        r"train: \S*blue-002\S* is there where \S*blue-001\S* was",
    )
