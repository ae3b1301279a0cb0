"""``residual predict`` with a classifier: classes of images, or with ``--features`` vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from deepresidual.cli.output import counted, print_json, print_line
from deepresidual.cli.prediction_files import write_features, write_file, write_folder
from deepresidual.cli.prediction_output import print_rows
from deepresidual.cli.unusable import FileErrors, exit_code_of, warn_of_others
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.backends import Classifier, FilePrediction
    from deepresidual.backends.images import ImageFile
    from deepresidual.cli.prediction_job import Job
    from deepresidual.prediction.features import FeatureType
    from deepresidual.prediction.outputs import ClassOutputs, ComputeSettings

__all__ = ["predict_classes", "predict_features", "require_vectors"]


def predict_classes(
    loaded: Classifier, job: Job, *, top_k: int, min_probability: str | None, fast_decode: bool
) -> int:
    """Predict classes, print or write them, and return the exit code."""
    from deepresidual.models import require_classes
    from deepresidual.prediction.outputs import ClassOutputs
    from deepresidual.runtime.console import note

    require_classes(loaded, job.model)
    threshold = None if min_probability is None else _threshold(min_probability, loaded, job.model)
    settings = _settings(job, fast_decode=fast_decode)
    outputs = ClassOutputs(loaded, top_k=top_k, min_probability=threshold, settings=settings)
    if job.folder is not None:
        exit_code = write_folder(outputs, job.paths, job.found, job.folder, job.model, as_json=job.as_json)
    else:
        _tell_of_bundled(job.model, loaded, job.files)
        errors = _warned(job)
        _write_rows(outputs, job.files, job.format, job.out, errors, as_json=job.as_json)
        exit_code = exit_code_of(job.model, len(job.files), job.unusable, errors.reasons)
    if threshold is not None:
        note(
            f"below {threshold:g} an image is called unsure. That is no detector of strangers: of what it "
            "has never seen a model can be sure, too"
        )
    return exit_code


def predict_features(
    loaded: Classifier, job: Job, stage: str, dtype: FeatureType | None, *, fast_decode: bool
) -> int:
    """Write features into a file or a folder of shards, and return the exit code."""
    from deepresidual.prediction.features import FeatureOutputs

    settings = _settings(job, fast_decode=fast_decode)
    outputs = FeatureOutputs(loaded, stage=stage or None, dtype=dtype or "float32", settings=settings)
    if job.folder is not None:
        return write_folder(outputs, job.paths, job.found, job.folder, job.model, as_json=job.as_json)
    errors = _warned(job)
    assert job.out is not None  # noqa: S101  # `require_vectors` has seen to it
    write_features(outputs, job.files, job.out, errors, as_json=job.as_json)
    return exit_code_of(job.model, len(job.files), job.unusable, errors.reasons)


def _settings(job: Job, *, fast_decode: bool) -> ComputeSettings:
    from deepresidual.backends.classifier import PREDICT_BATCH_SIZE
    from deepresidual.prediction.outputs import ComputeSettings

    return ComputeSettings(
        batch_size=PREDICT_BATCH_SIZE if job.batch_size is None else job.batch_size,
        num_workers=job.workers,
        precision=job.precision,
        fast_decode=fast_decode,
    )


def _warned(job: Job) -> FileErrors:
    """Warn of what the paths hold besides images, and return what takes the errors of files."""
    from deepresidual.runtime.console import warn_each

    warn_of_others(job.found.ignored if job.found is not None else [])
    warn_each(job.unusable)
    return FileErrors()


def require_vectors(stage: str, out: Path | None, given: list[str]) -> None:
    """Refuse with ``--features`` what is for classes, and vectors without a file."""
    if " " in stage:
        raise ConfigurationError(
            f"--features is followed by {len(stage.split()):,} words ({stage})",
            expected="a stage, or nothing",
            remedy="put MODEL and PATH before --features",
        )
    if given:
        raise ConfigurationError(f"{given[0]} is given with --features, which names no classes")
    if out is None:
        raise ConfigurationError(
            "--features is given without --out",
            expected="a .parquet or .npy file, or a folder",
            remedy="add --out FILE.parquet" + (f"; {stage} stands for the stage" if stage else ""),
        )


def _tell_of_bundled(model: str, loaded: Classifier, files: list[ImageFile | bytes]) -> None:
    """Say what a bundled model makes of photos: it is the first that a newcomer tries, and knows little."""
    from deepresidual.data.decode import open_image, read_file
    from deepresidual.models import bundled
    from deepresidual.runtime.console import note

    if model not in bundled.names() or not files or isinstance(files[0], bytes):
        return
    side = loaded.preprocess.crop_px
    try:
        image = open_image(read_file(files[0].path))
    except DataError:
        return  # its own row says why
    if min(image.width, image.height) > 2 * side:
        note(
            f"{model} shrinks photos to {side} px and knows {len(loaded.label_names)} classes only "
            f"({', '.join(loaded.label_names)}): of anything else it names one of these all the same"
        )


def _threshold(choice: str, loaded: Classifier, model: str) -> float:
    """Return the probability below which there is no answer.

    Raises:
        ConfigurationError: It is no probability, the model has none, or it gives several labels.
    """
    from deepresidual.backends.thresholds import MULTILABEL

    if loaded.task == MULTILABEL:
        raise ConfigurationError(
            f"--min-probability is given, and {model} gives an image several labels",
            expected="a model of one class an image; several labels have thresholds of their own",
        )
    if choice == "auto":
        if loaded.abstention is None:
            raise ConfigurationError(
                f"--min-probability is auto, and nothing was chosen for {model}",
                expected="a number from 0 to 1",
                remedy=f"choose one with 'residual evaluate {model} DATA --precision-target 0.95'",
            )
        return loaded.abstention.min_probability
    try:
        value = float(choice)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ConfigurationError(f"--min-probability is {choice!r}", expected="auto, or a number from 0 to 1")
    return value


def _write_rows(
    outputs: ClassOutputs,
    files: list[ImageFile | bytes],
    format_name: str | None,
    out: Path | None,
    errors: FileErrors,
    *,
    as_json: bool,
) -> None:
    """Print the rows as they are computed, or write them into a file."""
    rows = outputs.rows()
    documents: list[dict[str, Any]] = []

    def keep(result: FilePrediction) -> None:
        if as_json:
            documents.append(rows.as_dict(result))

    if out is not None:
        write_file(outputs, files, out, errors, keep)
    else:
        print_rows(outputs, files, format_name, errors, keep, quiet=as_json)
    if as_json:
        print_json({"count": len(documents), "fast_decode": outputs.fast_decode, "results": documents})
    elif out is not None:
        print_line(f"{shortened(str(out))}: {counted(len(files), 'row')}{errors.in_words()}")
