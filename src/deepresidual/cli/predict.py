"""``residual predict``: predict the classes of images."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import counted, print_json, print_line
from deepresidual.cli.prediction_files import Destination, write_features, write_file, write_folder
from deepresidual.cli.prediction_output import print_rows
from deepresidual.cli.unusable import FileErrors, exit_code_of, warn_of_others
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.backends import Classifier, FilePrediction
    from deepresidual.backends.files import FoundImages
    from deepresidual.backends.images import ImageFile
    from deepresidual.prediction.outputs import ClassOutputs, Outputs

__all__ = ["predict"]

_Stage = Annotated[
    str,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="[STAGE]",
        instance_from_str=" ".join,
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    ),
]
"""The stage behind ``--features``; empty where none is named."""

_STDIN = "-"
# As much as an image in an archive may have.
_MAX_STDIN_BYTES = 1_000_000_000


def predict(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    paths: Annotated[tyro.conf.Positional[list[str]], tyro.conf.arg(metavar="PATH...")],
    /,
    *,
    top_k: int = 1,
    format: Maybe[Literal["table", "jsonl", "csv", "parquet", "npy"]] = None,  # noqa: A002  # the name of the option
    out: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FILE|FOLDER")]] = None,
    shard: Maybe[Annotated[str, tyro.conf.arg(metavar="I/N")]] = None,
    shard_size: Maybe[int] = None,
    min_probability: Maybe[Annotated[str, tyro.conf.arg(metavar="auto|P")]] = None,
    features: Maybe[_Stage] = None,
    dtype: Maybe[Literal["float16", "float32"]] = None,
    fast_decode: bool = False,
    batch_size: int = 32,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    backend: Literal["auto", "onnxruntime", "openvino", "torch"] = "auto",
    device: str = "auto",
    workers: Maybe[int] = None,
    json: bool = False,
) -> int:
    """Predict the classes of images: files, folders and patterns. Rows appear as they are computed.

    A file that cannot be used is named with the reason and does not stop the others; the exit code is
    then 3. What exists by its very name is no pattern, and each file is predicted once.

    Args:
        model: A run or model folder, or a folder of 'residual export'; resnet20-cifar10, resnet56-cifar10 or
            resnet20-digits, which come with Residual; released weights by name (see 'residual models');
            owner/name on the Hugging Face Hub; a URL; or a file of weights.
        paths: Image files, folders, .zip and .tar files, patterns such as 'photos/**/*.jpg', or - for one
            image from stdin.
        top_k: How many classes to show for each image.
        format: table, jsonl (a JSON object a line) or csv; of the shards of a folder parquet, jsonl or csv,
            with --features parquet or npy. Default: table; of shards parquet.
        out: Write the rows into this .csv, .jsonl or .parquet file instead, whole or not at all; or into a
            folder of shards, where the same command goes on after it was ended.
        shard: With a folder, do the I-th of N parts, from 0: so many processes or machines share the work.
        shard_size: With a folder, files in a shard. Default: 4096, or fewer with --shard.
        min_probability: Answer "unsure" below this probability; auto: the one that 'residual evaluate'
            has chosen by a precision target. That is no detector of what the model has never seen.
        features: Write vectors instead of classes, into a .parquet or .npy file or a folder of such: the mean
            of the map after a stage (stem, layer1, …). Default: what the classifier reads.
        dtype: Numbers of --features. Default: float32.
        fast_decode: Decode large JPEGs at a half, a quarter or an eighth of their size. Probabilities change
            a little.
        batch_size: Images at a time.
        precision: fp32 as in evaluation; bf16 is faster.
        backend: What computes an exported model: onnxruntime, openvino, torch; auto: the fastest here, which
            is tried for three seconds from 64 images on.
        device: auto, cpu, cuda, cuda:1, mps.
        workers: Threads that read and decode; of an exported model those that compute do.
        json: Print one JSON document at the end instead.
    """
    from deepresidual.models.source import find_source
    from deepresidual.runtime.table_file import TABLE_SUFFIXES

    if not paths:
        raise ConfigurationError(
            "there is no PATH",
            expected="image files, folders, zip files, patterns or - after MODEL",
            remedy="put them before --features" if features else "",
        )
    suffixes: tuple[str, ...] = TABLE_SUFFIXES
    if features is not None:
        from deepresidual.prediction.features import FEATURE_SUFFIXES

        suffixes = FEATURE_SUFFIXES
    folder = Destination.of(out, suffixes, format, shard, shard_size)
    _require_sensible(folder, paths, format, fast_decode=fast_decode)
    if features is None and dtype is not None:
        raise ConfigurationError("--dtype is given without --features", expected="both or none")
    if features is not None:
        given = {"--top-k": top_k != 1, "--min-probability": min_probability is not None}
        _require_vectors(features, out, [name for name, is_given in given.items() if is_given])
    find_source(model)  # what is mistyped is told before torch is loaded
    found: FoundImages | None
    files: list[ImageFile | bytes] = []
    if folder is not None:
        found = folder.found(paths)
    else:
        found, files = _files_of(paths)
    from deepresidual.models import load, require_classes
    from deepresidual.prediction.features import FeatureOutputs
    from deepresidual.prediction.outputs import ClassOutputs, ComputeSettings
    from deepresidual.runtime.console import note, warn_each

    loaded = load(model, device, backend=backend)
    settings = ComputeSettings(
        batch_size=batch_size, num_workers=workers, precision=precision, fast_decode=fast_decode
    )
    threshold: float | None = None
    outputs: Outputs[Any]
    if features is not None:
        outputs = FeatureOutputs(loaded, stage=features or None, dtype=dtype or "float32", settings=settings)
    else:
        require_classes(loaded, model)
        threshold = None if min_probability is None else _threshold(min_probability, loaded, model)
        outputs = ClassOutputs(loaded, top_k=top_k, min_probability=threshold, settings=settings)
    if folder is not None:
        exit_code = write_folder(outputs, paths, found, folder, model, as_json=json)
    else:
        unusable = found.unusable if found is not None else []
        if features is None:
            _tell_of_bundled(model, loaded, files)
        warn_of_others(found.ignored if found is not None else [])
        warn_each(unusable)
        errors = FileErrors()
        if isinstance(outputs, ClassOutputs):
            _write_rows(outputs, files, format, out, errors, as_json=json)
        elif isinstance(outputs, FeatureOutputs) and out is not None:
            write_features(outputs, files, out, errors, as_json=json)
        exit_code = exit_code_of(model, len(files), unusable, errors.reasons)
    if threshold is not None:
        note(
            f"below {threshold:g} an image is called unsure. That is no detector of strangers: of what it "
            "has never seen a model can be sure, too"
        )
    return exit_code


def _require_sensible(
    folder: Destination | None, paths: list[str], format_name: str | None, *, fast_decode: bool
) -> None:
    """Refuse options that do not go together."""
    if folder is None and format_name in ("parquet", "npy"):
        raise ConfigurationError(
            f"--format is {format_name} without a file", remedy=f"add --out FILE.{format_name}"
        )
    if _STDIN not in paths:
        return
    if folder is not None:
        raise ConfigurationError("- is given with a folder", expected="files, folders and patterns")
    if fast_decode:
        raise ConfigurationError("- is given with --fast-decode", expected="files, folders and patterns")


def _require_vectors(stage: str, out: Path | None, given: list[str]) -> None:
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


def _files_of(paths: list[str]) -> tuple[FoundImages, list[ImageFile | bytes]]:
    """Return what paths stand for, and what to predict: files, and last the image from stdin."""
    from deepresidual.backends import find_images
    from deepresidual.backends.files import FoundImages
    from deepresidual.backends.images import ImageFile

    others = [path for path in paths if path != _STDIN]
    found = find_images(others) if others else FoundImages([], [], [])
    stdin = [_read_stdin()] if _STDIN in paths else []
    return found, [*map(ImageFile, found.files), *stdin]


def _read_stdin() -> bytes:
    """Return the image that comes through stdin, up to its end."""
    if sys.stdin is None:
        raise DataError("stdin is closed", expected="the bytes of an image")
    content = sys.stdin.buffer.read(_MAX_STDIN_BYTES + 1)
    if len(content) > _MAX_STDIN_BYTES:
        raise DataError(f"stdin has more than {_MAX_STDIN_BYTES:,} bytes", expected="the bytes of one image")
    return content


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
