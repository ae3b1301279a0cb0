"""``residual check``: find the faults of a data set before a network does."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line, print_table
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from deepresidual.data.check import CheckReport

__all__ = ["check"]

# How many findings of one kind the table shows; --json and --out have all.
_SHOWN = 20


def check(
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")],
    /,
    *,
    min_px: int = 16,
    labels: Maybe[Literal["one", "several"]] = None,
    out: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FILE.csv")]] = None,
    group: Maybe[Annotated[str, tyro.conf.arg(metavar="COLUMN|PATTERN")]] = None,
    relabel: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FILE.csv")]] = None,
    dry_run: bool = False,
    workers: Maybe[int] = None,
    json: bool = False,
) -> int:
    """Read and decode every image; report damage, duplicates, leaks, uneven classes and bad boxes.

    The exit code is 3 where training would stop at something, 0 where there are warnings at most.

    Args:
        data: 'digits', 'digit-scenes', a folder of images by class or with boxes (COCO, Pascal VOC, YOLO), a
            .parquet, .csv or .tar file or folder, cifar10:PATH, cifar100:PATH, csv:FILE, shards:PATTERN,
            coco:PATH, voc:PATH or yolo:PATH.
        labels: How many labels an image has: one or several. Default: told by the data.
        min_px: Images whose shorter side has fewer pixels are reported as tiny.
        out: Write all findings into this file, too.
        group: What belongs together, where the data names no splits, as for 'residual train'.
        relabel: Apply this list of corrected labels (path, label, suggested) instead, as a report offers it
            to copy: files move between class folders, or the table is rewritten, all or nothing.
        dry_run: Only say what --relabel would do.
        workers: Processes that decode. Default: one a core.
        json: Print one JSON document.
    """
    if relabel is not None:
        return _relabel(data, relabel, is_trial=dry_run, as_json=json)
    if dry_run:
        raise ConfigurationError(
            "--dry-run is given without --relabel", remedy="leave it out: a check changes nothing"
        )
    from deepresidual.data.check import check as run_check

    report = run_check(data, min_px=min_px, labels=labels, group=group, num_workers=workers)
    if out is not None:
        _write_csv(report, out)
    if json:
        print_json({"data": data, **report.summary()})
    else:
        _print(data, report)
    return 0 if report.ok else DataError.exit_code


def _relabel(data: str, list_file: Path, *, is_trial: bool, as_json: bool) -> int:
    """Apply a list of corrected labels, or say what it would do."""
    from deepresidual.data.relabel import apply_relabelling, plan_relabelling

    plan = plan_relabelling(data, list_file)
    undo = None if is_trial else apply_relabelling(plan)
    if as_json:
        rows = [
            {"path": fix.path, "label": fix.label, "suggested": fix.suggested, "to": fix.to or fix.path}
            for fix in plan.corrections
        ]
        print_json({"data": data, "changed": not is_trial, "undo": undo and str(undo), "corrections": rows})
        return 0
    shown = [(fix.label, fix.suggested, fix.path, fix.to) for fix in plan.corrections[:_SHOWN]]
    if len(plan.corrections) > _SHOWN:
        shown.append(("", "", f"and {len(plan.corrections) - _SHOWN:,} more like these", ""))
    if plan.data.is_dir():
        print_table(("label", "becomes", "file", "moves to"), shown)
    else:
        print_table(("label", "becomes", "image"), [row[:3] for row in shown])
    count = _counted(len(plan.corrections), "label")
    if undo is None:
        print_line(f"{shortened(data)}: {count} would be changed; nothing was (--dry-run)")
    else:
        print_line(f"{shortened(data)}: {count} changed")
        print_line(f"undo    {shlex.join(['residual', 'check', data, '--relabel', str(undo)])}")
    return 0


def _print(data: str, report: CheckReport) -> None:
    if not report.num_samples and len(report.findings) == 1:
        print_line(f"error: {shortened(report.findings[0].detail)}")
        return
    rows = []
    for kind, count in report.counts.items():
        findings = [finding for finding in report.findings if finding.kind == kind]
        rows += [
            (finding.severity, kind, finding.split, finding.key, finding.detail)
            for finding in findings[:_SHOWN]
        ]
        if count > _SHOWN:
            rows.append((findings[0].severity, kind, "", "", f"and {count - _SHOWN:,} more like these"))
    if rows:
        print_table(("", "kind", "split", "about", "what"), rows)
    if report.objects:
        from deepresidual.cli.check_objects import print_objects

        print_objects(report.objects)
    elif "two-labels" in report.counts and Path(data).is_dir():
        print_line("Folders hold one class an image; for several write a CSV: path,labels with cats|dogs.")
    if report.images_per_class and not report.objects:
        from deepresidual.data.expectation import expectation, label_expectation

        counts = list(report.images_per_class.values())
        if report.has_several_labels:
            print_line(f"train: {label_expectation(report.num_samples['train'], counts, 'scratch')}")
        else:
            print_line(f"train: {expectation(counts, 'scratch')}")
    images = ", ".join(f"{name} {count:,}" for name, count in report.num_samples.items())
    num_errors = sum(finding.severity == "error" for finding in report.findings)
    verdict = (
        f"{_counted(num_errors, 'error')}, {_counted(len(report.findings) - num_errors, 'warning')}"
        if report.findings
        else "nothing to find fault with"
    )
    found = f"images in {images}" if images else "not opened"
    print_line(f"{shortened(data)}: {found}; {verdict}")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _write_csv(report: CheckReport, path: Path) -> None:
    from deepresidual.runtime.csv_cells import csv_text
    from deepresidual.runtime.files import write_text

    header = ("severity", "kind", "split", "about", "what")
    rows = [
        (finding.severity, finding.kind, finding.split, finding.key, finding.detail)
        for finding in report.findings
    ]
    write_text(path, csv_text([header, *rows]))
