"""Reading the data in a pickle without running it: numbers, text, lists, dictionaries, uint8 arrays.

A pickle is a program for a small stack machine, and :mod:`pickle` runs whatever that program calls. This
reader does not use it. It walks through the opcodes with :mod:`pickletools`, which only parses, and carries
out those that build plain data. A name of something importable is never imported: it is a tag, and the one
call that is understood is numpy's way of writing an array. Everything else is an error.

CIFAR's official files need exactly this much: Python 2 wrote them, with protocols 0 and 2.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_plain_pickle"]


@dataclass(frozen=True)
class _Name:
    """The name of something importable; only a tag here."""

    module: str
    name: str


@dataclass
class _Kind:
    """A numpy dtype under construction."""

    code: str


@dataclass
class _Array:
    """A numpy array under construction: an empty shell until its state arrives."""

    pixels: NDArray[np.uint8] | None = field(default=None)


_MARK = object()

# numpy moved its core in version 2; both write arrays by the same calls.
_RECONSTRUCT = {
    _Name("numpy.core.multiarray", "_reconstruct"),
    _Name("numpy._core.multiarray", "_reconstruct"),
}
_NDARRAY, _DTYPE = _Name("numpy", "ndarray"), _Name("numpy", "dtype")
# What Python 3 writes for bytes in protocols that have none.
_ENCODE = _Name("_codecs", "encode")
_ALLOWED = {*_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE}

# Opcodes whose argument is the value itself.
_VALUES = {
    *("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def read_plain_pickle(content: bytes) -> Any:
    """Return the data in a pickle.

    Args:
        content: The whole pickle. Its text comes back as ``str``, of which each character of Python 2's
            byte strings is one byte (Latin-1).

    Raises:
        DataError: The pickle is damaged or asks for anything but plain data. Nothing has been run.
    """
    machine = _Machine()
    try:
        for opcode, argument, position in pickletools.genops(content):
            if machine.step(opcode.name, argument, position):
                return machine.stack[-1]
    except DataError:
        raise
    # A damaged program finds the stack too short or of other types than it wants.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"a damaged pickle ({type(error).__name__})") from error
    raise DataError("a damaged pickle (it has no end)")


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any, position: int | None) -> bool:
        """Carry out one opcode; return whether it was the last."""
        stack = self.stack
        if opcode in _VALUES:
            stack.append(argument)
            return False
        if opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
            return False
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return True
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "LIST":
                stack.append(self._above_mark())
            case "DICT":
                stack.append(_pairs(self._above_mark()))
            case "TUPLE":
                stack.append(tuple(self._above_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND":
                value = stack.pop()
                _expect(stack[-1], list).append(value)
            case "APPENDS":
                values = self._above_mark()
                _expect(stack[-1], list).extend(values)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _expect(stack[-1], dict)[key] = value
            case "SETITEMS":
                pairs = _pairs(self._above_mark())
                _expect(stack[-1], dict).update(pairs)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                module, name = argument.split(" ", 1)
                stack.append(_allowed(module, name))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_allowed(module, name))
            case "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_made(called, _expect(arguments, tuple)))
            case "BUILD":
                state = stack.pop()
                _fill(stack[-1], _expect(state, tuple))
                if isinstance(stack[-1], _Array):
                    self._settle(stack[-1])
            case _:
                raise DataError(
                    f"the pickle asks for {opcode} at byte {position}", expected="plain data only"
                )
        return False

    def _above_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("no mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _settle(self, shell: _Array) -> None:
        """Put the finished array in the place of its shell."""
        self.stack[-1] = shell.pixels
        for number, value in self._memo.items():
            if value is shell:
                self._memo[number] = shell.pixels


def _allowed(module: object, name: object) -> _Name:
    found = _Name(str(module), str(name))
    if found not in _ALLOWED:
        raise DataError(
            f"the pickle asks for {found.module}.{found.name}"[:120],
            expected="nothing but numpy arrays of bytes, lists, numbers and text",
        )
    return found


def _made(called: object, arguments: tuple[Any, ...]) -> object:
    """Return what a call makes, of the calls by which numpy writes arrays."""
    if called in _RECONSTRUCT and arguments[0] == _NDARRAY:
        return _Array()
    if called == _DTYPE:
        return _Kind(str(arguments[0]))
    if called == _ENCODE and arguments[1] == "latin1":
        return _expect(arguments[0], str).encode("latin-1")
    raise DataError(f"the pickle calls {called!r}"[:120], expected="no calls but those that make an array")


def _fill(target: object, state: tuple[Any, ...]) -> None:
    """Give an array or a dtype its state, as ``ndarray.__setstate__`` documents it."""
    if isinstance(target, _Kind):
        return
    if not isinstance(target, _Array):
        raise DataError("the pickle sets the state of something", expected="of numpy arrays alone")
    _, shape, kind, is_fortran, raw = state
    if _expect(kind, _Kind).code != "u1":
        raise DataError(f"the pickle holds an array of {kind.code}"[:80], expected="u1 (bytes)")
    content = raw.encode("latin-1") if isinstance(raw, str) else _expect(raw, bytes)
    array = np.frombuffer(content, dtype=np.uint8)
    target.pixels = array.reshape(shape, order="F" if is_fortran else "C")


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _expect(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} is wanted")
    return value
