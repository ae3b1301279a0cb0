r"""Read Torch7's binary serialization (``.t7``), in which the papers' Torch models were published.

Written from the format, which Lua's ``torch/File.lua`` defines: every object is a little-endian int32 tag
and its content. Numbers are float64; strings are an int32 length and bytes; tables and torch objects carry
an int32 index under which later ones refer to them; a torch object goes on with its version (``V 1``) and
class name. A tensor is its ndim (int32), sizes, strides and 1-based storage offset (int64) and a storage
object; a storage is a count (int64) and the raw values. Functions are skipped as bytes, and never run.

Every count is held against the bytes that are left before anything is allocated for it.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from deepresidual.errors import ModelFileError, quoted

_NIL, _NUMBER, _STRING, _TABLE, _TORCH, _BOOLEAN, _FUNCTION, _LEGACY_RECURSIVE, _RECURSIVE = range(9)
_MAX_DEPTH = 150  # containers nest to 12 in published nets; deeper ones would exhaust Python's stack
_MAX_DIMENSIONS = 32
_MAX_MODULES = 100_000
# What a module keeps for inference; gradients, outputs and buffers are left where they are.
_PARAMETERS = ("weight", "bias", "running_mean", "running_var", "running_std")
# Class prefix → type of the values, and the type they are given as.
_TYPES = {
    "Double": (torch.float64, torch.float64),
    "CudaDouble": (torch.float64, torch.float64),
    "Float": (torch.float32, torch.float32),
    "Cuda": (torch.float32, torch.float32),
    "Half": (torch.float16, torch.float32),
    "CudaHalf": (torch.float16, torch.float32),
    "Long": (torch.int64, torch.int64),
    "CudaLong": (torch.int64, torch.int64),
    "Int": (torch.int32, torch.int32),
    "CudaInt": (torch.int32, torch.int32),
    "Short": (torch.int16, torch.int16),
    "CudaShort": (torch.int16, torch.int16),
    "Char": (torch.int8, torch.int8),
    "CudaChar": (torch.int8, torch.int8),
    "Byte": (torch.uint8, torch.uint8),
    "CudaByte": (torch.uint8, torch.uint8),
}
_TENSOR_CLASSES = {f"torch.{prefix}Tensor": types for prefix, types in _TYPES.items()}
_STORAGE_CLASSES = {f"torch.{prefix}Storage": types for prefix, types in _TYPES.items()}


@dataclass
class _Table:
    """A Lua table; of its keys only strings and numbers are kept."""

    items: dict[str | float, Any] = field(default_factory=dict)


@dataclass
class _Storage:
    """Position of a storage's values in the file."""

    dtype: torch.dtype
    start: int
    count: int


@dataclass
class _Tensor:
    """A view of a storage, not yet read."""

    result: torch.dtype
    shape: list[int]
    strides: list[int]
    offset: int  # from 0
    storage: _Storage | None


@dataclass
class _Object:
    """An nn module or another torch object whose content is a table."""

    class_name: str
    items: dict[str | float, Any] = field(default_factory=dict)


class _Function:
    """A function, whose code was skipped."""


def parse(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the network in a ``.t7`` file.

    Args:
        path: The file.

    Returns:
        The tensors by module path and field (``4.2.0.1.weight``; modules count from 0), and metadata:
        ``modules``, by path (the root's is empty) the ``type`` and every number, boolean and string of
        each module, in order; ``unwrapped``, the key of the network where the file holds a table.

    Raises:
        ModelFileError: The file is damaged, or holds neither a network nor a table of tensors.
    """
    if path.stat().st_size == 0:
        raise ModelFileError(f"{path} is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        reader = _Reader(path, content)
        return _Extraction(reader).run(reader.read_object())


class _Reader:
    """Reads objects one after another; tensors stay in the file."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path = path
        self.content = content
        self.position = 0
        self.known: dict[int, object] = {}
        self.depth = 0

    def damaged(self, reason: str) -> ModelFileError:
        return ModelFileError(
            f"{self.path} is damaged or no Torch7 file ({reason} near byte {self.position:,})",
            remedy="get the file from its source again",
        )

    def read_object(self) -> Any:
        """Read the next object and everything within it."""
        if self.depth > _MAX_DEPTH:
            raise self.damaged(f"objects nest deeper than {_MAX_DEPTH}")
        self.depth += 1
        try:
            return self._read_tagged(self._int())
        finally:
            self.depth -= 1

    def _read_tagged(self, tag: int) -> Any:
        if tag == _NIL:
            return None
        if tag == _NUMBER:
            return self._unpack("<d", 8)
        if tag == _BOOLEAN:
            return self._int() == 1
        if tag == _STRING:
            return self._string()
        if tag == _FUNCTION:
            return self._skip_function(_Function())
        if tag not in (_TABLE, _TORCH, _RECURSIVE, _LEGACY_RECURSIVE):
            raise self.damaged(f"the tag {tag}")
        index = self._int()
        if index in self.known:
            return self.known[index]
        if tag == _TABLE:
            table = self.known[index] = _Table()
            self._fill(table.items)
            return table
        if tag == _TORCH:
            return self._torch_object(index)
        function = self.known[index] = _Function()
        return self._skip_function(function)

    def _skip_function(self, function: _Function) -> _Function:
        self._take(self._int())
        self.read_object()  # the values that it closes over
        return function

    def _fill(self, items: dict[str | float, Any]) -> None:
        # A key and a value are at least 4 bytes each.
        for _ in range(self._count(self._int(), 8)):
            key, value = self.read_object(), self.read_object()
            if isinstance(key, str | float):
                items[key] = value

    def _torch_object(self, index: int) -> Any:
        class_name = self._string()
        # Files from before versions go on with the class name at once.
        if class_name.startswith("V "):
            class_name = self._string()
        if class_name in _TENSOR_CLASSES:
            # Its storage's index is larger, and no storage refers back: registered when complete.
            tensor = self.known[index] = self._tensor(_TENSOR_CLASSES[class_name][1])
            return tensor
        if class_name in _STORAGE_CLASSES:
            dtype = _STORAGE_CLASSES[class_name][0]
            count = self._count(self._long(), dtype.itemsize)
            storage = self.known[index] = _Storage(dtype, self.position, count)
            self._take(count * dtype.itemsize)
            return storage
        found = self.known[index] = _Object(class_name)
        table = self.read_object()
        if not isinstance(table, _Table):
            raise self.damaged(f"the content of the class {quoted(class_name)} is no table")
        found.items = table.items
        return found

    def _tensor(self, result: torch.dtype) -> _Tensor:
        num_dimensions = self._int()
        if not 0 <= num_dimensions <= _MAX_DIMENSIONS:
            raise self.damaged(f"a tensor of {num_dimensions} dimensions")
        shape = [self._long() for _ in range(num_dimensions)]
        strides = [self._long() for _ in range(num_dimensions)]
        offset = self._long() - 1
        storage = self.read_object()
        if storage is not None and not isinstance(storage, _Storage):
            raise self.damaged("a tensor without a storage")
        count = math.prod(shape) if shape else 0
        if min(shape, default=0) < 0 or min(strides, default=0) < 0 or (count and offset < 0):
            raise self.damaged("a tensor of negative size, stride or offset")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        held = storage.count if storage else 0
        if count and (last >= held or count > held):
            raise self.damaged(f"a tensor of shape {tuple(shape)} in a storage of {held:,} values")
        return _Tensor(result, shape, strides, offset, storage)

    # -- plain values --------------------------------------------------------------------------------

    def _take(self, count: int) -> int:
        """Step over ``count`` bytes that must be there; return where they start."""
        start = self.position
        if not 0 <= count <= len(self.content) - start:
            raise self.damaged(f"{count:,} bytes where {len(self.content) - start:,} are left")
        self.position = start + count
        return start

    def _count(self, count: int, min_bytes: int) -> int:
        left = len(self.content) - self.position
        if not 0 <= count * min_bytes <= left:
            raise self.damaged(f"a count of {count:,} where {left:,} bytes are left")
        return count

    def _unpack(self, code: str, num_bytes: int) -> Any:
        return struct.unpack_from(code, self.content, self._take(num_bytes))[0]

    def _int(self) -> int:
        return int(self._unpack("<i", 4))

    def _long(self) -> int:
        return int(self._unpack("<q", 8))

    def _string(self) -> str:
        count = self._int()
        start = self._take(count)
        # Lua strings are bytes; what is no UTF-8 stays distinguishable.
        return self.content[start : start + count].decode("utf-8", "backslashreplace")


class _Extraction:
    """Walks the modules of a parsed file and collects tensors and settings."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader
        self.tensors: dict[str, torch.Tensor] = {}
        self.modules: dict[str, dict[str, Any]] = {}
        self.num_bytes = 0
        self.above: list[_Object] = []

    def run(self, root: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        path, metadata = self.reader.path, {"modules": self.modules}
        if isinstance(root, _Table):
            networks = {key: value for key, value in root.items.items() if isinstance(value, _Object)}
            if len(networks) == 1:
                ((key, root),) = networks.items()
                self._walk(root, "")
                return self.tensors, {**metadata, "unwrapped": [str(key)]}
            for key, value in root.items.items():
                if isinstance(key, str) and isinstance(value, _Tensor):
                    self._add(key, value)
        elif isinstance(root, _Object):
            self._walk(root, "")
        if not self.tensors:
            raise ModelFileError(
                f"{path} is a Torch7 file without weights",
                expected="a network of nn modules, or a table of tensors",
            )
        return self.tensors, metadata

    def _walk(self, module: _Object, path: str) -> None:
        # One module may stand in two places, but nets that repeat theirs to billions are attacks.
        if len(self.modules) >= _MAX_MODULES or any(module is outer for outer in self.above):
            raise self.reader.damaged("modules without end")
        self.modules[path] = {"type": module.class_name} | {
            key: _plain(value)
            for key, value in module.items.items()
            if isinstance(key, str) and key != "type" and isinstance(value, str | bool | float)
        }
        prefix = f"{path}." if path else ""
        for name in _PARAMETERS:
            if isinstance(value := module.items.get(name), _Tensor):
                self._add(prefix + name, value)
        children = module.items.get("modules")
        if not isinstance(children, _Table):
            return
        self.above.append(module)
        number = 1
        while isinstance(inner := children.items.get(float(number)), _Object):
            self._walk(inner, f"{prefix}{number - 1}")
            number += 1
        if number - 1 != len(children.items):
            raise self.reader.damaged(f"the modules of {quoted(module.class_name)} are no list of modules")
        self.above.pop()

    def _add(self, name: str, tensor: _Tensor) -> None:
        storage = tensor.storage
        if storage is None or math.prod(tensor.shape) * len(tensor.shape) == 0:
            self.tensors[name] = torch.empty(0, dtype=tensor.result)
            return
        self.num_bytes += math.prod(tensor.shape) * storage.dtype.itemsize
        if self.num_bytes > 4 * len(self.reader.content):
            raise ModelFileError(f"{self.reader.path}: the tensors are larger than the file")
        low = storage.start + tensor.offset * storage.dtype.itemsize
        span = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
        raw = bytearray(self.reader.content[low : low + span * storage.dtype.itemsize])
        values = torch.frombuffer(raw, dtype=storage.dtype)
        self.tensors[name] = values.as_strided(tensor.shape, tensor.strides).to(tensor.result).contiguous()


def _plain(value: str | bool | float) -> str | bool | float:
    if isinstance(value, str):
        return value[:10_000]
    if isinstance(value, bool):
        return value
    # Lua has one kind of number; JSON has no infinity.
    if not math.isfinite(value):
        return repr(value)
    return int(value) if value.is_integer() else value
