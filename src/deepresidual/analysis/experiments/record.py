"""Write the results of an experiment: ``results.json``, ``table.md``, and figures as SVG and PNG.

Measurements last, verdicts do not: :func:`judged_again` makes those of a document anew, as the claims of an
experiment or the rule for its verdicts are put right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from deepresidual.analysis.experiments.experiment import ArmResult, Experiment, Measurement, Metric, Results
from deepresidual.analysis.experiments.figures import save_figure
from deepresidual.analysis.experiments.verdicts import per_cent
from deepresidual.runs.statistics import Summary
from deepresidual.runtime.files import write_json, write_text

SCHEMA_VERSION = 1

NOT_JUDGED = "Scale smoke shows that the program runs; a few updates show no effect, so no claim is judged"


def is_judged(document: Mapping[str, Any]) -> bool:
    """Return whether the verdicts of a document mean something: not those of networks trained for seconds."""
    trained = any(arm["recipe"].get("steps") != 0 for arm in document["arms"])
    return document["scale"] != "smoke" or not trained


def record(
    experiment: Experiment, results: Results, frame: Mapping[str, Any], *, status: str
) -> dict[str, Any]:
    """Return the document of an experiment.

    Args:
        experiment: The experiment.
        results: The measurements so far.
        frame: Setting, command, versions, hardware.
        status: ``running``, ``interrupted`` or ``finished``.
    """
    return {
        **frame,
        "status": status,
        "comparable": results.comparable,
        "interval": "95 % over seeds, Student's t; of differences Welch's",
        "arms": [_arm(experiment, result) for result in results.arms.values()],
        "verdicts": [verdict.to_dict() for verdict in experiment.judge(results)],
    }


def judged_again(experiment: Experiment, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the claim, source and verdicts that its measurements have today.

    Args:
        experiment: The experiment.
        document: Result of :func:`record`, read back from JSON, with or without the series of runs. Claims on
            metrics that were not measured stay open; arms that no longer exist count in no verdict.
    """
    arms = {arm.name: arm for arm in experiment.arms(document["scale"])}
    results = Results(
        scale=document["scale"],
        arms={
            entry["name"]: ArmResult(
                arms[entry["name"]],
                {
                    run["seed"]: Measurement(run["figures"], run.get("series", {}), run["note"])
                    for run in entry["runs"]
                },
            )
            for entry in document["arms"]
            if entry["name"] in arms
        },
        comparable=document["comparable"],
    )
    return {
        **document,
        "claim": experiment.claim,
        "source": experiment.source,
        "verdicts": [verdict.to_dict() for verdict in experiment.judge(results)],
    }


def _arm(experiment: Experiment, result: ArmResult) -> dict[str, Any]:
    arm = result.arm
    names = list(dict.fromkeys(name for run in result.runs.values() for name in run.metrics))
    summaries = {name: result.summary(name) for name in names}
    return {
        "name": arm.name,
        "label": arm.label,
        "layers": arm.network.num_layers,
        "parameters": arm.network.num_parameters,
        "network": arm.network.to_dict(),
        "recipe": arm.recipe.to_dict(),
        "image_px": arm.image_px,
        "published": [
            f"{published} ({published.protocol}; {published.source})" for published in arm.published
        ],
        "summary": {name: summary.to_dict() for name, summary in summaries.items() if summary is not None},
        "cells": [_cell(result, metric) for metric in experiment.columns],
        "runs": [{"seed": seed, **measured.to_dict()} for seed, measured in result.runs.items()],
    }


def _cell(result: ArmResult, metric: Metric) -> str:
    summary = result.summary(metric.name)
    if summary is None:
        return "diverged" if result.num_diverged else "–"
    diverged = f", {result.num_diverged} diverged" if result.num_diverged else ""
    return (per_cent(summary) if metric.is_error else _number(summary)) + diverged


def _number(summary: Summary) -> str:
    deviation = "" if summary.std is None else f" ± {summary.std:.2g}"
    return f"{summary.mean:.4g}{deviation}"


def write_results(
    path: Path,
    document: Mapping[str, Any],
    *,
    figures: Mapping[str, Figure] | None = None,
    tables: str = "",
    columns: Sequence[str] = (),
) -> None:
    """Write the results so far of an experiment; figures and tables only at its end.

    Args:
        path: The folder, which exists.
        document: Result of :func:`record`.
        figures: Name → figure; ``None`` while it runs.
        tables: More tables, as Markdown.
        columns: Heads of the columns of metrics.

    Raises:
        RunError: Something cannot be written.
    """
    for name, figure in (figures or {}).items():
        save_figure(figure, path / name)
    if figures is not None:
        write_text(path / "table.md", _page(document, list(figures), tables, columns))
    write_json(path / "results.json", dict(document))


def _page(document: Mapping[str, Any], figures: Sequence[str], tables: str, columns: Sequence[str]) -> str:
    """Return the results for people, as Markdown."""
    lines = [f"# {document['experiment']}, {document['scale']}", "", document["claim"], ""]
    lines += [f"Source: {document['source']}.", ""]
    if document["status"] != "finished":
        lines += ["Interrupted: not everything has been run.", ""]
    if document["arms"]:
        head = ("arm", "layers", "parameters", *columns, "published")
        rows = [
            (
                arm["label"],
                str(arm["layers"]),
                f"{arm['parameters']:,}",
                *arm["cells"],
                "; ".join(arm["published"]),
            )
            for arm in document["arms"]
        ]
        lines += [
            *_table(head, rows),
            "",
            f"Mean ± standard deviation; intervals {document['interval']}.",
            "",
        ]
        if not document["comparable"]:
            lines += [
                (
                    "Published figures are of the paper's schedule on its own images; absolute figures "
                    "here do not compare with them, and the verdicts are on orderings and gaps."
                ),
                "",
            ]
    if tables:
        lines += [tables, ""]
    verdicts = [
        (row["claim"], row["measured"], row["published"], row["tolerance"], row["verdict"], row["source"])
        for row in document["verdicts"]
    ]
    head = ("claim", "measured", "published", "tolerance", "verdict", "source")
    lines += ["## Verdicts", ""]
    if not is_judged(document):
        lines += [f"{NOT_JUDGED}.", ""]
        verdicts = [(*row[:4], "not judged", row[5]) for row in verdicts]
    lines += [*_table(head, verdicts), ""]
    lines += [line for name in figures for line in (f"![{name}]({name}.svg)", "")]
    return "\n".join([*lines, *_facts(document)]) + "\n"


def _facts(document: Mapping[str, Any]) -> list[str]:
    hardware, data = document["hardware"], document["data"]
    lines = ["## How", ""]
    lines += [f"- command: `{' '.join(document['command'])}`", f"- date: {document['date']}"]
    if data is not None:
        counts = ", ".join(f"{count:,} {name}" for name, count in data["num_samples"].items())
        prints = ", ".join(f"{name} {value}" for name, value in data["fingerprint"].items())
        lines += [f"- data: {data['name']}, {counts}; fingerprints {prints}"]
    lines += [
        f"- hardware: {hardware['name']} ({hardware['device']}), {hardware['threads']} threads",
        "- versions: " + ", ".join(f"{name} {version}" for name, version in document["versions"].items()),
    ]
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
