"""Plain pickles of NumPy arrays: detectron2's published models are read, and nothing in them runs."""

from __future__ import annotations

import contextlib
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepresidual.conversion.readers import pickle_file, read
from deepresidual.errors import ModelFileError
from tests.conversion.readers.writers import Touch

ARRAYS: dict[str, Any] = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "half": np.ones(3, dtype=np.float16),
    "count": np.int64(7),
    "big endian": np.arange(3, dtype=">f4"),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "flags": np.array([True, False]),
}


def written(document: object, path: Path, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(document, protocol))
    return path


class Raw:
    """An array as a pickle of any content would describe it."""

    def __init__(self, shape: object, dtype: object, content: object) -> None:
        self.state = (1, shape, dtype, False, content)

    def __reduce__(self) -> Any:
        rebuild = np.ones(1).__reduce__()[0]
        return rebuild, (np.ndarray, (0,), b"b"), self.state


@pytest.mark.child
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_back_whatever_the_protocol(tmp_path: Path, protocol: int) -> None:
    document = {"model": OrderedDict(ARRAYS), "__author__": "somebody", "matching_heuristics": True}
    checkpoint = read(written(document, tmp_path / "model_final.pkl", protocol))
    assert checkpoint.format == "pickle"
    assert list(checkpoint.tensors) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert checkpoint.tensors[name].shape == array.shape
        np.testing.assert_array_equal(checkpoint.tensors[name].numpy(), array)
    assert checkpoint.metadata["unwrapped"] == ["model"]
    assert checkpoint.metadata["ignored"]["__author__"] == "beside the weights (str 'somebody')"


def test_bytes_of_python_2_are_text_in_the_file(tmp_path: Path) -> None:
    content = np.arange(3, dtype="<f4").tobytes().decode("latin1")
    path = written({"a": Raw((3,), np.dtype("f4"), content)}, tmp_path / "x.pkl", 2)
    assert pickle_file.parse(path)[0]["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (Touch(Path("x")), r"is a Python pickle that is no torch file, and it holds more than arrays \("),
        ({"a": np.array([{}], dtype=object)}, "it holds an array of type 'O8'"),
        ({"a": np.zeros(2, dtype="U4")}, "it holds an array of type 'U4'"),
        ({"a": Raw((1 << 40,), np.dtype("f4"), b"1234")}, "it is damaged"),
        ({"a": Raw((-1,), np.dtype("f4"), b"1234")}, "an array whose shape is none"),
        ({"a": Raw((1,), np.dtype("f4"), 5)}, "an array that NumPy does not write"),
        ({"a": Raw((2,), np.dtype("f8"), b"12345678")}, "it is damaged"),
        ({"a": torch.ones(1)}, r"more than arrays \(torch"),
        ({"a": print}, r"more than arrays \(builtins.print\)"),
        ({"a": 1}, "it holds a dict without tensors"),
        ([np.ones(1)], "it holds a list without tensors"),
    ],
)
def test_other_content_is_refused_and_named(tmp_path: Path, document: object, text: str) -> None:
    with pytest.raises(ModelFileError, match=text):
        pickle_file.parse(written(document, tmp_path / "x.pkl"))


@pytest.mark.child
def test_nothing_of_a_pickle_runs(tmp_path: Path) -> None:
    path = written({"model": {"a": np.ones(1)}, "x": Touch(tmp_path / "ran")}, tmp_path / "x.pkl")
    with pytest.raises(ModelFileError, match="Residual never runs what a file brings"):
        read(path)
    assert not (tmp_path / "ran").exists()


def test_a_mapping_in_itself_ends(tmp_path: Path) -> None:
    document: dict[str, Any] = {"a": np.ones(2)}
    document |= dict.fromkeys("bcdefghij", document)
    tensors, _ = pickle_file.parse(written(document, tmp_path / "x.pkl"))
    assert list(tensors) == ["a"]


def test_what_lies_outside_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02Pname\n.")
    with pytest.raises(ModelFileError, match="it holds what lies outside of it"):
        pickle_file.parse(tmp_path / "x.pkl")


WHOLE = pickle.dumps({"model": ARRAYS, "__author__": "somebody"}, 2)


@settings(max_examples=40)
@given(st.integers(2, len(WHOLE) - 1), st.binary(min_size=1, max_size=4))
def test_damage_is_one_sentence_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, by: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(WHOLE[:place] + by + WHOLE[place + len(by) :])
    # What else parsers of hostile files raise, the child process makes a sentence of.
    with contextlib.suppress(ModelFileError, MemoryError, OverflowError):
        pickle_file.parse(path)
