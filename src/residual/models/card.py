"""The model card: what a person needs to know about a model folder, as Markdown with the Hub's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from residual.models.model import Model

__all__ = ["model_card"]


def model_card(model: Model) -> str:
    """Return the text of ``README.md`` for a model folder."""
    facts = model.config()
    preprocess, provenance = model.preprocess, model.provenance
    lines = [
        "---",
        "library_name: residual",
        "pipeline_tag: image-classification",
        "tags:",
        "- image-classification",
        "- resnet",
        "---",
        "",
        f"# {facts['architecture']}, {model.spec.num_classes} classes",
        "",
        f"An image classifier of {facts['layers']} layers, {facts['parameters']:,} parameters and "
        f"{facts['macs'] / 1e9:.3g} billion multiply-adds an image.",
        "",
        "## Use",
        "",
        "```bash",
        "residual predict THIS_FOLDER photo.jpg",
        "```",
        "",
        "```python",
        "import residual",
        "",
        'model = residual.load("THIS_FOLDER")',
        'print(model.predict("photo.jpg", top_k=1))',
        "```",
        "",
        "## Input",
        "",
        f"{preprocess.channels.upper()} images; shorter side to {preprocess.resize_px} px "
        f"({preprocess.interpolation}), central {preprocess.crop_px} px; mean "
        f"{_listed(preprocess.mean)}, standard deviation {_listed(preprocess.std)} on the scale 0 to 1.",
        "",
        "## Classes",
        "",
        ", ".join(_plain(name) for name in model.label_names[:50])
        + (f" and {len(model.label_names) - 50:,} more" if len(model.label_names) > 50 else ""),
        "",
    ]
    if model.metrics:
        lines += ["## Measured", "", "| split | top-1 | top-5 | loss | images |", "|---|---:|---:|---:|---:|"]
        lines += [
            f"| {_plain(split)} | {row['top1']:.4f} | {row['top5']:.4f} | {row['loss']:.4f} | {row['count']:,} |"
            for split, row in model.metrics.items()
        ]
        lines.append("")
    if provenance:
        lines += ["## Provenance", "", "| | |", "|---|---|"]
        lines += [f"| {_plain(name)} | {_plain(value)} |" for name, value in provenance.items()]
        lines.append("")
    return "\n".join(lines)


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _plain(value: object) -> str:
    """Return text that cannot break out of a Markdown table or smuggle in HTML."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    for character in "\\`*_{}[]<>|":
        text = text.replace(character, f"\\{character}")
    return text
