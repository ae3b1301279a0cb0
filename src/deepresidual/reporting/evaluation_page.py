"""Write the page of one evaluation of a classifier, of any model on any data: the report without a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual.reporting.classification import classification_parts, headline, technical_figures, verdict
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
        pictures: PNG files by name: ``mistakes/00``, ``best/00``, ``heat-maps/mistake-00`` and so on.
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
    evaluation = measurement.evaluation
    parts = classification_parts(evaluation, lambda name: measurement.pictures.get(name, b""))
    judged = verdict(evaluation)
    model, data = shlex.quote(measurement.model), measurement.data
    page = rendered(
        "evaluation.html.jinja",
        kick=f"{measurement.model} on {measurement.data} · {shown_time(now())}",
        headline=headline(judged) if judged else f"{measurement.model} on {measurement.data}",
        verdict=judged,
        sections=[
            ("confusions", "Confusions"),
            ("mistakes", "Mistakes"),
            *([("sure", "How sure")] if parts["sure"] else []),
            ("use", "Use it"),
            ("how", "How it was made"),
        ],
        use=[("Name new images", f"residual predict {model} NEW-IMAGES --out names.csv")],
        facts=[
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
        predict=f"residual predict {model} … --min-probability 0.8",
        technical=technical_figures(evaluation),
        versions=settings_of(versions()),
        **parts,
    )
    write_text(destination, page)
    return destination
