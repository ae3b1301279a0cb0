"""Compare what two implementations find in the same images: the certificate of a converted detector."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from deepresidual.conversion.detector_ecosystem import (
    DetectorEcosystem,
    DetectorReference,
    RecognizedDetector,
)
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.data.bundled_photos import bundled_photos
from deepresidual.errors import MissingDependencyError, ModelFileError
from deepresidual.preprocess import Preprocess

if TYPE_CHECKING:
    from deepresidual.nn.detection import Detector, Found

_FEWEST = 10
# The same function summed in another order; a wrong stride or anchor moves boxes by pixels and loses some.
_BOX_PX, _SCORE, _MASK = 0.05, 1e-3, 5e-3
# Of two boxes whose scores differ in the seventh digit, rounding decides which suppresses the other.
_MISSING_SHARE = 0.05
_LOGITS = "roi_heads.box_predictor.cls_score."
_DIVISORS = (1.0, 10.0, 100.0)  # of these logits, where scores are equal


@dataclass(frozen=True)
class DetectionsCertificate:
    """Result of a comparison of detections.

    Attributes:
        reference: The other implementation and its version; empty where none could be asked.
        num_compared: Detections of the reference that were compared, of all images.
        num_missing: Those of one implementation that the other has not.
        boxes: Largest absolute difference of an edge of a box, in pixels of the input; ``None`` where none
            could be asked.
        scores: The same of the scores, from 0 to 1.
        masks: The same of the m × m pixels of the masks, from 0 to 1; ``None`` of a detector of boxes.
        input: What both were shown.
        reason: Why nothing was compared; empty where something was.
    """

    reference: str = ""
    num_compared: int = 0
    num_missing: int = 0
    boxes: float | None = None
    scores: float | None = None
    masks: float | None = None
    input: str = ""
    reason: str = ""

    @property
    def largest_difference(self) -> float | None:
        """The largest of all differences; ``None`` where nothing was compared."""
        found = [value for value in (self.boxes, self.scores, self.masks) if value is not None]
        return max(found, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {"largest_difference": self.largest_difference, **asdict(self)}

    def in_words(self) -> str:
        """Return a sentence for the model folder and for the terminal."""
        if self.boxes is None:
            return f"not compared: {self.reason}"
        masks = "" if self.masks is None else f" and masks by {self.masks:.2g}"
        missing = f"{self.num_missing} are missing in one, " if self.num_missing else ""
        return (
            f"of {self.num_compared} detections {missing}boxes differ by at most {self.boxes:.2g} px, scores "
            f"by {self.scores:.2g}{masks} from {self.reference} ({self.input})"
        )

    def line(self) -> str:
        """Return what the command prints of it."""
        return f"none: {self.reason}" if self.boxes is None else self.in_words()


@torch.inference_mode()
def certify_detections(
    network: Detector,
    ecosystem: DetectorEcosystem,
    checkpoint: ForeignCheckpoint,
    recognized: RecognizedDetector,
) -> DetectionsCertificate:
    """Show both implementations the same photos, float32 on the CPU, and compare what they find.

    The photos are those that come with scikit-learn, 640×427 pixels, as large as they are. What the reference
    finds with the score of the spec or a higher one has to be found here, and the other way round. Where that
    is little, as of weights that have learned little, all of the best detections are compared instead.

    Of boxes with one and the same score no rule says which suppresses the other. Where the two disagree and
    scores of the reference are equal, as those are that are 1 in float32, both are asked once more with the
    logits of the classes divided by ten, or by a hundred.

    Args:
        network: The converted detector.
        ecosystem: Where the checkpoint comes from; its own implementation is the reference.
        checkpoint: What was converted.
        recognized: What it was recognized as.

    Returns:
        The certificate; without figures where the other library is not installed.

    Raises:
        ModelFileError: Scores are not finite, or the two disagree: the conversion would not be the same
            function.
    """
    ours = _unlimited(network)
    inputs = list(_inputs(recognized.preprocess, network))
    floor = recognized.spec.detections.min_score
    refusals: list[ModelFileError] = []
    for divisor in _DIVISORS:
        divided = _with_logits_divided(ecosystem, checkpoint, recognized, divisor)
        try:
            reference = ecosystem.reference(divided, recognized)
        except MissingDependencyError as error:
            return DetectionsCertificate(reason=error.found)
        pairs = _found_by_both(_divided(ours, divisor), reference, inputs, checkpoint)
        try:
            shown = _shown(inputs, divisor)
            return _certified(pairs, floor, divisor, reference.name, checkpoint, recognized, shown)
        except ModelFileError as error:
            refusals.append(error)
            if not any(_has_equal_scores(theirs) for _, theirs in pairs):
                break
    raise refusals[0]


def _found_by_both(
    ours: Detector,
    reference: DetectorReference,
    inputs: Sequence[tuple[str, Tensor, tuple[int, int]]],
    checkpoint: ForeignCheckpoint,
) -> list[tuple[Found, Found]]:
    """Return what each finds in every photo.

    Raises:
        ModelFileError: Scores are not finite.
    """
    pairs = []
    for name, image, size in inputs:
        found = ours(image, [size])[0]
        if not found.is_finite:
            raise ModelFileError(
                f"{checkpoint.path}: the scores for {name} are not finite",
                expected="weights of a trained network",
            )
        pairs.append((found, reference.find(image, size)))
    return pairs


def _certified(
    pairs: Sequence[tuple[Found, Found]],
    floor: float,
    divisor: float,
    reference: str,
    checkpoint: ForeignCheckpoint,
    recognized: RecognizedDetector,
    shown: str,
) -> DetectionsCertificate:
    """Hold detections against each other; of divided logits a score may differ by as much less.

    Raises:
        ModelFileError: They disagree.
    """
    if sum(int((theirs.scores >= floor).sum()) for _, theirs in pairs) < _FEWEST:
        floor = 0.0
    differences = [_compared(found, theirs, floor) for found, theirs in pairs]
    boxes, scores, masks = (max(values) for values in zip(*(d.largest for d in differences), strict=True))
    missing, count = sum(d.missing for d in differences), sum(d.num_compared for d in differences)
    most = _SCORE / divisor
    if missing > _MISSING_SHARE * count or not (boxes <= _BOX_PX and scores <= most and masks <= _MASK):
        raise ModelFileError(
            f"{checkpoint.path}: the converted detector is not the function of {reference}: "
            f"of {count} detections {missing} are missing in one of them, and of the others boxes differ by "
            f"{boxes:.3g} px, scores by {scores:.3g} and masks by {masks:.3g}",
            expected=f"{_MISSING_SHARE:.0%} missing, and at most {_BOX_PX} px, {most:g} and {_MASK}",
        )
    return DetectionsCertificate(
        reference,
        count,
        missing,
        boxes,
        scores,
        masks if recognized.spec.masks is not None else None,
        shown + (f", scores from {floor:g} on" if floor else ", the best of each, whatever their scores"),
    )


def _shown(inputs: Sequence[tuple[str, Tensor, tuple[int, int]]], divisor: float) -> str:
    """Return in words what both are shown, and in which way they are asked."""
    photos = " and ".join(f"{name} with {size[1]}×{size[0]} px" for name, _, size in inputs)
    asked = "" if divisor == 1 else f", logits of the classes divided by {divisor:g}, since scores are equal"
    return f"{photos}, of scikit-learn{asked}"


def _has_equal_scores(found: Found) -> bool:
    """Return whether several detections of a class have the same score."""
    pairs = list(zip(found.labels.tolist(), found.scores.tolist(), strict=True))
    return len(set(pairs)) < len(pairs)


def _with_logits_divided(
    ecosystem: DetectorEcosystem,
    checkpoint: ForeignCheckpoint,
    recognized: RecognizedDetector,
    divisor: float,
) -> ForeignCheckpoint:
    """Return a checkpoint whose classes have smaller logits."""
    if divisor == 1:
        return checkpoint
    rules = ecosystem.translation(recognized.spec, checkpoint).rules
    sources = {rule.source for rule in rules if rule.target.startswith(_LOGITS)}
    tensors = {
        name: tensor / divisor if name in sources else tensor for name, tensor in checkpoint.tensors.items()
    }
    return dataclasses.replace(checkpoint, tensors=tensors)


def _divided(network: Detector, divisor: float) -> Detector:
    """Return a detector whose classes have smaller logits."""
    if divisor == 1:
        return network
    other = copy.deepcopy(network)
    for tensor in other.roi_heads.box_predictor.cls_score.parameters():
        tensor.div_(divisor)
    return other


def _unlimited(network: Detector) -> Detector:
    """Return the detector with the same weights that gives out all of its best detections."""
    from deepresidual.nn.detection import Detector

    spec = network.spec
    with torch.device("meta"):
        other = Detector(
            dataclasses.replace(spec, detections=dataclasses.replace(spec.detections, min_score=0.0))
        )
    # In the layout that libraries load weights in: another one adds in another order. `contiguous` leaves
    # kernels of 1×1 as they are, whose layout decides all the same.
    state = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    other.load_state_dict(state, assign=True)
    return other.eval()


def _inputs(record: Preprocess, network: Detector) -> Iterator[tuple[str, Tensor, tuple[int, int]]]:
    """Yield name, network's input ``(1, C, H, W)`` and size of each photo."""
    for name, photo in bundled_photos():
        pixels = np.array(record.to_channels(photo))
        size = (pixels.shape[0], pixels.shape[1])
        image = record.normalize(torch.from_numpy(pixels)[None]).contiguous()
        height, width = network.spec.padded_size(size)
        yield name, torch.nn.functional.pad(image, (0, width - size[1], 0, height - size[0])), size


@dataclass(frozen=True)
class _Difference:
    """How the detections of an image differ.

    Attributes:
        num_compared: How many of the reference were compared.
        missing: How many of one have no counterpart in the other.
        largest: Largest differences of boxes, scores and masks of the others.
    """

    num_compared: int
    missing: int
    largest: tuple[float, float, float]


def _compared(ours: Found, theirs: Found, floor: float) -> _Difference:
    """Compare detections from a score on; each is held against the nearest of its class in the other."""
    wanted = (theirs.scores >= floor).nonzero()[:, 0]
    places, is_there = _counterparts(theirs, ours, wanted)
    # What lies at the border may be above it in one alone; there each has a counterpart below it.
    also = (ours.scores >= floor).nonzero()[:, 0]
    _, is_back = _counterparts(ours, theirs, also)
    missing = int((~is_there).sum()) + int((~is_back).sum())
    kept, of = wanted[is_there], places[is_there]
    missing += len(of) - len(set(of.tolist()))
    if not len(kept):
        return _Difference(len(wanted), missing, (0.0, 0.0, 0.0))
    masks = 0.0
    if ours.masks is not None and theirs.masks is not None:
        masks = _largest(ours.masks[of], theirs.masks[kept])
    boxes, scores = (
        _largest(ours.boxes[of], theirs.boxes[kept]),
        _largest(ours.scores[of], theirs.scores[kept]),
    )
    return _Difference(len(wanted), missing, (boxes, scores, masks))


def _counterparts(one: Found, other: Found, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest box of its class in the other for some rows, and whether it is the same object's."""
    if not len(rows) or not len(other.labels):
        return rows.new_zeros(len(rows)), torch.zeros(len(rows), dtype=torch.bool)
    distance = (one.boxes[rows][:, None] - other.boxes[None]).abs().amax(dim=2)
    distance = distance.masked_fill(one.labels[rows][:, None] != other.labels[None], torch.inf)
    nearest = distance.min(dim=1)
    # Boxes of one class overlap by half at most; a counterpart is far nearer than any other.
    return nearest.indices, nearest.values <= 1.0


def _largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max()) if one.numel() else 0.0
