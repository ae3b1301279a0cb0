"""Write the page of one evaluation, of any model on any data: the report without a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual.reporting.classification import classification_parts, headline, technical_figures, verdict
from deepresidual.reporting.object_advice import find_commands
from deepresidual.reporting.objects import object_figures, object_headline, object_parts, object_sections
from deepresidual.reporting.pages import rendered, require_ours, settings_of, shown_time
from deepresidual.runtime.files import expanded, write_text
from deepresidual.runtime.provenance import command_line, now, versions


@dataclass(frozen=True)
class Measurement:
    """What was measured, for the page.

    Attributes:
        model: What was given as the model; of an ensemble the models with commas between them.
        data: What was given as the data.
        views: What the network saw of an image, in words.
        evaluation: The document of the evaluation.
        pictures: PNG files by name, as a run folder has them.
        ignored: Files among the data that were not used, each with the reason.
    """

    model: str
    data: str
    views: str
    evaluation: Mapping[str, Any]
    pictures: Mapping[str, bytes]
    ignored: Sequence[str] = ()


def write_evaluation(measurement: Measurement, destination: Path) -> Path:
    """Write the page of an evaluation and return its path.

    Args:
        measurement: What was measured.
        destination: The file; one that Residual has written before is replaced, any other is not.

    Raises:
        ConfigurationError: ``destination`` is another file.
        RunError: The page cannot be written.
    """
    destination = expanded(destination)
    require_ours(destination)
    evaluation, data = measurement.evaluation, shlex.quote(measurement.data)
    is_detection = evaluation.get("task") == "detection"
    parts = _of_objects(measurement) if is_detection else _of_classes(measurement)
    what = f"{measurement.model} on {measurement.data}"
    page = rendered(
        "evaluation.html.jinja",
        **{
            **parts,
            "kick": f"{what} · {shown_time(now())}",
            "headline": parts["headline"] or what,
            "sections": [*parts["sections"], ("use", "Use it"), ("how", "How it was made")],
            "facts": [
                (name, value)
                for name, value in (
                    ("model", measurement.model),
                    ("data", f"{data}, {evaluation['split']}: {evaluation['count']:,} images"),
                    ("not used", ", ".join(measurement.ignored)),
                    ("views", measurement.views),
                    ("command", shlex.join(command_line())),
                )
                if value
            ],
            "versions": settings_of(versions()),
        },
    )
    write_text(destination, page)
    return destination


def _of_classes(measurement: Measurement) -> dict[str, Any]:
    """Return what the page of a classifier shows."""
    evaluation = measurement.evaluation
    parts = classification_parts(evaluation, lambda name: measurement.pictures.get(name, b""))
    judged, model = verdict(evaluation), shlex.quote(measurement.model)
    sure = [("sure", "How sure")] if parts["sure"] else []
    return {
        **parts,
        "body": "classification.html.jinja",
        "headline": headline(judged) if judged else "",
        "verdict": judged,
        "lead": "",
        "sections": [("confusions", "Confusions"), ("mistakes", "Mistakes"), *sure],
        "use": [("Name new images", f"residual predict {model} NEW-IMAGES --out names.csv")],
        "predict": f"residual predict {model} … --min-probability 0.8",
        "technical": technical_figures(evaluation),
    }


def _of_objects(measurement: Measurement) -> dict[str, Any]:
    """Return what the page of a detector shows."""
    evaluation = measurement.evaluation
    parts = object_parts(evaluation, lambda name: measurement.pictures.get(name, b""))
    return {
        **parts,
        "body": "objects.html.jinja",
        "headline": object_headline(evaluation),
        "verdict": None,
        "sections": object_sections(parts),
        "use": find_commands(shlex.quote(measurement.model), evaluation),
        "technical": object_figures(evaluation),
        "reliability": None,
    }
