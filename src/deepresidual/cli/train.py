"""``residual train``: train a network on a data set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import tyro

from deepresidual.cli.options import Maybe, as_options
from deepresidual.cli.output import print_json, print_line
from deepresidual.cli.recipe_options import RecipeOptions
from deepresidual.cli.training_summary import print_training
from deepresidual.errors import UnknownNameError
from deepresidual.recipe.recipes import NAMES
from deepresidual.training.options import TrainOptions

if TYPE_CHECKING:
    from deepresidual.training.preview import Preview
    from deepresidual.training.seeds import SeedsResult

__all__ = ["train"]

# `changes` and `fit_memory` follow from the options of the recipe.
as_options(
    TrainOptions,
    without=("changes", "fit_memory"),
    renamed={"num_workers": "workers"},
    explained={
        "recipe": f"{', '.join(NAMES[:-1])} or {NAMES[-1]}. Default: the one that suits data and model."
    },
)


def train(
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")] = "digits",
    /,
    *,
    model: Maybe[str] = None,
    out: Maybe[str] = None,
    training: tyro.conf.OmitArgPrefixes[TrainOptions] = TrainOptions(),  # noqa: B008  # frozen
    seeds: int = 1,
    resume: bool = False,
    checkpoint: Maybe[int] = None,
    dry_run: bool = False,
    json: bool = False,
    settings: tyro.conf.OmitArgPrefixes[RecipeOptions] = RecipeOptions(),  # noqa: B008  # frozen
) -> int:
    """Train a network and leave a run folder: model, checkpoints, metrics and a report to look at.

    Args:
        data: 'digits' or 'digit-scenes' (bundled), a folder of images by class (with or without train/ and
            val/ or test/) or with boxes (COCO, Pascal VOC, YOLO), a .parquet file or folder in Hugging Face
            layout, cifar10:PATH, cifar100:PATH, shards:PATTERN, csv:FILE, coco:PATH, voc:PATH or yolo:PATH.
        model: A network, see 'residual models'. Default: chosen by the size of the images.
        out: The run folder. Default: runs/DATA-MODEL.
        training: How to train.
        seeds: Train so many times, with seeds from --seed on, and print median, mean, deviation and best.
        resume: Continue the run in --out.
        checkpoint: With --resume, continue from the checkpoint of this step.
        dry_run: Show the schedule, steps, time and memory, and train nothing.
        json: Print the result as one JSON document.
        settings: Fields of the recipe.
    """
    _refuse_early(data, model, training)
    from deepresidual.training.launch import train as run_training
    from deepresidual.training.preview import preview
    from deepresidual.training.seeds import train_seeds

    options = replace(training, changes=settings.changes, fit_memory=settings.fit_memory)
    if dry_run:
        _show(preview(data, model, options, told=not json), json=json)
        return 0
    if seeds != 1:
        several = train_seeds(data, model, out, options, num_seeds=seeds, resume=resume)
        _show(several, json=json)
        return several.exit_code
    result = run_training(data, model, out, options, resume=resume, checkpoint=checkpoint)
    done = result.evaluation
    if json:
        print_json({"run": str(result.path), "status": result.status, **(done.summary() if done else {})})
        return result.exit_code
    print_training(result, data)
    return result.exit_code


def _refuse_early(data: str, model: str | None, options: TrainOptions) -> None:
    """Refuse what is mistyped before torch is loaded; what is there is looked into later."""
    from deepresidual.data.source import require_exists

    require_exists(data)
    if model is not None:
        from deepresidual import zoo
        from deepresidual.zoo.detectors import backbone_name

        zoo.entry(backbone_name(model))
    if isinstance(options.recipe, str) and options.recipe not in NAMES:
        raise UnknownNameError("recipe", options.recipe, NAMES)
    if options.weights not in (None, "none"):
        from deepresidual.models.source import find_source

        find_source(options.weights)


def _show(result: Preview | SeedsResult, *, json: bool) -> None:
    if json:
        print_json(result.to_dict())
    else:
        print_line(result.to_text())
