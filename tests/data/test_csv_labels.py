"""Several labels an image in a table: ``cat|dog``, or one column a class; what is unclear is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from deepresidual.data.check import check
from deepresidual.data.source import open_source
from deepresidual.data.source.base import fingerprint_of
from deepresidual.data.source.multilabel import rarest_labels, targets_of
from deepresidual.errors import DataError
from tests.data.pictures import encode, noise

_LABELS = "a.png,cat,train\nb.png,cat|dog,train\nc.png,dog | bird,train\nd.png,bird,test\n"


def _table(folder: Path, text: str) -> Path:
    for name in "abcdefgh":
        (folder / f"{name}.png").write_bytes(encode(noise(4, 5), "PNG"))
    file = folder / "pets.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_labels_with_bars_are_several(tmp_path: Path) -> None:
    source = open_source(_table(tmp_path, "path,labels,split\n" + _LABELS))
    assert (source.task, source.classes) == ("multilabel", ("bird", "cat", "dog"))
    train = source.split("train")
    assert [train.read(index).target for index in range(3)] == [(0, 1, 0), (0, 1, 1), (1, 0, 1)]
    assert targets_of(source.split("test")).tolist() == [[True, False, False]]


def test_one_column_a_class_says_the_same(tmp_path: Path) -> None:
    bars = open_source(_table(tmp_path, "path,label,split\n" + _LABELS))
    text = "dog,path,bird,split,cat\n0,a.png,,train,1\nTRUE,b.png,false,train,1\n1,c.png,1,train,0\n"
    text += ",d.png,1,test,\n"
    columns = open_source(_table(tmp_path, text))
    assert (columns.task, columns.classes) == (bars.task, bars.classes)
    for name, split in bars.splits.items():
        assert fingerprint_of(split) == fingerprint_of(columns.splits[name])


def test_an_image_without_labels_is_asked_for_once(tmp_path: Path) -> None:
    file = _table(tmp_path, "path,label,split\n" + _LABELS + "e.png,,train\n")
    with pytest.raises(DataError, match=r"row 6 has no label; .*--labels several if that means that none"):
        open_source(file)
    train = open_source(file, labels="several").split("train")
    assert train.read(3).target == (0, 0, 0)
    assert train.labels[3] == 3


def test_zeros_in_all_columns_need_no_asking(tmp_path: Path) -> None:
    file = _table(tmp_path, "path,cat,dog,split\na.png,1,1,train\nb.png,0,0,train\nc.png,1,0,test\n")
    assert targets_of(open_source(file).split("train")).tolist() == [[True, True], [False, False]]


def test_a_bar_in_a_name_stays_a_name_where_that_is_asked_for(tmp_path: Path) -> None:
    text = "path,label,split\na.png,cat|dog,train\nb.png,bird,train\nc.png,bird,test\n"
    file = _table(tmp_path, text)
    with pytest.raises(DataError, match=r"row 2 has the label 'cat\|dog', which may be one name or several"):
        open_source(file)
    assert open_source(file, labels="one").classes == ("bird", "cat|dog")
    assert open_source(file, labels="several").classes == ("bird", "cat", "dog")


def test_one_column_a_class_may_hold_one_label(tmp_path: Path) -> None:
    file = _table(tmp_path, "path,cat,dog,split\na.png,1,0,train\nb.png,0,1,train\nc.png,1,0,test\n")
    with pytest.raises(DataError, match=r"one column a class \(cat, dog\), and no row with more than one"):
        open_source(file)
    one = open_source(file, labels="one")
    assert (one.task, one.split("train").labels) == ("classification", [0, 1])
    assert open_source(file, labels="several").task == "multilabel"


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        (
            "path,cat,dog\na.png,1,maybe\n",
            None,
            "row 2 has 'maybe' in the column 'dog', taken for a class; exp",
        ),
        ("path,cat,dog\na.png,1,0.5\n", "several", "row 2 has '0.5' in the column 'dog'"),
        ("path,cat,cat\na.png,1,0\n", None, r"the header \(row 1\) has the class 'cat' twice"),
        ("path,cat,dog\na.png,1,1\nb.png,,\n", None, "row 3 has no label; expected a label in every row"),
        ("path,cat,dog\na.png,1,1\n", "one", "row 2 has 2 labels; expected one, as --labels one says"),
        (
            "path,label\na.png,cat|dog\nb.png,cat|\n",
            None,
            r"row 3 has the labels 'cat\|'; expected different",
        ),
        ("path,label\na.png,cat|cat\nb.png,dog\n", "several", r"row 2 has the labels 'cat\|cat'"),
        (
            "path,label\na.png,cat|=x()\nb.png,cat\n",
            None,
            r"row 2 has the label '=x\(\)', which spreadsheets",
        ),
        (
            "path,label\na.png,cat|dog\na.png,cat\n",
            None,
            r"row 3 says that 'a.png' is 'cat', and row 2 that it",
        ),
        (
            "path,label,split\na.png,cat|dog,train\nb.png,cat|bird,test\n",
            None,
            "no training image with the la",
        ),
    ],
)
def test_what_is_no_label_is_named(
    tmp_path: Path, text: str, labels: Literal["one", "several"] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_source(_table(tmp_path, text), labels=labels)


def test_folders_and_digits_hold_one_class_an_image() -> None:
    with pytest.raises(DataError, match="digits holds one class an image; expected for several labels"):
        open_source("digits", labels="several")


def test_without_splits_rare_labels_are_on_both_sides(tmp_path: Path) -> None:
    lines = [f"{number}.png,{'cat|dog' if number % 20 else 'cat|rare'}" for number in range(300)]
    for number in range(300):
        (tmp_path / f"{number}.png").write_bytes(b"")
    (tmp_path / "many.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    source = open_source(tmp_path / "many.csv")
    assert "a fifth" in source.held_out
    rare = [targets_of(source.split(name))[:, 2].sum() for name in ("train", "test")]
    assert min(rare) > 0
    assert sum(rare) == 15


def test_the_stratum_is_the_rarest_label() -> None:
    targets = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1], [1, 1, 0]], dtype=bool)
    assert rarest_labels(targets).tolist() == [1, 0, 2, 3, 2, 1]


def test_check_compares_sets_of_labels_and_counts_each(tmp_path: Path) -> None:
    text = "path,label,split\n" + _LABELS + "e.png,,train\n"
    report = check(_table(tmp_path, text), labels="several", num_workers=0, min_px=0)
    assert report.images_per_class == {"bird": 1, "cat": 2, "dog": 2}
    two = [finding.detail for finding in report.findings if finding.kind == "two-labels"]
    assert two == [
        "cat|dog here, and cat as a.png: the same picture",
        "bird|dog here, and cat as a.png: the same picture",
        "no label here, and cat as a.png: the same picture",
    ]


def test_other_labels_are_another_data_set(tmp_path: Path) -> None:
    before = fingerprint_of(open_source(_table(tmp_path, "path,label,split\n" + _LABELS)).split("train"))
    text = "path,label,split\n" + _LABELS.replace("cat|dog", "cat|bird")
    assert fingerprint_of(open_source(_table(tmp_path, text)).split("train")) != before
