"""Compare what a converted detector finds with what :mod:`.plain_rcnn` finds."""

from __future__ import annotations

import torch
from torch import Tensor

from deepresidual.conversion.detector_ecosystem import DetectorEcosystem, RecognizedDetector
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.translation import read_tensors
from deepresidual.nn.detection import Detector, empty_detector
from tests.conversion.plain_rcnn import Objects


def image_of(height: int, width: int) -> Tensor:
    """Return a normalized image ``(3, height, width)`` with something in it on every scale."""
    generator = torch.Generator().manual_seed(3)
    image = torch.zeros(3, height, width)
    for side in (3, 6, 12, 24):
        noise = torch.randn(1, 3, side, side, generator=generator)
        image += torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")[0]
    return image


def converted(
    ecosystem: DetectorEcosystem, checkpoint: ForeignCheckpoint, weights: str = ""
) -> tuple[Detector, RecognizedDetector]:
    """Return the detector of a checkpoint with its weights, and what it was recognized as."""
    recognized = ecosystem.recognize(checkpoint, weights)
    assert recognized is not None
    network = empty_detector(recognized.spec)
    translation = ecosystem.translation(recognized.spec, checkpoint)
    network.load_state_dict(read_tensors(translation, checkpoint.tensors, network.state_dict(), "x.pth"))
    return network.eval(), recognized


def require_same(network: Detector, image: Tensor, theirs: Objects) -> None:
    """Require that a detector finds the same objects in a normalized image: each has its counterpart."""
    height, width = image.shape[1:]
    rows, columns = network.spec.padded_size((height, width))
    padded = torch.nn.functional.pad(image, (0, columns - width, 0, rows - height))[None]
    with torch.inference_mode():
        ours = network(padded, [(height, width)])[0]
    assert len(ours.scores) == len(theirs.scores) > 10
    distance = (ours.boxes[:, None] - theirs.boxes[None]).abs().amax(dim=2)
    distance[ours.labels[:, None] != theirs.labels[None]] = torch.inf
    nearest = distance.min(dim=0)
    assert len(set(nearest.indices.tolist())) == len(theirs.scores)
    assert float(nearest.values.max()) < 2e-2
    torch.testing.assert_close(ours.scores[nearest.indices], theirs.scores, rtol=0, atol=1e-4)
    assert (ours.masks is None) == (theirs.masks is None)
    if ours.masks is not None and theirs.masks is not None:
        torch.testing.assert_close(ours.masks[nearest.indices], theirs.masks, rtol=0, atol=1e-3)
