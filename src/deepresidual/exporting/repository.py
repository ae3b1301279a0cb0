"""Lay an exported model out as a repository of Triton or of OpenVINO Model Server.

``OUT/<name>/1/`` holds the file that computes; the folder ``OUT/<name>`` around it is an exported model like
any other, so that ``residual evaluate`` measures the very file that is served. A request to a classifier may
hold several views, one to a detector is an image of any size. The configurations follow the servers' own
grammars, by which the tests read them: Triton's ``ModelConfig`` in protobuf's text format, and the schema of
OpenVINO Model Server. Neither server was run.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, assert_never

import jinja2

from deepresidual.backends.engine import ENGINES, EngineSettings
from deepresidual.backends.session import LogitsSession
from deepresidual.backends.signature import LABELS, SIGNATURE, VERSION, Signature, Tensor, files_of
from deepresidual.exporting.card import detector_card, export_card
from deepresidual.exporting.openvino_file import convert_onnx
from deepresidual.models.config import ModelConfig, read_config
from deepresidual.models.folder import CARD
from deepresidual.models.source import CONFIG
from deepresidual.runtime.files import sha256_of, write_json, write_text
from deepresidual.spec import DetectorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepresidual.backends.signature import ExportFormat

Server: TypeAlias = Literal["triton", "ovms"]

FORMATS: dict[Server, ExportFormat] = {"triton": "onnx", "ovms": "openvino"}
"""Format of the file that each server gets."""

_MOST_IMAGES = 64  # of a batch that Triton makes of requests
_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "int64": "TYPE_INT64"}
_BATCH = "batch"  # the first axis of what takes several images


def server_of(to: str) -> Server | None:
    """Return the server that ``--to`` names; ``None`` for a format of one file."""
    return next((server for server in FORMATS if server == to), None)


def served_name(model: object, architecture: str) -> str:
    """Return the name that a model is served by: that of its folder or weights, in letters that fit a URL.

    Args:
        model: What the user calls the model: a path, a name, an address; anything else is not named.
        architecture: Name of its network, for one that has no name.
    """
    name = ""
    if isinstance(model, str | Path):
        path = Path(str(model).rstrip("/\\"))
        # The model of a run is called as the run.
        name = path.parent.name if path.name == "model" and path.parent.name else path.name
        if name in (".", "..", "~", ""):
            name = path.expanduser().resolve().name
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    return kept or architecture.replace(".", "_")


def lay_out(server: Server, folder: Path, signature: Signature) -> Signature:
    """Turn an exported model in ``folder`` into one of the repository around it, and return its signature.

    The file that computes moves into the folder of version 1, that of a classifier with a batch of one image
    for OpenVINO Model Server; where it has become another file, a session tests itself with it.

    Raises:
        ModelFileError: The session computes other logits.
        MissingDependencyError: OpenVINO is not installed.
        RunError: A file cannot be written.
    """
    version = folder / VERSION
    version.mkdir()
    files = files_of(folder, signature)
    signature = dataclasses.replace(signature, file=f"{VERSION}/{signature.file}")
    if server == "ovms" and _takes_batches(signature):
        signature = _with_one_image(folder, files, signature)
    else:
        for file in files:
            file.rename(version / file.name)
    match server:
        case "triton":
            write_text(folder / "config.pbtxt", triton_config(folder.name, signature))
        case "ovms":
            write_json(folder.parent / CONFIG, ovms_config(folder.name))
        case _:
            assert_never(server)
    write_json(folder / SIGNATURE, signature.to_dict())
    config = read_config(folder)
    card = detector_card if isinstance(config.spec, DetectorSpec) else export_card
    write_text(folder / CARD, card(config, signature))
    write_text(folder.parent / CARD, _repository_card(server, folder.name, config, signature))
    return signature


def _takes_batches(signature: Signature) -> bool:
    return signature.inputs[0].shape[0] == _BATCH


def _with_one_image(folder: Path, files: Sequence[Path], signature: Signature) -> Signature:
    """Write the file of a classifier anew, for one image, test it, and return its signature.

    With the number of images left open OpenVINO 2026.4 computes some int8 networks wrongly.
    """
    convert_onnx(files[0], folder / signature.file, batch=1)
    for file in files:
        file.unlink()
    signature = dataclasses.replace(
        signature,
        inputs=tuple(_of_one_image(tensor) for tensor in signature.inputs),
        outputs=tuple(_of_one_image(tensor) for tensor in signature.outputs),
    )
    signature = dataclasses.replace(signature, sha256=sha256_of(*files_of(folder, signature)))
    LogitsSession(folder, signature, EngineSettings(ENGINES[signature.format][0]))  # tests itself
    return signature


def triton_config(name: str, signature: Signature) -> str:
    """Return Triton's ``config.pbtxt``: a ``ModelConfig`` in protobuf's text format.

    The axis of images is left out of ``dims``, as Triton wants it of a model whose batch is dynamic, and
    requests that arrive together are computed together. A detector has no such axis: its ``max_batch_size``
    is 0, and what follows the image or the objects is −1.
    """
    has_batch = _takes_batches(signature)
    most = _MOST_IMAGES if has_batch else 0
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', f"max_batch_size: {most}"]
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for tensor in tensors:
            dims = [-1 if isinstance(length, str) else length for length in tensor.shape[has_batch:]]
            lines += [
                f"{kind} {{",
                f'  name: "{tensor.name}"',
                f"  data_type: {_TYPES[tensor.dtype]}",
                f"  dims: [ {', '.join(map(str, dims))} ]",
                *([f'  label_filename: "{LABELS}"'] if kind == "output" and has_batch else []),
                "}",
            ]
    return "\n".join([*lines, *(["dynamic_batching { }"] if has_batch else []), ""])


def ovms_config(name: str) -> dict[str, Any]:
    """Return the ``config.json`` of OpenVINO Model Server, as a document.

    The precision is named, since the default of OpenVINO on processors with bf16 is bf16.
    """
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    return {"model_config_list": [{"config": {"name": name, "base_path": name, "plugin_config": options}}]}


def _of_one_image(tensor: Tensor) -> Tensor:
    return dataclasses.replace(tensor, shape=(1, *tensor.shape[1:]))


def _repository_card(server: Server, name: str, config: ModelConfig, signature: Signature) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deepresidual.exporting", "templates"),
        autoescape=False,  # noqa: S701  # Markdown, not HTML; the name has letters and digits only
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("repository.md.jinja").render(
        server=server,
        name=name,
        config=config,
        signature=signature,
        detects=isinstance(config.spec, DetectorSpec),
    )
