"""Write a detector as ONNX: one file, opset 18, an image of any size in, objects out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from deepresidual.backends.engine import imported
from deepresidual.backends.signature import DETECTOR_CONTRACT
from deepresidual.exporting.detector_parts import MaskLayers, RegionHead, Trunk, parts_of, sample_image
from deepresidual.exporting.onnx_file import METADATA, OPSET, quiet

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from deepresidual.backends.detector import TorchDetector


def write_detector_onnx(model: TorchDetector, path: Path) -> None:
    """Write a detector as an ONNX file.

    Args:
        model: The detector, on the CPU.
        path: The file.

    Raises:
        MissingDependencyError: onnx or onnxscript is not installed.
        OSError: The file cannot be written.
    """
    onnx = imported("onnx", path, "onnx")
    imported("onnxscript", path, "onnx")  # what graphs are built with
    graph = detector_onnx(model)
    facts = {
        "label_names": model.label_names,
        "task": model.task,
        "preprocess": model.preprocess.to_dict(),
        "contract": DETECTOR_CONTRACT,
    }
    onnx.helper.set_model_props(graph, {METADATA: json.dumps(facts)})
    onnx.save(graph, path)


def detector_onnx(model: TorchDetector) -> onnx.ModelProto:
    """Return the graph of a detector on the CPU."""
    from deepresidual.exporting.detector_graph import Parts, detector_model

    spec = model.spec
    trunk, region_head, masks = parts_of(model.network)
    multiple = max(spec.backbone.stage_strides)
    rows, columns = (multiple * torch.export.Dim(name) for name in ("rows", "columns"))
    pooled = torch.zeros(2, spec.map_channels, spec.regions.bins, spec.regions.bins)
    parts = Parts(
        _exported(trunk, sample_image(model.network), {2: rows, 3: columns}),
        _exported(region_head, pooled, {0: torch.export.Dim("regions")}),
        None if masks is None else _exported_masks(model, masks),
    )
    return detector_model(spec, model.preprocess, parts, _anchors(model))


def _exported_masks(model: TorchDetector, masks: MaskLayers) -> Any:
    spec = model.spec
    bins = spec.regions.bins if spec.neck == "c4" else spec.mask_bins
    pooled = torch.zeros(2, spec.map_channels, bins, bins)
    return _exported(masks, pooled, {0: torch.export.Dim("objects")})


def _exported(module: Trunk | RegionHead | MaskLayers, sample: torch.Tensor, sizes: dict[int, Any]) -> Any:
    """Return a module as a graph of ONNX; ``sizes`` are the axes of any length."""
    with quiet(), torch.inference_mode():
        program = torch.onnx.export(
            module,
            (sample,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(sizes,),
            external_data=False,
            verbose=False,
        )
    assert program is not None  # noqa: S101  # only without dynamo it writes by itself
    return program.model


def _anchors(model: TorchDetector) -> list[NDArray[np.float32]]:
    """Return the anchors of a place on each level, ``(a, 4)``."""
    from deepresidual.nn.detection.anchors import around_a_place

    anchors = model.spec.anchors
    dtype = torch.float64 if anchors.exact else torch.float32
    ratios = torch.tensor(anchors.ratios, dtype=dtype)
    levels = [around_a_place(torch.tensor(sizes, dtype=dtype), ratios) for sizes in anchors.sizes]
    return [(level if anchors.exact else level.round()).float().numpy() for level in levels]
