"""Tell by the names of files and folders whether a folder holds annotations of boxes, and in which format."""

from __future__ import annotations

import itertools
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from deepresidual.data.formats import is_image_name
from deepresidual.data.source.annotated.years import find_years
from deepresidual.data.source.archive import read_bytes
from deepresidual.data.source.base import SampleSource, canonical_split
from deepresidual.data.source.files import Listing, list_folder
from deepresidual.errors import DataError
from deepresidual.runtime.similar_path import did_you_mean

BoxFormat: TypeAlias = Literal["coco", "voc", "yolo", "labelme", "label-studio", "cvat", "createml"]

BOX_FORMATS: tuple[BoxFormat, ...] = get_args(BoxFormat)

# What stands in the files of annotation tools, and in no other file beside images.
_MARKS: dict[BoxFormat, tuple[str, tuple[bytes, ...]]] = {
    "labelme": (".json", (b'"shapes"', b'"imagePath"')),
    "label-studio": (".json", (b'"original_width"', b'"original_height"')),
    "createml": (".json", (b'"coordinates"', b'"annotations"', b'"image"')),
    "cvat": (".xml", (b"<annotations>", b"<image ", b"<version>1.1")),
}
# What stands in a file without objects, too; in other folders it may stand in files of other kinds.
_MARKS_OF_EMPTY: dict[BoxFormat, tuple[bytes, ...]] = {"createml": (b'"annotations"', b'"image"')}

# Folders that annotations are put into; folders of classes have other names.
_FOLDERS = re.compile(r"annotations?|annots?|xmls?|labels?|images?|imgs?|obj_\w+_data", re.IGNORECASE)
_MOST_LEVELS = 2


def find_format(folder: Path) -> BoxFormat | None:
    """Return the format of a folder's annotations; ``None``: it has none that are found by looking.

    Raises:
        DataError: There are two formats, or none but a file of COCO annotations that is cut off.
    """
    places = list(_places(folder))
    found: list[BoxFormat] = []
    if _coco_files(places):
        found.append("coco")
    if find_years(folder) or any(map(_holds_xml, places)):
        found.append("voc")
    if _has_labels(places) or ((file := _yolo_description(places)) and _says(file, b"train")):
        found.append("yolo")
    found += [kind for kind in _MARKS if _marked_files(places, kind, _FIRST_FILES)]
    if len(found) > 1:
        raise DataError(
            f"{folder} holds annotations of boxes in {len(found)} formats ({', '.join(found)})",
            remedy=f"say which: {' or '.join(f'{one}:{folder}' for one in found)}",
        )
    if not found:
        _refuse_cut_off(places)
    return found[0] if found else None


def format_of_file(file: Path) -> BoxFormat | None:
    """Return the format of a file of annotations that is given by itself; ``None``: it is none."""
    match file.suffix.casefold():
        case ".yaml" | ".yml":
            return "yolo"
        case ".json":
            return next(
                (kind for kind in ("labelme", "label-studio", "createml") if _is_marked(file, kind)), "coco"
            )
        case ".xml" if _is_marked(file, "cvat"):
            return "cvat"
    return None


def holds_annotations(archive: Path) -> bool:
    """Return whether an archive has files of annotations, which are read from folders alone."""
    below = [archive, *(archive / name for name in list_folder(archive).folders)]
    for place in itertools.chain.from_iterable(map(_places, below)):
        names = [name for name in place.files if name.casefold().endswith((".json", ".xml"))][:_FIRST_FILES]
        if {*_YAML_NAMES, *_LISTS_OF_NAMES} & set(place.files):
            return True
        for name in names:
            content = read_bytes(place.folder / name)
            if re.search(rb"<annotation[\s>]", content) or any(
                all(word in content for word in words) for words in (_LISTS, *(m for _, m in _MARKS.values()))
            ):
                return True
    return False


def open_annotated(kind: BoxFormat, path: Path) -> SampleSource:
    """Open a data set with boxes.

    Args:
        kind: Its format.
        path: Its folder, or the file that describes it.

    Raises:
        DataError: It cannot be used; the message says why.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", expected=f"{kind}:PATH", remedy=did_you_mean(path))
    match kind:
        case "coco":
            from deepresidual.data.source.annotated.coco import open_coco

            files = _coco_files(list(_places(path))) if path.is_dir() else [path]
            if not files:
                raise DataError(
                    f"{path} has no file of COCO annotations",
                    expected="annotations/instances_train.json or train/_annotations.coco.json in it",
                )
            return open_coco(path if path.is_dir() else _root_of(path), files)
        case "voc":
            from deepresidual.data.source.annotated.voc import open_voc

            return open_voc(path)
        case "yolo":
            from deepresidual.data.source.annotated.yolo import open_yolo

            if path.is_dir():
                return open_yolo(path, _yolo_description(list(_places(path))))
            return open_yolo(path.parent, path)
        case "labelme":
            from deepresidual.data.source.annotated.labelme import open_labelme

            return open_labelme(path)
        case "label-studio":
            from deepresidual.data.source.annotated.label_studio import open_label_studio

            return open_label_studio(*_files_of_tool(path, kind))
        case "cvat":
            from deepresidual.data.source.annotated.cvat import open_cvat

            return open_cvat(*_files_of_tool(path, kind))
        case "createml":
            from deepresidual.data.source.annotated.createml import open_createml

            return open_createml(*_files_of_tool(path, kind))


def _places(folder: Path) -> Iterator[Listing]:
    """Yield the folders that annotations may lie in: the folder, and those below it that are called so."""
    waiting = [(folder, 0)]
    while waiting:
        place, level = waiting.pop(0)
        listing = list_folder(place)
        yield listing
        if level < _MOST_LEVELS:
            # So few levels down a link that leads back up does no harm.
            below = sorted((*listing.folders, *listing.links))
            waiting += [
                (place / name, level + 1)
                for name in below
                if canonical_split(name) or _FOLDERS.fullmatch(name)
            ]


def _holds_xml(place: Listing) -> bool:
    """Return whether one of the first XML files of a folder is one of annotations."""
    files = (place.folder / name for name in place.files if name.casefold().endswith(".xml"))
    return any(
        re.search(rb"<annotation[\s>]", read_bytes(file, _FIRST_BYTES))
        for file in itertools.islice(files, _FIRST_FILES)
    )


_FIRST_FILES, _FIRST_BYTES = 10, 4096


# -- annotation tools ------------------------------------------------------------------------------------


def _marked_files(places: list[Listing], kind: BoxFormat, most: int | None = None) -> list[Path]:
    """Return the files of a tool in some folders; with ``most`` of the first so many of each folder alone."""
    ending = _MARKS[kind][0]
    return [
        file
        for place in places
        for file in itertools.islice(
            (place.folder / name for name in place.files if name.casefold().endswith(ending)), most
        )
        if _is_marked(file, kind)
    ]


def _files_of_tool(path: Path, kind: BoxFormat) -> tuple[Path, list[Path]]:
    """Return the data set that a path means, and its files of annotations.

    Raises:
        DataError: A folder has none.
    """
    if not path.is_dir():
        return _root_of(path), [path]
    places = list(_places(path))
    files = _marked_files(places, kind)
    if files and kind in _MARKS_OF_EMPTY:
        files = [
            place.folder / name
            for place in places
            for name in place.files
            if name.casefold().endswith(_MARKS[kind][0])
            and _holds_all(place.folder / name, _MARKS_OF_EMPTY[kind])
        ]
    if not files:
        ending = _MARKS[kind][0]
        raise DataError(
            f"{path} has no file of annotations of {kind}",
            expected=f"a {ending} file in it, or {kind}:FILE",
        )
    return path, files


def _is_marked(file: Path, kind: BoxFormat) -> bool:
    return _holds_all(file, _MARKS[kind][1])


def _holds_all(file: Path, words: Sequence[bytes]) -> bool:
    return len(_held(file, words)) == len(words)


def _held(file: Path, words: Sequence[bytes]) -> list[bytes]:
    """Return which words a file has."""
    if not file.stat().st_size:
        return []
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [word for word in words if content.find(word) >= 0]


# -- COCO ------------------------------------------------------------------------------------------------


def _coco_files(places: list[Listing]) -> list[Path]:
    """Return the files of COCO annotations in some folders; of a folder the instances, where it has them."""
    found: list[Path] = []
    for place in places:
        files = [place.folder / name for name in place.files if name.casefold().endswith(".json")]
        # A file that is called so is refused where it lacks something; files of results lack all.
        named = [file for file in files if _NAMES.match(file.name) and _num_lists(file)]
        found += named or [file for file in files if _num_lists(file) == len(_LISTS)]
    return found


_NAMES = re.compile(r"instances_|.*\.coco\.", re.IGNORECASE)
_LISTS = (b'"images"', b'"annotations"', b'"categories"')


def _refuse_cut_off(places: list[Listing]) -> None:
    """Refuse a file that by its name or by its lists is one of COCO annotations, and has no end.

    Raises:
        DataError: There is one.
    """
    files = (place.folder / name for place in places for name in place.files)
    for file in files:
        if file.suffix.casefold() == ".json" and (_NAMES.match(file.name) or _num_lists(file)):
            end = max(0, file.stat().st_size - _END_BYTES)
            with file.open("rb") as stream:
                stream.seek(end)
                is_whole = stream.read().rstrip().endswith((b"}", b"]"))
            if not is_whole:
                raise DataError(
                    f"{file} is cut off, and no other file has annotations",
                    remedy="export or copy it again",
                )


_END_BYTES = 64


def _num_lists(file: Path) -> int:
    """Return how many of the three lists of COCO are named in a file."""
    return len(_held(file, _LISTS))


def _root_of(file: Path) -> Path:
    """Return the data set of a file of annotations: its folder, or the one above where it lies apart."""
    return file.parent.parent if _FOLDERS.fullmatch(file.parent.name) else file.parent


# -- YOLO ------------------------------------------------------------------------------------------------


_YAML_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
_LISTS_OF_NAMES = ("classes.txt", "obj.names")


def _yolo_description(places: list[Listing]) -> Path | None:
    """Return the file that names the classes: a YAML file with names at the top, or a list of them."""
    top = places[0]
    yamls = [top.folder / name for name in top.files if name.casefold().endswith((".yaml", ".yml"))]
    if described := [file for file in yamls if file.name in _YAML_NAMES or _says(file, b"names")]:
        return min(described, key=lambda file: (file.name not in _YAML_NAMES, file.name))
    lists = (place.folder / name for name in _LISTS_OF_NAMES for place in places if name in place.files)
    return next(lists, None)


def _says(file: Path, key: bytes) -> bool:
    """Return whether a YAML file has a key, which begins a line."""
    with file.open("rb") as stream:
        return re.search(rb"^[\"']?" + key + rb"[\"']?\s*:", stream.read(1_000_000), re.MULTILINE) is not None


def _has_labels(places: list[Listing]) -> bool:
    """Return whether text files lie in ``labels`` beside ``images``, or beside images and class names."""
    folders = {place.folder for place in places}
    has_names = any(name in place.files for place in places for name in _LISTS_OF_NAMES)
    for place in places:
        texts = [name for name in place.files if name.endswith(".txt")]
        parts = place.folder.parts
        if texts and "labels" in parts:
            at = len(parts) - 1 - parts[::-1].index("labels")
            if Path(*parts[:at], "images", *parts[at + 1 :]) in folders:
                return True
        if has_names and texts:
            stems = {name[: -len(".txt")] for name in texts}
            if any(is_image_name(name) and Path(name).stem in stems for name in place.files):
                return True
    return False
