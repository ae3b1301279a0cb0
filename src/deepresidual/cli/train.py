"""``residual train``: train a network on a data set."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import tyro

from deepresidual.cli.options import Maybe
from deepresidual.cli.output import print_json, print_line
from deepresidual.cli.recipe_options import RecipeOptions

__all__ = ["train"]


def train(
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")] = "digits",
    /,
    *,
    model: Maybe[str] = None,
    out: Maybe[str] = None,
    weights: Maybe[str] = None,
    recipe: Maybe[str] = None,
    validation: float = 0.0,
    bad_samples: Literal["stop", "skip"] = "stop",
    image_px: Maybe[int] = None,
    seed: int = 0,
    seeds: int = 1,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    compile: Literal["auto", "yes", "no"] = "auto",  # noqa: A002  # becomes --compile
    activation_checkpointing: bool = False,
    device: str = "auto",
    workers: Maybe[int] = None,
    checkpoint_minutes: float = 15.0,
    tensorboard: bool = False,
    resume: bool = False,
    checkpoint: Maybe[int] = None,
    dry_run: bool = False,
    json: bool = False,
    settings: tyro.conf.OmitArgPrefixes[RecipeOptions] = RecipeOptions(),  # noqa: B008  # frozen
) -> int:
    """Train a network and leave a run folder: model, checkpoints, metrics and a report to look at.

    Args:
        data: 'digits' (bundled), a folder of images by class (with or without train/ and val/ or test/), a
            .parquet file or folder in Hugging Face layout, cifar10:PATH, cifar100:PATH, shards:PATTERN or
            csv:FILE.
        model: A network, see 'residual models'; chosen by the size of the images where left out.
        out: The run folder; runs/DATA-MODEL where left out.
        weights: A model folder to start from, for fine-tuning.
        recipe: digits, cifar, cifar_fast, photos, finetune, cifar2015, cifar2016, resnet1k_cifar,
            imagenet2015, imagenet2016, resnet1k_imagenet, fb90, torchvision_v2, rsb_a1, rsb_a2 or rsb_a3; the
            one that suits data and model where left out.
        validation: Share of the training images to hold out, to watch and to choose by.
        bad_samples: Stop at an image that cannot be used, or skip, name and count it.
        image_px: Side of the network's input in pixels.
        seed: The same seed with the same --precision gives the same weights on the same machine.
        seeds: Train so many times, with seeds from --seed on, and say median, mean, deviation and best.
        precision: auto measures whether bf16 is faster for this network on this machine; fp16 scales the
            loss.
        compile: auto compiles the network where the run is long enough for it to pay.
        activation_checkpointing: Less memory for more time, with the same bits.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: How many load images; does not change the result.
        checkpoint_minutes: Longest time between two checkpoints.
        tensorboard: Write the metrics for TensorBoard, too.
        resume: Go on with the run in --out.
        checkpoint: With --resume, go on from the checkpoint of this step.
        dry_run: Show the schedule, steps, time and memory, and train nothing.
        json: Print the result as one JSON document.
        settings: Fields of the recipe.
    """
    from deepresidual.training import train as run_training
    from deepresidual.training.preview import preview
    from deepresidual.training.seeds import train_seeds

    options: dict[str, Any] = {
        "weights": weights,
        "recipe": recipe,
        "changes": settings.changes,
        "fit_memory": settings.fit_memory,
        "image_px": image_px,
        "validation": validation,
        "bad_samples": bad_samples,
        "precision": precision,
        "compile": compile,
        "activation_checkpointing": activation_checkpointing,
        "device": device,
    }
    if dry_run:
        shown = preview(data, model, seed=seed, **options)
        if json:
            print_json(shown.to_dict())
        else:
            print_line(shown.to_text())
        return 0
    options |= {
        "num_workers": workers,
        "checkpoint_minutes": checkpoint_minutes,
        "tensorboard": tensorboard,
        "resume": resume,
    }
    if seeds != 1:
        several = train_seeds(data, model, out, first_seed=seed, num_seeds=seeds, **options)
        if json:
            print_json(several.to_dict())
        else:
            print_line(several.to_text())
        return several.exit_code
    result = run_training(data, model, out, seed=seed, checkpoint=checkpoint, **options)
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
