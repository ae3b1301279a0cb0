"""``residual explain`` with a detector: the evidence for one object of each photo, or how it was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from deepresidual.cli.output import flush_output, print_json, print_line, shown_class
from deepresidual.cli.pictures import picture_paths
from deepresidual.cli.unusable import FileErrors, exit_code_of, warn_of_others
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.backends.detector import TorchDetector
    from deepresidual.backends.files import FoundImages
    from deepresidual.explanation.object_maps import ObjectMethod
    from deepresidual.explanation.objects import FileObjectExplanation

__all__ = ["Wanted", "explain_objects"]


class Wanted(NamedTuple):
    """What is asked for.

    Attributes:
        number: ``--object``.
        class_name: ``--class``.
        method: ``--method``.
        layer: ``--layer``.
        draws_stages: ``--stages``.
    """

    number: int | None
    class_name: str | None
    method: ObjectMethod | None
    layer: str | None
    draws_stages: bool


def explain_objects(
    loaded: TorchDetector,
    model: str,
    found: FoundImages,
    wanted: Wanted,
    out: Path,
    workers: int | None,
    *,
    as_json: bool,
) -> int:
    """Explain an object of each photo, print a line or a document, and return the exit code.

    Args:
        loaded: The detector.
        model: What the user calls it.
        found: The photos.
        wanted: Which object, and what is drawn of it.
        out: ``--out``.
        workers: ``--workers``.
        as_json: ``--json``.

    Raises:
        ConfigurationError: Options are out of range, or do not go together.
        DataError: The only photo cannot be used, or there is no such object in it.
    """
    from deepresidual.explanation.object_drawing import draw_object
    from deepresidual.explanation.objects import explain_object_files
    from deepresidual.explanation.stage_drawing import draw_stages
    from deepresidual.runtime.console import warn_each
    from deepresidual.runtime.files import make_folder, write_bytes

    _require_sensible(wanted)
    number, method, layer = wanted.number or 1, wanted.method or "hires-cam", wanted.layer or "last"
    what = "stages" if wanted.draws_stages else method
    pictures = picture_paths(found.files, out, lambda _file: f"-object-{number}-{what}.png")
    results = explain_object_files(
        loaded,
        found.files,
        number=number,
        class_name=wanted.class_name,
        method=method,
        layer=layer,
        num_workers=workers,
    )
    warn_of_others(found.ignored)
    warn_each(found.unusable)
    errors, rows = FileErrors(), list[dict[str, Any]]()
    draw = draw_stages if wanted.draws_stages else draw_object
    for result, picture in zip(results, pictures, strict=True):
        if result.explanation is not None:
            make_folder(out)
            write_bytes(picture, draw(result))
        elif len(found.files) == 1 and not as_json:
            raise DataError(f"{result.path}: {result.error}")
        else:
            errors.add(result.path, result.error)
        rows.append(_as_dict(result, picture))
        if not as_json:
            _print_row(result, picture, has_header=len(rows) - len(errors.reasons) > 1)
    errors.end()
    if as_json:
        settings = {} if wanted.draws_stages else {"method": method, "layer": layer}
        print_json({**settings, "count": len(rows), "results": rows})
    return exit_code_of(model, len(found.files), found.unusable, errors.reasons)


def _require_sensible(wanted: Wanted) -> None:
    if wanted.number is not None and wanted.number < 1:
        raise ConfigurationError(f"--object is {wanted.number}", expected="1 for the surest, or more")
    for option, value in (("--method", wanted.method), ("--layer", wanted.layer)):
        if wanted.draws_stages and value is not None:
            raise ConfigurationError(
                f"{option} is given with --stages, which draws no heat map", expected="one of them"
            )


def _print_row(result: FileObjectExplanation, picture: Path, *, has_header: bool) -> None:
    explanation = result.explanation
    if explanation is None:
        return
    if not has_header:
        print_line(f"object  {'class':<24} score  picture")
    place = f"{explanation.row + 1} of {len(explanation.detected)}"
    print_line(
        f"{place:<7} {shown_class(explanation.label)} {explanation.score:>5.2f}  {shortened(str(picture))}"
    )
    flush_output()


def _as_dict(result: FileObjectExplanation, picture: Path) -> dict[str, Any]:
    explanation = result.explanation
    if explanation is None:
        return {"path": result.path, "error": result.error}
    (document,) = explanation.detected.to_dict()["objects"][explanation.row : explanation.row + 1]
    return {
        "path": result.path,
        "picture": str(picture),
        "object": explanation.row + 1,
        "found": len(explanation.detected),
        "class": document["label"],
        "score": document["score"],
        "box": document["box"],
    }
