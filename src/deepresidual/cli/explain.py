"""``residual explain``: draw heat maps of the evidence for a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import flush_output, print_json, print_line, shown_class
from deepresidual.cli.pictures import picture_paths
from deepresidual.cli.unusable import FileErrors, exit_code_of, warn_of_others
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from deepresidual.explanation import FileExplanation

__all__ = ["explain"]


def explain(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    paths: Annotated[tyro.conf.Positional[list[str]], tyro.conf.arg(metavar="PATH...")],
    /,
    *,
    method: Literal["grad-cam", "grad-cam++", "score-cam"] = "grad-cam",
    layer: str = "last",
    class_: Annotated[Maybe[str], tyro.conf.arg(name="class", metavar="NAME", help_behavior_hint="")] = None,
    out: LocalPath = Path("explanations"),
    batch_size: int = 8,
    device: str = "auto",
    workers: Maybe[int] = None,
    json: bool = False,
) -> int:
    """Draw where in images the evidence for a class lies: a PNG for each, photo and heat map side by side.

    A file that cannot be used is named with the reason and does not stop the others; the exit code is
    then 3. Pictures that are there already are not overwritten.

    Args:
        model: A run or model folder; resnet20-cifar10, resnet56-cifar10 or resnet20-digits, which come with
            Residual; released weights by name (see 'residual models'); owner/name on the Hugging Face Hub;
            a URL; or a file of weights.
        paths: Image files, folders, or patterns such as 'photos/**/*.jpg'.
        method: grad-cam; grad-cam++ for several objects of a class; score-cam without gradients, slow.
        layer: A layer by name, such as layer3 or layer4.1; 'last' is the map that the classifier averages.
        class_: The class to look for, by name or number. Default: the most probable one of each image.
        out: Folder for the pictures.
        batch_size: Images at a time.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: Threads that read and decode.
        json: Print one JSON document at the end instead of a line for each file.
    """
    from deepresidual.models.source import find_source

    if not paths:
        raise ConfigurationError("there is no PATH", expected="image files, folders or patterns after MODEL")
    find_source(model)  # what is mistyped is told before torch is loaded
    from deepresidual.backends import find_images

    found = find_images(paths)
    from deepresidual.explanation import draw_explanation, explain_files
    from deepresidual.models import load, require_classes, require_torch
    from deepresidual.runtime.console import warn_each
    from deepresidual.runtime.files import make_folder, write_bytes

    pictures = picture_paths(found.files, out, lambda _file: f"-{method}.png")
    loaded = load(model, device)
    require_classes(loaded, model)
    require_torch(loaded, "heat maps", model)
    results = explain_files(
        loaded,
        found.files,
        method=method,
        layer=layer,
        class_name=class_,
        batch_size=batch_size,
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
