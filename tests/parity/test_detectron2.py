"""detectron2's own detectors, where it is installed: converted, they find the same.

No package index has it. Its Python code runs from its source without its operators for rotated boxes:
``PYTHONPATH=…/detectron2 pytest tests/parity/test_detectron2.py``, with fvcore, iopath, yacs, omegaconf,
hydra-core and cloudpickle beside it.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import deepresidual as residual
from deepresidual.conversion import detections_certificate
from deepresidual.conversion.detections_certificate import DetectionsCertificate
from deepresidual.data.bundled_photos import bundled_photos
from tests.conversion.in_process import read_in_this_process

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("detectron2") is None, reason="detectron2 is not installed (no index has it)"
    ),
    # detectron2 compiles its coding of boxes, and traces.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:.*meshgrid"),
]

C4: dict[str, Any] = {"MODEL.RPN.POST_NMS_TOPK_TEST": 30}
FPN: dict[str, Any] = {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.RPN.POST_NMS_TOPK_TEST": 200,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
}
NORMALIZED: dict[str, Any] = {
    **FPN,
    "MODEL.FPN.NORM": "BN",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 2,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 16,
    "MODEL.ROI_BOX_HEAD.NORM": "BN",
    "MODEL.ROI_MASK_HEAD.NORM": "BN",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process, and compare on small parts of the two photos."""

    def parts() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for name, photo in bundled_photos():
            yield name, photo[100:196, 200:340]

    read_in_this_process(monkeypatch)
    monkeypatch.setattr(detections_certificate, "bundled_photos", parts)


def write(settings: dict[str, Any], folder: Path) -> Path:
    """Write weights and configuration of a narrow ResNet-50 of detectron2, as its trainer and its zoo do."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    config = get_cfg()
    every = {
        "MODEL.DEVICE": "cpu",
        "MODEL.MASK_ON": True,
        "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
        "MODEL.ROI_HEADS.NUM_CLASSES": 3,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
        **settings,
    }
    config.merge_from_list([item for pair in every.items() for item in pair])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build_model(config)
        for name, value in module.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("norm.weight"):
                value.uniform_(0.1, 0.5)
            elif name.endswith(("norm.bias", "running_mean")):
                value.normal_(0, 0.2)
            elif name.endswith("stem.conv1.weight"):
                value.mul_(0.05)  # pixels are not divided by a deviation
            elif any(part in name for part in ("deltas.", "bbox_pred.", "logits.", "score.", "predictor.")):
                value.normal_(0, 0.3)
    arrays = {name: value.numpy() for name, value in module.state_dict().items()}
    (folder / "config.yaml").write_text(config.dump())
    file = folder / "model_final.pkl"
    file.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}, 3))
    return file


@pytest.mark.parametrize("settings", [FPN, NORMALIZED, C4], ids=["fpn", "norm", "c4"])
def test_converted_detectors_of_detectron2_find_the_same(settings: dict[str, Any], tmp_path: Path) -> None:
    certificate = residual.convert(write(settings, tmp_path), tmp_path / "model").certificate
    assert isinstance(certificate, DetectionsCertificate)
    assert certificate.reference.startswith("detectron2 ")
    assert certificate.num_compared > 20
    assert certificate.boxes is not None
    assert certificate.boxes <= 1e-3
    assert certificate.scores is not None
    assert certificate.scores <= 1e-5
    assert certificate.masks is not None
    assert certificate.masks <= 1e-4
