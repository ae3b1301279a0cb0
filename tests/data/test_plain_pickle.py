"""Reading the data in a pickle: all that plain data needs, and nothing that could run."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.data.source.plain_pickle import read_plain_pickle
from deepresidual.errors import DataError
from tests.data.cifar_files import python2_pickle, python2_text_pickle

if TYPE_CHECKING:
    from pathlib import Path

_PLANES = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)


def test_the_files_of_python_2_are_read_as_pickle_reads_them() -> None:
    content = python2_pickle({"batch_label": "training batch 1 of 5", "labels": [3, 0, 255], "data": _PLANES})
    reference = pickle.loads(content, encoding="latin1")  # noqa: S301  # made on the line above
    found = read_plain_pickle(content)
    assert found.keys() == reference.keys()
    assert (found["batch_label"], found["labels"]) == (reference["batch_label"], reference["labels"])
    np.testing.assert_array_equal(found["data"], reference["data"])
    np.testing.assert_array_equal(found["data"], _PLANES)


def test_the_text_protocol_is_read() -> None:
    content = python2_text_pickle({"num_vis": 3072, "label_names": ["airplane", "automobile"]})
    assert read_plain_pickle(content) == pickle.loads(content, encoding="latin1")  # noqa: S301  # see above


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back_from_every_protocol(protocol: int) -> None:
    data = {"a": [1, -2, 2**40, 1.5], "b": (None, True, False, "text", ("x",)), "c": {"d": []}, "e": ()}
    assert read_plain_pickle(pickle.dumps(data, protocol)) == data


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_bytes_come_back(protocol: int, order: Any) -> None:
    array = np.asarray(_PLANES, order=order)
    found = read_plain_pickle(pickle.dumps({"data": array, "again": array}, protocol))
    np.testing.assert_array_equal(found["data"], array)
    np.testing.assert_array_equal(found["again"], array)


class _Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("how", ["os.system", "eval", "subprocess", "nested", "getattr"])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int, how: str) -> None:
    marker = tmp_path / "marker"
    call = {
        "os.system": _Call(os.system, f"touch {marker}"),
        "eval": _Call(eval, f"open({str(marker)!r}, 'w')"),
        "subprocess": _Call(subprocess.call, ["touch", str(marker)]),
        "nested": {"data": _PLANES, "labels": [1, {"x": _Call(os.mkdir, str(marker))}]},
        "getattr": _Call(getattr, os, "system"),
    }[how]
    try:
        content = pickle.dumps(call, protocol)
    except TypeError:
        # Modules cannot be pickled; by hand they can be named.
        content = b"cbuiltins\ngetattr\n(cposix\nsystem\nS'x'\ntR."
    with pytest.raises(
        DataError, match=r"^the pickle asks for [\w.]+; expected nothing but numpy arrays of b"
    ):
        read_plain_pickle(content)
    assert not marker.exists()


def test_the_hostile_pickle_of_the_test_before_is_one(tmp_path: Path) -> None:
    content = pickle.dumps(_Call(os.mkdir, str(tmp_path / "marker")))
    pickle.loads(content)  # noqa: S301  # it shall run: else the test before proves nothing
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"(iposix\nsystem\n.", r"asks for INST at byte 1; expected plain data only"),
        (b"\x80\x02(cposix\nsystem\no.", r"asks for posix\.system"),
        (b"\x80\x02)\x81.", r"asks for NEWOBJ at byte 3"),
        (b"\x80\x02\x82\x01.", r"asks for EXT1 at byte 2"),
        (b"Pname\n.", r"asks for PERSID at byte 0"),
        (b"\x80\x05\x97.", r"asks for NEXT_BUFFER at byte 2"),
        (b"\x80\x02cnumpy\nload\n.", r"asks for numpy\.load"),
        (b"\x80\x02cnumpy\nndarray\n)R.", r"calls _Name\(module='numpy', name='ndarray'\)"),
        (b"\x80\x02}(ub.", r"a damaged pickle \(IndexError\)"),
        (b"\x80\x02]K\x01b.", r"a damaged pickle \(TypeError\)"),
        (b"\x80\x02](K\x01K\x02tb.", r"sets the state of something; expected of numpy arrays alone"),
        (b"", r"a damaged pickle \(ValueError\)"),
        (b"\x80\x02}", r"a damaged pickle \(ValueError\)"),
        (b"\xff\xd8\xff", r"a damaged pickle \(ValueError\)"),
        (b"\x80\x02t.", r"a damaged pickle \(IndexError\)"),
        (b"\x80\x02h\x07.", r"a damaged pickle \(KeyError\)"),
    ],
)
def test_what_is_not_plain_data_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_plain_pickle(content)


def test_arrays_of_other_types_are_refused() -> None:
    with pytest.raises(DataError, match=r"the pickle holds an array of f4; expected u1 \(bytes\)"):
        read_plain_pickle(pickle.dumps(np.zeros(3, dtype=np.float32), 2))
    with pytest.raises(DataError, match=r"asks for|array of O8"):
        read_plain_pickle(pickle.dumps(np.array([_Call(os.mkdir, "x")], dtype=object), 2))


@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000))
def test_damage_gives_data_or_a_data_error(place: int, value: int, length: int) -> None:
    content = bytearray(python2_pickle({"batch_label": "b", "labels": [3, 0, 1], "data": _PLANES[:, :50]}))
    content[place % len(content)] = value
    with contextlib.suppress(DataError):
        read_plain_pickle(bytes(content[: 1 + length]))
