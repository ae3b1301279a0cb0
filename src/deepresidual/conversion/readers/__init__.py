"""Read weights of other programs; nothing that a file says is trusted.

:func:`read` decides by a file's bytes, not by its name, which reader it gets. safetensors is read here;
every other format in a child process with limits on memory and time (:mod:`.sandbox`).

Example:
    >>> checkpoint = read("resnet50.pth")  # doctest: +SKIP
    >>> checkpoint.tensors["conv1.weight"].shape  # doctest: +SKIP
    torch.Size([64, 3, 7, 7])
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.readers import sandbox
from deepresidual.conversion.readers.caffemodel import read_binaryproto
from deepresidual.conversion.readers.tensorflow_checkpoint import files_of
from deepresidual.conversion.readers.torch_file import LEGACY_MAGIC
from deepresidual.conversion.shards import read_index, require_tensors
from deepresidual.errors import ModelFileError
from deepresidual.runtime import git_lfs
from deepresidual.runtime.files import expanded, sha256_of
from deepresidual.runtime.known_formats import MAX_FILE_BYTES, TABLE_MAGIC, describe
from deepresidual.runtime.safetensors_file import open_tensors
from deepresidual.runtime.strict_json import read_object

__all__ = ["MAX_FILE_BYTES", "read", "read_binaryproto", "regular_size"]

_ALLOWED = (
    "safetensors, a PyTorch state dict, a pickle of detectron2, a Torch7 network, a caffemodel, a Keras or "
    "TensorFlow checkpoint, or a folder with model.safetensors"
)
_TORCH7_STARTS = (
    b"\x03\0\0\0\x01\0\0\0",
    b"\x04\0\0\0\x01\0\0\0",
)  # a table or object, the first of its file
_PICKLE_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
_KERAS_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}


def read(path: str | Path, state_dict: str = "") -> ForeignCheckpoint:
    """Read a checkpoint, whatever its format.

    Args:
        path: A file; a folder with ``model.safetensors`` or ``pytorch_model.bin`` and perhaps a config;
            or a TensorFlow checkpoint by its prefix (``x.ckpt``), its ``.index`` file or its folder.
        state_dict: Key of the state dict to read, where a torch file holds several.

    Returns:
        The checkpoint.

    Raises:
        ModelFileError: There is nothing, nothing that is read here, or it is damaged or hostile.
        MissingDependencyError: The format needs a library that is not installed.
        RunError: There is no room for the temporary copy.
    """
    path = expanded(path)
    try:
        if path.is_dir():
            return _read_folder(path, state_dict)
        if not path.exists() and path.with_name(f"{path.name}.index").is_file():
            return _read_tensorflow(path, path)
        return _read_file(path, path, state_dict=state_dict)
    except (OSError, ValueError) as error:
        # The system's own refusals, and names that it does not take (a NUL within).
        raise ModelFileError(f"cannot read {path} ({getattr(error, 'strerror', None) or error})") from error


def regular_size(path: Path) -> int:
    """Return the size in bytes of the file at ``path``.

    Raises:
        ModelFileError: It is missing, no regular file, empty, a Git LFS pointer, or larger than
            :data:`MAX_FILE_BYTES`.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} does not exist") from error
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{path} is no regular file", expected=_ALLOWED)
    if status.st_size == 0:
        raise ModelFileError(f"{path} is empty", remedy="copy it again")
    if status.st_size > MAX_FILE_BYTES:
        raise ModelFileError(f"{path} has {status.st_size:,} bytes", expected=f"at most {MAX_FILE_BYTES:,}")
    git_lfs.refuse_pointer(path, ModelFileError)
    return status.st_size


def _read_folder(folder: Path, state_dict: str) -> ForeignCheckpoint:
    if (folder / ".metadata").exists() or any(folder.glob("*.distcp")):
        raise ModelFileError(
            f"{folder} is a distributed checkpoint of torch, whose .metadata is a pickle",
            expected=_ALLOWED,
            remedy="convert it with torch.distributed.checkpoint.format_utils.dcp_to_torch_save",
        )
    metadata: dict[str, Any] = {
        name: read_object(folder / f"{name}.json")
        for name in ("config", "preprocessor_config")
        if (folder / f"{name}.json").is_file()
    }
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return _read_file(folder / name, folder, metadata, state_dict)
        if (folder / f"{name}.index.json").exists():
            return _read_shards(folder / f"{name}.index.json", folder, metadata)
    if (folder / "checkpoint").is_file():
        return _read_tensorflow(_latest(folder), folder)
    if (folder / "saved_model.pb").exists():
        raise ModelFileError(
            f"{folder} is a SavedModel, which holds a program",
            expected="a checkpoint",
            remedy=f"give the checkpoint within, {folder / 'variables' / 'variables'}",
        )
    raise ModelFileError(f"{folder} holds no weights", expected=_ALLOWED)


def _read_shards(index: Path, folder: Path, metadata: dict[str, Any]) -> ForeignCheckpoint:
    """Read the files that an index names, each held against what it says."""
    shards = read_index(index)
    files = [folder / name for name in shards]
    sizes = [regular_size(file) for file in files]
    if sum(sizes) > MAX_FILE_BYTES:
        raise ModelFileError(
            f"the weights in {folder} have {sum(sizes):,} bytes", expected=f"at most {MAX_FILE_BYTES:,}"
        )
    kind = "safetensors" if files[0].suffix == ".safetensors" else "torch"
    tensors: dict[str, Any] = {}
    for file, size, expected in zip(files, sizes, shards.values(), strict=True):
        found = open_tensors(file) if kind == "safetensors" else sandbox.run(kind, file, size)[0]
        require_tensors(file, found, expected)
        tensors.update(found)
    return ForeignCheckpoint(folder, kind, tensors, sha256_of(*files), metadata)


def _latest(folder: Path) -> Path:
    with (folder / "checkpoint").open("rb") as file:
        text = file.read(65_536).decode("utf-8", "replace")
    named = re.search(r'^model_checkpoint_path:\s*"([^"\\\0]+)"', text, re.MULTILINE)
    if named is None:
        raise ModelFileError(f"{folder / 'checkpoint'} names no checkpoint", expected="model_checkpoint_path")
    # Often the absolute path on the machine of training; a path never leads out of the folder.
    return folder / Path(named[1]).name


def _read_tensorflow(prefix: Path, shown: Path) -> ForeignCheckpoint:
    files = files_of(prefix)
    size = sum(regular_size(file) for file in files)
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"{shown} has {size:,} bytes", expected=f"at most {MAX_FILE_BYTES:,}")
    tensors, metadata = sandbox.run("tensorflow", prefix, size)
    return ForeignCheckpoint(shown, "tensorflow", tensors, sha256_of(*files), metadata)


def _read_file(
    path: Path, shown: Path, metadata: dict[str, Any] | None = None, state_dict: str = ""
) -> ForeignCheckpoint:
    size = regular_size(path)
    kind = _kind_of(path, size)
    if path.suffix == ".safetensors" and kind != "safetensors":
        # A name that promises safety is held to it; the reader's own error says what is wrong.
        kind = "safetensors"
    if kind == "tensorflow":
        return _read_tensorflow(path.with_suffix(""), shown)
    found: dict[str, Any] = {}
    if kind == "safetensors":
        tensors = open_tensors(path)
    else:
        several = kind in ("torch", "pickle")
        tensors, found = sandbox.run(kind, path, size, state_dict=state_dict if several else "")
    return ForeignCheckpoint(shown, kind, tensors, sha256_of(path), {**found, **(metadata or {})})


def _kind_of(path: Path, size: int) -> str:
    """Return the format of the file at ``path``, from its bytes; refuse what is not read here."""
    with path.open("rb") as file:
        start = file.read(1024)
        file.seek(max(size - 8, 0))
        end = file.read(8)
    if start.startswith(LEGACY_MAGIC):
        return "torch"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    if start.startswith(_TORCH7_STARTS):
        return "torch7"
    if start[8:9] == b"{":
        return "safetensors"
    if end == TABLE_MAGIC and path.suffix == ".index":
        return "tensorflow"
    if start.startswith(b"PK\x03\x04"):
        first = start[30 : 30 + int.from_bytes(start[26:28], "little")].decode("utf-8", "replace")
        if first in _KERAS_MEMBERS or path.suffix == ".keras":
            return "keras"
        # torch.save puts all members into one folder, and the pickle first.
        if "/" in first or path.suffix in (".pth", ".pt", ".bin", ".ckpt", ".zip"):
            return "torch"
    if start[:1] == b"\x80" and start[1:2] in _PICKLE_PROTOCOLS and end.endswith(b"."):
        return "pickle"
    if _is_caffe_net(path, size):
        return "caffemodel"
    if path.suffix in (".caffemodel", ".safetensors"):
        # Damaged perhaps; their readers say where.
        return path.suffix.removeprefix(".")
    found, remedy = describe(path, start, end)
    raise ModelFileError(f"{path} is {found}", expected=_ALLOWED, remedy=remedy)


def _is_caffe_net(path: Path, size: int) -> bool:
    """Return whether a file's outermost fields are those of Caffe's NetParameter, to the last byte."""
    layers = 0
    with path.open("rb") as file:
        for _ in range(100_000):
            if file.tell() == size:
                return layers > 0
            key = _varint(file.read(10), file)
            number, wire = key >> 3, key & 7
            if (number, wire) == (100, 2):
                layers += 1
            elif (number, wire) not in (
                (2, 2),
                (1, 2),
                (3, 2),
                (4, 0),
                (4, 2),
                (5, 0),
                (6, 2),
                (7, 0),
                (8, 2),
            ):
                return False
            value = _varint(file.read(10), file)
            if wire == 2:
                if not 0 <= value <= size - file.tell():
                    return False
                file.seek(value, 1)
    return False


def _varint(content: bytes, file: Any) -> int:
    """Decode the number that ``content``, just read from ``file``, begins with; −1 if there is none."""
    value = 0
    for position, byte in enumerate(content):
        value |= (byte & 127) << 7 * position
        if byte < 128:
            file.seek(position + 1 - len(content), 1)
            return value
    return -1
