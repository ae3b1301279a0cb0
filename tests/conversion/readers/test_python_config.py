"""Configurations in Python: literals and dict() have a value, and nothing runs."""

from __future__ import annotations

from typing import Any

import pytest

from deepresidual.conversion.readers import torch_file
from deepresidual.conversion.readers.python_config import read_config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "model = dict(a=1, b=[2.5, -3], c=('x', None, True))",
            {"a": 1, "b": [2.5, -3], "c": ["x", None, True]},
        ),
        ("model = {'a': {'b': 1}, 2: 3}", {"a": {"b": 1}}),
        (
            "model = dict(a=open('x'), b=lr, c=1 + 1, d=dict(**e), f=dict([1]))",
            dict.fromkeys("abcf") | {"d": {}},
        ),
        ("model = dict(a=1e999, b=10 ** 9, c=99999999999999999999)", {"a": None, "b": None, "c": None}),
        ("model = 1\nmodel = dict(a=2)", {"a": 2}),
    ],
)
def test_literals_and_calls_of_dict_have_values(text: str, expected: Any) -> None:
    assert read_config(text) == {"model": expected}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model = (",
        "lr = 0.1",
        "model = " + "[" * 100 + "]" * 100,
        "import os",
        "x" * 1_000_001,
        "model = 'a\0'",
    ],
)
def test_what_is_none_or_cannot_be_parsed_says_nothing(text: str) -> None:
    assert read_config(text) == {}


@pytest.mark.parametrize("key", ["classes", "CLASSES"])
def test_names_of_classes_are_found_where_versions_put_them(key: str) -> None:
    assert torch_file.said_by_mmdetection({"meta": {key: ("a", "b")}}) == {"classes": ["a", "b"]}
    assert torch_file.said_by_mmdetection({"meta": {"dataset_meta": {key: ["a"]}}}) == {"classes": ["a"]}
    assert torch_file.said_by_mmdetection({"meta": {key: [1, 2]}}) == {}
    assert torch_file.said_by_mmdetection({"meta": 3}) == torch_file.said_by_mmdetection([]) == {}
