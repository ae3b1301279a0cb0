"""Read a plain pickle of NumPy arrays, as detectron2 publishes its models, without running any of it.

Such a file is a program that names the functions it calls. Here the few names by which NumPy writes an array
stand for functions of this module, which take bytes, a shape and a type, and give back a tensor; every other
name ends the reading (Python's documentation calls it "restricting globals"). Nothing is imported by name.
"""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepresidual.conversion.readers.torch_file import MAX_KEYS, choose_state_dict
from deepresidual.errors import ModelFileError, quoted

# Kinds of numpy.dtype, and the bytes that a number of each may have.
_TYPES = {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,)}
_EXPECTED = "a pickle of NumPy arrays by name, as detectron2 publishes its models"
_REMEDY = "save its state_dict() with safetensors in the program that wrote it"


def parse(path: Path, state_dict: str = "") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the arrays in a pickle, of protocol 2 to 5, of Python 2 or 3.

    Args:
        path: The file.
        state_dict: As for :func:`~deepresidual.conversion.readers.torch_file.parse`.

    Returns:
        What that function returns.

    Raises:
        ModelFileError: The file is damaged, holds more than arrays and plain values, or no arrays.
    """
    with path.open("rb") as file:
        try:
            document = _Unpickler(file, encoding="latin1").load()
        except _NotReadError as error:
            raise ModelFileError(
                f"{path} is a Python pickle that is no torch file, and it holds {error}; Residual never runs "
                "what a file brings",
                expected=_EXPECTED,
                remedy=_REMEDY,
            ) from error
        except (
            pickle.UnpicklingError,
            EOFError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
        ) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelFileError(
                f"{path} is a Python pickle that is no torch file, and it is damaged ({reason})",
                expected=_EXPECTED,
                remedy="get the file from its source again",
            ) from error
    with_tensors = _with_tensors(document, {}, 0)
    return choose_state_dict(
        with_tensors,
        path,
        state_dict,
        what="a Python pickle that is no torch file: it holds",
        expected=_EXPECTED,
    )


class _NotReadError(Exception):
    """What a pickle holds and this module does not read, as a noun phrase."""


class _Type:
    """A type of numbers, as ``numpy.dtype`` is pickled: ``f4``, and the order of its bytes."""

    def __init__(self, name: object = "", *_: object) -> None:
        self.kind, self.order = str(name), "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    def to_numpy(self) -> np.dtype[Any]:
        kind, size = self.kind[:1], self.kind[1:]
        if kind not in _TYPES or not size.isdecimal() or int(size) not in _TYPES[kind]:
            raise _NotReadError(f"an array of type {quoted(self.kind[:20])}")
        return np.dtype(f"{'>' if self.order == '>' else '<'}{kind}{size}")


class _Array:
    """An array, as ``numpy.ndarray`` is pickled."""

    def __init__(self, *_: object) -> None:
        self._tensor: torch.Tensor | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, content = state
        self._tensor = _tensor(content, kind, shape, "F" if is_fortran else "C")

    def to_tensor(self) -> torch.Tensor:
        if self._tensor is None:
            raise _NotReadError("an array without its numbers")
        return self._tensor


def _tensor(content: object, kind: object, shape: object, order: str) -> torch.Tensor:
    # Python 2 pickled bytes as text.
    content = content.encode("latin1") if isinstance(content, str) else content
    dtype = kind.to_numpy() if isinstance(kind, _Type) else None
    if dtype is None or not isinstance(content, bytes | bytearray):
        raise _NotReadError("an array that NumPy does not write")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise _NotReadError("an array whose shape is none")
    numbers = np.frombuffer(content, dtype=dtype)
    array = numbers.reshape(shape, order="F" if order == "F" else "C")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _of_buffer(content: object, kind: object, shape: object, order: str = "C") -> torch.Tensor:
    """Stand for ``numpy.core.numeric._frombuffer``, by which protocol 5 writes an array."""
    return _tensor(content, kind, shape, order)


def _scalar(kind: object, content: object = b"") -> torch.Tensor:
    """Stand for ``numpy.core.multiarray.scalar``, by which NumPy writes one number."""
    return _tensor(content, kind, (), "C")


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    """Stand for ``_codecs.encode``, by which protocol 2 of Python 3 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _NotReadError("text in an encoding that bytes do not have")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand for ``bytes()``, by which protocol 2 writes none."""
    return b""


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _of_buffer),
        )
    },
}
"""Module and name in a pickle → what stands for it."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name."""
        found = _NAMES.get((module, name))
        if found is None:
            raise _NotReadError(f"more than arrays ({module[:60]}.{name[:60]})")
        return found

    def persistent_load(self, _: object) -> Any:
        """Refuse what lies outside of the file."""
        raise _NotReadError("what lies outside of it")


def _with_tensors(value: object, made: dict[int, Any], depth: int) -> Any:
    """Return the same mappings with tensors in place of arrays, as deep as a state dict is looked for."""
    if isinstance(value, _Array):
        return value.to_tensor()
    if not isinstance(value, dict) or depth > MAX_KEYS:
        return value
    if id(value) not in made:  # a pickle can nest in itself
        made[id(value)] = {}
        made[id(value)].update((key, _with_tensors(item, made, depth + 1)) for key, item in value.items())
    return made[id(value)]
