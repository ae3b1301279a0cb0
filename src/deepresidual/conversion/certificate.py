"""Compare the logits of two implementations: the certificate of a conversion."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from deepresidual.conversion.ecosystem import Ecosystem, ForeignCheckpoint
from deepresidual.errors import MissingDependencyError, ModelFileError
from deepresidual.nn import ResNet

_NUM_IMAGES = 2
# The same function summed in another order; what a wrong stride, padding or epsilon gives is far larger.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Certificate:
    """Result of a comparison of logits.

    Attributes:
        reference: The other implementation and its version; empty where none could be asked.
        largest_difference: Largest absolute difference of a logit, or of a feature where there is no
            classifier; ``None`` where none could be asked.
        largest_logit: Largest absolute logit (or feature) of the reference, to hold the difference against.
        input: What both were shown.
        reason: Why nothing was compared; empty where something was.
        is_of_logits: Whether logits were compared; features where the network has no classifier.
    """

    reference: str = ""
    largest_difference: float | None = None
    largest_logit: float | None = None
    input: str = ""
    reason: str = ""
    is_of_logits: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)

    def in_words(self) -> str:
        """Return a sentence for the model folder."""
        if self.largest_difference is None:
            return f"not compared: {self.reason}"
        return (
            f"largest difference of {self._outputs} {self.largest_difference:.2g} against {self.reference}, "
            f"whose largest is {self.largest_logit:.3g} ({self.input})"
        )

    def line(self) -> str:
        """Return what the command prints of it."""
        if self.largest_difference is None:
            return f"none: {self.reason}"
        return (
            f"{self._outputs} differ by at most {self.largest_difference:.2g} from {self.reference}, whose "
            f"largest is {self.largest_logit:.3g}"
        )

    @property
    def _outputs(self) -> str:
        return "logits" if self.is_of_logits else "features"


@torch.inference_mode()
def certify(
    network: ResNet, ecosystem: Ecosystem, checkpoint: ForeignCheckpoint, input_px: int, seed: int = 0
) -> Certificate:
    """Show both implementations the same images, float32 on the CPU, and compare their logits.

    Args:
        network: The converted network.
        ecosystem: Where the checkpoint comes from; its own implementation is the reference.
        checkpoint: What was converted.
        input_px: Side of the images.
        seed: Of the images, drawn from N(0, 1) as normalized pixels are.

    Returns:
        The certificate; without figures where the other library is not installed.

    Raises:
        ModelFileError: The network's own logits are not finite; or the two disagree by more than a thousandth
            of the largest logit: the conversion would not be the same function.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(_NUM_IMAGES, network.spec.in_channels, input_px, input_px, generator=generator)
    was_training = network.training
    ours = network.eval()(images)
    network.train(was_training)
    if not ours.isfinite().all():
        raise ModelFileError(
            f"{checkpoint.path}: the logits for random images of {input_px} px are not finite",
            expected="weights of a trained network",
        )
    try:
        reference = ecosystem.reference(checkpoint, network.spec)
    except MissingDependencyError as error:
        return Certificate(reason=error.found)
    theirs = reference.logits(images)
    difference = (ours - theirs).abs().max().item()
    largest = theirs.abs().max().item()
    if not difference <= _TOLERANCE * max(largest, 1.0):
        outputs = "logits" if network.spec.num_classes else "features"
        raise ModelFileError(
            f"{checkpoint.path}: the converted network is not the function of {reference.name}: "
            f"its {outputs} differ by {difference:.3g} where the largest is {largest:.3g}",
            remedy="name the network with --model if it was taken for another one",
        )
    return Certificate(
        reference.name,
        difference,
        largest,
        f"{_NUM_IMAGES} random images of {input_px} px, seed {seed}",
        is_of_logits=network.spec.num_classes > 0,
    )
