"""Reading what ``torch.save`` wrote, the zip form and the form before 1.6, without running any of it.

Such files are pickles, and a pickle is a program. Only torch's own restricted reader is used
(``weights_only=True``), which knows tensors, numbers, strings and containers; where it refuses, there is no
second try. A zip is inspected before torch sees it: its members must be stored, and no larger than the file.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import torch

from residual.errors import ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LEGACY_MAGIC", "check_members", "parse"]

# The pickled magic number of files from before torch 1.6, byte for byte.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_MAX_MEMBERS = 100_000
# Where training programs keep the state dict within a checkpoint, in the order they are looked for.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema")
_REMEDY = "save its state_dict() with safetensors in the program that trained it"


def parse(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the state dict in a file that ``torch.save`` wrote.

    Args:
        path: The file.

    Returns:
        The tensors by name, and metadata: ``unwrapped``, the keys under which the state dict lay, and
        ``ignored``, every other key with the reason.

    Raises:
        ModelFileError: The file is damaged, holds other objects than tensors, or claims to be larger.
    """
    with path.open("rb") as file:
        start = file.read(len(LEGACY_MAGIC))
    if start.startswith(b"PK\x03\x04"):
        _check_zip(path)
    elif start != LEGACY_MAGIC:
        raise ModelFileError(f"{path} is no torch file", expected="what torch.save writes")
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _not_only_tensors(path, error) from error
    state, unwrapped, ignored = _unwrap(document, path)
    tensors = _checked(state, ignored, path)
    return tensors, {"unwrapped": unwrapped, "ignored": ignored}


def check_members(archive: zipfile.ZipFile, path: Path, max_total_bytes: float, *, stored: bool) -> list[str]:
    """Check the directory of a zip file.

    Args:
        archive: The zip file, just opened.
        path: Its path, for errors.
        max_total_bytes: What the members may have together, unpacked.
        stored: Whether compressed members are refused.

    Returns:
        The members' names.

    Raises:
        ModelFileError: A name leads elsewhere or is there twice, a member is encrypted or (if ``stored``)
            compressed, or there are too many or too large ones.
    """
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise ModelFileError(f"{path} has {len(members):,} members", expected=f"at most {_MAX_MEMBERS:,}")
    names: set[str] = set()
    for member in members:
        parts = PurePosixPath(member.filename).parts
        if ".." in parts or member.filename.startswith("/") or "\\" in member.filename:
            raise ModelFileError(f"{path}: the member {member.filename[:100]!r} leads out of the archive")
        if member.filename in names:
            raise ModelFileError(f"{path}: the member {member.filename[:100]!r} is there twice")
        if member.flag_bits & 1:
            raise ModelFileError(f"{path}: the member {member.filename[:100]!r} is encrypted")
        if stored and member.compress_type != zipfile.ZIP_STORED:
            raise ModelFileError(
                f"{path}: the member {member.filename[:100]!r} is compressed",
                expected="stored members, as torch.save writes them",
            )
        names.add(member.filename)
    total = sum(member.file_size for member in members)
    if total > max_total_bytes:
        raise ModelFileError(f"{path} has {path.stat().st_size:,} bytes and unpacks to {total:,}")
    return [member.filename for member in members]


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = check_members(archive, path, path.stat().st_size, stored=True)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise ModelFileError(f"{path} is damaged ({error})", remedy="copy it again") from error
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise ModelFileError(f"{path} is a TorchScript program", expected="a state dict", remedy=_REMEDY)
    if "data.pkl" not in inner:
        raise ModelFileError(f"{path} is a zip file without data.pkl", expected="what torch.save writes")


def _not_only_tensors(path: Path, error: Exception) -> ModelFileError:
    named = re.search(r"(?:GLOBAL|global|class|function)\s+([\w.]+\.[\w.]+)", str(error))
    if named is None:
        return ModelFileError(f"{path} is damaged or holds more than tensors", remedy=_REMEDY)
    return ModelFileError(
        f"{path} holds more than tensors ({named[1][:100]}), and Residual never runs what a file brings",
        remedy=_REMEDY,
    )


def _unwrap(document: object, path: Path) -> tuple[Mapping[Any, Any], list[str], dict[str, str]]:
    unwrapped: list[str] = []
    ignored: dict[str, str] = {}
    # Three levels occur ({"model": {"state_dict": …}}); a pickle can nest without end, even in itself.
    for _ in range(4):
        if not isinstance(document, Mapping):
            break
        if any(isinstance(value, torch.Tensor) for value in document.values()):
            return document, unwrapped, ignored
        key = next((key for key in _WRAPPERS if isinstance(document.get(key), Mapping)), None)
        if key is None:
            break
        prefix = "".join(f"{outer}." for outer in unwrapped)
        ignored |= {
            f"{prefix}{str(other)[:200]}": f"beside the weights ({_describe(value)})"
            for other, value in list(document.items())[:1000]
            if other != key
        }
        unwrapped.append(key)
        document = document[key]
    raise ModelFileError(
        f"{path} holds a {type(document).__name__} without tensors",
        expected=f"a state dict, or one under {', '.join(_WRAPPERS)}",
    )


def _describe(value: object) -> str:
    if isinstance(value, str):
        return f"str {value[:100]!r}"
    # Python refuses to write integers of thousands of digits.
    if isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() <= 64):
        return f"{type(value).__name__} {value!r}"
    return f"a {type(value).__name__}"


def _checked(state: Mapping[Any, Any], ignored: dict[str, str], path: Path) -> dict[str, torch.Tensor]:
    size, total = path.stat().st_size, 0
    tensors: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            ignored[str(name)[:200]] = f"no tensor ({_describe(value)})"
            continue
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise ModelFileError(
                f"{path}: tensor {name[:100]!r} is sparse or quantized", expected="dense tensors"
            )
        if value.device.type != "cpu":
            raise ModelFileError(f"{path}: tensor {name[:100]!r} comes without its values")
        # A stride of 0 lets a few bytes stand for any number of values.
        num_bytes = value.numel() * value.element_size()
        total += num_bytes
        if num_bytes > size or total > 4 * size:
            raise ModelFileError(
                f"{path}: tensor {name[:100]!r} of shape {tuple(value.shape)} is larger than the file"
            )
        tensors[name] = value.detach()
    return tensors
