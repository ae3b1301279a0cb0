"""Write a data set with boxes in the layout of another format, whole or not at all.

The files of the images stay as they are. Boxes are those of the upright image, and where a format has a size
of the image it is that of the upright one, so that what is read again has its boxes at the same pixels.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from deepresidual.data.decode import read_header
from deepresidual.data.formats import is_image_name, sniff, suffix_of
from deepresidual.data.object_writer.image import Writer, WrittenImage
from deepresidual.data.object_writer.losses import NAMES, Format, Losses
from deepresidual.data.readers import ImageHeader
from deepresidual.data.source.annotated.split import (
    DETECTION,
    AnnotatedSplit,
    category_ids_of,
    image_id_of,
    objects_of,
)
from deepresidual.data.source.base import TAUGHT, SampleSource, Split
from deepresidual.data.source.validation import Subset
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.runtime.files import atomic_folder, refuse_filled


@dataclass(frozen=True)
class ObjectConversion:
    """A data set that is going to be written.

    Attributes:
        to: The format.
        classes: Names of the classes.
        parts: Its images by split; under ``None`` where it has no splits of its own.
        names: Names of the files of each part.
        losses: What the format cannot hold, a sentence each.
        notes: What else its owner should know, a sentence each.
        num_objects: How many objects each part has.
    """

    to: Format
    classes: tuple[str, ...]
    parts: Mapping[str | None, Split]
    names: Mapping[str | None, Sequence[str]]
    losses: Sequence[str]
    notes: Sequence[str] = ()
    num_objects: Mapping[str | None, int] = field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """Images of all parts."""
        return sum(len(split) for split in self.parts.values())


def plan_conversion(
    source: SampleSource, to: Format, on_image: Callable[[int], None] | None = None
) -> ObjectConversion:
    """Look at all images and objects of a data set, and say what a format cannot hold of them.

    Args:
        source: The data set.
        to: The format.
        on_image: Called with the number of images that were looked at.

    Raises:
        ConfigurationError: There is no such format.
        DataError: It has no boxes, or an image cannot be used; the message names it.
    """
    if to not in NAMES:
        raise ConfigurationError(f"the format is {to!r}", expected=f"one of {', '.join(NAMES)}")
    if source.task != DETECTION:
        raise DataError(
            f"{source.name} has {TAUGHT[source.task]}", expected="boxes of objects, to write them as others"
        )
    whole = source.whole
    parts: dict[str | None, Split] = {None: whole} if whole is not None else {}
    if whole is None:
        parts.update(source.splits.items())
    losses, counts, turned, done = Losses(to, source.classes), Counter[str | None](), list[str](), 0
    for name, split in parts.items():
        for index in range(len(split)):
            header, objects = header_of(split, index), objects_of(split, index)
            losses.add(objects, header.upright)
            counts[name] += len(objects)
            if header.orientation in range(2, 9):
                turned.append(split.key(index))
            done += 1
            if on_image is not None:
                on_image(done)
    names, renamed = _names(parts, one_folder=to == "voc")
    notes = []
    if None in parts:
        notes.append(f"{source.name} has no splits of its own, and so none are written")
    if turned:
        notes.append(
            f"{_images(len(turned))} {_are(turned)} turned as read (EXIF), such as {turned[0]}: boxes are of "
            "the turned image, which some programs do not show"
        )
    if renamed:
        notes.append(f"{_images(len(renamed))} {_are(renamed)} renamed: {renamed[0]}")
    return ObjectConversion(to, source.classes, parts, names, losses.sentences(), notes, dict(counts))


def write_conversion(
    conversion: ObjectConversion,
    destination: Path,
    *,
    link: bool = False,
    on_image: Callable[[int], None] | None = None,
) -> int:
    """Write a data set in its new format.

    The folder comes to be whole or not at all.

    Args:
        conversion: What is written.
        destination: Folder to write; it must not exist, or be empty.
        link: Link the files of images (hard links) instead of copying them, where the file system can.
        on_image: Called with the number of images that are written.

    Returns:
        How many files of images are linked.

    Raises:
        ConfigurationError: The destination holds something.
        DataError: An image cannot be read; the message names it.
        RunError: Something cannot be written.
    """
    refuse_filled(destination)
    linked = done = 0
    with atomic_folder(destination) as folder:
        writer = _writer(conversion, folder)
        for split_name, split in conversion.parts.items():
            place = writer.image_folder(split_name)
            place.mkdir(parents=True, exist_ok=True)
            for index, name in enumerate(conversion.names[split_name]):
                linked += _put_image(split, index, place / name, link=link)
                writer.add(
                    WrittenImage(
                        split_name,
                        name,
                        header_of(split, index).upright,
                        objects_of(split, index),
                        image_id_of(split, index),
                    )
                )
                done += 1
                if on_image is not None:
                    on_image(done)
        writer.finish()
    return linked


def _writer(conversion: ObjectConversion, folder: Path) -> Writer:
    match conversion.to:
        case "coco":
            from deepresidual.data.object_writer.coco import CocoWriter

            ids = {name: category_ids_of(split) for name, split in conversion.parts.items()}
            return CocoWriter(folder, conversion.classes, ids)
        case "voc":
            from deepresidual.data.object_writer.voc import VocWriter

            return VocWriter(folder, conversion.classes)
        case "yolo":
            from deepresidual.data.object_writer.yolo import YoloWriter

            return YoloWriter(folder, conversion.classes)


def header_of(split: Split, index: int) -> ImageHeader:
    """Return size and orientation of an image of a split, which may be a part of another."""
    if isinstance(split, Subset):
        return header_of(split.split, int(split.indices[index]))
    if isinstance(split, AnnotatedSplit):
        return split.header(index)
    return read_header(split.read(index).content)


def _put_image(split: Split, index: int, target: Path, *, link: bool) -> bool:
    """Put the file of an image at its new place, and return whether it is a link."""
    if isinstance(split, Subset):
        return _put_image(split.split, int(split.indices[index]), target, link=link)
    if not isinstance(split, AnnotatedSplit):
        target.write_bytes(split.read(index).content)
        return False
    path = split.path(index)
    if link:
        try:
            target.hardlink_to(path.resolve())
        except OSError:
            pass  # another file system, or one without links: copied
        else:
            return True
    shutil.copyfile(path, target)
    return False


# -- names -----------------------------------------------------------------------------------------------


def _names(
    parts: Mapping[str | None, Split], *, one_folder: bool
) -> tuple[dict[str | None, list[str]], list[str]]:
    """Return a name for the file of every image, and which were renamed.

    No two of a folder are equal but for the ending: in YOLO and Pascal VOC the annotations of two such images
    would have one name. Names that are equal get the folders of their images before them.

    Args:
        parts: The images.
        one_folder: Whether the images of all parts lie in one folder.
    """
    keys = [(part, _key(split, index)) for part, split in parts.items() for index in range(len(split))]
    folder_of = {part: None if one_folder else part for part in parts}
    places = [(folder_of[part], _folded(_stem(PurePosixPath(key).name))) for part, key in keys]
    counts = Counter(places)
    taken = {place for place, count in counts.items() if count == 1}
    names: dict[str | None, list[str]] = {part: [] for part in parts}
    renamed = []
    for (part, key), place in zip(keys, places, strict=True):
        path = PurePosixPath(key)
        stem = _stem(path.name)
        if counts[place] > 1:
            stem = next(free for free in _longer(path) if (place[0], _folded(free)) not in taken)
            taken.add((place[0], _folded(stem)))
        name = stem + path.suffix
        if name != path.name:
            renamed.append(f"{key} is {name}")
        names[part].append(name)
    return names, renamed


def _key(split: Split, index: int) -> str:
    """Return the name of an image with an ending that says its format."""
    key = split.key(index)
    return key if is_image_name(key) else f"{key}.{suffix_of(sniff(split.read(index).content))}"


def _stem(name: str) -> str:
    """Return what a name has before its ending, such that readers take it for the name of one image."""
    stem = PurePosixPath(name).stem.strip()
    # Bytes that are not UTF-8 have no place in XML; photo.jpg.png would be listed as photo.jpg.
    stem = stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return stem.replace(".", "_") if is_image_name(stem) else stem


def _longer(path: PurePosixPath) -> Iterator[str]:
    """Yield names with more and more of the folders before, and then with numbers."""
    stem, folders = _stem(path.name), path.parent.parts
    for count in range(1, len(folders) + 1):
        yield "-".join((*folders[-count:], stem))
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _are(items: Sequence[object]) -> str:
    return "is" if len(items) == 1 else "are"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
