"""``WrittenImage``: an image of a data set with what a format has to say of it, and the form of a writer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deepresidual.data.objects import Objects


@dataclass(frozen=True)
class WrittenImage:
    """An image in the data set that is written.

    Attributes:
        split: Its split; ``None``: there are none.
        name: Name of its file, which no other image in its folder has, whatever its ending.
        size: Height and width of the upright image.
        objects: What it shows, in pixels of the upright image.
        image_id: What the format that it was read from calls it.
    """

    split: str | None
    name: str
    size: tuple[int, int]
    objects: Objects
    image_id: int | str


class Writer(Protocol):
    """Write the annotations of a data set, image by image."""

    def image_folder(self, split: str | None) -> Path:
        """Return the folder that the images of a split lie in."""
        ...

    def add(self, image: WrittenImage) -> None:
        """Write the annotations of an image, or keep them for :meth:`finish`."""
        ...

    def finish(self) -> None:
        """Write what is said of the data set as a whole."""
        ...
