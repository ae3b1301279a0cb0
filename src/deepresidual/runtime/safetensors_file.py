"""Reading safetensors files; the header is checked here before the library sees the file.

The library refuses wrong offsets, shapes and types. It accepts a header of 100 MB, and of two tensors of
one name it keeps the last, so this module limits the one and refuses the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from deepresidual.errors import ModelFileError, quoted
from deepresidual.runtime.known_formats import describe
from deepresidual.runtime.strict_json import parse_object

if TYPE_CHECKING:
    import torch

# The 1202-layer network has six tensors a layer, a good 100 bytes of header each: 0.8 MB. Some libraries give
# names three times as long.
MAX_HEADER_BYTES = 4_000_000


def check_header(path: Path) -> dict[str, Any]:
    """Check size, JSON and names of a safetensors header.

    Args:
        path: The file.

    Returns:
        The header: by tensor name ``dtype``, ``shape`` and ``data_offsets``, and perhaps ``__metadata__``.

    Raises:
        ModelFileError: The file is missing, too short, its header too large, not JSON, or has a name twice.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(1024)
            prefix = start[:8]
            length = int.from_bytes(prefix, "little")
            if not size:
                raise ModelFileError(f"{path} is empty", remedy="copy it again")
            file.seek(max(size - 8, 0))
            _refuse_other(path, start, file.read(8))
            if len(prefix) < 8:
                raise _damaged(path, f"{size} bytes are too short for a header")
            if length > MAX_HEADER_BYTES:
                raise _damaged(
                    path, f"a header of {length:,} bytes; at most {MAX_HEADER_BYTES:,} are allowed"
                )
            if length > size - 8:
                raise _damaged(path, f"a header of {length:,} bytes in a file of {size:,}")
            file.seek(8)
            content = file.read(length)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} does not exist") from error
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    if not content.startswith(b"{"):
        raise _damaged(path, "the header is no JSON object")
    try:
        header = parse_object(content, "the header")
    except ModelFileError as error:
        raise _damaged(path, error.found) from error
    for name, entry in header.items():
        if not isinstance(entry, dict):
            raise _damaged(path, f"the header's entry {quoted(name)} is no object")
    return header


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file whose header :func:`check_header` accepts.

    Args:
        path: The file.

    Yields:
        What ``safetensors.safe_open`` returns, for PyTorch.

    Raises:
        ModelFileError: The file is missing or damaged, also where that shows within the block.
    """
    check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} does not exist") from error
    except (SafetensorError, OSError) as error:
        raise _damaged(path, " ".join(str(error).split())) from error


def open_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a safetensors file into memory of their own.

    Raises:
        ModelFileError: The file is missing or damaged.
    """
    with opened(path) as file:
        # The library maps the file: without a copy, a file that shrinks later would end the process.
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # not a dict


def _refuse_other(path: Path, start: bytes, end: bytes) -> None:
    """Refuse a file that is known to be something else; a damaged one begins with a length all the same."""
    if start[8:9] == b"{" or start[3:8] == bytes(5):
        return
    found, remedy = describe(path, start, end)
    if start.startswith(b"PK\x03\x04"):
        found, remedy = "a zip archive, as torch.save writes them", "give it the ending .pth if it is one"
    if found != "of no known format":
        raise ModelFileError(f"{path} is {found}", expected="a safetensors file", remedy=remedy)


def _damaged(path: Path, reason: str) -> ModelFileError:
    return ModelFileError(f"{path} is damaged or no safetensors file ({reason})", remedy="copy it again")
