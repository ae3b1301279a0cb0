"""Write ``model-image.onnx``: the resize and the classifier of ``model.onnx`` in one file, for a whole image.

The file that was checked as ``model.onnx`` is joined as it is, so what is new is the resize alone. It is
checked by ONNX Runtime on photos of several sizes: its pixels against :meth:`Preprocess.center_view`, and the
logits of the joined file against those that ``model.onnx`` gives for these views.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnxruntime
from numpy.typing import NDArray

from deepresidual.backends.self_test import TOLERANCES, Difference
from deepresidual.backends.signature import Tensor
from deepresidual.data.bundled_photos import bundled_photos
from deepresidual.errors import ModelFileError
from deepresidual.exporting.onnx_file import METADATA
from deepresidual.exporting.resize_graph import ResizeGraph, resize_model
from deepresidual.preprocess import Preprocess

IMAGE_FILE = "model-image.onnx"

_INPUT = (
    "image is one decoded, upright photo of any size, uint8 RGB, (height, width, 3). Resize, crop, order of "
    "channels and normalization are part of the file; decoding is not."
)

CONTRACTS: dict[ResizeGraph, str] = {
    "exact": (
        f"{_INPUT} The pixels that the network sees are those of Pillow 11, 12 and 13 to the bit where "
        "float64 is computed in full, as ONNX Runtime does. OpenVINO computes it in float32, which moved 2 "
        "of 1,000 values of 250 photos, by 2 of 255 levels at most."
    ),
    "fast": (
        f"{_INPUT} The resize is one node, for ONNX Runtime only: the pixels that the network sees are "
        "within 2 of 255 levels of Pillow's, and most are equal. OpenVINO leaves out the antialiasing and "
        "sees another picture."
    ),
}
"""What goes in and how exactly it is resized, in words."""

# The largest difference from Pillow's pixels: levels of 255, and share of the values. Without antialiasing
# most values differ, by a hundred levels.
_BOUNDS: dict[ResizeGraph, tuple[int, float]] = {"exact": (0, 0.0), "fast": (2, 0.1)}


@dataclass(frozen=True)
class ImageCertificate:
    """How the file for whole images was checked.

    Attributes:
        engine: What computed it, with its version.
        reference: What its pixels were held against.
        photos: What each photo was.
        num_values: Number of values of all views.
        num_differing: How many differ from the reference's.
        largest_level: Largest difference, in levels of 255.
        difference: How the logits differ from those that ``model.onnx`` gives for the reference's views.
    """

    engine: str
    reference: str
    photos: tuple[str, ...]
    num_values: int
    num_differing: int
    largest_level: int
    difference: Difference


def write_image_file(classifier: Path, record: Preprocess, resize: ResizeGraph) -> dict[str, Any]:
    """Write the file for whole images beside the classifier's.

    Args:
        classifier: The file ``model.onnx``.
        record: Preprocessing of the model.
        resize: How the resize is computed.

    Returns:
        What the signature says of it: file, resize, inputs, contract and certificate.

    Raises:
        ConfigurationError: ``fast`` has no such filter.
        ModelFileError: The file computes other pixels or logits: nothing is written then.
        OSError: The file cannot be written.
    """
    resizing, network = resize_model(record, resize), onnx.load(classifier)
    joined = _joined(resizing, network)
    certificate = _certified(resizing, network, joined, record, resize)
    image = Tensor("image", "uint8", ("height", "width", 3), "an upright photo of any size, rgb")
    facts = {
        "file": IMAGE_FILE,
        "resize": resize,
        "inputs": [asdict(image)],
        "contract": CONTRACTS[resize],
        "certificate": asdict(certificate),
    }
    known = {entry.key: entry.value for entry in network.metadata_props}
    onnx.helper.set_model_props(joined, {METADATA: json.dumps(json.loads(known.get(METADATA, "{}")) | facts)})
    onnx.save(joined, classifier.with_name(IMAGE_FILE))
    return facts


def _joined(resizing: onnx.ModelProto, network: onnx.ModelProto) -> onnx.ModelProto:
    """Return one model from ``image`` to the outputs of the network, for a batch of one."""
    resizing.ir_version = network.ir_version
    joined: onnx.ModelProto = onnx.compose.merge_models(
        resizing, network, io_map=[("pixels", "pixels")], name="image_classifier", producer_name="residual"
    )
    for output in joined.graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    return joined


def _certified(
    resizing: onnx.ModelProto,
    network: onnx.ModelProto,
    joined: onnx.ModelProto,
    record: Preprocess,
    resize: ResizeGraph,
) -> ImageCertificate:
    """Compute photos of several sizes, and compare pixels and logits.

    Raises:
        ModelFileError: They differ by more than is allowed.
    """
    photos = _photos()
    views = [record.center_view(np.ascontiguousarray(record.to_channels(photo))) for photo in photos.values()]
    images = [{"image": photo} for photo in photos.values()]
    made = _computed(resizing, "pixels", images)
    gaps = np.abs(np.stack(views).astype(np.int16) - made)
    difference = Difference.between(
        _computed(joined, "logits", images),
        _computed(network, "logits", [{"pixels": view[None]} for view in views]),
    )
    certificate = ImageCertificate(
        engine=f"onnxruntime {onnxruntime.__version__}",
        reference="Preprocess.center_view",
        photos=tuple(photos),
        num_values=gaps.size,
        num_differing=int(np.count_nonzero(gaps)),
        largest_level=int(gaps.max()),
        difference=difference,
    )
    levels, share = _BOUNDS[resize]
    if certificate.largest_level > levels or certificate.num_differing > share * gaps.size:
        raise ModelFileError(
            f"the resize of {IMAGE_FILE} is not Pillow's: computed by {certificate.engine}, "
            f"{certificate.num_differing:,} of {gaps.size:,} values differ, by up to "
            f"{certificate.largest_level} levels",
            expected=f"at most {levels} levels at {share:.0%} of the values; nothing was written",
            remedy="export with --resize none",
        )
    if resize == "exact" and not difference.is_within("fp32"):
        raise ModelFileError(
            f"{IMAGE_FILE} computes other logits than the file it is made of: they differ by "
            f"{difference.share('fp32'):.2g} of their deviation",
            expected=f"at most {TOLERANCES['fp32']:g}; nothing was written",
            remedy="export with --resize none",
        )
    return certificate


def _photos() -> dict[str, NDArray[np.uint8]]:
    """Return parts of two photos: lying, standing, a strip, and one that is enlarged."""
    found = {}
    for name, photo in bundled_photos():
        height, width = photo.shape[:2]
        for rows, columns in ((height, width), (height, width // 2), (height // 9, width), (21, 30)):
            found[f"{name}, {columns}×{rows} px"] = np.ascontiguousarray(photo[-rows:, -columns:])
    return found


def _computed(
    model: onnx.ModelProto, output: str, inputs: list[dict[str, NDArray[np.uint8]]]
) -> NDArray[Any]:
    """Return an output for every input, one after the other."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.concatenate([session.run([output], given)[0] for given in inputs])
