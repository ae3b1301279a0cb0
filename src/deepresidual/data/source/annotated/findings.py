"""What the readers of annotations find: boxes that are left out, cut or doubtful, with file and object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from deepresidual.data.source.base import IgnoredFile

FindingKind: TypeAlias = Literal[
    "box-empty",  # no width or no height: left out
    "box-outside",  # reaches over the edge of the image: cut there, or left out where nothing is left
    "counted-from-0",  # a 0 in a format that counts pixels from 1: the edge of the image
    "id-twice",  # two annotations have one id: both are used
    "mask-empty",  # a polygon with fewer than three corners: left out
    "not-annotated",  # an image without annotations where every image has a file of them: not used
    "shape-unused",  # a point, a line, brush strokes, or a shape without a class: left out
    "without-image",  # annotations of no image: not used
]


@dataclass(frozen=True)
class Finding:
    """Something about an annotation that its owner should know.

    Attributes:
        kind: What it is.
        path: File of the annotation, relative to the data set.
        subject: Which object of the file, as ``object 3 (cat)``; empty: the file as a whole.
        sentence: What was found, and what became of it, as a clause.
        is_used: Whether the object or file is used nevertheless.
    """

    kind: FindingKind
    path: str
    subject: str
    sentence: str
    is_used: bool

    @property
    def place(self) -> str:
        """Object and file, as a message names them."""
        return f"{self.subject} of {self.path}" if self.subject else self.path

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence}"

    def as_ignored(self) -> IgnoredFile:
        """Return the finding as an entry of :attr:`SampleSource.ignored`."""
        return IgnoredFile(self.place, self.sentence)
