"""``residual predict``: predict the classes of images, or find the objects in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.prediction_files import Destination
from deepresidual.cli.prediction_job import STDIN, Job, files_of, refuse
from deepresidual.errors import ConfigurationError

if TYPE_CHECKING:
    from deepresidual.backends.files import FoundImages
    from deepresidual.backends.images import ImageFile
    from deepresidual.backends.object_detector import ObjectDetector

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


def predict(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    paths: Annotated[tyro.conf.Positional[list[str]], tyro.conf.arg(metavar="PATH...")],
    /,
    *,
    top_k: int = 1,
    format: Maybe[Literal["table", "jsonl", "csv", "parquet", "npy", "coco"]] = None,  # noqa: A002  # the name of the option
    out: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FILE|FOLDER")]] = None,
    shard: Maybe[Annotated[str, tyro.conf.arg(metavar="I/N")]] = None,
    shard_size: Maybe[int] = None,
    min_probability: Maybe[Annotated[str, tyro.conf.arg(metavar="auto|P")]] = None,
    min_score: Maybe[float] = None,
    draw: Maybe[Annotated[LocalPath, tyro.conf.arg(metavar="FOLDER")]] = None,
    features: Maybe[_Stage] = None,
    dtype: Maybe[Literal["float16", "float32"]] = None,
    fast_decode: bool = False,
    batch_size: Maybe[int] = None,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    backend: Literal["auto", "onnxruntime", "openvino", "torch"] = "auto",
    device: str = "auto",
    workers: Maybe[int] = None,
    json: bool = False,
) -> int:
    """Predict the classes of images, or find objects in them. Rows appear as they are computed.

    A file that cannot be used is named with the reason and does not stop the others; the exit code is
    then 3. What exists by its very name is no pattern, and each file is predicted once.

    Args:
        model: A run or model folder, or a folder of 'residual export'; resnet20-cifar10, resnet56-cifar10 or
            resnet20-digits, which come with Residual; released weights by name (see 'residual models');
            owner/name on the Hugging Face Hub; a URL; or a file of weights.
        paths: Image files, folders, .zip and .tar files, patterns such as 'photos/**/*.jpg', or - for one
            image from stdin.
        top_k: How many classes to show for each image.
        format: table, jsonl (a JSON object a line) or csv; of a detector also coco; of the shards of a folder
            parquet, jsonl or csv, with --features parquet or npy. Default: table; of shards parquet.
        out: Write the rows into this .csv, .jsonl or .parquet file instead, of a detector also .json (COCO
            results), whole or not at all, in place of one that is there; or into a folder of shards, where
            the same command goes on after it was ended.
        shard: With a folder, do the I-th of N parts, from 0: so many processes or machines share the work.
        shard_size: With a folder, files in a shard. Default: 4096, or fewer with --shard.
        min_probability: Answer "unsure" below this probability; auto: the one that 'residual evaluate'
            has chosen by a precision target. That is no detector of what the model has never seen.
        min_score: Of a detector, from which score on, 0 to 1, an object is found. Default: 0.5; of COCO
            results 0, all that the model gives, which is what evaluators want.
        draw: Of a detector, draw the boxes over each image, into this folder. Pictures that are there already
            are not overwritten.
        features: Write vectors instead of classes, into a .parquet or .npy file or a folder of such: the mean
            of the map after a stage (stem, layer1, …). Default: what the classifier reads.
        dtype: Numbers of --features. Default: float32.
        fast_decode: Decode large JPEGs at a half, a quarter or an eighth of their size. Probabilities change
            a little.
        batch_size: Images at a time. Default: 32, of a detector 8.
        precision: fp32 as in evaluation; bf16 is faster.
        backend: What computes an exported model: onnxruntime, openvino, torch; auto: the fastest here, which
            is tried for some seconds from 64 images on.
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
    # What is mistyped, and what the model cannot do, is told before torch is loaded.
    source = find_source(model)
    is_coco_file = out is not None and out.suffix.casefold() == ".json" and not out.is_dir()
    of_classes = {
        "--top-k": top_k != 1,
        "--min-probability": min_probability is not None,
        "--features": features is not None,
        "--fast-decode": fast_decode,
        "--format npy": format == "npy",
    }
    of_objects = {
        "--min-score": min_score is not None,
        "--draw": draw is not None,
        "--format coco": format == "coco",
        "--out FILE.json": is_coco_file,
    }
    _refuse_of_others(model, source.task, of_classes, of_objects)
    suffixes: tuple[str, ...] = (".json",) if is_coco_file else TABLE_SUFFIXES
    if features is not None:
        from deepresidual.prediction.features import FEATURE_SUFFIXES

        suffixes = FEATURE_SUFFIXES
    folder = Destination.of(out, suffixes, format, shard, shard_size)
    _require_sensible(folder, paths, format if out is None else None, fast_decode=fast_decode)
    if features is None and dtype is not None:
        raise ConfigurationError("--dtype is given without --features", expected="both or none")
    if features is not None:
        from deepresidual.cli.predict_classes import require_vectors

        given = {"--top-k": top_k != 1, "--min-probability": min_probability is not None}
        require_vectors(features, out, [name for name, is_given in given.items() if is_given])
    found: FoundImages | None
    files: list[ImageFile | bytes] = []
    if folder is not None:
        found = folder.found(paths)
    else:
        found, files = files_of(paths)
    from deepresidual.models import load

    loaded = load(model, device, backend=backend)
    job = Job(model, paths, found, files, folder, out, format, batch_size, workers, precision, json)
    _refuse_of_others(model, loaded.task, of_classes, of_objects)
    if loaded.task == "detection":
        from deepresidual.cli.predict_objects import predict_objects

        return predict_objects(cast("ObjectDetector", loaded), job, min_score, draw)
    from deepresidual.cli.predict_classes import predict_classes, predict_features

    if features is not None:
        return predict_features(loaded, job, features, dtype, fast_decode=fast_decode)
    return predict_classes(loaded, job, top_k=top_k, min_probability=min_probability, fast_decode=fast_decode)


def _refuse_of_others(
    model: str, task: str | None, of_classes: dict[str, bool], of_objects: dict[str, bool]
) -> None:
    """Refuse options of the other kind of model, where the task is known."""
    if task == "detection":
        refuse(of_classes, model, "a detector", "an option of detectors: --min-score, --draw, --format coco")
    elif task is not None:
        refuse(of_objects, model, "a classifier", "a detector, or none of --min-score, --draw, COCO results")


def _require_sensible(
    folder: Destination | None, paths: list[str], format_name: str | None, *, fast_decode: bool
) -> None:
    """Refuse options that do not go together."""
    if folder is None and format_name in ("parquet", "npy"):
        raise ConfigurationError(
            f"--format is {format_name} without a file", remedy=f"add --out FILE.{format_name}"
        )
    if STDIN not in paths:
        return
    if folder is not None:
        raise ConfigurationError("- is given with a folder", expected="files, folders and patterns")
    if fast_decode:
        raise ConfigurationError("- is given with --fast-decode", expected="files, folders and patterns")
