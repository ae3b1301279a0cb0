"""``residual explain``: draw heat maps of the evidence for a class, or for an object that is found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import flush_output, print_json, print_line, shown_class
from deepresidual.cli.pictures import picture_paths
from deepresidual.cli.prediction_job import refuse
from deepresidual.cli.unusable import FileErrors, exit_code_of, warn_of_others
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from deepresidual.backends.detector import TorchDetector
    from deepresidual.explanation import FileExplanation

__all__ = ["explain"]

_BATCH_SIZE = 8


def explain(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    paths: Annotated[tyro.conf.Positional[list[str]], tyro.conf.arg(metavar="PATH...")],
    /,
    *,
    method: Maybe[Literal["grad-cam", "grad-cam++", "hires-cam", "score-cam"]] = None,
    layer: str = "last",
    class_: Annotated[Maybe[str], tyro.conf.arg(name="class", metavar="NAME", help_behavior_hint="")] = None,
    object: Maybe[int] = None,  # noqa: A002  # the name of the option
    stages: bool = False,
    out: LocalPath = Path("explanations"),
    batch_size: Maybe[int] = None,
    device: str = "auto",
    workers: Maybe[int] = None,
    json: bool = False,
) -> int:
    """Draw where in images the evidence for a class lies: a PNG for each, photo and heat map side by side.

    With a detector it is the evidence for one object that it finds. A file that cannot be used is named with
    the reason and does not stop the others; the exit code is then 3. Pictures that are there already are not
    overwritten.

    Args:
        model: A run or model folder; resnet20-cifar10, resnet56-cifar10 or resnet20-digits, which come with
            Residual; released weights by name (see 'residual models'); owner/name on the Hugging Face Hub;
            a URL; or a file of weights.
        paths: Image files, folders, or patterns such as 'photos/**/*.jpg'.
        method: grad-cam; grad-cam++ for several objects of a class; hires-cam, whose heat stays where the
            evidence is; score-cam without gradients, slow. Default: grad-cam, of a detector hires-cam.
        layer: A layer by name, such as layer3 or layer4.1; 'last' is the map that the classifier averages,
            of a detector the maps that it reads.
        class_: The class to look for, by name or number. Default: the most probable one of each image, of a
            detector any.
        object: Of a detector, which of the objects that it finds, or finds of --class: 1 is the surest.
            Default: 1.
        stages: Of a detector, draw instead how the object was found: anchors, proposals, the boxes that they
            become, and what is kept.
        out: Folder for the pictures.
        batch_size: Images at a time; a detector explains one after the other. Default: 8.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: Threads that read and decode.
        json: Print one JSON document at the end instead of a line for each file.
    """
    from deepresidual.models.source import find_source

    if not paths:
        raise ConfigurationError("there is no PATH", expected="image files, folders or patterns after MODEL")
    source = find_source(model)  # what is mistyped is told before torch is loaded
    of_classes = {
        f"--method {method}": method in ("grad-cam++", "score-cam"),
        "--batch-size": batch_size is not None,
    }
    of_objects = {"--object": object is not None, "--stages": stages}
    _refuse_of_others(model, source.task, of_classes, of_objects)
    from deepresidual.backends import find_images

    found = find_images(paths)
    from deepresidual.models import load

    loaded = load(model, device)
    _refuse_of_others(model, loaded.task, of_classes, of_objects)
    if loaded.task == "detection":
        from deepresidual.cli.explain_objects import Wanted, explain_objects

        wanted = Wanted(object, class_, cast("Any", method), None if layer == "last" else layer, stages)
        detector = cast("TorchDetector", loaded)
        return explain_objects(detector, model, found, wanted, out, workers, as_json=json)
    from deepresidual.explanation import draw_explanation, explain_files
    from deepresidual.models import require_classes, require_torch
    from deepresidual.runtime.console import warn_each
    from deepresidual.runtime.files import make_folder, write_bytes

    method = method or "grad-cam"
    pictures = picture_paths(found.files, out, lambda _file: f"-{method}.png")
    require_classes(loaded, model)
    require_torch(loaded, "heat maps", model)
    results = explain_files(
        loaded,
        found.files,
        method=method,
        layer=layer,
        class_name=class_,
        batch_size=_BATCH_SIZE if batch_size is None else batch_size,
        num_workers=workers,
    )
    warn_of_others(found.ignored)
    warn_each(found.unusable)
    errors = FileErrors()
    make_folder(out)
    if not json:
        print_line(f"{'class':<24} {'probability':>11}  picture")
    rows: list[dict[str, Any]] = []
    for result, picture in zip(results, pictures, strict=True):
        if result.explanation is None:
            errors.add(result.path, result.error)
        else:
            write_bytes(picture, draw_explanation(result.explanation))
            if not json:
                name, probability = result.explanation.label, result.explanation.probability
                print_line(f"{shown_class(name)} {probability:>11.4f}  {shortened(str(picture))}")
                flush_output()
        rows.append(_as_dict(result, picture))
    errors.end()
    if json:
        print_json({"method": method, "layer": layer, "count": len(rows), "results": rows})
    return exit_code_of(model, len(found.files), found.unusable, errors.reasons)


def _refuse_of_others(
    model: str, task: str | None, of_classes: dict[str, bool], of_objects: dict[str, bool]
) -> None:
    """Refuse options of the other kind of model, where the task is known."""
    if task == "detection":
        expected = "--method hires-cam or grad-cam, and one image at a time"
        refuse(of_classes, model, "a detector", expected)
    elif task is not None:
        refuse(of_objects, model, "a classifier", "a detector, or neither --object nor --stages")


def _as_dict(result: FileExplanation, picture: Path) -> dict[str, Any]:
    explanation = result.explanation
    if explanation is None:
        return {"path": result.path, "error": result.error}
    return {
        "path": result.path,
        "picture": str(picture),
        "class": explanation.label,
        "probability": explanation.probability,
        "predicted": {"class": explanation.predicted, "probability": explanation.predicted_probability},
    }
