"""Predicting files, as many as there are, one batch in memory at a time."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from residual.data.loader import evaluation_batches
from residual.data.source import IgnoredFile, list_images
from residual.data.source.listed import ListedFiles
from residual.errors import ConfigurationError, DataError
from residual.models.precision import settle_precision
from residual.runtime.device import Precision, PrecisionChoice, resolve_num_workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from residual.models import Model, Prediction

__all__ = ["FilePrediction", "find_images", "predict_files"]


@dataclass(frozen=True)
class FilePrediction:
    """What became of one file: a prediction, or the reason why there is none.

    Attributes:
        path: The file, as it was given or found.
        prediction: The most probable classes; ``None`` where the file could not be used.
        error: The reason; empty where there is a prediction.
    """

    path: str
    prediction: Prediction | None
    error: str = ""


def find_images(paths: Sequence[str]) -> tuple[list[str], list[IgnoredFile]]:
    """Return the image files that ``paths`` stand for, and the files in folders that are not images.

    Args:
        paths: Files, folders (searched through, sorted) and patterns with ``*``, ``?``, ``[…]`` or ``**``.

    Raises:
        DataError: A path does not exist, a pattern matches nothing, or there is no image at all.
    """
    files: list[str] = []
    ignored: list[IgnoredFile] = []
    for path in paths:
        if not path:
            raise ConfigurationError("a PATH is empty", expected="an image file, a folder or a pattern")
        if Path(path).is_dir():
            found: list[str] = []
            passed_over: list[IgnoredFile] = []
            found.extend(str(Path(path, name)) for name in list_images(Path(path), passed_over, Path(path)))
            ignored += [IgnoredFile(str(Path(path, file.path)), file.reason) for file in passed_over]
            if not found:
                raise DataError(f"{path} holds no images", expected="JPEG, PNG, WebP or BMP files")
            files += found
        elif Path(path).exists():
            files.append(path)  # named by the user: whatever it is, its own prediction or error is due
        elif glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  # takes absolute patterns, too
            if not matches:
                raise DataError(f"the pattern {path} matches no file")
            inner, passed_over = find_images(matches)
            files += inner
            ignored += passed_over
        else:
            raise DataError(f"{path} does not exist", expected="an image file, a folder or a pattern")
    return files, ignored


def predict_files(
    model: Model,
    files: Sequence[str],
    *,
    top_k: int = 1,
    batch_size: int = 32,
    num_workers: int | None = None,
    precision: PrecisionChoice = "fp32",
) -> Iterator[FilePrediction]:
    """Return one result a file, in order, while the rest is still being read.

    A file that cannot be used yields its error and does not stop the others.

    Args:
        model: What :func:`residual.load` returned, on the device to use.
        files: Paths of image files.
        top_k: How many classes to return for each, best first.
        batch_size: Images at a time.
        num_workers: Threads that read and decode; chosen for the machine where left out.
        precision: ``fp32``, ``bf16``, or ``auto`` for the faster of both, measured
            (:mod:`residual.models.precision`).

    Raises:
        ConfigurationError: ``top_k`` is not between 1 and the number of classes.
    """
    if not 1 <= top_k <= model.spec.num_classes:
        raise ConfigurationError(f"top_k is {top_k}", expected=f"1 to {model.spec.num_classes}")
    if batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size}", expected="1 or more")
    if num_workers is None and len(files) <= 2 * batch_size:
        num_workers = 0  # a few files are decoded sooner than threads start
    workers = resolve_num_workers(num_workers, model.device, model.preprocess.crop_px)
    settled = settle_precision(
        precision, model.spec, model.device, image_px=model.preprocess.crop_px, training=False
    )
    return _stream(model, files, top_k, batch_size, workers, settled.precision)


def _stream(
    model: Model, files: Sequence[str], top_k: int, batch_size: int, num_workers: int, precision: Precision
) -> Iterator[FilePrediction]:
    batches = evaluation_batches(
        ListedFiles(files), model.preprocess, batch_size=batch_size, num_workers=num_workers
    )
    for batch in batches:
        results = {bad.index: FilePrediction(files[bad.index], None, bad.reason) for bad in batch.bad}
        if len(batch):
            ranked = model.rank(model.logits(batch.pixels, precision), top_k)
            for index, prediction in zip(batch.indices.tolist(), ranked, strict=True):
                results[index] = FilePrediction(files[index], prediction)
        yield from (results[index] for index in sorted(results))
