"""``residual evaluate``: measure a model, or an ensemble of models, on held-out images."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from deepresidual.cli.evaluation_folder import measured_in_shards, print_unfinished, share_of
from deepresidual.cli.evaluation_tables import print_measured
from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.files import expanded

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.evaluation import EnsembleEvaluation, Evaluation, RobustnessEvaluation, Views
    from deepresidual.evaluation.multilabel import MultilabelEvaluation

__all__ = ["evaluate"]


def evaluate(
    models: Annotated[tyro.conf.Positional[list[str]], tyro.conf.arg(metavar="MODEL... DATA")],
    /,
    *,
    split: Maybe[str] = None,
    views: Literal["one", "flip", "ten-crop", "multi-scale"] = "one",
    sizes: Maybe[Annotated[str, tyro.conf.arg(metavar="N,N,...")]] = None,
    image_px: Maybe[Annotated[int, tyro.conf.arg(metavar="N")]] = None,
    resize_px: Maybe[Annotated[int, tyro.conf.arg(metavar="N")]] = None,
    validation: float = 0.0,
    group: Maybe[Annotated[str, tyro.conf.arg(metavar="COLUMN|PATTERN")]] = None,
    keep_training_images: bool = False,
    choose_on: Maybe[Annotated[str, tyro.conf.arg(metavar="SPLIT")]] = None,
    fit_temperature: Maybe[Annotated[str, tyro.conf.arg(metavar="SPLIT")]] = None,
    precision_target: Maybe[Annotated[float, tyro.conf.arg(metavar="P")]] = None,
    predictions: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FILE")]] = None,
    top_k: int = 1,
    metric: Literal["coco", "voc07", "voc12"] = "coco",
    min_score: float = 0.0,
    report: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FILE")]] = None,
    corrupt: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KIND=N,N,...", help_behavior_hint="")] = (),
    details: bool = False,
    out: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FOLDER")]] = None,
    shard: Maybe[Annotated[str, tyro.conf.arg(metavar="I/N")]] = None,
    shard_size: Maybe[int] = None,
    batch_size: int = 100,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    backend: Literal["auto", "onnxruntime", "openvino", "torch"] = "auto",
    device: str = "auto",
    workers: Maybe[int] = None,
    json: bool = False,
) -> int:
    """Measure a model on held-out images, each counted exactly once; several models as an ensemble.

    Args:
        models: One model or several, whose probabilities are averaged: run or model folders, or those of
            'residual export';
            resnet20-cifar10, resnet56-cifar10 or resnet20-digits, which come with Residual; released weights
            by name (see 'residual models'); owner/name on the Hugging Face Hub; URLs; files of weights; or
            a file of what a detector found, in COCO's format of results or as --predictions writes it. And
            last the data, as for 'residual train'; a run that stands alone is measured on the data that it
            was trained with, another model on 'digits'.
        split: train, val or test. Default: test if there is one, else val; val for --precision-target.
        views: What the network sees of an image: the central crop; it and its mirror image; four corners and
            the center and theirs; or whole images at several sizes, fully convolutionally.
        sizes: Shorter sides for multi-scale, in pixels. Default: the paper's in proportion to the crop.
        image_px: Side of the crop, in pixels. Default: the model's own.
        resize_px: Shorter side before the crop, in pixels. Default: in the model's ratio to the crop.
        validation: Share of the training images to call val, the same that training holds out. Of a run and
            its data, val is what the run held out without this.
        group: What belongs together, where the data names no splits, as for 'residual train'. Default: as the
            run was trained.
        keep_training_images: Count the images that a run has trained on, too; else they are left out.
        choose_on: Choose the members of the ensemble greedily on this split.
        fit_temperature: Fit a temperature on this split, and say what it does to the calibration.
        precision_target: Choose on this split from which probability on so many of the answers are right,
            such as 0.95, and keep it in the model, where 'residual predict' reads it.
        predictions: Write the result of every image into this file, .csv, .jsonl or .parquet; of a detector
            what it finds, also as .json in COCO's format of results.
        top_k: How many classes to name there for each image.
        metric: Of a detector: COCO's average precision, or Pascal VOC's of 2007 (11 recalls) or 2012 (area).
        min_score: Of a detector: write what has at least this score into --predictions; all is measured.
        report: Write a page into this file: what is confused, mistakes with heat maps, how sure it is.
        corrupt: Measure spoiled images, too: jpeg=10,50 (quality) size=16 (pixels) blur=1,2 (deviation).
        details: Print the figures of every class, the confusions and the calibration, too.
        out: Measure in shards below this folder, where the same command goes on after it was ended.
        shard: With --out, measure the I-th of N parts, from 0; whoever finishes last prints the figures of
            all.
        shard_size: With --out, images in a shard, in whole batches. Default: 4096, of a detector 256, or
            fewer with --shard.
        batch_size: Images at a time.
        precision: fp32 for figures that do not depend on the hardware; bf16 is faster.
        backend: What computes an exported model: onnxruntime, openvino, torch; auto: the fastest here, which
            is tried for some seconds from 64 images on.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: Threads that load images; does not change the result.
        json: Print one JSON document, accuracies as fractions.
    """
    asked = dict(locals())
    members, data = members_and_data(models)
    _require_sensible(len(members), choose_on, fit_temperature, predictions, top_k, corrupt, report)
    from deepresidual.cli.detector_evaluation import evaluate_detector, evaluate_file, holds_results
    from deepresidual.data.source import require_exists
    from deepresidual.models.source import find_source

    if len(members) == 1 and holds_results(members[0]):
        require_exists(data)
        return evaluate_file(members[0], data, _given(asked))
    for member in members:
        find_source(member)  # what is mistyped is told before torch is loaded
    require_exists(data)
    from deepresidual.models import detects_objects

    share = share_of(out, shard, shard_size, corrupt)
    if any(map(detects_objects, members)):
        return evaluate_detector(members, data, _given(asked), share)
    if metric != "coco" or min_score:
        raise ConfigurationError("--metric and --min-score are for detectors", remedy="leave them out")
    if precision_target is not None:
        _require_one_folder(members, corrupt)
    seen = _views(views, sizes, image_px, resize_px)
    from deepresidual.evaluation import EvaluationSetup, parse_corruptions

    corruptions = parse_corruptions(corrupt)
    measured: Evaluation | EnsembleEvaluation | RobustnessEvaluation | MultilabelEvaluation
    setup = EvaluationSetup.open(
        members,
        data,
        split="val" if split is None and precision_target is not None else split,
        views=seen,
        validation=validation,
        group=group,
        keep_training_images=keep_training_images,
        fit_temperature=fit_temperature,
        precision_target=precision_target,
        predictions=predictions,
        top_k=top_k,
        batch_size=batch_size,
        num_workers=workers,
        device=device,
        precision=precision,
        backend=backend,
    )
    if setup.has_several_labels:
        if precision_target is not None:
            raise ConfigurationError(
                "--precision-target is given for a model of several labels",
                expected="a model of one class an image; several labels have thresholds of their own",
            )
        if report is not None:
            raise ConfigurationError(
                "--report is given for a model of several labels",
                expected="one class an image",
                remedy="the report of its run shows its labels",
            )
        if corruptions:
            raise ConfigurationError("--corrupt is given for a model of several labels", expected="one class")
    if out is not None:
        part = measured_in_shards(setup, out, share, shard_size)
        if part is None:
            print_unfinished(setup.split, members[0], data, out, as_json=json)
            return 0
        measured = part
    elif setup.has_several_labels:
        measured = setup.evaluate_labels()
    elif corruptions:
        measured = setup.robustness(corruptions)
    elif len(members) > 1:
        measured = setup.ensemble(choose_on)
    else:
        measured = setup.evaluate()
    if precision_target is not None:
        _keep_threshold(members[0], measured)
    if report is not None:
        from deepresidual.evaluation import EnsembleEvaluation
        from deepresidual.tasks.evaluation_report import report_evaluation

        result: Any = measured.evaluation if isinstance(measured, EnsembleEvaluation) else measured
        report_evaluation(setup, result, members, data, report)
    if json:
        left_out = {"num_left_out": setup.num_left_out} if setup.num_left_out else {}
        named = {"models": members} if len(members) > 1 else {"model": members[0]}
        written = {} if report is None else {"report": str(report)}
        facts = {**named, "data": data, **written, "views": seen.to_dict(), **left_out}
        print_json({**facts, **measured.to_dict()})
    else:
        of_what = members[0] if len(members) == 1 else f"{len(members)} models"
        print_measured(measured, f"{of_what} on {data}", details=details)
        if report is not None:
            print_line(f"report  {report}")
    return 0


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that differ from their defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(evaluate).parameters.items()}
    return {name: value for name, value in options.items() if name != "models" and value != defaults[name]}


def _keep_threshold(member: str, measured: Any) -> None:
    """Keep the threshold that was chosen in the model."""
    from deepresidual.models.config import keep_abstention
    from deepresidual.runtime.console import note

    if measured.abstention is not None:
        note(f"kept in {keep_abstention(member, measured.abstention.rule)}")


def _require_one_folder(members: list[str], corrupt: tuple[str, ...]) -> None:
    """Refuse to choose a threshold where it could not be kept."""
    from deepresidual.models.source import find_source

    if len(members) > 1 or corrupt:
        raise ConfigurationError(
            f"--precision-target is given {'with --corrupt' if corrupt else f'for {len(members)} models'}",
            expected="one model and its images as they are",
        )
    kind = find_source(members[0]).kind
    if kind != "folder":
        raise ConfigurationError(
            f"--precision-target is kept in the model, and {members[0]} is no folder of yours",
            expected="a run or model folder",
            remedy="choose it for the model that was exported, and export again"
            if kind == "exported"
            else f"make one with 'residual convert {members[0]} FOLDER'",
        )


def members_and_data(arguments: list[str]) -> tuple[list[str], str]:
    """Return the models and the data set, which is the last of several."""
    if not arguments:
        raise ConfigurationError("there is no MODEL", expected="a model folder or a run folder, and DATA")
    if len(arguments) == 1:
        return arguments, own_data(arguments[0])
    return arguments[:-1], arguments[-1]


def own_data(model: str) -> str:
    """Return the data that a run was trained with; for another model the bundled digits.

    Raises:
        ConfigurationError: The run does not say where its data lies.
    """
    from deepresidual.runs.read import holds_run, read_plan

    path = expanded(model)
    if not holds_run(path):
        return "digits"
    plan, record = read_plan(path)
    location: str = record.get("data_location") or ("digits" if plan.data == "digits" else "")
    if not location:
        was_an_object = "data_location" in record
        raise ConfigurationError(
            f"{model} was trained from Python, on data that no name opens ({plan.data})"
            if was_an_object
            else f"{model} does not say where its data lies",
            remedy=f"name data on the disk: residual evaluate {model} DATA"
            + (", or in Python: deepresidual.evaluate(run, data)" if was_an_object else ""),
        )
    return location


def _require_sensible(
    num_members: int,
    choose_on: str | None,
    fit_temperature: str | None,
    predictions: Path | None,
    top_k: int,
    corrupt: tuple[str, ...],
    report: Path | None,
) -> None:
    if choose_on is not None and num_members == 1:
        raise ConfigurationError("--choose-on is given for one model", expected="two models or more")
    if top_k != 1 and predictions is None:
        raise ConfigurationError("--top-k is given without --predictions", remedy="name a file for them")
    if report is not None:
        from deepresidual.reporting.pages import require_ours

        require_ours(report, option="--report")
    if not corrupt:
        return
    if num_members > 1:
        raise ConfigurationError(
            f"--corrupt is given for {num_members} models",
            expected="one model",
            remedy="run one after the other",
        )
    others = {"--fit-temperature": fit_temperature, "--predictions": predictions, "--report": report}
    given = next((name for name, value in others.items() if value is not None), None)
    if given:
        raise ConfigurationError(f"--corrupt is given with {given}", expected="one of the two")


def _views(kind: str, sizes: str | None, image_px: int | None, resize_px: int | None) -> Views:
    from deepresidual.evaluation import Views

    try:
        numbers = () if sizes is None else tuple(int(size) for size in sizes.split(","))
    except ValueError as error:
        raise ConfigurationError(
            f"--sizes is {sizes!r}", expected="whole numbers with commas between them, such as 224,256"
        ) from error
    return Views(kind, numbers, image_px, resize_px)  # type: ignore[arg-type]  # checked there
