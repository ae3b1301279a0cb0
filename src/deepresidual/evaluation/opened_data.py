"""Open the data that models are measured on: the split, on the sides on which a run had them; and classes."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from deepresidual.data.source import LabelsChoice, SampleSource, as_source
from deepresidual.data.source.annotated.source import findings_of
from deepresidual.data.source.base import canonical_split
from deepresidual.data.source.dataset import Dataset
from deepresidual.data.source.division import HELD_OUT
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation.options import EvaluationOptions
from deepresidual.runs.samples import recorded_group, with_splits_of
from deepresidual.runtime.console import note, warn, warn_each


def opened_data(
    data: SampleSource | Dataset | str | Path,
    options: EvaluationOptions,
    runs: Sequence[Path],
    labels: LabelsChoice | None = None,
) -> tuple[SampleSource, str]:
    """Open data in the splits in which runs had them, and tell which split is reported.

    Args:
        data: A data set: opened, by name, or a Python object.
        options: Split, groups and what is held out.
        runs: Runs that the models are of; those of several have the same splits.
        labels: How many labels an image has, where the data must not decide.

    Returns:
        The data set, and the name of the split.

    Raises:
        ConfigurationError: An option is out of range, or there is no such split.
        DataError: The data cannot be used.
    """
    opened = _opened(data, options, recorded_group(runs[0]) if runs else None, labels)
    boxes = {finding.as_ignored() for finding in findings_of(opened) if finding.kind.startswith("box-")}
    warn_each([file for file in opened.ignored if file not in boxes])  # those of the split are told as one
    source = (
        with_splits_of(opened, runs[0], options.validation) if runs else hold_out(opened, options.validation)
    )
    split = (
        source.evaluation_split if options.split is None else canonical_split(options.split) or options.split
    )
    _require_split(source, split)
    if options.split is None and source.held_out.startswith(HELD_OUT):
        note(_fifth_in_words(source, split, is_object=not isinstance(data, str | Path | SampleSource)))
    return source, split


def rows_of_classes(label_names: Sequence[str], source: SampleSource, remedy: str = "") -> list[int]:
    """Return the model's row of every class of the data set, matched by name and never by position.

    Args:
        label_names: Names of the model's classes.
        source: The data set. Of classes that it lacks a warning tells.
        remedy: What can be done about classes that the model does not know.

    Raises:
        DataError: The model does not know a class.
    """
    rows = {name: row for row, name in enumerate(label_names)}
    # The data set and the model may come from systems that spell names in different Unicode forms.
    by_form = {unicodedata.normalize("NFC", name): row for name, row in rows.items()}
    for name in source.classes:
        if name not in rows and (form := unicodedata.normalize("NFC", name)) in by_form:
            rows[name] = by_form[form]
    unknown = [name for name in source.classes if name not in rows]
    if unknown:
        known = ", ".join(label_names[:8]) + (", …" if len(label_names) > 8 else "")
        raise DataError(
            f"{source.name} has {len(unknown)} of {len(source.classes)} classes that the model does not know "
            f"({', '.join(unknown[:8])}{', …' if len(unknown) > 8 else ''})",
            expected=f"classes among {known}",
            remedy=remedy,
        )
    absent = len(label_names) - len(source.classes)
    if absent:
        warn(f"{source.name} has no samples of {absent} of the model's {len(label_names)} classes")
    return [rows[name] for name in source.classes]


def _opened(
    data: SampleSource | Dataset | str | Path,
    options: EvaluationOptions,
    group: str | None,
    labels: LabelsChoice | None,
) -> SampleSource:
    """Open data, grouped as the run was where they have such groups and nothing else is asked for."""
    if options.group is None and group is not None:
        with contextlib.suppress(ConfigurationError):  # other data than the run's
            return as_source(data, labels=labels, group=group, num_workers=options.num_workers)
    return as_source(data, labels=labels, group=options.group, num_workers=options.num_workers)


def _require_split(source: SampleSource, split: str) -> None:
    """Refuse a split that there is not; of ``val`` say how there would be one.

    Raises:
        ConfigurationError: There is none of that name.
    """
    try:
        source.split(split)
    except ConfigurationError as error:
        if (canonical_split(split) or split) != "val":
            raise
        other = ", or take --split test" if "test" in source.splits else ""
        raise ConfigurationError(
            error.found, expected=error.expected, remedy=f"train with --validation 0.1{other}"
        ) from error


def _fifth_in_words(source: SampleSource, split: str, *, is_object: bool) -> str:
    """Return a sentence on how much is measured of a data set that names no splits."""
    count = sum(len(part) for part in source.splits.values())
    whole = "; {'test': dataset} measures all" if is_object else ""
    measured = len(source.split(split))
    return f"note: the data set names no split: a fifth, {measured:,} of {count:,} images, is measured{whole}"
