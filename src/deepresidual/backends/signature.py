"""``signature.json`` of an exported model: its file, inputs and outputs, and how it was checked.

It is written for two readers. Residual takes from it which engine can run the file, and refuses one that is
not the file that was checked. A program without Residual takes the labels, the preprocessing and the contract
in words, so that it needs no other file.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from deepresidual.errors import ModelFileError
from deepresidual.runtime.files import sha256_of
from deepresidual.runtime.strict_json import RecordError, check, read_object

SIGNATURE = "signature.json"
SELF_TEST = "self-test.npz"
LABELS = "labels.txt"
VERSION = "1"
"""Folder of the file that computes, where a server reads the exported model."""

OWN_FILES = ("config.json", LABELS, SELF_TEST)
"""Files whose SHA-256 is kept besides that of the one that computes."""

SIGNATURE_VERSION = 1

ExportFormat: TypeAlias = Literal["onnx", "openvino", "pt2"]
"""Format of the file that computes."""

FileKind: TypeAlias = Literal["fp32", "int8"]
"""Precision of the weights in the file."""

CONTRACT = (
    "pixels are uint8, (batch, height, width, channels) in the order of preprocess.channels: the decoded, "
    "upright image, its shorter side resized to preprocess.resize_px by Pillow's filter "
    "preprocess.interpolation (width first, then height), of which the central preprocess.crop_px square is "
    "cut. Normalization is part of the file: do not divide, subtract a mean or change the order of the axes."
)

DETECTOR_CONTRACT = (
    "pixels is one image, uint8, (height, width, channels) in the order of preprocess.channels: the decoded, "
    "upright image, resized by Pillow's filter preprocess.interpolation (width first, then height) to the "
    "largest size of its shape whose shorter side is at most preprocess.resize_px and whose longer side is "
    "at most preprocess.crop_px. Any size is taken, and normalization and padding are part of the file: do "
    "not divide, subtract a mean or change the order of the axes. boxes are left, top, right, bottom in "
    "pixels of that input, edges continuous; times width and height of the image over those of the input "
    "they are in pixels of the image. labels count from 0, in the order of labels.txt. The surest comes "
    "first, none has a score below the detector's own limit, and boxes of a class that overlap are "
    "suppressed already."
)


@dataclass(frozen=True)
class Tensor:
    """An input or output of the file.

    Attributes:
        name: Its name in the graph.
        dtype: ``uint8`` or ``float32``.
        shape: Its axes: a number, or the name of an axis of any length.
        meaning: What it is, in words.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str


@dataclass(frozen=True)
class Signature:
    """What an exported file computes and how that was checked.

    Attributes:
        format: Format of the file.
        file: Its name in the folder; where a server reads the model, after ``1/``.
        sha256: Its SHA-256, in hexadecimal; of a format in several files of all, in the order of their names.
        precision: Precision of the weights.
        inputs: What goes in.
        outputs: What comes out.
        certificate: How the outputs were held against PyTorch's.
        quantization: How the weights and activations were made int8; empty for fp32.
        contract: How an image becomes the input, in words.
        files: Other files that belong to it, with their SHA-256: class names, preprocessing, self-test.
        image_input: The file that takes a whole image: name, input, contract and certificate; empty where
            there is none.
        exported_from: The model that it was exported from: ``model`` as the user named it, empty for an
            object of Python, and ``weights_sha256`` of its weights and architecture.
    """

    format: ExportFormat
    file: str
    sha256: str
    precision: FileKind
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    certificate: dict[str, Any]
    quantization: dict[str, Any] = field(default_factory=dict)
    contract: str = CONTRACT
    files: dict[str, str] = field(default_factory=dict)
    image_input: dict[str, Any] = field(default_factory=dict)
    exported_from: dict[str, str] = field(default_factory=dict)

    @property
    def source_in_words(self) -> str:
        """What to give instead where an exported model does not do."""
        model = self.exported_from.get("model")
        return "give the model folder that it was exported from" + (f": {model}" if model else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {"signature_version": SIGNATURE_VERSION, **dataclasses.asdict(self)}


_TENSOR = {"name": str, "dtype": str, "shape": [(int, str)], "meaning": str}
_KIND = {
    "signature_version": int,
    "format": str,
    "file": str,
    "sha256": str,
    "precision": str,
    "inputs": [_TENSOR],
    "outputs": [_TENSOR],
    "certificate": dict,
    "quantization": dict,
    "contract": str,
    "files": {str: str},
    "image_input": dict,
    "exported_from": {str: str},
}


def read_signature(folder: Path) -> Signature:
    """Read the signature of an exported model; fields beside those of :class:`Signature` are left aside.

    Raises:
        ModelFileError: It is missing or damaged, or of a newer version.
    """
    path = folder / SIGNATURE
    document = read_object(path)
    try:
        check(document, _KIND)
    except RecordError as error:
        raise ModelFileError(f"{path}: {error}", remedy="export the model again") from error
    if document["signature_version"] != SIGNATURE_VERSION:
        raise ModelFileError(
            f"{path}: signature_version is {document['signature_version']}",
            expected=str(SIGNATURE_VERSION),
            remedy="update Residual to read a newer export",
        )
    for name, allowed in (("format", ("onnx", "openvino", "pt2")), ("precision", ("fp32", "int8"))):
        if document[name] not in allowed:
            raise ModelFileError(f"{path}: {name} is {document[name]!r}", expected=" or ".join(allowed))
    name = document["file"].removeprefix(f"{VERSION}/")
    if not name or Path(name).name != name:
        raise ModelFileError(f"{path}: file is {document['file']!r}", expected="a name in this folder")
    fields: dict[str, Any] = {name: document[name] for name in _KIND if name != "signature_version"}
    for name in ("inputs", "outputs"):
        fields[name] = tuple(
            Tensor(one["name"], one["dtype"], tuple(one["shape"]), one["meaning"]) for one in document[name]
        )
    return Signature(**fields)


def files_of(folder: Path, signature: Signature) -> list[Path]:
    """Return the files that compute: beside ``model.xml`` OpenVINO has its weights in ``model.bin``."""
    first = folder / signature.file
    return [first, first.with_suffix(".bin")] if signature.format == "openvino" else [first]


def require_own_labels(folder: Path, signature: Signature) -> None:
    """Refuse class names or preprocessing that are not those that were exported.

    A self-test that is another fails by itself.

    Raises:
        ModelFileError: A file of them is another.
    """
    for name in ("config.json", LABELS):
        file = folder / name
        if file.is_file() and sha256_of(file) != signature.files.get(name):
            raise ModelFileError(
                f"{file} is not the one that was exported (another SHA-256)",
                remedy="export again, or copy the whole folder again",
            )


def require_unchanged(folder: Path, signature: Signature) -> None:
    """Refuse a file that is not the one that was exported and checked.

    Raises:
        ModelFileError: It is missing or another.
    """
    files = files_of(folder, signature)
    for file in files:
        if not file.is_file():
            raise ModelFileError(f"{file} is missing", remedy="copy the whole folder, or export again")
    if sha256_of(*files) != signature.sha256:
        raise ModelFileError(
            f"{files[0]} is not the file that {folder / SIGNATURE} describes (another SHA-256)",
            remedy="copy the whole folder again, or export again",
        )
