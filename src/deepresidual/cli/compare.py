"""``residual compare``: test whether one model is better than another on the same images."""

from __future__ import annotations

import inspect
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Unpack

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line, print_table
from deepresidual.errors import ConfigurationError

if TYPE_CHECKING:
    from deepresidual.data.source import Split
    from deepresidual.evaluation import EvaluationSetup, PairedComparison
    from deepresidual.evaluation.options import EvaluationKeywords
    from deepresidual.evaluation.results import Results

__all__ = ["compare"]

_EXPECTED = "two of them: files of predictions, models or runs; and DATA where it does not follow from a run"


def compare(
    what: Annotated[tyro.conf.Positional[list[str]], tyro.conf.arg(metavar="FIRST SECOND [DATA]")],
    /,
    *,
    split: Maybe[str] = None,
    keep_training_images: bool = False,
    report: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FILE")]] = None,
    batch_size: int = 100,
    backend: Literal["auto", "onnxruntime", "openvino", "torch"] = "auto",
    device: str = "auto",
    workers: Maybe[int] = None,
    json: bool = False,
) -> int:
    """Compare two models on the same images, and tell whether they differ by more than chance.

    Of classifiers McNemar's test compares the images that only one has right; of detectors a paired bootstrap
    over images compares their average precisions. Two runs are measured on the images that both hold out and
    neither was trained on.

    Args:
        what: Two models, each a MODEL as for 'residual evaluate', so folders of 'residual export' as well,
            or the file of predictions that it wrote (.csv, .jsonl or .parquet; of detectors .json, too,
            with the data behind them); and the data to measure models on. Default: the data of a run that
            is among them.
        split: train, val or test. Default: test if there is one, else val.
        keep_training_images: Count the images that a run has trained on, too; else they are left out.
        report: Write a page into this file: what each is better at, and the images that only one has right.
        batch_size: Images at a time.
        backend: What computes an exported model: onnxruntime, openvino, torch; auto: the fastest here, which
            is tried for some seconds from 64 images on.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: Threads that load images; does not change the result.
        json: Print one JSON document.
    """
    asked = dict(locals())
    if len(what) not in (2, 3):
        raise ConfigurationError(f"there are {len(what)} words to compare", expected=_EXPECTED)
    first, second = what[:2]
    if report is not None:
        from deepresidual.reporting.pages import require_ours

        require_ours(report, option="--report")
    from deepresidual.cli.detector_evaluation import (
        compare_files,
        compare_two_detectors,
        hold_boxes,
        holds_results,
    )
    from deepresidual.evaluation.results import read_results
    from deepresidual.runtime.table_file import TABLE_SUFFIXES

    if len(what) == 3 and holds_results(first) and holds_results(second) and hold_boxes(what[2]):
        return compare_files((first, second), what[2], _given(asked))
    files = [Path(name).suffix.casefold() in TABLE_SUFFIXES for name in (first, second)]
    data = "" if all(files) and len(what) == 2 else _data(what, files)
    if not any(files) and _are_detectors(first, second):
        return compare_two_detectors((first, second), data, _given(asked))
    read = {name: read_results(name) for name, is_file in zip((first, second), files, strict=True) if is_file}
    setups = _setups(
        [name for name, is_file in zip((first, second), files, strict=True) if not is_file],
        data,
        split=split,
        keep_training_images=keep_training_images,
        batch_size=batch_size,
        num_workers=workers,
        device=device,
        backend=backend,
    )
    results = [read[name] if name in read else _measured(setups[name]) for name in (first, second)]
    from deepresidual.evaluation.comparison import compare_results

    compared = compare_results(results[0], results[1], first, second)
    one = next(iter(setups.values()), None)
    if report is not None:
        samples = None if one is None else one.source.split(one.split)
        _write_page(report, (first, second), data, results, compared, samples)
    if json:
        written = {} if report is None else {"report": str(report)}
        left_out = {"num_left_out": one.num_left_out} if one is not None and one.num_left_out else {}
        print_json({"first": first, "second": second, **written, **left_out, **compared.to_dict()})
        return 0
    _print(first, second, compared)
    if report is not None:
        print_line(f"report  {report}")
    return 0


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that differ from their defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(compare).parameters.items()}
    return {name: value for name, value in options.items() if name != "what" and value != defaults[name]}


def _are_detectors(first: str, second: str) -> bool:
    """Return whether two models are detectors.

    Raises:
        ConfigurationError: Only one of them is.
    """
    from deepresidual.models import detects_objects

    are = [detects_objects(name) for name in (first, second)]
    if are[0] != are[1]:
        detector, other = (first, second) if are[0] else (second, first)
        raise ConfigurationError(
            f"{detector} finds objects and {other} tells the class of an image",
            expected="two models of a kind",
        )
    return are[0]


def _data(what: list[str], are_files: list[bool]) -> str:
    """Return the data to measure on: what is given, else that of the runs, which must be one."""
    from deepresidual.cli.evaluate import own_data
    from deepresidual.data.source import require_exists
    from deepresidual.models.source import find_source
    from deepresidual.runs.read import holds_run
    from deepresidual.runtime.files import expanded

    models = [name for name, is_file in zip(what, are_files, strict=False) if not is_file]
    for model in models:
        find_source(model)  # what is mistyped is told before torch is loaded
    if len(what) == 3:
        require_exists(what[2])
        return what[2]
    remedy = f"name it: residual compare {what[0]} {what[1]} DATA"
    try:
        known = {own_data(model) for model in models if holds_run(expanded(model))}
    except ConfigurationError as error:
        raise ConfigurationError(error.found, remedy=remedy) from error
    if len(known) != 1:
        found = f"the runs have different data ({', '.join(sorted(known))})" if known else "there is no DATA"
        raise ConfigurationError(found, remedy=remedy)
    return known.pop()


def _setups(
    models: list[str], data: str, **options: Unpack[EvaluationKeywords]
) -> dict[str, EvaluationSetup]:
    """Return every model, by its name, on the images that it is to be measured on."""
    if not models:
        return {}
    from deepresidual.evaluation import EvaluationSetup

    if len(models) == 2:
        opened = EvaluationSetup.open_two((models[0], models[1]), data, **options)
        setups = dict(zip(models, opened, strict=True))
    else:
        setups = {model: EvaluationSetup.open([model], data, **options) for model in models}
    for model, setup in setups.items():
        if setup.has_several_labels:
            raise ConfigurationError(
                f"{model} knows several labels an image", expected="models of one class an image"
            )
    return setups


def _measured(setup: EvaluationSetup) -> Results:
    """Return the results of a model on single images."""
    from deepresidual.evaluation.results import read_results

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "predictions.parquet"
        replace(setup, options=replace(setup.options, predictions=file)).evaluate()
        return read_results(file)


def _write_page(
    destination: Path,
    names: tuple[str, str],
    data: str,
    results: list[Results],
    compared: PairedComparison,
    samples: Split | None,
) -> None:
    from deepresidual.reporting.comparison_page import Comparison, write_comparison
    from deepresidual.tasks.pictures import photos_by_key

    keys = Comparison.discordant(results[0], results[1])
    photos = photos_by_key(samples, [*keys[0], *keys[1]]) if samples is not None else {}
    write_comparison(Comparison(names, data, results[0], results[1], compared.to_dict(), photos), destination)


def _print(first: str, second: str, compared: PairedComparison) -> None:
    top1 = compared.top1
    rows = [
        (
            f"{share:.2%}",
            f"{compared.both_correct + alone:,}",
            f"{alone:,}",
            name,
        )
        for share, alone, name in (
            (top1[0], compared.only_first, first),
            (top1[1], compared.only_second, second),
        )
    ]
    print_table((">top-1", ">right", ">right alone", "results"), [*rows, *_baseline_row(compared)])
    low, high = compared.difference_interval
    print_line(
        f"{compared.count:,} images: both right {compared.both_correct:,}, both wrong {compared.both_wrong:,}"
    )
    print_line(
        f"difference {100 * compared.difference:+.2f} points "
        f"(95 % interval {100 * low:+.2f} to {100 * high:+.2f}), "
        f"p = {compared.p_value:.3g} (McNemar's test, {compared.test})"
    )


def _baseline_row(compared: PairedComparison) -> list[tuple[str, str, str, str]]:
    baseline = compared.baseline
    if baseline is None:
        return []
    return [(f"{baseline.top1:.2%}", f"{baseline.right:,}", "–", f"always {baseline.name}")]
