"""Write ``README.md`` of an exported model: what the files are, how to use them, how they were checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual import zoo
from deepresidual.backends.thresholds import MULTILABEL
from deepresidual.models.card import card_template
from deepresidual.runs.baseline import shows_top5
from deepresidual.spec import DetectorSpec

if TYPE_CHECKING:
    from deepresidual.backends.signature import Signature
    from deepresidual.models.config import ModelConfig


def export_card(config: ModelConfig, signature: Signature) -> str:
    """Return the text of ``README.md``."""
    return card_template("deepresidual.exporting").render(
        architecture=zoo.name_of(config.spec) or "",
        config=config,
        signature=signature,
        has_several_labels=config.task == MULTILABEL,
        shows_top5=shows_top5(config.spec.num_classes),
    )


def detector_card(config: ModelConfig, signature: Signature) -> str:
    """Return the text of ``README.md`` of a detector."""
    assert isinstance(config.spec, DetectorSpec)  # noqa: S101  # of a detector
    return card_template("deepresidual.exporting", "detector.md.jinja").render(
        architecture=zoo.name_of(config.spec) or f"{config.spec.neck} detector",
        config=config,
        signature=signature,
    )
