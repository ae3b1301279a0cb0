"""Writers of foreign formats for the tests, independent of the readers; and files that mean harm."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path


class Torch7Writer:
    """Writes Lua values as ``torch.save`` of Torch7 does, in binary, from its ``File.lua``.

    dict → table, list → table with keys 1, 2, …; :class:`Module` → torch object; tensors by type.
    """

    def __init__(self) -> None:
        self.out = bytearray()
        self.indices: dict[int, int] = {}
        self.kept: list[Any] = []  # or Python would give another object the same id

    def word(self, value: int) -> None:
        self.out += struct.pack("<i", value)

    def long(self, *values: int) -> None:
        self.out += struct.pack(f"<{len(values)}q", *values)

    def chars(self, value: str | bytes) -> None:
        raw = value.encode() if isinstance(value, str) else value
        self.word(len(raw))
        self.out += raw

    def write(self, value: Any) -> Torch7Writer:
        if value is None:
            self.word(0)
        elif isinstance(value, bool):
            self.word(5)
            self.word(value)
        elif isinstance(value, int | float):
            self.word(1)
            self.out += struct.pack("<d", value)
        elif isinstance(value, str):
            self.word(2)
            self.chars(value)
        elif isinstance(value, Function):
            if self._begin(8, value):
                self.chars(value.code)
                self.write([{"name": "x", "value": 3}])
        elif isinstance(value, Module):
            if self._begin(4, value):
                self._class(value.class_name)
                self.write(value.fields)
        elif isinstance(value, torch.Tensor):
            if self._begin(4, value):
                self._tensor(value)
        else:
            pairs = dict(enumerate(value, 1)) if isinstance(value, list) else value
            if self._begin(3, value):
                self.word(len(pairs))
                for key, item in pairs.items():
                    self.write(key).write(item)
        return self

    def _begin(self, tag: int, value: Any) -> bool:
        self.word(tag)
        known = id(value) in self.indices
        self.kept.append(value)
        self.word(self.indices.setdefault(id(value), len(self.indices) + 1))
        return not known

    def _class(self, name: str) -> None:
        self.chars("V 1")
        self.chars(name)

    def _tensor(self, value: torch.Tensor) -> None:
        kind = {torch.float32: "Float", torch.float64: "Double", torch.int64: "Long"}[value.dtype]
        self._class(f"torch.{kind}Tensor")
        self.word(value.ndim)
        self.long(*value.shape)
        self.long(*value.stride())
        self.long(int(value.storage_offset()) + 1)
        storage = value.untyped_storage()
        self.word(4)
        known = storage.data_ptr() in self.indices
        self.word(self.indices.setdefault(storage.data_ptr(), len(self.indices) + 1))
        self.kept.append(storage)
        if not known:
            self._class(f"torch.{kind}Storage")
            self.long(storage.nbytes() // value.element_size())
            self.out += torch.tensor([], dtype=torch.uint8).set_(storage).numpy().tobytes()


@dataclass(eq=False)
class Module:
    """A torch object whose content is a table."""

    class_name: str
    fields: dict[str, Any]


@dataclass(eq=False)
class Function:
    """A Lua function, with its bytecode."""

    code: bytes


def torch7_network() -> Module:
    """A network of a few modules: nested containers, a shared buffer, a function, both batch norms."""
    generator = torch.Generator().manual_seed(0)
    buffer = torch.zeros(100)
    conv = Module(
        "cudnn.SpatialConvolution",
        {
            "weight": torch.randn(4, 3, 3, 3, generator=generator),
            "gradWeight": buffer,
            "kW": 3,
            "padW": 1,
            "groups": 1,
            "_type": "torch.CudaTensor",
            "train": False,
            "iSize": [1, 2],
        },
    )
    norm = Module(
        "nn.SpatialBatchNormalization",
        {
            "weight": torch.randn(8, generator=generator)[2:6],
            "bias": torch.randn(4, generator=generator),
            "running_mean": torch.randn(4, generator=generator).double(),
            "running_std": torch.rand(4, generator=generator),
            "save_mean": buffer,
            "eps": 1e-5,
            "momentum": 0.1,
            "affine": True,
        },
    )
    identity = Module("nn.Identity", {"output": buffer})
    branches = Module("nn.ConcatTable", {"modules": [norm, identity]})
    linear = Module(
        "nn.Linear",
        {
            "weight": torch.randn(4, 5, generator=generator).t(),
            "bias": torch.randn(5),
            "hook": Function(b"\x1bLua"),
        },
    )
    return Module(
        "nn.Sequential", {"modules": [conv, Module("nn.Sequential", {"modules": [branches]}), linear]}
    )


def write_torch7(path: Path, value: Any) -> Path:
    """Write ``value`` to ``path`` in Torch7's binary form."""
    path.write_bytes(bytes(Torch7Writer().write(value).out))
    return path


def write_safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    """Write a safetensors file from its parts; ``header`` is a JSON document or raw bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


class Touch:
    """When it is unpickled, creates a marker: a file that shows that code ran."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch '{self.marker}'",))
