"""Names of the formats that are found under names of weights and are not read, with what to do about each."""

from __future__ import annotations

import re
from pathlib import Path

from deepresidual.runtime import git_lfs

TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # how the tables end in which TensorFlow keeps an index

# Four times the largest residual network of the papers in float32, with an optimizer's state beside it.
MAX_FILE_BYTES = 2 << 30

WEIGHT_SUFFIXES = (
    *(".pth", ".pt", ".bin", ".th", ".ckpt", ".safetensors", ".h5", ".hdf5", ".keras", ".t7", ".caffemodel"),
    *(".index", ".pkl", ".pickle", ".npz", ".npy", ".onnx", ".gguf", ".tflite", ".pb", ".mlmodel", ".params"),
    *(".msgpack", ".mat", ".pt2", ".binaryproto", ".prototxt", ".pyth", ".model", ".weights"),
)
"""Endings of the names of files with weights, whether they are read or not."""

_UNPACK = "unpack it first"
_ORIGINAL = "convert the checkpoint that it was made from"
_WHOLE_EXPORT = f"give the whole folder where 'residual export' wrote it, or {_ORIGINAL}"
_AGAIN = "download the file itself again"
_STATE_DICT = "save its state_dict() with safetensors in the program that wrote it"
_KNOWN = (
    (b"\x1f\x8b", "a gzip file", _UNPACK),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ", "an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", ""),
    (b"\x93NUMPY", "a NumPy array", ""),
    (b"GGUF", "a GGUF file", _ORIGINAL),
    (b"MATLAB ", "a MATLAB file", ""),
    (b"\x12\x01\0\0\0\0\0\0", "a file of MXNet", _ORIGINAL),
    (b"\x89HDF", "an HDF5 file, as Keras writes them", ""),
    (b"\x89PNG", "a PNG image", ""),
    (b"\xff\xd8\xff", "a JPEG image", ""),
    (b"4\n1\n", "a Torch7 file in ASCII", "save it in Torch7's binary form"),
    (b"\x80", "a Python pickle that is no torch file", _STATE_DICT),
)


def describe(path: Path, start: bytes, end: bytes) -> tuple[str, str]:
    """Return what a file that no reader takes is, as a noun phrase, and what to do about it.

    Args:
        path: The file, for its name alone.
        start: Its first kilobyte.
        end: Its last eight bytes.

    Returns:
        The phrase (``"of no known format"`` where it is nothing known) and the remedy, which may be empty.
    """
    if git_lfs.is_pointer(start):
        return git_lfs.FOUND, git_lfs.REMEDY
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<"):
        kind = "a web page" if re.match(rb"<(!doctype html|html|head|body)", text, re.IGNORECASE) else "XML"
        return f"{kind} instead of weights", _AGAIN
    if start[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if end == TABLE_MAGIC:
        return "a table of TensorFlow or LevelDB", ""
    if re.search(r"\.data-\d+-of-\d+$", path.name):
        return "a part of a TensorFlow checkpoint", f"give {path.with_suffix('')}"
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model", _ORIGINAL
    if path.suffix == ".onnx":
        return "an ONNX model", _WHOLE_EXPORT
    if path.suffix == ".pt2":
        return "an exported program of PyTorch", _WHOLE_EXPORT
    if start[:1] == b"\x08" and start[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a", b"\x42"):
        return "ONNX or another protobuf", _ORIGINAL
    for magic, name, remedy in _KNOWN:
        if start.startswith(magic):
            return name, remedy
    if re.match(rb"c[\w.]+\n\w+\n|\([dl]p\d", start):
        return "a Python pickle that is no torch file", _STATE_DICT  # of protocol 0, which is text
    if text[:60].isascii() and text[:60].decode("ascii", "replace").replace("\n", " ").isprintable() and text:
        first = " ".join(text[:60].decode("ascii", "replace").split())
        return f"text instead of weights ({first!r})", _AGAIN
    return "of no known format", ""
