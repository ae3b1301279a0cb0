"""Read the weights of an exported program (``.pt2``) without running anything that stands in the file.

``torch.export.load`` unpickles weights that the file marks so, and sample inputs with a fall-back that allows
everything; and it hands text of the file to ``sympify``, which evaluates it. A model folder is data: so the
weights are read as what they are, bytes with sizes and strides in a JSON file, as the specification of the
archive has them (docs.pytorch.org, "PT2 Archive Spec"), and the network is built of ``config.json``.
"""

from __future__ import annotations

import json
import math
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from deepresidual.errors import ModelFileError, listed
from deepresidual.nn.state_dict import shape_differences

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CONFIG = "data/weights/model_weights_config.json"
_FLOAT32 = 7  # the archive's numbers of types
_STRIDED = 7  # and of layouts
_FLOAT32_BYTES = 4


def read_program_weights(path: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return the weights of an exported program by name, float32.

    Args:
        path: The file.
        expected: Name and shape of every weight that it has to hold; no byte of another one is read.

    Raises:
        ModelFileError: The file is no such archive, is damaged, or holds weights of another network or form,
            pickled ones among them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (config,) = [name for name in archive.namelist() if name.endswith(f"/{_CONFIG}")]
            folder = config.removesuffix(_CONFIG) + "data/weights/"
            entries = json.loads(archive.read(config))["config"]
            _require_fits({name: _shape(entry) for name, entry in entries.items()}, expected, path)
            return {name: _tensor(archive, folder, entry) for name, entry in entries.items()}
    except (
        OSError, zipfile.BadZipFile, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError,
        NotImplementedError, RecursionError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelFileError(
            f"{path} is no exported program that Residual wrote ({reason})", remedy="export the model again"
        ) from error


def _require_fits(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    if differences := shape_differences(found, expected):
        raise ModelFileError(
            f"{path} holds the weights of another network than config.json beside it (missing −, extra +, "
            f"other shape ±): {listed(differences)}",
            remedy="export the model again",
        )


def _shape(entry: dict[str, Any]) -> tuple[int, ...]:
    if entry["use_pickle"] is not False:
        raise ValueError(f"{entry['path_name']!r} is pickled")
    return tuple(_numbers(entry["tensor_meta"]["sizes"]))


def _tensor(archive: zipfile.ZipFile, folder: str, entry: dict[str, Any]) -> torch.Tensor:
    """Return one weight.

    Raises:
        ValueError: It is none of float32 that lies in the file as it is.
    """
    meta = entry["tensor_meta"]
    if meta["dtype"] != _FLOAT32 or meta["layout"] != _STRIDED:
        raise ValueError(f"{entry['path_name']!r} is not float32")
    member = archive.getinfo(folder + entry["path_name"])
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{entry['path_name']!r} is compressed")
    sizes, strides = _numbers(meta["sizes"]), _numbers(meta["strides"])
    (offset,) = _numbers([meta["storage_offset"]])
    if member.file_size != _FLOAT32_BYTES * math.prod(sizes):
        raise ValueError(f"{entry['path_name']!r} has {member.file_size:,} bytes for the sizes {sizes}")
    stored = torch.frombuffer(bytearray(archive.read(member)), dtype=torch.float32)
    # as_strided refuses what reaches beyond the bytes that there are.
    return torch.as_strided(stored, sizes, strides, offset)


def _numbers(fields: list[dict[str, Any]]) -> list[int]:
    numbers = [field["as_int"] for field in fields]
    if not all(type(number) is int and 0 <= number < 2**40 for number in numbers):
        raise ValueError(f"{numbers} are no sizes")
    return numbers
