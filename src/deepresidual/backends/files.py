"""Find the image files that paths stand for, and predict them, a batch in memory at a time."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepresidual.backends.classifier import PREDICT_BATCH_SIZE, Classifier, Prediction
from deepresidual.backends.images import ImageFile
from deepresidual.data.formats import EXPECTED
from deepresidual.data.source import IgnoredFile, archive, list_images
from deepresidual.errors import ConfigurationError, DataError, ModelFileError, ResidualError
from deepresidual.runtime.files import expanded
from deepresidual.runtime.processes import resolve_num_workers
from deepresidual.runtime.similar_path import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deepresidual.backends.object_detector import ObjectDetector
    from deepresidual.runtime.compute import PrecisionChoice


@dataclass(frozen=True)
class FilePrediction:
    """One file's prediction, or the reason why there is none.

    Attributes:
        path: The file, as it was given or found.
        prediction: The most probable classes; ``None`` where the file could not be used.
        error: The reason; empty where there is a prediction.
    """

    path: str
    prediction: Prediction | None
    error: str = ""


@dataclass(frozen=True)
class FoundImages:
    """The image files that some paths stand for.

    Attributes:
        files: Every file once, in the order of the paths. A file that was named itself, or by a pattern, is
            among them whatever it is, or is not: its own prediction or error is due. Of a folder all files
            are with the suffix or the content of an image.
        ignored: The other files in folders, with the reason.
        unusable: What is wrong with folders without images, and with patterns that match no file.
    """

    files: list[str]
    ignored: list[IgnoredFile]
    unusable: list[DataError]


def find_images(paths: Sequence[str | Path]) -> FoundImages:
    """Find the image files that ``paths`` stand for, each once.

    A path among several that stands for nothing does not stop the others.

    Args:
        paths: Files, folders, zip and tar files (searched through, sorted) and patterns with ``*``, ``?``,
            ``[…]`` or ``**``. What exists by this very name is no pattern, the folders that a pattern begins
            with included. A leading ``~`` is the home folder.

    Raises:
        ConfigurationError: A path is empty.
        DataError: None of the paths stands for an image.
    """
    files: dict[str, str] = {}
    ignored: dict[str, IgnoredFile] = {}
    unusable: list[DataError] = []
    for given in paths:
        if not str(given):
            raise ConfigurationError("a PATH is empty", expected="an image file, a folder or a pattern")
        path = str(expanded(given))
        is_pattern = glob.has_magic(path) and not os.path.lexists(path)
        matches = _matching(path, unusable) if is_pattern else [path]
        if not matches:
            unusable.append(DataError(f"the pattern {path} matches no file"))
        for match in matches:
            try:
                found = _images_in(match, ignored) if archive.is_folder(Path(match)) else [match]
            except DataError as error:
                unusable.append(error)
                continue
            for file in found:
                files.setdefault(_identity(file), file)
    missing = [file for file in files.values() if not archive.exists(Path(file))]
    if len(missing) == len(files):
        absent = [
            DataError(
                f"{path} does not exist",
                expected="" if (meant := did_you_mean(path)) else "an image file, a folder or a pattern",
                remedy=meant,
            )
            for path in missing
        ]
        raise _together([*absent, *unusable])
    return FoundImages(list(files.values()), list(ignored.values()), unusable)


def _identity(file: str) -> str:
    # Another spelling of the same name, such as ./a.jpg; another name of the same file stays another file.
    return os.path.normcase(os.path.abspath(file))  # noqa: PTH100  # called for every file


def _images_in(folder: str, ignored: dict[str, IgnoredFile]) -> list[str]:
    """Return the images below a folder, sorted, and add its other files to ``ignored``.

    Raises:
        DataError: There is no image, or the folder cannot be read.
    """
    passed_over: list[IgnoredFile] = []
    names = list_images(Path(folder), passed_over, Path(folder), by_content=True)
    found = [str(Path(folder, name)) for name in names]
    for other in passed_over:
        path = str(Path(folder, other.path))
        ignored.setdefault(_identity(path), IgnoredFile(path, other.reason))
    if not found and passed_over:
        first = passed_over[0]
        raise DataError(f"{folder} holds no images; {first.path} is not used: {first.reason}")
    if not found:
        raise DataError(f"{folder} holds no images", expected=f"{EXPECTED} files")
    return found


def _together(errors: list[DataError]) -> DataError:
    """Return the first error, which says how many there are like it."""
    first, *others = errors
    if not others:
        return first
    paths = "1 more path stands" if len(others) == 1 else f"{len(others):,} more paths stand"
    return DataError(f"{first.found}, and {paths} for no image", expected=first.expected)


# -- patterns ------------------------------------------------------------------------------------------


def _matching(pattern: str, unusable: list[DataError]) -> list[str]:
    """Return what a pattern matches, sorted; folders that cannot be searched are added to ``unusable``.

    A part of it that exists by this very name is that name: in ``shoot [2024]/*.jpg`` the brackets are no set
    of characters. At the end ``**`` stands for the folder before it, elsewhere for that and all below.
    """
    path = Path(pattern)
    parts = [part for part in path.parts if part != path.anchor]
    if parts[-1] == "**":
        parts.pop()
    places = [path.anchor]
    for part in parts:
        places = [found for place in places for found in _matching_part(place, part, unusable)]
    return sorted({place or os.curdir for place in places if not _leads_back(place)})


def _leads_back(place: str) -> bool:
    """Return whether a place is a link to a folder that it lies in, and so stands for nothing new."""
    if not os.path.islink(place):  # noqa: PTH114  # called for every match
        return False
    return Path(place).parent.resolve().is_relative_to(Path(place).resolve())


def _matching_part(place: str, part: str, unusable: list[DataError]) -> list[str]:
    """Return what one part of a pattern matches in the folder ``place``; hidden names only by their dot."""
    literal = os.path.join(place, part)  # noqa: PTH118  # where ``place`` is empty, so is its part of the name
    if os.path.lexists(literal):
        return [literal]
    if part == "**":
        return _folders_from(place, (), unusable)
    if not glob.has_magic(part):
        return []
    names = glob.glob(part, root_dir=place or None)  # noqa: PTH207  # of one folder, without what is hidden
    return [os.path.join(place, name) for name in names]  # noqa: PTH118


def _folders_from(place: str, above: tuple[str, ...], unusable: list[DataError]) -> list[str]:
    """Return a folder and all below it but hidden ones; a link that leads back up is not followed."""
    here = os.path.realpath(place or os.curdir)
    if here in above or _leads_back(place):
        return []
    try:
        with os.scandir(place or os.curdir) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except NotADirectoryError:
        return []
    except OSError as error:
        unusable.append(DataError(f"{place} cannot be read ({error.strerror})"))
        return []
    found = [place]
    for name in names:
        found += _folders_from(os.path.join(place, name), (*above, here), unusable)  # noqa: PTH118
    return found


def predict_files(
    model: Classifier,
    files: Sequence[str | bytes | ImageFile],
    *,
    top_k: int = 1,
    batch_size: int = PREDICT_BATCH_SIZE,
    num_workers: int | None = None,
    precision: PrecisionChoice = "fp32",
) -> Iterator[FilePrediction]:
    """Return one result a file, in order, while the rest is still being read.

    A file that cannot be used, or for which the network gives NaN or infinity, yields its error and does not
    stop the others.

    Args:
        model: What :func:`deepresidual.load` returned, on the device to use.
        files: Paths of image files, the content of one, whose path is empty then, or files of which more is
            known (:class:`deepresidual.backends.images.ImageFile`).
        top_k: How many classes to return for each, best first.
        batch_size: Images at a time.
        num_workers: Threads that read and decode. Default: chosen for the machine.
        precision: ``fp32``, ``bf16``, or ``auto`` for the faster of both, measured
            (:mod:`deepresidual.backends.precision`).

    Raises:
        ModelFileError: The model has no classifier.
        ConfigurationError: ``top_k`` is not between 1 and the number of classes.
    """
    workers = loading_threads(num_workers, len(files), batch_size, model)
    crop_px = model.preprocess.crop_px
    # Wrong numbers are said before the precision is measured, which takes seconds.
    model.outcomes((), top_k, batch_size=batch_size)
    settled = model.settle_precision(precision, crop_px)
    outcomes = (
        model.in_precision(settled.precision)
        .expect(len(files))
        .outcomes(files, top_k, batch_size=batch_size, num_workers=workers)
    )
    return (_of_file(path, outcome) for path, outcome in outcomes)


def _of_file(path: str, outcome: Prediction | ResidualError) -> FilePrediction:
    match outcome:
        case Prediction():
            return FilePrediction(path, outcome)
        case ModelFileError():
            return FilePrediction(path, None, outcome.found)  # the remedy is said once, for all files
        case _:
            return FilePrediction(path, None, str(outcome))


def loading_threads(
    choice: int | None, num_files: int, batch_size: int, model: Classifier | ObjectDetector
) -> int:
    """Return how many threads read and decode files: ``choice``, or as many as pay.

    Raises:
        ConfigurationError: The choice is out of range.
    """
    if choice is None and num_files <= 2 * batch_size:
        return 0  # a few files are decoded sooner than threads start
    return resolve_num_workers(choice, model.device_type, model.preprocess.crop_px)
