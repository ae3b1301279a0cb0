"""``residual predict`` with a detector: the objects in images, as rows, COCO's results and pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deepresidual.cli.output import counted, flush_output, json_line, print_json, print_line, print_raw
from deepresidual.cli.pictures import picture_paths
from deepresidual.cli.prediction_files import write_file, write_folder
from deepresidual.cli.unusable import FileErrors, exit_code_of, warn_of_others
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.csv_cells import csv_text
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deepresidual.backends.detected import FileDetected
    from deepresidual.backends.images import ImageFile, ImageLike
    from deepresidual.backends.object_detector import ObjectDetector
    from deepresidual.cli.prediction_job import Job
    from deepresidual.prediction.objects import ObjectOutputs

__all__ = ["predict_objects"]

_LABEL_WIDTH = 20  # columns of the terminal


def predict_objects(loaded: ObjectDetector, job: Job, min_score: float | None, draw: Path | None) -> int:
    """Find objects, print, write and draw them, and return the exit code.

    Args:
        loaded: The detector.
        job: The images, and where rows go.
        min_score: ``--min-score``.
        draw: ``--draw``.

    Raises:
        ConfigurationError: Options are out of range or do not go together.
    """
    from deepresidual.backends.detected import DETECT_BATCH_SIZE, MIN_SCORE
    from deepresidual.prediction.objects import ObjectOutputs
    from deepresidual.prediction.outputs import ComputeSettings
    from deepresidual.runtime.console import warn_each

    if min_score is not None and not 0 <= min_score <= 1:
        raise ConfigurationError(f"--min-score is {min_score:g}", expected="0 to 1")
    is_coco = job.format == "coco" or (job.out is not None and job.out.suffix.casefold() == ".json")
    usual = 0.0 if is_coco else MIN_SCORE
    outputs = ObjectOutputs(
        loaded,
        min_score=usual if min_score is None else min_score,
        settings=ComputeSettings(
            batch_size=DETECT_BATCH_SIZE if job.batch_size is None else job.batch_size,
            num_workers=job.workers,
            precision=job.precision,
        ),
    )
    if job.folder is not None:
        if draw is not None:
            raise ConfigurationError("--draw is given with a folder of shards", expected="one of them")
        return write_folder(outputs, job.paths, job.found, job.folder, job.model, as_json=job.as_json)
    pictures = None if draw is None else _Pictures(job.files, draw)
    warn_of_others(job.found.ignored if job.found is not None else [])
    warn_each(job.unusable)
    errors = FileErrors()
    _write(outputs, job, errors, pictures)
    return exit_code_of(job.model, len(job.files), job.unusable, errors.reasons)


def _write(outputs: ObjectOutputs, job: Job, errors: FileErrors, pictures: _Pictures | None) -> None:
    """Print the rows as they are computed, or write them into a file; draw the pictures, and sum up."""
    from deepresidual.runtime.console import note

    kept: list[FileDetected] = []
    counts: Counter[str] = Counter()
    is_coco = job.format == "coco" and job.out is None

    def see(result: FileDetected) -> None:
        if job.as_json or is_coco:
            kept.append(result)
        if pictures is not None:
            pictures.add(result)
        if result.detected is not None:
            counts.update(result.detected.counts())

    if job.out is not None:
        write_file(outputs, job.files, job.out, errors, see)
    else:
        _print_rows(outputs, job, errors, see)
    num_used = len(job.files) - len(errors.reasons)
    if job.as_json:
        _print_document(outputs, kept, pictures)
    elif is_coco:
        _print_coco(kept)
    if job.out is not None and not job.as_json:
        print_line(f"{shortened(str(job.out))}: {_sum(counts, num_used)}{_unusable(errors)}")
    elif job.format in (None, "table") and num_used and not job.as_json:
        note(_sum(counts, num_used))
    if pictures is not None and pictures.count:
        note(f"drew {counted(pictures.count, 'picture')} into {pictures.folder}")
    if not counts and outputs.min_score > 0 and num_used:
        note(
            f"no object has a score of {outputs.min_score:g} or more: a lower --min-score shows what the "
            "model is less sure of"
        )


def _sum(counts: Counter[str], num_files: int) -> str:
    """Return what was found in all files: ``RBC ×12, WBC ×1 in 3 images``."""
    names = [f"{shortened(name, 40)} ×{count:,}" for name, count in counts.most_common(6)]
    more = sum(count for _, count in counts.most_common()[6:])
    found = ", ".join([*names, *([f"{more:,} more"] if more else [])]) or "no objects"
    return f"{found} in {counted(num_files, 'image')}"


def _unusable(errors: FileErrors) -> str:
    count = len(errors.reasons)
    return f", {counted(count, 'file')} could not be used" if count else ""


# -- rows ------------------------------------------------------------------------------------------------


def _print_rows(
    outputs: ObjectOutputs, job: Job, errors: FileErrors, see: Callable[[FileDetected], None]
) -> None:
    from deepresidual.prediction import object_rows

    kind = "none" if job.as_json else job.format or "table"
    results = outputs.results(job.files)
    if kind == "csv":
        print_raw(csv_text([list(object_rows.TYPES)]))
    has_header = kind != "table"
    for result in results:
        named = replace(result, path=result.path or "stdin")
        if named.error:
            errors.add(named.path, named.error)
        see(named)
        if not has_header and not named.error:
            print_line(f"{'label':<{_LABEL_WIDTH}} score     x0     y0     x1     y1  file")
            has_header = True
        match kind:
            case "csv":
                print_raw(csv_text([list(map(_shown, row)) for row in object_rows.cells(named)]))
            case "jsonl":
                print_raw(json_line(named.to_dict()))
            case "table" if not named.error:
                _print_table_rows(object_rows.cells(named))
        flush_output()
    errors.end()


def _print_table_rows(rows: list[list[Any]]) -> None:
    from rich.cells import cell_len

    for path, label, score, *box, _ in rows:
        if label is None:
            print_line(f"{'–':<{_LABEL_WIDTH}}{'':34}  {shortened(path)}")
            continue
        shown = shortened(label, _LABEL_WIDTH)
        name = shown + " " * (_LABEL_WIDTH - cell_len(shown))
        print_line(f"{name} {score:>5.2f} {' '.join(f'{value:>6.0f}' for value in box)}  {shortened(path)}")


def _shown(cell: str | float | None) -> str:
    return str(cell) if isinstance(cell, float) else cell or ""


def _print_document(outputs: ObjectOutputs, results: list[FileDetected], pictures: _Pictures | None) -> None:
    rows = [result.to_dict() for result in results]
    if pictures is not None:
        drawn = pictures.drawn
        rows = [
            {**row, **({"picture": str(drawn[row["path"]])} if row["path"] in drawn else {})} for row in rows
        ]
    print_json({"count": len(rows), "min_score": outputs.min_score, "results": rows})


def _print_coco(results: list[FileDetected]) -> None:
    from deepresidual.prediction import object_rows

    rows = object_rows.coco_results(results)
    print_raw("[" + ",\n".join(json_line(row).rstrip() for row in rows) + "]\n")


# -- pictures --------------------------------------------------------------------------------------------


class _Pictures:
    """The pictures of ``--draw``, one an image that could be used, in the order of the images."""

    def __init__(self, files: list[ImageFile | bytes], folder: Path) -> None:
        from deepresidual.reporting.boxes import picture_suffix
        from deepresidual.runtime.files import make_folder

        names = ["stdin" if isinstance(file, bytes) else file.path for file in files]
        self.folder, self.count, self.drawn = folder, 0, dict[str, Any]()
        paths = picture_paths(names, folder, picture_suffix, option="--draw")
        self._places = iter(zip(files, paths, strict=True))
        make_folder(folder)

    def add(self, result: FileDetected) -> None:
        """Draw the picture of the next image, if it could be used."""
        from deepresidual.reporting.boxes import draw_objects
        from deepresidual.runtime.files import write_bytes

        file, path = next(self._places)
        if result.detected is None:
            return
        image: ImageLike = file
        write_bytes(path, draw_objects(image, result.detected, suffix=path.suffix))
        self.count += 1
        self.drawn[result.path] = path
