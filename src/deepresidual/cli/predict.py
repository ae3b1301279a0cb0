"""``residual predict``: predict the classes of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from deepresidual.cli.label_rows import print_label_header, print_label_row
from deepresidual.cli.options import Maybe
from deepresidual.cli.output import flush_output, json_line, print_json, print_line, print_raw, shown_class
from deepresidual.cli.unusable import exit_code_of
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.csv_cells import csv_text
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from deepresidual.backends import FilePrediction

__all__ = ["predict"]


def predict(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    paths: Annotated[tyro.conf.Positional[list[str]], tyro.conf.arg(metavar="PATH...")],
    /,
    *,
    top_k: int = 1,
    format: Literal["table", "jsonl", "csv"] = "table",  # noqa: A002  # the name of the option
    batch_size: int = 32,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    device: str = "auto",
    workers: Maybe[int] = None,
    json: bool = False,
) -> int:
    """Predict the classes of images: files, folders and patterns. Rows appear as they are computed.

    A file that cannot be used is named with the reason and does not stop the others; the exit code is
    then 3. What exists by its very name is no pattern, and each file is predicted once.

    Args:
        model: A run or model folder; resnet20-cifar10, resnet56-cifar10 or resnet20-digits, which come with
            Residual; released weights by name (see 'residual models'); owner/name on the Hugging Face Hub;
            a URL; or a file of weights.
        paths: Image files, folders, or patterns such as 'photos/**/*.jpg'.
        top_k: How many classes to show for each image.
        format: table, jsonl (a JSON object a line) or csv.
        batch_size: Images at a time.
        precision: fp32 as in evaluation; bf16 is faster.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: Threads that read and decode.
        json: Print one JSON document at the end instead.
    """
    from deepresidual.models.source import find_source

    if not paths:
        raise ConfigurationError("there is no PATH", expected="image files, folders or patterns after MODEL")
    find_source(model)  # what is mistyped is told before torch is loaded
    from deepresidual.backends import find_images, predict_files

    found = find_images(paths)
    from deepresidual.models import load, require_classes
    from deepresidual.runtime.console import warn, warn_each

    loaded = load(model, device)
    require_classes(loaded, model)
    warn_each([*found.ignored, *found.unusable])
    results = predict_files(
        loaded, found.files, top_k=top_k, batch_size=batch_size, num_workers=workers, precision=precision
    )
    several = loaded.task != "classification"
    if not json:
        _print_header(format, top_k, several=several)
    rows: list[dict[str, Any]] = []
    errors = []
    for result in results:
        if result.error:
            errors.append(result.error)
            warn(f"{result.path}: {result.error}")
        if json:
            rows.append(_as_dict(result))
        else:
            _print_row(format, result, top_k, several=several)
            flush_output()
    if json:
        print_json({"count": len(rows), "results": rows})
    return exit_code_of(model, found, errors)


def _as_dict(result: FilePrediction) -> dict[str, Any]:
    found = {"predictions": [{"class": name, "probability": value} for name, value in _pairs(result)]}
    return {"path": result.path, **found, **({"error": result.error} if result.prediction is None else {})}


def _pairs(result: FilePrediction) -> list[tuple[str, float]]:
    """Return classes and probabilities; none if the file could not be used."""
    if result.prediction is None:
        return []
    return list(zip(result.prediction.classes, result.prediction.probabilities, strict=True))


def _print_header(kind: Literal["table", "jsonl", "csv"], top_k: int, *, several: bool) -> None:
    if several:
        print_label_header(kind)
        return
    if kind == "table":
        print_line(f"{'class':<24} {'probability':>11}  " * top_k + "file")
    elif kind == "csv":
        numbers = ["", *(f"_{number}" for number in range(2, top_k + 1))]
        names = [name for number in numbers for name in (f"class{number}", f"probability{number}")]
        print_raw(csv_text([["path", *names, "error"]]))


def _print_row(
    kind: Literal["table", "jsonl", "csv"], result: FilePrediction, top_k: int, *, several: bool
) -> None:
    pairs = _pairs(result)
    if kind == "jsonl":
        print_raw(json_line(_as_dict(result)))
    elif several:
        print_label_row(kind, result)
    elif kind == "csv":
        cells = [cell for name, value in pairs for cell in (name, f"{value:.6f}")] or [""] * (2 * top_k)
        print_raw(csv_text([[result.path, *cells, result.error]]))
    elif pairs:
        # Widths are fixed beforehand, because rows are printed as they come.
        cells = [f"{shown_class(name)} {value:>11.4f}  " for name, value in pairs]
        print_line("".join(cells) + shortened(result.path))
