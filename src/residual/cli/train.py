"""``residual train``: train a network on a data set."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from residual.cli.options import Maybe
from residual.cli.output import print_json, print_line

__all__ = ["train"]


def train(
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")] = "digits",
    /,
    *,
    model: Maybe[str] = None,
    out: Maybe[str] = None,
    recipe: Maybe[str] = None,
    epochs: Maybe[float] = None,
    steps: Maybe[int] = None,
    batch_size: Maybe[int] = None,
    learning_rate: Maybe[float] = None,
    schedule: Maybe[Literal["constant", "step", "cosine"]] = None,
    warmup_epochs: Maybe[float] = None,
    momentum: Maybe[float] = None,
    weight_decay: Maybe[float] = None,
    label_smoothing: Maybe[float] = None,
    crop: Maybe[Literal["center", "pad", "random-resized"]] = None,
    flip: Maybe[Literal["yes", "no"]] = None,
    image_px: Maybe[int] = None,
    seed: int = 0,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    device: str = "auto",
    workers: Maybe[int] = None,
    resume: bool = False,
    json: bool = False,
) -> int:
    """Train a network and leave a run folder: model, checkpoints, metrics and a report to look at.

    Args:
        data: 'digits' (bundled), a folder of images by class (with or without train/ and val/ or test/), or a
            .parquet file or folder in Hugging Face layout.
        model: A network, see 'residual models'; chosen by the size of the images where left out.
        out: The run folder; runs/DATA-MODEL where left out.
        recipe: digits, cifar or photos; the one that suits data and model where left out.
        epochs: Passes over the training images.
        steps: Updates, in place of epochs.
        batch_size: Images an update.
        learning_rate: Highest learning rate.
        schedule: What becomes of the learning rate.
        warmup_epochs: Epochs in which the learning rate rises.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty.
        label_smoothing: Probability shared by all classes.
        crop: How training images are cut.
        flip: Whether to mirror half of the images; not for digits or text.
        image_px: Side of the network's input in pixels.
        seed: The same seed gives the same weights on the same machine.
        precision: auto is bf16 where the hardware has it.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: Processes that load images; does not change the result.
        resume: Go on with the run in --out.
        json: Print the result as one JSON document.
    """
    from residual.training import train as run_training

    asked = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "warmup_epochs": warmup_epochs,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "label_smoothing": label_smoothing,
        "crop": crop,
        "flip": None if flip is None else flip == "yes",
    }
    result = run_training(
        data,
        model,
        out,
        recipe=recipe,
        changes={name: value for name, value in asked.items() if value is not None},
        image_px=image_px,
        seed=seed,
        precision=precision,
        device=device,
        num_workers=workers,
        resume=resume,
    )
    done = result.evaluation
    if json:
        print_json({"run": str(result.path), "status": result.status, **(done.summary() if done else {})})
        return result.exit_code
    if result.status == "interrupted":
        print_line(f"interrupted; all is saved. Go on with the same command and --resume --out {result.path}")
    print_line(f"model   {result.path / 'model'}")
    print_line(f"report  {result.path / 'report.html'}")
    if done:
        print_line(
            f"{done.split}: top-1 {done.top1:.2%} ({round(done.top1 * done.count):,} of {done.count:,}), "
            f"top-5 {done.top5:.2%}, loss {done.loss:.4f}"
        )
    return result.exit_code
