"""Tables of image files: columns, labels, splits, and rows that cannot be used, by their number."""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING, Literal

import pytest

from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.base import EncodedSample, fingerprint_of
from deepresidual.errors import ConfigurationError, DataError
from tests.data.pictures import encode, noise
from tests.data.splits import smallest_hashes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PNG = encode(noise(4, 5), "PNG")
_NAMES = [f"{number:03}.png" for number in range(40)]


def _images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_PNG)


def _table(folder: Path, text: str | bytes, *names: str) -> Path:
    """Write a table, and the image files that it names."""
    _images(folder, *(names or ("a.png", "b.png", "c.png", "d.png")))
    file = folder / "pets.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def _keys(source: SampleSource, split: str) -> list[str]:
    return [source.splits[split].read(index).key for index in range(len(source.splits[split]))]


_GOOD = "path,label,split\na.png,cat,train\nb.png,dog,train\nc.png,dog,val\nd.png,cat,val\n"


# -- what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "csv:"])
def test_a_table_with_splits_is_read_in_its_order(tmp_path: Path, prefix: str) -> None:
    source = open_source(f"{prefix}{_table(tmp_path, _GOOD)}")
    assert (source.name, source.classes, source.held_out) == ("pets", ("cat", "dog"), "")
    assert {name: split.labels for name, split in source.splits.items()} == {"train": [0, 1], "val": [1, 0]}
    assert source.splits["val"].read(0) == EncodedSample("c.png", _PNG, 1)
    assert source.splits["val"].key(1) == "d.png"


@pytest.mark.parametrize("path", ["path", "File", "FILENAME", " image "])
@pytest.mark.parametrize("label", ["label", "Class"])
def test_headers_are_found_in_any_case_and_place(tmp_path: Path, path: str, label: str) -> None:
    file = _table(tmp_path, f"note,{label},Split,{path}\nx,cat,train,a.png\ny,dog,test,b.png\n")
    source = open_source(file)
    assert (_keys(source, "train"), _keys(source, "test")) == (["a.png"], ["b.png"])


def test_a_byte_order_mark_quotes_empty_rows_and_any_line_end_are_understood(tmp_path: Path) -> None:
    text = '\ufeffpath,label,split\r\n"with, comma.png",cat,train\r\n\r\n"a ""b"".png",dog,val\r\n'
    source = open_source(_table(tmp_path, text, "with, comma.png", 'a "b".png'))
    assert (_keys(source, "train"), _keys(source, "val")) == (["with, comma.png"], ['a "b".png'])


def test_paths_start_from_the_folder_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _images(tmp_path / "elsewhere", "z.png")
    absolute = tmp_path / "elsewhere" / "z.png"
    text = f"path,label,split\nin/a.png,cat,train\n../out.png,dog,train\n{absolute},dog,val\n"
    file = _table(tmp_path / "data", text, "in/a.png", "../out.png")
    monkeypatch.chdir(tmp_path / "elsewhere")
    source = open_source(file)
    assert _keys(source, "train") == ["in/a.png", "../out.png"]
    assert _keys(source, "val") == [str(absolute)]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (("10", "9", "2", "10"), ("2", "9", "10")),
        (("-1", "+1", "+1", "-1"), ("-1", "+1")),
        (("10", "9", "b", "9"), ("10", "9", "b")),
        ((" cat", "dog ", "cat", "dog"), ("cat", "dog")),
    ],
)
def test_class_names_are_sorted_and_numbers_as_numbers(
    tmp_path: Path, labels: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    rows = "".join(f"{name}.png,{label},train\n" for name, label in zip("abcd", labels, strict=True))
    source = open_source(_table(tmp_path, f"path,label,split\n{rows}"))
    assert source.classes == classes
    found = [source.classes[label] for label in source.splits["train"].labels]
    assert found == [label.strip() for label in labels]


@pytest.mark.parametrize("spelling", ["val", "Valid", "VALIDATION", "dev "])
def test_splits_have_their_usual_spellings(tmp_path: Path, spelling: str) -> None:
    text = _GOOD.replace(",val", f",{spelling}").replace(",train", ",Training")
    assert list(open_source(_table(tmp_path, text)).splits) == ["train", "val"]


def test_without_splits_a_fifth_is_held_out_by_name(tmp_path: Path) -> None:
    rows = "".join(f"{name},{'cat' if number % 2 else 'dog'}\n" for number, name in enumerate(_NAMES))
    source = open_source(_table(tmp_path, f"path,label\n{rows}", *_NAMES))
    assert source.held_out == "a fifth of each class is held out by the hash of the file name"
    test = smallest_hashes(_NAMES[1::2]) | smallest_hashes(_NAMES[::2])
    assert _keys(source, "test") == [name for name in _NAMES if name in test]
    assert _keys(source, "train") == [name for name in _NAMES if name not in test]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_splits_in_two_unicode_forms_have_the_same_classes(
    tmp_path: Path, forms: tuple[Literal["NFC", "NFD"], ...]
) -> None:
    one, other = (unicodedata.normalize(form, "caf\u00e9") for form in forms)
    text = f"path,label,split\na.png,{one},train\nb.png,tea,train\na.png,tea,val\nb.png,{other},val\n"
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(_PNG)
    (tmp_path / "t.csv").write_text(
        text.replace("a.png,tea", "./a.png,tea").replace("b.png,caf", "./b.png,caf")
    )
    source = open_source(tmp_path / "t.csv")
    assert source.classes == ("caf\u00e9", "tea")
    assert {name: split.labels for name, split in source.splits.items()} == {"train": [0, 1], "val": [1, 0]}


def test_two_forms_of_a_label_in_one_split_are_refused_with_their_escapes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(_PNG)
    (tmp_path / "t.csv").write_text("path,label\na.png,caf\u00e9\nb.png,cafe\u0301\n")
    with pytest.raises(
        DataError, match=r"classes 'cafe\\u0301' and 'caf\\xe9' differ only in case or Unicode"
    ):
        open_source(tmp_path / "t.csv")


def test_images_that_are_all_called_alike_are_divided_by_their_path(tmp_path: Path) -> None:
    for number in range(80):
        (tmp_path / f"{number:03}").mkdir()
        (tmp_path / f"{number:03}" / "image.png").write_bytes(_PNG)
    rows = "".join(f"{number:03}/image.png,{number % 2}\n" for number in range(80))
    (tmp_path / "t.csv").write_text(f"path,label\n{rows}")
    splits = open_source(tmp_path / "t.csv").splits
    assert len(splits["train"]) + len(splits["test"]) == 80
    assert 4 <= len(splits["test"]) <= 32


def test_a_path_may_come_twice_with_one_label(tmp_path: Path) -> None:
    file = _table(tmp_path, _GOOD + "a.png,cat,train\n")
    assert _keys(open_source(file), "train") == ["a.png", "b.png", "a.png"]


def test_the_fingerprint_follows_labels_and_sizes(tmp_path: Path) -> None:
    def fingerprint(text: str) -> str:
        return fingerprint_of(open_source(_table(tmp_path, text)).splits["train"])

    before = fingerprint(_GOOD)
    assert fingerprint(_GOOD) == before
    assert fingerprint(_GOOD.replace("b.png,dog", "b.png,cat")) != before
    file = _table(tmp_path, _GOOD)
    (tmp_path / "a.png").write_bytes(_PNG + b"\0")
    assert fingerprint_of(open_source(file).splits["train"]) != before


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            r"the header \(row 1\) has no column for the path \(it is empty\); expected one called path or f",
        ),
        (
            "label\ncat\n",
            r"no column for the path \('label'\); expected one called path or file or filename or i",
        ),
        (
            "path,kind\na.png,cat\n",
            r"no column for the label \('path', 'kind'\); expected one called label or c",
        ),
        (
            "path;label\na.png;cat\n",
            r"no column for the path \('path;label'\); .*; separate columns with commas",
        ),
        ("path,file,label\na,b,c\n", r"several columns for the path \('path', 'file', 'label'\)"),
        ("path,label,split,split\na,b,c,d\n", r"several columns for the split"),
        ("path,label\n", r"has no rows; expected a row for every image below the header"),
        (
            _GOOD + "a.png,cat\n",
            r"row 6 has 2 cells; expected 3, as in the header; put cells that hold a comma",
        ),
        (_GOOD + "a,b.png,cat,train\n", r"row 6 has 4 cells; expected 3"),
        (_GOOD + ",cat,train\n", r"row 6 has no path; expected the name of an image file"),
        (_GOOD + "a.png,,train\n", r"row 6 has an empty label; expected the name of a class"),
        (_GOOD + "a.png, \t,train\n", r"row 6 has an empty label"),
        (
            _GOOD + "a.png,=cmd(),train\n",
            r"row 6 has the label '=cmd\(\)', which spreadsheets take for a formul",
        ),
        (_GOOD + "a.png,@SUM(A1),train\n", r"row 6 has the label '@SUM\(A1\)', which spreadsheets take for"),
        (_GOOD + "a.png,cat,trian\n", r"row 6 has the split 'trian'; expected train, val or test"),
        (_GOOD + "a.png,cat,\n", r"row 6 has the split ''; expected train, val or test"),
        (
            _GOOD + "\n\ngone.png,cat,train\n",
            r"row 8 names 'gone\.png', which does not exist; expected an imag",
        ),
        (_GOOD + "=cmd(),cat,train\n", r"row 6 names '=cmd\(\)', which does not exist"),
        (
            _GOOD + ".,cat,train\n",
            r"row 6 names '\.', which is not a regular file; expected an image file, rel",
        ),
        (
            _GOOD + f"{'n' * 300},cat,train\n",
            r"row 6 names 'n{200}', which cannot be opened \(File name too lo",
        ),
        (
            _GOOD + "a.png,dog,train\n",
            r"row 6 says that 'a\.png' is 'dog', and row 2 that it is 'cat'; keep t",
        ),
        (_GOOD + '"a.png,cat,train\n', r"row 6 cannot be read \(unexpected end of data\)"),
        (_GOOD + '"a.png"x,cat,train\n', r"row 6 cannot be read \('.' expected after '.'\)"),
        (_GOOD + f"{'x' * 140_000},cat,train\n", r"row 6 cannot be read \(field larger than field limit"),
        (
            _GOOD.replace("dog", "cat"),
            r"has only one class \(cat\); expected at least 2; add images of another",
        ),
        (_GOOD.replace("dog", "Cat"), r"classes 'Cat' and 'cat' differ only in case or Unicode form"),
        (
            "path,label\na.png,01\nb.png,1\n",
            r"the labels '0?1' \(row \d\) and '0?1' \(row \d\) are the same num",
        ),
        (
            _GOOD.encode() + b"\xe9.png,cat,train\n",
            r"is not UTF-8 \(byte 0xe9, after row 1\); save it as UTF-8",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_row(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = _table(tmp_path, text)
    with pytest.raises(DataError, match=rf"^{file}.*{message}"):
        open_source(file)


def test_a_pipe_in_the_table_is_named_and_never_opened(tmp_path: Path) -> None:
    file = _table(tmp_path, _GOOD + "pipe.png,cat,train\n")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"row 6 names 'pipe\.png', which is not a regular file"):
        open_source(file)


def test_a_table_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv cannot be read \(No such file or directory\)$"):
        open_source(f"csv:{tmp_path / 'gone.csv'}")
    with pytest.raises(
        DataError, match=r"gone\.csv does not exist; expected 'digits', 'digit-scenes', a folder"
    ):
        open_source(tmp_path / "gone.csv")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_for_a_table(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "pets.csv")
    with pytest.raises(
        DataError, match=r"pets\.csv is not a regular file; expected a table; a pipe might never"
    ):
        open_source(f"csv:{tmp_path / 'pets.csv'}")


def test_nothing_behind_the_colon() -> None:
    with pytest.raises(ConfigurationError, match=r"^nothing stands behind 'csv:'; expected csv:PATH$"):
        open_source("csv:")


def test_a_file_that_vanished_is_named_when_it_is_read(tmp_path: Path) -> None:
    split = open_source(_table(tmp_path, _GOOD)).splits["train"]
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"^b\.png cannot be read \(No such file or directory\)$"):
        split.read(1)
