"""Strict JSON: what is no document, what is not of its kind, and lines of which some are damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.errors import ModelFileError
from deepresidual.runtime.strict_json import (
    Between,
    RecordError,
    check,
    damage_in,
    parse,
    read_lines,
    read_record,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": [1, 2.5, null, true, "\\u732b"]}', {"a": [1, 2.5, None, True, "猫"]}),
        (b'"\\udcff"', "\udcff"),  # a file name that is no UTF-8
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"[" * 100 + b"]" * 100, None),
    ],
    ids=range(5),
)
def test_a_document_is_read(content: bytes, expected: Any) -> None:
    assert parse(content) == expected or expected is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b'"\xff"', "a byte that is no UTF-8"),
        (b"\xef\xbb\xbf1", "BOM"),
        (b"\xed\xa0\x80", "a byte that is no UTF-8"),
        (b"NaN", "NaN is no JSON"),
        (b"-Infinity", "-Infinity is no JSON"),
        (b"1e309", "the number 1e309 is too large"),
        (b"18446744073709551616", "the number 18446744073709551616 is too large"),
        (b"1" * 5000, "the number 1{60} is too large"),
        (b'{"a": 1, "a": 1}', "the name 'a' is there twice"),
        (b"[" * 101 + b"]" * 101, "nested too deep"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "nested too deep"),
        (b"[" * 100_000, "nested too deep"),
        (b"1 2", "Extra data"),
    ],
    ids=range(15),
)
def test_what_is_no_document_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        parse(content)


@given(st.binary(max_size=40))
def test_no_bytes_break_the_reader(content: bytes) -> None:
    try:
        parse(content)
    except RecordError as error:
        assert str(error)  # noqa: PT017  # any content may be sound


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (1, str, "it is 1, not text"),
        ("x", int, "it is 'x', not a whole number"),
        (True, int, "it is true, not a whole number"),
        (True, float, "it is true, not a number"),
        (1.5, int, "it is 1.5, not a whole number"),
        (0, bool, "it is 0, not true or false"),
        (None, list, "it is null, not a list"),
        ([], dict, "it is a list of 0, not an object"),
        ({}, (str, None), "it is an object, not text or null"),
        (1.5, Between(0, 1), "it is 1.5, not a number from 0 to 1"),
        (0.5, Between(0, whole=True), "it is 0.5, not a whole number from 0 on"),
        (["a", 1], [str], "[1] is 1, not text"),
        ({"a": {"b": [1, None]}}, {"a": {"b": [int]}}, "a.b[1] is null, not a whole number"),
        ({"a": 1}, {"a": int, "b": int, "c?": int}, "b is missing"),
        ({"a": 1, "c": "x"}, {"a": int, "c?": int}, "c is 'x', not a whole number"),
        ({"x": 1, "y": "z"}, {str: int}, "y is 'z', not a whole number"),
        ("y" * 10**6, int, "it is '" + "y" * 60 + "'…, not a whole number"),
    ],
    ids=range(17),
)
def test_what_is_not_of_its_kind_is_named_with_its_place(value: Any, kind: Any, said: str) -> None:
    with pytest.raises(RecordError) as caught:  # the whole text is compared
        check(value, kind)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, float),
        ("x", (int, str)),
        (None, (str, None)),
        ([1, 2.5], [float]),
        ({"a": 1, "more": None}, {"a": int, "b?": int}),
        ({"x": [1]}, {str: [int]}),
        (1, Between(0, 1)),
        (10**9, Between(0, whole=True)),
    ],
    ids=range(8),
)
def test_what_is_of_its_kind_passes(value: Any, kind: Any) -> None:
    check(value, kind)


def test_every_damaged_field_is_told() -> None:
    document = {"a": 1, "b": "x", "c": []}
    assert damage_in(document, {"a": int, "b": int, "c": dict, "d": int, "e?": int}) == {
        "b": "b is 'x', not a whole number",
        "c": "c is a list of 0, not an object",
        "d": "d is missing",
    }


def test_a_record_is_named_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with pytest.raises(FileNotFoundError, match="run.json"):
        read_record(path)
    path.write_text('{"step": "x"}')
    assert read_record(path) == {"step": "x"}
    with pytest.raises(ModelFileError, match=r"run\.json is damaged \(step is 'x', not a whole number\)"):
        read_record(path, {"step": int})
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelFileError, match=r"cannot read .*run\.json \(Is a directory\)"):
        read_record(path)


def test_lines_stand_beside_those_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\xff\n{"a": "x"}\n\n{"a": 2}\n{"a"')
    lines = read_lines(path, {"a": int})
    assert [line.document for line in lines] == [{"a": 1}, None, None, None, {"a": 2}, None]
    assert [line.number for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.is_whole for line in lines] == [True] * 5 + [False]
    assert [line.damage for line in lines if line.damage][:2] == [
        "a byte that is no UTF-8",
        "a is 'x', not a whole number",
    ]
    assert lines[1].content == b"\xff"
