"""Write ``README.md`` of an exported model: what the files are, how to use them, how they were checked."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jinja2

from deepresidual import zoo
from deepresidual.backends.thresholds import MULTILABEL
from deepresidual.models.card import plain
from deepresidual.runs.baseline import shows_top5

if TYPE_CHECKING:
    from deepresidual.backends.signature import Signature
    from deepresidual.models.config import ModelConfig


def export_card(config: ModelConfig, signature: Signature) -> str:
    """Return the text of ``README.md``."""
    return _template().render(
        architecture=zoo.name_of(config.spec) or "",
        config=config,
        signature=signature,
        has_several_labels=config.task == MULTILABEL,
        shows_top5=shows_top5(config.spec.num_classes),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deepresidual.exporting", "templates"),
        autoescape=False,  # noqa: S701  # Markdown, not HTML; names from outside go through `plain`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template("card.md.jinja")
