"""Parquet data sets: the layout of Hugging Face, plain tables, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from residual.data.loader import evaluation_batches
from residual.data.source import open_source
from residual.data.source.base import EncodedSample, fingerprint_of, held_out_by_name
from residual.data.source.parquet import ParquetSplit
from residual.errors import DataError
from residual.preprocess import Preprocess
from tests.data.pictures import encode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NAMES = ["cat", "dog", "emu"]


def _picture(number: int) -> bytes:
    return encode(np.full((3, 4, 3), number, dtype=np.uint8), "PNG")


def _class_label(*names: str) -> dict[str, Any]:
    return {"label": {"names": list(names), "_type": "ClassLabel"}}


def _metadata(features: Any) -> dict[str, str]:
    return {"huggingface": json.dumps({"info": {"features": features}})}


def _write(
    path: Path,
    labels: Sequence[Any] | pa.Array,
    *,
    features: dict[str, Any] | None = None,
    first: int = 0,
    **columns: Any,
) -> Path:
    """Write a table of pictures in one colour each, numbered from ``first``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + len(labels))
    images = [{"bytes": _picture(number % 256), "path": f"{number:03}.png"} for number in numbers]
    table = pa.table({"image": images, "label": labels, **columns})
    if features is not None:
        table = table.replace_schema_metadata(_metadata({"image": {"_type": "Image"}, **features}))
    pq.write_table(table, path)
    return path


# -- layouts ---------------------------------------------------------------------------------------------


def test_the_layout_of_hugging_face_is_read(tmp_path: Path) -> None:
    features = _class_label(*_NAMES)
    data = tmp_path / "pets" / "data"
    _write(data / "train-00000-of-00002.parquet", [2, 0], features=features)
    _write(data / "train-00001-of-00002.parquet", [1], features=features, first=2)
    _write(data / "validation-00000-of-00001.parquet", [0, 0], features=features, first=7)
    source = open_source(tmp_path / "pets")
    assert source.name == "pets"
    assert source.classes == ("cat", "dog", "emu")
    assert source.held_out == ""
    assert {name: split.labels for name, split in source.splits.items()} == {
        "train": [2, 0, 1],
        "val": [0, 0],
    }
    train = source.splits["train"]
    assert [train.read(index) for index in (2, 0, 1)] == [
        EncodedSample("002.png", _picture(2), 1),
        EncodedSample("000.png", _picture(0), 2),
        EncodedSample("001.png", _picture(1), 0),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("train.parquet", "test.parquet"),
        ("train_0.parquet", "test_0.parquet"),
        ("data/train-0.parquet", "data/test-0.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
    ],
)
def test_the_split_is_in_the_name_of_the_file_or_of_a_folder(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        _write(tmp_path / name, [0, 1])
    assert set(open_source(tmp_path).splits) == {"train", "test"}


def test_the_folders_above_the_data_set_name_no_split(tmp_path: Path) -> None:
    path = _write(tmp_path / "train" / "pets" / "all.parquet", [0, 1] * 20)
    assert set(open_source(path).splits) == {"train", "test"}
    assert open_source(path.parent).held_out == "a fifth is held out by the hash of the file name"


def test_a_file_named_after_a_split_is_that_split_alone(tmp_path: Path) -> None:
    assert set(open_source(_write(tmp_path / "test.parquet", [0, 1])).splits) == {"test"}


def test_a_single_file_is_split_by_the_hash_of_the_names(tmp_path: Path) -> None:
    source = open_source(_write(tmp_path / "pets.parquet", [number % 3 for number in range(60)]))
    assert source.name == "pets"
    assert source.held_out == "a fifth is held out by the hash of the file name"
    samples = {
        name: [split.read(index) for index in range(len(split))] for name, split in source.splits.items()
    }
    assert len(samples["train"]) + len(samples["test"]) == 60
    for name, rows in samples.items():
        for sample in rows:
            number = int(sample.key[:3])
            assert held_out_by_name(sample.key) == (name == "test")
            assert (sample.content, sample.label) == (_picture(number), number % 3)


def test_rows_without_a_path_are_split_and_named_by_number(tmp_path: Path) -> None:
    table = pa.table({"image": [_picture(number) for number in range(40)], "label": [0, 1] * 20})
    pq.write_table(table, tmp_path / "pets.parquet")
    source = open_source(tmp_path / "pets.parquet")
    contents = {
        name: [split.read(index).content for index in range(len(split))]
        for name, split in source.splits.items()
    }
    test = [number for number in range(40) if held_out_by_name(str(number))]
    assert contents["test"] == [_picture(number) for number in test]
    assert contents["train"] == [_picture(number) for number in range(40) if number not in test]
    assert source.splits["train"].read(0).key == "train/0"


def test_shards_without_a_split_are_one_table(tmp_path: Path) -> None:
    _write(tmp_path / "0000.parquet", [0, 1] * 20)
    _write(tmp_path / "0001.parquet", [0, 1] * 20, first=40)
    source = open_source(tmp_path)
    assert set(source.splits) == {"train", "test"}
    keys = [split.read(index).key for split in source.splits.values() for index in range(len(split))]
    assert sorted(keys) == [f"{number:03}.png" for number in range(80)]


def test_a_file_of_many_row_groups_is_read_whole(tmp_path: Path) -> None:
    path = _write(tmp_path / "train.parquet", [0, 1] * 20)
    pq.write_table(pq.read_table(path), path, row_group_size=7)
    split = open_source(path).splits["train"]
    assert [split.read(index).content for index in range(40)] == [_picture(number) for number in range(40)]


# -- labels ----------------------------------------------------------------------------------------------


def test_string_labels_are_the_names_of_the_classes(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", ["dog", "cat", "dog"])
    _write(tmp_path / "test.parquet", ["emu", "cat"])
    source = open_source(tmp_path)
    assert source.classes == ("cat", "dog", "emu")
    assert source.splits["train"].labels == [1, 0, 1]
    assert source.splits["test"].labels == [2, 0]


def test_large_strings_are_strings(tmp_path: Path) -> None:
    # What polars and pandas 3 write.
    _write(tmp_path / "train.parquet", pa.array(["dog", "cat"], pa.large_string()))
    assert open_source(tmp_path).classes == ("cat", "dog")


def test_string_labels_are_read_where_hugging_face_says_so(tmp_path: Path) -> None:
    _write(
        tmp_path / "train.parquet", ["dog", "cat"], features={"label": {"dtype": "string", "_type": "Value"}}
    )
    assert open_source(tmp_path).classes == ("cat", "dog")


def test_numbers_without_names_are_their_own_names(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [0, 3, 1])
    _write(tmp_path / "test.parquet", [1, 0])
    source = open_source(tmp_path)
    assert source.classes == ("0", "1", "2", "3")
    assert source.splits["train"].labels == [0, 3, 1]


def test_names_that_one_split_declares_hold_for_all(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [2, 0], features=_class_label(*_NAMES))
    _write(tmp_path / "test.parquet", [1, 1])
    assert open_source(tmp_path).classes == ("cat", "dog", "emu")


@pytest.mark.parametrize("label", ["label", "labels", "fine_label", "class", "anything"])
@pytest.mark.parametrize("image", ["image", "img", "picture"])
def test_the_columns_are_found_by_their_usual_names_or_because_they_are_alone(
    tmp_path: Path, image: str, label: str
) -> None:
    table = pa.table({"score": [0.5, 0.25], image: [{"bytes": _picture(n), "path": None} for n in (5, 6)]})
    pq.write_table(table.append_column(label, pa.array([1, 0])), tmp_path / "train.parquet")
    assert open_source(tmp_path).splits["train"].read(0) == EncodedSample("train/0", _picture(5), 1)


def test_the_label_column_is_preferred_to_other_columns_of_numbers(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [1, 0, 1], width=[640, 320, 320], caption=["a", "b", "c"])
    assert open_source(tmp_path).splits["train"].labels == [1, 0, 1]


@pytest.mark.parametrize(
    "entry",
    [b"not JSON", b"\xff\xfe", b"[]", b"{}", b'{"info": {"features": null}}', b'{"info": {"features": [1]}}'],
)
def test_metadata_that_says_nothing_is_passed_over(tmp_path: Path, entry: bytes) -> None:
    path = _write(tmp_path / "train.parquet", [1, 0])
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": entry}), path)
    assert open_source(path).classes == ("0", "1")


# -- reading and the fingerprint -------------------------------------------------------------------------


def test_a_row_without_image_bytes_is_named_when_it_is_read(tmp_path: Path) -> None:
    images = [{"bytes": _picture(1), "path": "a.png"}, {"bytes": None, "path": "b.png"}, None]
    pq.write_table(pa.table({"image": images, "label": [0, 1, 0]}), tmp_path / "train.parquet")
    split = open_source(tmp_path).splits["train"]
    assert split.read(0).content == _picture(1)
    with pytest.raises(DataError, match=r"^b\.png has no image bytes$"):
        split.read(1)
    with pytest.raises(DataError, match=r"^train/2 has no image bytes$"):
        split.read(2)
    assert len(fingerprint_of(split)) == 32


def test_a_split_of_more_than_two_gigabytes_is_read() -> None:
    # One array of Arrow's `binary` ends at 2 GiB. The chunks share their memory: this costs a megabyte.
    block = pa.array([bytes(1_000_000)])
    images = pa.chunked_array([block] * 2_200)
    split = ParquetSplit("train", images, None, np.zeros(2_200, dtype=np.int64))
    assert len(split) == 2_200
    assert split.read(2_199) == EncodedSample("train/2199", bytes(1_000_000), 0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_are_read_in_worker_processes(tmp_path: Path, num_workers: int) -> None:
    split = open_source(_write(tmp_path / "train.parquet", [0, 1] * 4)).splits["train"]
    record = Preprocess(2, 2, (0.5,) * 3, (0.5,) * 3)
    batches = list(evaluation_batches(split, record, batch_size=3, num_workers=num_workers))
    assert torch.cat([batch.pixels for batch in batches])[:, 0, 0, 0].tolist() == list(range(8))
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1] * 4


@pytest.mark.parametrize("change", ["add", "rename", "relabel", "resize"])
def test_the_fingerprint_changes_with_the_samples(tmp_path: Path, change: str) -> None:
    path = _write(tmp_path / "train.parquet", [0, 1, 0])
    table = pq.read_table(path)
    before = fingerprint_of(open_source(path).splits["train"])
    assert fingerprint_of(open_source(path).splits["train"]) == before
    rows = table["image"].to_pylist()
    labels = [0, 1, 0]
    match change:
        case "add":
            rows.append({"bytes": _picture(9), "path": "new.png"})
            labels.append(0)
        case "rename":
            rows[1]["path"] = "new.png"
        case "relabel":
            labels[0] = 1
        case _:
            rows[1]["bytes"] += b"\0"
    pq.write_table(pa.table({"image": rows, "label": labels}), path)
    assert fingerprint_of(open_source(path).splits["train"]) != before


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range_is_named_with_its_row(tmp_path: Path, label: int) -> None:
    path = _write(tmp_path / "train.parquet", [0, 1, label], features=_class_label(*_NAMES))
    with pytest.raises(DataError, match=rf"train\.parquet: row 2 has label {label}; expected 0 to 2$"):
        open_source(path)


def test_a_string_label_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "train.parquet", ["cat", "cow"], features=_class_label(*_NAMES))
    with pytest.raises(DataError, match=r"train\.parquet: .*cow"):
        open_source(path)


def test_splits_with_labels_of_different_kinds_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", ["cat", "dog"])
    _write(tmp_path / "test.parquet", [0, 1])
    with pytest.raises(DataError, match=r"label"):
        open_source(tmp_path)


def test_rows_without_a_label_are_counted(tmp_path: Path) -> None:
    path = _write(tmp_path / "train.parquet", [0, None, 1, None])
    with pytest.raises(DataError, match=r"train\.parquet: column 'label' has 2 rows without a label$"):
        open_source(path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut in half", "zeros in the middle"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = _write(tmp_path / "train.parquet", [0, 1] * 20)
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "text": b"<html>404 Not Found</html>",
            "cut in half": content[:half],
            "zeros in the middle": content[: half - 400] + bytes(800) + content[half + 400 :],
        }[damage]
    )
    with pytest.raises(DataError, match=r"train\.parquet is not a readable parquet file \(.+\)$"):
        open_source(path)


def test_a_table_without_images_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": [0, 1], "text": ["a", "b"]}), tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=r"train\.parquet has no image column; expected one called image or img$"
    ):
        open_source(tmp_path)


def test_a_table_without_labels_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [_picture(1)], "score": [0.5]}), tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=r"train\.parquet has no label column; expected one called label or la"
    ):
        open_source(tmp_path)


def test_two_columns_that_may_be_the_label_are_named(tmp_path: Path) -> None:
    table = pa.table({"image": [_picture(1)], "species": ["cat"], "owner": [7]})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=r"has several label columns \(species, owner\); expected one called label or labels"
    ):
        open_source(tmp_path)


def test_two_columns_that_may_be_the_image_are_named(tmp_path: Path) -> None:
    table = pa.table({"left": [_picture(1)], "right": [_picture(2)], "label": [0]})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=r"has several image columns \(left, right\); expected one called image o"
    ):
        open_source(tmp_path)


def test_splits_that_declare_different_classes_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [0, 1], features=_class_label("cat", "dog"))
    _write(tmp_path / "test.parquet", [0, 1], features=_class_label("dog", "cat"))
    with pytest.raises(
        DataError, match=r"the splits declare different class names; give all the same metadata$"
    ):
        open_source(tmp_path)


def test_shards_with_different_columns_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "train-0.parquet", [0, 1])
    _write(tmp_path / "train-1.parquet", [0, 1], width=[5, 6])
    with pytest.raises(DataError, match=r"train-0\.parquet is not a readable parquet file"):
        open_source(tmp_path)


def test_a_class_that_is_declared_twice_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "train.parquet", [0, 1], features=_class_label("cat", "cat"))
    with pytest.raises(DataError, match=r"class names occur twice in the metadata$"):
        open_source(path)


@pytest.mark.parametrize(("labels", "count"), [(["cat", "cat"], 1), ([0, 0], 1), ([], 0)])
def test_a_single_class_is_refused(tmp_path: Path, labels: list[Any], count: int) -> None:
    kind = pa.string() if labels and isinstance(labels[0], str) else pa.int64()
    path = _write(tmp_path / "train.parquet", pa.array(labels, kind), image=_images(len(labels)))
    with pytest.raises(DataError, match=rf"train\.parquet has {count} class; expected at least 2$"):
        open_source(path)


def _images(count: int) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": _picture(1), "path": "a.png"}] * count, kind)


def test_a_split_without_rows_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [0, 1])
    _write(tmp_path / "test.parquet", pa.array([], pa.int64()), image=_images(0))
    with pytest.raises(DataError, match=r"the test split has no rows$"):
        open_source(tmp_path)


def test_a_file_that_says_no_split_beside_files_that_do_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [0, 1])
    _write(tmp_path / "more.parquet", [0, 1])
    with pytest.raises(
        DataError,
        match=r"more\.parquet does not say which split it belongs to; expected names that begin with",
    ):
        open_source(tmp_path)
