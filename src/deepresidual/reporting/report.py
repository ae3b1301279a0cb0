"""Write ``report.html``: one self-contained page about a run, from the files of its folder alone.

What a person asks comes first: how good it is, what would help, what is confused with what, which labels to
look at, how sure it is, how to use it. How all of it was made is at the end, folded. Nothing is loaded from
elsewhere, and no script runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from deepresidual.errors import ResidualError
from deepresidual.recipe.recipes import named_recipe
from deepresidual.reporting.advice import advice_of, data_argument, no_trouble
from deepresidual.reporting.charts import (
    MARKED_POINTS,
    Curve,
    draw_curves,
    has_points,
    held_out_style,
    points,
)
from deepresidual.reporting.classification import classification_parts, headline, technical_figures, verdict
from deepresidual.reporting.findings import curve_section, label_section
from deepresidual.reporting.multilabel import label_figures, label_headline, label_parts
from deepresidual.reporting.object_advice import object_advice, object_commands
from deepresidual.reporting.objects import object_figures, object_headline, object_parts, object_sections
from deepresidual.reporting.pages import rendered, require_ours, settings_of, shown_time
from deepresidual.runs.gains import stages_of
from deepresidual.runs.read import RunFiles, read_run
from deepresidual.runs.repeat import command_again, command_to_repeat
from deepresidual.runtime.files import expanded, write_text
from deepresidual.spec import ResNetSpec

_STAGES = {
    "probe": "a classifier fitted to what the network saw in the images before any of it was trained",
    "fine-tuned": "the network trained on these images, with its classifier",
    "average": "the mean of the weights before and after fine-tuning",
}


@dataclass(frozen=True)
class Body:
    """What a page shows of an evaluation; each task has its own.

    Attributes:
        headline: The result in one sentence.
        template: A file of ``templates/`` that shows it.
        variables: Its variables.
        sections: Identifier and title of its sections, for the links on top.
        technical: Figures for those who know them.
    """

    headline: str = ""
    template: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    sections: tuple[tuple[str, str], ...] = ()
    technical: dict[str, str] = field(default_factory=dict)


def write_report(run: Path, destination: Path | None = None) -> Path:
    """Write the report of the run folder ``run`` and return its path.

    Args:
        run: The run folder.
        destination: The file. Default: ``report.html`` in the run folder.

    Raises:
        ConfigurationError: There is no run, or ``destination`` is another file.
        ModelFileError: A file of the run is damaged.
        RunError: The report cannot be written.
    """
    run = expanded(run)
    if destination is not None:
        destination = expanded(destination)
        require_ours(destination)
    files = read_run(run)
    body = _body(files)
    stages, curves = stages_of(files), _curves(files)
    labels, curve = label_section(files), curve_section(files)
    judged = body.variables.get("verdict")
    variables = {
        "verdict": None,
        "lead": "",
        "advice": advice_of(files, judged) if judged else [],
        "no_trouble": no_trouble(files, judged) if judged else "",
        "reliability": None,
        "use": _commands(files) if files.evaluation else [],
        "predict": f"residual predict {shlex.quote(str(files.path))} … --min-probability 0.8",
        **body.variables,
    }
    page = rendered(
        "report.html.jinja",
        headline=body.headline,
        record=files.record,
        plan=files.plan,
        when=shown_time(files.record["updated"]),
        body=body.template,
        stages=stages,
        stage_meaning=_STAGES,
        chooses=files.plan["recipe"].get("keep_model") == "best-loss",
        curves=curves,
        labels=labels,
        curve=curve,
        technical=body.technical,
        facts=_facts(files),
        changed=_changed(files.plan),
        recipe=settings_of(files.plan["recipe"]),
        hardware=settings_of(files.record["hardware"]),
        versions=settings_of(files.record["versions"]),
        sections=[
            (name, title)
            for name, title, is_there in (
                ("next", "What would help", variables["advice"] or variables["no_trouble"]),
                *((name, title, True) for name, title in body.sections),
                ("labels", "Labels", labels),
                ("more", "More images?", curve),
                ("sure", "How sure", variables.get("sure")),
                ("learned", "How it learned", curves or len(stages) > 1),
                ("use", "Use it", variables["use"]),
                ("how", "How it was made", True),
            )
            if is_there
        ],
        **variables,
    )
    path = run / "report.html" if destination is None else destination
    write_text(path, page)
    return path


# -- the evaluation ----------------------------------------------------------------------------------------


def _body(files: RunFiles) -> Body:
    """Return what is shown of the evaluation of a run: by its task, or nothing yet."""
    if not files.evaluation:
        return Body()
    make = BODIES.get(files.evaluation.get("task", "classification"))
    return Body() if make is None else make(files)


def _classification(files: RunFiles) -> Body:
    evaluation = files.evaluation or {}
    judged = verdict(evaluation)
    return Body(
        headline(judged, "held-out images") if judged else "",
        "classification.html.jinja",
        {
            **classification_parts(evaluation, lambda name: files.picture(f"{name}.png")),
            "verdict": judged,
        },
        (("confusions", "Confusions"), ("mistakes", "Mistakes")),
        technical_figures(evaluation),
    )


def _multilabel(files: RunFiles) -> Body:
    evaluation = files.evaluation or {}
    return Body(
        label_headline(evaluation),
        "multilabel.html.jinja",
        label_parts(evaluation, lambda name: files.picture(f"{name}.png")),
        (("figures", "How good"), ("each", "Each label"), ("mistakes", "Mistakes")),
        label_figures(evaluation),
    )


def _detection(files: RunFiles) -> Body:
    evaluation = files.evaluation or {}
    parts = object_parts(evaluation, lambda name: files.picture(f"{name}.png"))
    return Body(
        object_headline(evaluation),
        "objects.html.jinja",
        {**parts, "advice": object_advice(files), "use": object_commands(files)},
        object_sections(parts),
        object_figures(evaluation),
    )


BODIES: dict[str, Callable[[RunFiles], Body]] = {
    "classification": _classification,
    "multilabel": _multilabel,
    "detection": _detection,
}
"""What a report shows of an evaluation, by its task; of another task its curves alone."""


# -- training ----------------------------------------------------------------------------------------------


def _curves(files: RunFiles) -> list[Markup]:
    """Draw the charted metrics over epochs, training and held-out; no charts before the first epoch."""
    if not files.training:
        return []
    charts = []
    for name, label in files.charts.items():
        curves = []
        if has_points(files.training, name):
            curves.append(Curve(*points(files.training, name), "training", is_smoothed=True))
        for number, split in enumerate(files.held_out_splits):
            rows = files.held_out_on(split)
            if not has_points(rows, name):
                continue
            color, dash, marker = held_out_style(number)
            marker = marker if len(rows) < MARKED_POINTS else ""
            curves.append(Curve(*points(rows, name), split, color, dash, marker=marker))
        if not curves:
            continue
        what = name if name == "loss" else label.split(" (")[0]
        charts.append(draw_curves(curves, label, f"{what} over epochs"))
    return charts


# -- how it was made ---------------------------------------------------------------------------------------


def _facts(files: RunFiles) -> list[tuple[str, str]]:
    record, plan = files.record, files.plan
    begun = record.get("begins_with") or {}
    ignored = [
        f"{file.get('path')} ({file.get('reason')})" for file in record["ignored"] if isinstance(file, dict)
    ]
    px, channels = plan["preprocess"]["crop_px"], plan["preprocess"]["channels"]
    classes = "1 class" if len(plan["classes"]) == 1 else f"{len(plan['classes'])} classes"
    num_images = f"{plan['num_samples']:,} training images of {classes}"
    evaluation = files.evaluation
    measured = f"; measured on {evaluation['count']:,} of {evaluation['split']}" if evaluation else ""
    facts = [
        ("data", f"{plan['data']}: {num_images}, {plan['num_held_out']:,} held out{measured}"),
        ("not used", ", ".join(ignored)),
        ("skipped", ", ".join(f"{key} ({why})" for key, why in (record.get("bad_samples") or {}).items())),
        ("network", f"{plan['model']}, which sees {px} px {channels}"),
        ("began with", str(begun.get("line") or ("learned weights" if plan["weights"] else ""))),
        ("command", shlex.join(map(str, record["command"]))),
        ("the same again", command_to_repeat(record)),
        ("started", shown_time(record["started"])),
        ("seed, precision", f"{plan['seed']}, {plan['precision']}"),
        ("fingerprint", ", ".join(f"{split} {value}" for split, value in plan["fingerprint"].items())),
    ]
    return [(name, value) for name, value in facts if value]


def _changed(plan: dict[str, Any]) -> dict[str, str]:
    """Return the settings that differ from those of the recipe of that name; none where there is no such."""
    try:
        usual = named_recipe(plan["recipe"].get("name", ""), ResNetSpec.from_dict(plan["spec"]))
    except (ResidualError, ValueError, KeyError, TypeError):
        return {}
    before = settings_of(usual.to_dict())
    return {
        name: f"{value} (recipe: {before[name]})"
        for name, value in settings_of(plan["recipe"]).items()
        if name in before and before[name] != value
    }


def _commands(files: RunFiles) -> list[tuple[str, str]]:
    """Return what to do with the model, as commands with the places of this run."""
    run = shlex.quote(str(files.path))
    in_python = (
        "import deepresidual as residual\n\n"
        f"model = residual.load({str(files.path)!r})\n"
        'for answer in model.predict(["image.jpg"]):\n'
        "    print(answer.classes[0], answer.probabilities[0])"
    )
    return [
        ("Name new images", f"residual predict {run} NEW-IMAGES --out names.csv"),
        ("Measure it on other images", f"residual evaluate {run} OTHER-IMAGES"),
        ("Train again, with more images", command_again(files.record, data_argument(files))),
        ("From Python", in_python),
    ]
