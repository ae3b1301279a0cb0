"""Parquet data sets: the layout of Hugging Face, plain tables, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from deepresidual.data.loader import evaluation_batches
from deepresidual.data.source import open_source
from deepresidual.data.source.base import EncodedSample, fingerprint_of
from deepresidual.data.source.parquet import ParquetSplit, _Place
from deepresidual.errors import DataError
from deepresidual.preprocess import Preprocess
from tests.data.pictures import encode
from tests.data.splits import smallest_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


def _tested(names: Iterable[str], classes: int = 2) -> list[int]:
    """Return the numbers of the names for testing, of as many classes in turn."""
    rows = list(names)
    parts = [rows[first::classes] for first in range(classes)]
    return sorted(rows.index(name) for part in parts for name in smallest_hashes(part))


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
    assert (
        open_source(path.parent).held_out == "a fifth of each class is held out by the hash of the file name"
    )


def test_a_file_named_after_a_split_is_that_split_alone(tmp_path: Path) -> None:
    assert set(open_source(_write(tmp_path / "test.parquet", [0, 1])).splits) == {"test"}


def test_a_single_file_is_split_by_the_hash_of_the_names(tmp_path: Path) -> None:
    source = open_source(_write(tmp_path / "pets.parquet", [number % 3 for number in range(60)]))
    assert source.name == "pets"
    assert source.held_out == "a fifth of each class is held out by the hash of the file name"
    samples = {
        name: [split.read(index) for index in range(len(split))] for name, split in source.splits.items()
    }
    assert len(samples["train"]) + len(samples["test"]) == 60
    test = _tested([f"{number:03}.png" for number in range(60)], classes=3)
    for name, rows in samples.items():
        for sample in rows:
            number = int(sample.key[:3])
            assert (number in test) == (name == "test")
            assert (sample.content, sample.target) == (_picture(number), number % 3)


def test_rows_without_a_path_are_split_and_named_by_number(tmp_path: Path) -> None:
    table = pa.table({"image": [_picture(number) for number in range(40)], "label": [0, 1] * 20})
    pq.write_table(table, tmp_path / "pets.parquet")
    source = open_source(tmp_path / "pets.parquet")
    contents = {
        name: [split.read(index).content for index in range(len(split))]
        for name, split in source.splits.items()
    }
    test = _tested(map(str, range(40)))
    assert contents["test"] == [_picture(number) for number in test]
    assert contents["train"] == [_picture(number) for number in range(40) if number not in test]
    # Called by their place in the file, wherever they have come to lie.
    train = [number for number in range(40) if number not in test]
    assert [split.key(1) for split in source.splits.values()] == [
        f"pets.parquet/row-{train[1]}",
        f"pets.parquet/row-{test[1]}",
    ]


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
    assert source.classes == ("0", "1", "3")
    assert source.splits["train"].labels == [0, 2, 1]


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
    assert open_source(tmp_path).splits["train"].read(0) == EncodedSample(
        "train.parquet/row-0", _picture(5), 1
    )


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
    with pytest.raises(DataError, match=r"^train\.parquet/row-2 has no image bytes$"):
        split.read(2)
    assert len(fingerprint_of(split)) == 32


def test_a_split_of_more_than_two_gigabytes_is_read() -> None:
    # One array of Arrow's `binary` ends at 2 GiB. The chunks share their memory: this costs a megabyte.
    block = pa.array([bytes(1_000_000)])
    images = pa.chunked_array([block] * 2_200)
    files = [_Place("a.parquet", Path("a.parquet"), 2_000), _Place("b.parquet", Path("b.parquet"), 2_200)]
    split = ParquetSplit(
        "train",
        images,
        None,
        np.zeros(2_200, dtype=np.int64),
        files,
        np.zeros(2_200, dtype=np.bool_),
    )
    assert len(split) == 2_200
    assert split.read(2_199) == EncodedSample("b.parquet/row-199", bytes(1_000_000), 0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_are_read_in_worker_processes(tmp_path: Path, num_workers: int) -> None:
    split = open_source(_write(tmp_path / "train.parquet", [0, 1] * 4)).splits["train"]
    record = Preprocess(2, 2, (0.5,) * 3, (0.5,) * 3)
    batches = list(evaluation_batches(split, record, batch_size=3, num_workers=num_workers))
    assert torch.cat([batch.pixels for batch in batches])[:, 0, 0, 0].tolist() == list(range(8))
    assert torch.cat([batch.targets for batch in batches]).tolist() == [0, 1] * 4


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


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, None, 1, None], r"train-1\.parquet: row 1 has no label, and 1 more have none$"),
        (["cat", "dog", None], r"train-1\.parquet: row 2 has no label$"),
        ([0, 1, -1], r"train-1\.parquet: row 2 has label -1; expected 0 or more$"),
        (["cat", "", "dog"], r"train-1\.parquet: row 1 has label ''; expected the name of a class$"),
    ],
)
def test_rows_without_a_label_are_named_as_the_file_counts_them(
    tmp_path: Path, labels: list[Any], message: str
) -> None:
    # The first file moves the rows of the second, as they lie in the split, by two.
    _write(tmp_path / "train-0.parquet", [label for label in labels if label][:1] * 2)
    _write(tmp_path / "train-1.parquet", labels, first=2)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path)


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


@pytest.mark.parametrize("others", [[5, 6], ["x", "y"], [[1], [2]], [{"a": 1}, None], [None, None]])
def test_columns_that_are_not_used_may_differ(tmp_path: Path, others: list[Any]) -> None:
    _write(tmp_path / "train-0.parquet", [0, 1], note=[None, None])
    _write(tmp_path / "train-1.parquet", [1, 0], first=2, note=others)
    _write(tmp_path / "train-2.parquet", [1], first=4)
    assert open_source(tmp_path).splits["train"].labels == [0, 1, 1, 0, 1]


def test_a_class_that_is_declared_twice_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "train.parquet", [0, 1], features=_class_label("cat", "cat"))
    with pytest.raises(DataError, match=r"class names occur twice in the metadata$"):
        open_source(path)


@pytest.mark.parametrize(("labels", "count"), [(["cat", "cat"], 1), ([0, 0], 1), ([], 0)])
def test_a_single_class_is_refused(tmp_path: Path, labels: list[Any], count: int) -> None:
    kind = pa.string() if labels and isinstance(labels[0], str) else pa.int64()
    path = _write(tmp_path / "train.parquet", pa.array(labels, kind), image=_images(len(labels)))
    found = "has only one class" if count else "has no classes"
    with pytest.raises(
        DataError, match=rf"train\.parquet {found}.*; expected at least 2; add images of another"
    ):
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
        match=r"more\.parquet does not say which split it belongs to, and train\.parquet does; expected",
    ):
        open_source(tmp_path)


# -- types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pa.array(["dog", "cat"] * 2).dictionary_encode(), ("cat", "dog")),
        (pa.array(["dog", "cat", "dog", "cat"], pa.string_view()), ("cat", "dog")),
        (pa.array([True, False] * 2), ("False", "True")),
        (pa.array([7, 0] * 2, pa.uint8()), ("0", "7")),
        (pa.array([2**63, 0] * 2, pa.uint64()), ("0", "9223372036854775808")),
        (pa.array([5.0, 1.0] * 2), ("1", "5")),
        (pa.array([5.0, 1.0] * 2, pa.float32()), ("1", "5")),
        (pa.array([10, 9, 10, 9], pa.int8()).dictionary_encode(), ("9", "10")),
    ],
)
def test_labels_of_every_usual_type_are_read(
    tmp_path: Path, labels: pa.Array, classes: tuple[str, ...]
) -> None:
    # As pandas, polars and pyarrow write them.
    source = open_source(_write(tmp_path / "train.parquet", labels, width=[1, 2, 3, 4]))
    assert (source.classes, source.splits["train"].labels) == (classes, [1, 0, 1, 0])


@pytest.mark.parametrize("labels", [[True, False, True], [1.0, 0.0, 1.0], pa.array([1, 0, 1], pa.int8())])
def test_declared_names_hold_for_every_type_of_number(tmp_path: Path, labels: Any) -> None:
    source = open_source(_write(tmp_path / "train.parquet", labels, features=_class_label("cat", "dog")))
    assert (source.classes, source.splits["train"].labels) == (("cat", "dog"), [1, 0, 1])


def test_files_may_have_one_label_in_several_types(tmp_path: Path) -> None:
    _write(tmp_path / "train-0.parquet", pa.array([0, 1], pa.int8()))
    _write(tmp_path / "train-1.parquet", pa.array([2, 1], pa.int64()), first=2)
    _write(tmp_path / "train-2.parquet", pa.array([2.0, 0.0]), first=4)
    assert open_source(tmp_path).splits["train"].labels == [0, 1, 2, 1, 2, 0]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
@pytest.mark.parametrize("nested", [False, True])
def test_images_of_every_type_of_bytes_are_read(tmp_path: Path, kind: pa.DataType, nested: bool) -> None:
    images = pa.array([_picture(number) for number in range(40)], kind)
    paths = pa.array([f"{number}.png" for number in range(40)], pa.string_view())
    column = pa.StructArray.from_arrays([images, paths], ["bytes", "path"]) if nested else images
    pq.write_table(pa.table({"image": column, "label": [0, 1] * 20}), tmp_path / "pets.parquet")
    source = open_source(tmp_path)
    test = _tested(f"{number}.png" if nested else str(number) for number in range(40))
    split = source.splits["test"]
    assert [split.read(index).content for index in range(len(split))] == [_picture(number) for number in test]
    assert len(fingerprint_of(split)) == 32


def test_files_may_have_their_images_in_several_types_of_bytes(tmp_path: Path) -> None:
    for number, kind in enumerate((pa.binary(), pa.large_binary(), pa.binary_view())):
        images = pa.array([_picture(2 * number), _picture(2 * number + 1)], kind)
        pq.write_table(pa.table({"image": images, "label": [0, 1]}), tmp_path / f"train-{number}.parquet")
    split = open_source(tmp_path).splits["train"]
    assert [split.read(index).content for index in range(6)] == [_picture(number) for number in range(6)]
    assert split.key(5) == "train-2.parquet/row-1"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0], [1]], r"the label column 'label' holds list<.+>; expected whole numbers or names, one a row$"),
        ([{"a": 0}, {"a": 1}], r"the label column 'label' holds struct<.+>"),
        (pa.array([None, None]), r"the label column 'label' holds null"),
        (pa.array([b"cat", b"dog"]), r"the label column 'label' holds binary"),
        (pa.array([1, 2], pa.timestamp("s")), r"the label column 'label' holds timestamp"),
        ([0.5, 1.0], r"row 0 has 0\.5 in column 'label'; expected whole numbers or names as labels$"),
        ([0.0, float("inf")], r"row 1 has inf in column 'label'"),
        ([0.0, None], r"row 1 has no label$"),
        ([0.0, float("nan")], r"row 1 has no label$"),
    ],
)
def test_labels_of_another_type_are_refused_and_no_other_column_takes_their_place(
    tmp_path: Path, labels: Any, message: str
) -> None:
    _write(tmp_path / "train.parquet", labels, width=[640, 320])
    with pytest.raises(DataError, match=rf"train\.parquet: {message}"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            ["a.png", "b.png"],
            r"'image' holds string; expected the bytes of the image files; write them into it, or",
        ),
        ([{"path": "a.png"}, {"path": "b.png"}], r"'image' holds struct<path: string>"),
        ([{"bytes": None, "path": "a.png"}] * 2, r"'image' holds struct<bytes: null, path: string>"),
        ([{"bytes": "text", "path": "a.png"}] * 2, r"'image' holds struct<bytes: string, path: string>"),
        ([[1, 2], [3, 4]], r"'image' holds list<"),
        ([1, 2], r"'image' holds int64"),
        (
            pa.array(
                [{"bytes": None, "path": "a.png"}] * 2,
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
            r"'image' holds no image bytes",
        ),
    ],
)
def test_images_of_another_type_are_refused_and_no_other_column_takes_their_place(
    tmp_path: Path, images: Any, message: str
) -> None:
    table = pa.table({"image": images, "mask": [_picture(1), _picture(2)], "label": [0, 1]})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=rf"train\.parquet: the image column {message}"):
        open_source(tmp_path)


def test_a_path_of_another_type_is_left_alone(tmp_path: Path) -> None:
    images = [{"bytes": _picture(1), "path": 3}, {"bytes": _picture(2), "path": 4}]
    pq.write_table(pa.table({"image": images, "label": [0, 1]}), tmp_path / "train.parquet")
    assert open_source(tmp_path).splits["train"].key(1) == "train.parquet/row-1"


def test_a_column_that_comes_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array([_picture(1)]), pa.array([0]), pa.array([1])], ["image", "label", "label"])
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet has 2 columns called 'label'; keep one$"):
        open_source(tmp_path)


@pytest.mark.parametrize("names", ["cat", {"cat": 0}, 7, [["cat"], ["dog"]], [None, "dog"]])
def test_class_names_of_another_type_are_refused(tmp_path: Path, names: Any) -> None:
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    path = _write(tmp_path / "train.parquet", [0, 1], features=features)
    with pytest.raises(DataError, match=r"the class names in the metadata are no list of names \("):
        open_source(path)


def test_files_of_a_split_that_declare_different_classes_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "train-0.parquet", [0, 1], features=_class_label("cat", "dog"))
    _write(tmp_path / "train-1.parquet", [0, 1], features=_class_label("dog", "cat"), first=2)
    with pytest.raises(DataError, match=r"declare different class names; give all the same metadata$"):
        open_source(tmp_path)


@pytest.mark.parametrize("column", ["label", "path"])
def test_text_that_is_not_utf8_is_no_traceback(tmp_path: Path, column: str) -> None:
    text = pa.array([b"caf\xe9", b"\xed\xa0\x80"]).cast(pa.binary())
    text = pa.StringArray.from_buffers(2, *text.buffers()[1:])
    good = pa.array(["cat", "dog"])
    images = pa.StructArray.from_arrays(
        [pa.array([_picture(1), _picture(2)]), text if column == "path" else good], ["bytes", "path"]
    )
    pq.write_table(
        pa.table({"image": images, "label": text if column == "label" else good}), tmp_path / "train.parquet"
    )
    if column == "label":
        with pytest.raises(DataError, match=r"train\.parquet is not a readable parquet file \('utf-8' codec"):
            open_source(tmp_path)
    else:
        split = open_source(tmp_path).splits["train"]
        assert split.read(0).key == "caf\udce9"
        assert len(fingerprint_of(split)) == 32


def test_a_class_name_of_half_a_character_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "train.parquet", [0, 1], features=_class_label("cat", "\ud83d"))
    with pytest.raises(DataError, match=r"the class '\\ud83d' is no text; expected whole characters$"):
        open_source(path)


# -- classes that look alike -----------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("Cat", "cat", r"classes 'Cat' and 'cat' differ only in case or Unicode form; merge or rename them$"),
        (
            "caf\u00e9",
            "cafe\u0301",
            r"classes '(caf\\xe9|cafe\\u0301)' and '(caf\\xe9|cafe\\u0301)' differ only",
        ),
        (
            "\ufb01n",
            "fin",
            r"classes '(\\ufb01n|fin)' and '(\\ufb01n|fin)' differ only in case or Unicode form",
        ),
    ],
)
def test_classes_that_look_the_same_are_refused(
    tmp_path: Path, declared: bool, one: str, other: str, message: str
) -> None:
    if declared:
        path = _write(tmp_path / "train.parquet", [0, 1], features=_class_label(one, other))
    else:
        path = _write(tmp_path / "train.parquet", [one, other])
    with pytest.raises(DataError, match=message):
        open_source(path)


@pytest.mark.parametrize("declared", [None, ("caf\u00e9", "tea"), ("cafe\u0301", "tea")])
def test_splits_in_two_unicode_forms_have_the_same_classes(
    tmp_path: Path, declared: tuple[str, ...] | None
) -> None:
    features = _class_label(*declared) if declared else None
    _write(tmp_path / "train.parquet", ["caf\u00e9", "tea"], features=features)
    _write(tmp_path / "val.parquet", ["tea", "cafe\u0301"], features=features)
    source = open_source(tmp_path)
    assert source.classes == (declared or ("caf\u00e9", "tea"))
    assert {name: split.labels for name, split in source.splits.items()} == {"train": [0, 1], "val": [1, 0]}


def test_splits_that_declare_their_classes_in_two_unicode_forms_have_the_same(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [0, 1], features=_class_label("caf\u00e9", "tea"))
    _write(tmp_path / "val.parquet", [0, 1], features=_class_label("cafe\u0301", "tea"))
    assert open_source(tmp_path).classes == ("caf\u00e9", "tea")


# -- rows without a name of their own --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["image.png", "", None])
def test_rows_of_one_path_are_called_by_their_place_and_divided_by_it(
    tmp_path: Path, path: str | None
) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": _picture(number), "path": path} for number in range(40)], kind)
    pq.write_table(pa.table({"image": images, "label": [0, 1] * 20}), tmp_path / "pets.parquet")
    source = open_source(tmp_path / "pets.parquet")
    test = _tested(f"pets.parquet/row-{row}" if path else str(row) for row in range(40))
    split = source.splits["test"]
    assert [split.key(index) for index in range(len(split))] == [f"pets.parquet/row-{row}" for row in test]
    assert [split.read(index).content for index in range(len(split))] == [_picture(row) for row in test]


def test_every_row_has_a_key_of_its_own(tmp_path: Path) -> None:
    paths = ["a.png", "b.png", "a.png", None, "", "c.png", "", None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for number in range(2):
        images = pa.array([{"bytes": _picture(1), "path": path} for path in paths[4 * number :][:4]], kind)
        pq.write_table(pa.table({"image": images, "label": [0, 1] * 2}), tmp_path / f"train-{number}.parquet")
    split = open_source(tmp_path).splits["train"]
    assert [split.key(index) for index in range(8)] == [
        "train-0.parquet/row-0",
        "b.png",
        *(f"train-0.parquet/row-{row}" for row in (2, 3)),
        "train-1.parquet/row-0",
        "c.png",
        *(f"train-1.parquet/row-{row}" for row in (2, 3)),
    ]


def test_names_that_come_in_every_class_go_to_one_side_as_in_a_folder(tmp_path: Path) -> None:
    # As where each class counts its images anew. Such tables have always been divided by these names.
    names = [f"{number:03}.png" for number in range(40)]
    images = [{"bytes": _picture(1), "path": name} for name in names * 2]
    pq.write_table(pa.table({"image": images, "label": [0] * 40 + [1] * 40}), tmp_path / "pets.parquet")
    source = open_source(tmp_path / "pets.parquet")
    test = source.splits["test"]
    rows = [int(test.key(index).rsplit("-")[-1]) for index in range(len(test))]
    assert rows[:8] == [row - 40 for row in rows[8:]] == sorted(map(names.index, smallest_hashes(names)))


def test_the_fingerprint_of_rows_without_a_path_is_that_of_earlier_versions(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"abc", b"de"], "label": [0, 1]}), tmp_path / "train.parquet")
    split = open_source(tmp_path).splits["train"]
    assert list(split.rows()) == [("train/0", 0, 3), ("train/1", 1, 2)]


# -- test images without labels --------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[-1, -1], [None, None], [-1, None]])
def test_test_rows_whose_labels_are_kept_back_are_named_and_not_used(
    tmp_path: Path, labels: list[int | None]
) -> None:
    _write(tmp_path / "train.parquet", [0, 1], features=_class_label("cat", "dog"))
    _write(tmp_path / "validation.parquet", [0, 1], features=_class_label("cat", "dog"), first=2)
    _write(tmp_path / "test.parquet", pa.array(labels, pa.int64()), first=4)
    source = open_source(tmp_path)
    assert list(source.splits) == ["train", "val"]
    assert list(map(str, source.ignored)) == ["test.parquet is not used: none of its rows has a label"]
    (tmp_path / "validation.parquet").unlink()
    with pytest.raises(
        DataError, match=r"only a training split \(test\.parquet is not used: none of its rows has"
    ):
        open_source(tmp_path).require_training_splits()


def test_test_rows_of_which_some_have_labels_are_not_passed_over(tmp_path: Path) -> None:
    _write(tmp_path / "train.parquet", [0, 1])
    _write(tmp_path / "test.parquet", [0, -1])
    with pytest.raises(DataError, match=r"test\.parquet: row 1 has label -1; expected 0 or more$"):
        open_source(tmp_path)
