"""``residual benchmark``: measure speed and memory; in a checkout, beside other libraries."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line, print_table
from deepresidual.runtime.files import expanded

__all__ = ["benchmark"]


def benchmark(
    what: Annotated[
        tyro.conf.Positional[Literal["train", "data", "machine", "finetune", "inference", "folder"]],
        tyro.conf.arg(metavar="train|data|machine|finetune|inference|folder"),
    ],
    given: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="DATA|MODEL", help_behavior_hint=""),
    ] = (),
    /,
    *,
    weights: Maybe[Annotated[str, tyro.conf.arg(metavar="MODEL")]] = None,
    images_per_class: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N", help_behavior_hint="")] = (),
    rows: tuple[str, ...] = (),
    repetitions: int = 5,
    out: Maybe[LocalPath] = None,
    json: bool = False,
) -> int:
    """Measure this installation; in a checkout of the repository against its peers, both sides in turn.

    Args:
        what: train: updates, memory, and an epoch of photos; data: decoding and loading of photos;
            machine: idle threads beside other programs, and the precision that auto chooses; finetune: few
            images a class from scratch, by a probe of learned weights and by fine-tuning; inference: exported
            models, engine by precision; folder: a folder of photos to a file of predictions.
        given: A folder of photos by class, for the rows that read files; for finetune any DATA; for folder
            any photos. For inference: networks, as 'residual models' lists them. Default: resnet50.
        weights: For finetune: the learned weights. Classes that they know are left out of the data.
        images_per_class: For finetune: training images a class. Default: 10, 25 and 100.
        rows: Names of rows. Default: all.
        repetitions: Pairs a row, after a warm-up; published figures have 5 or more. For finetune: seeds.
        out: Also write the result to this JSON file.
        json: Print one JSON document.
    """
    from deepresidual.benchmarks.machine import benchmark_machine
    from deepresidual.benchmarks.peers import (
        benchmark_data,
        benchmark_finetuning,
        benchmark_folder,
        benchmark_inference,
        benchmark_training,
    )
    from deepresidual.errors import ConfigurationError

    if what != "finetune" and (weights is not None or images_per_class):
        name = "--weights" if weights is not None else "--images-per-class"
        raise ConfigurationError(f"{name} is given for {what}", expected="'residual benchmark finetune'")
    if what != "inference" and len(given) > 1:
        raise ConfigurationError(f"{len(given)} data sets are given for {what}", expected="one")
    data = expanded(given[0]) if given else None
    match what:
        case "train":
            result = benchmark_training(data, rows=rows, repetitions=repetitions)
        case "machine":
            result = benchmark_machine(rows=rows, repetitions=repetitions)
        case "inference":
            result = benchmark_inference(given or ("resnet50",), rows=rows, repetitions=repetitions)
        case "folder":
            result = benchmark_folder(data, rows=rows, repetitions=repetitions)
        case "finetune":
            if data is None or weights is None:
                lacking = "data" if data is None else "--weights"
                raise ConfigurationError(
                    f"the benchmark of fine-tuning has no {lacking}",
                    remedy="name both: residual benchmark finetune DATA --weights MODEL",
                )
            result = benchmark_finetuning(
                data,
                weights,
                images_per_class=images_per_class,
                rows=rows,
                repetitions=repetitions,
                out=out,
            )
        case "data":
            if data is None:
                raise ConfigurationError(
                    "the benchmark of data has no photos", remedy="name a folder of them"
                )
            result = benchmark_data(data, rows=rows, repetitions=repetitions)
    if out is not None:
        result.save(out)
    if json:
        print_json(result.to_dict())
        return 0
    hardware = f"{result.hardware['name']}, {result.threads} threads, torch {result.versions['torch']}"
    print_line(f"{result.benchmark} at {result.commit[:10]} on {hardware}")
    print_table(
        ("row", "against", ">ratio", ">target", "result"),
        [
            (
                row.name,
                row.against or "–",
                str(row.ratio) if row.ratio else "–",
                "–" if row.target is None else f"{'≤' if row.at_most else '≥'} {row.target:g}",
                {True: "met", False: "missed", None: row.reason}[row.is_met]
                if row.ours is None or row.target is not None
                else f"{row.ours:,.4g} {row.unit}, {row.reason}",
            )
            for row in result.rows
        ],
    )
    return 0
