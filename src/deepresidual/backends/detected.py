"""What a detector finds in images: of one, and of many files, a batch in memory at a time."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from deepresidual.backends.files import loading_threads
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from deepresidual.backends.images import ImageFile
    from deepresidual.backends.object_detector import ObjectDetector
    from deepresidual.data.objects import Objects

MIN_SCORE = 0.5
"""Score from which on an object is shown."""

DETECT_BATCH_SIZE = 8

# A hundredth of a pixel, and a millionth of a score: what follows are digits of the arithmetic.
_BOX_DIGITS, _SCORE_DIGITS = 2, 6

# A notebook shows so many objects; the rest is in the value.
_MOST_ROWS = 20


@dataclass(frozen=True, eq=False, repr=False)
class Detected:
    """What was found in one image.

    Attributes:
        objects: Boxes, labels and scores, the surest first; boxes in pixels of the upright image.
        label_names: Name of every class.
        height: Height of the upright image in pixels.
        width: Its width.
    """

    objects: Objects
    label_names: tuple[str, ...]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.objects)

    def __repr__(self) -> str:
        return f"Detected({self.summary()} in {self.width}×{self.height} px)"

    def above(self, min_score: float) -> Self:
        """Return the objects whose score is at least ``min_score``."""
        assert self.objects.scores is not None  # noqa: S101  # what was found has scores
        chosen = self.objects[self.objects.scores >= min_score]
        return type(self)(chosen, self.label_names, self.height, self.width)

    def counts(self) -> dict[str, int]:
        """Return how many objects there are of each class that is found, in the order of the classes."""
        rows = self.objects.labels.tolist()
        return {self.label_names[label]: rows.count(label) for label in sorted(set(rows))}

    def summary(self) -> str:
        """Return the counts in words: ``cat ×2, dog ×1``."""
        return ", ".join(f"{name} ×{count:,}" for name, count in self.counts().items()) or "no objects"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document: ``width``, ``height`` and ``objects``, each with label, score and box.

        Boxes are rounded to a hundredth of a pixel, scores to a millionth; :attr:`objects` has all digits.
        """
        rows = [
            {
                **row,
                "score": round(row["score"], _SCORE_DIGITS),
                "box": [round(value, _BOX_DIGITS) for value in row["box"]],
            }
            for row in self.objects.to_dict(self.label_names)
        ]
        return {"width": self.width, "height": self.height, "objects": rows}

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a table of the objects."""
        rows = [
            "<tr>"
            f"<td style='text-align: left'>{html.escape(shortened(row['label'], 80))}</td>"
            f"<td>{row['score']:.3f}</td>"
            + "".join(f"<td>{value:.0f}</td>" for value in row["box"])
            + "</tr>"
            for row in self.objects[:_MOST_ROWS].to_dict(self.label_names)
        ]
        more = f"<p>and {len(self) - _MOST_ROWS:,} more</p>" if len(self) > _MOST_ROWS else ""
        head = "".join(f"<th>{name}</th>" for name in ("label", "score", "x0", "y0", "x1", "y1"))
        about = f"{html.escape(shortened(self.summary(), 200))} in {self.width}×{self.height} px"
        table = f"<table><tr>{head}</tr>{''.join(rows)}</table>" if rows else ""
        return f"<p>{about}</p>{table}{more}"


@dataclass(frozen=True)
class FileDetected:
    """What was found in one file, or the reason why nothing could be looked for.

    Attributes:
        path: The file, as it was given or found.
        detected: What was found; ``None`` where the file could not be used.
        error: The reason; empty where the file could be used.
    """

    path: str
    detected: Detected | None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document: ``path``, and the fields of :meth:`Detected.to_dict` or ``error``."""
        if self.detected is None:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, **self.detected.to_dict()}


def detect_files(
    model: ObjectDetector,
    files: Sequence[str | bytes | ImageFile],
    *,
    min_score: float = MIN_SCORE,
    batch_size: int = DETECT_BATCH_SIZE,
    num_workers: int | None = None,
) -> Iterator[FileDetected]:
    """Return one result a file, in order, while the rest is still being read.

    A file that cannot be used, or for which the network gives NaN or infinity, yields its error and does not
    stop the others.

    Args:
        model: What :func:`deepresidual.load` returned, on the device to use.
        files: Paths of image files, the content of one, whose path is empty then, or files of which more is
            known (:class:`deepresidual.backends.images.ImageFile`).
        min_score: Score from which on an object is found, 0 to 1.
        batch_size: Images at a time.
        num_workers: Threads that read and decode. Default: chosen for the machine.

    Raises:
        ConfigurationError: A number is out of range.
    """
    workers = loading_threads(num_workers, len(files), batch_size, model)
    outcomes = model.expect(len(files)).outcomes(files, min_score, batch_size=batch_size, num_workers=workers)
    return (_of_file(path, outcome) for path, outcome in outcomes)


def require_score(min_score: float) -> None:
    """Refuse what is no score.

    Raises:
        ConfigurationError: It is not between 0 and 1.
    """
    if not 0 <= min_score <= 1:
        raise ConfigurationError(f"min_score is {min_score}", expected="0 to 1")


def _of_file(path: str, outcome: Detected | ResidualError) -> FileDetected:
    match outcome:
        case Detected():
            return FileDetected(path, outcome)
        case ModelFileError():
            return FileDetected(path, None, outcome.found)  # the remedy is said once, for all files
        case _:
            return FileDetected(path, None, str(outcome))
