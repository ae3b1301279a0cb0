"""Write the model card: the facts about a model folder, as Markdown with the Hub's metadata."""

from __future__ import annotations

import functools
import re

import jinja2

from deepresidual import zoo
from deepresidual.backends.detector import TorchDetector
from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.backends.thresholds import MULTILABEL
from deepresidual.runs.baseline import shows_top5


def model_card(model: TorchClassifier | TorchDetector) -> str:
    """Return the text of ``README.md`` for a model folder."""
    if isinstance(model, TorchDetector):
        return card_template("deepresidual.models", "detector.md.jinja").render(
            name=zoo.name_of(model.spec) or "custom",
            network=zoo.name_of(model.spec.backbone) or "a network of its own",
            model=model,
            licence=_licence(model),
            is_bound=model.provenance.get("commercial use", "yes") != "yes",
        )
    return card_template("deepresidual.models").render(
        architecture=zoo.name_of(model.spec) or "custom",
        spec=model.spec,
        # Names of the Hub's own list.
        task=_hub_task(model),
        has_several_labels=model.task == MULTILABEL,
        preprocess=model.preprocess,
        label_names=model.label_names,
        metrics=model.metrics,
        shows_top5=shows_top5(model.spec.num_classes),
        provenance=model.provenance,
        licence=_licence(model),
        is_bound=model.provenance.get("commercial use", "yes") != "yes",
    )


@functools.cache
def card_template(package: str, name: str = "card.md.jinja") -> jinja2.Template:
    """Return a template of the folder ``templates`` of a package."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=False,  # noqa: S701  # Markdown, not HTML; names from outside go through `plain`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    environment.filters["numbers"] = lambda values: ", ".join(f"{value:.4g}" for value in values)
    return environment.get_template(name)


def _hub_task(model: TorchClassifier) -> str:
    if model.task not in ("classification", MULTILABEL):
        return model.task
    return "image-classification" if model.spec.num_classes else "image-feature-extraction"


def _licence(model: TorchClassifier | TorchDetector) -> str:
    """Return the identifier of the licence of weights from elsewhere, in lower case as the Hub has them."""
    licence = str(model.provenance.get("licence", "")).lower()
    return licence if re.fullmatch(r"[a-z0-9.-]{1,40}", licence) else ""


def plain(value: object) -> str:
    """Return text that cannot break out of a Markdown table or smuggle in HTML."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    for character in "\\`*_{}[]<>|":
        text = text.replace(character, f"\\{character}")
    return text
