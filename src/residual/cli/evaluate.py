"""``residual evaluate``: how good a model is on held-out images."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from residual.cli.options import Maybe
from residual.cli.output import print_json, print_table

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")] = "digits",
    /,
    *,
    split: Maybe[str] = None,
    batch_size: int = 100,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    device: str = "auto",
    workers: Maybe[int] = None,
    json: bool = False,
) -> int:
    """Measure top-1, top-5 and loss; every image of the split counts exactly once.

    Args:
        model: A model folder or a run folder.
        data: 'digits', a folder of images by class, or a .parquet file or folder.
        split: train, val or test; test where there is one, else val.
        batch_size: Images at a time.
        precision: fp32 for figures that do not depend on the hardware; bf16 is faster.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: Threads that load images; does not change the result.
        json: Print one JSON document, accuracies as fractions.
    """
    from residual.evaluation import evaluate as run_evaluation

    measured = run_evaluation(
        model,
        data,
        split=split,
        batch_size=batch_size,
        num_workers=workers,
        device=device,
        precision=precision,
    )
    if json:
        print_json({"model": model, "data": data, **measured.summary()})
    else:
        print_table(
            ("split", ">images", ">top-1", ">top-5", ">loss"),
            [
                (
                    measured.split,
                    f"{measured.count:,}",
                    f"{measured.top1:.2%}",
                    f"{measured.top5:.2%}",
                    f"{measured.loss:.4f}",
                )
            ],
        )
    return 0
