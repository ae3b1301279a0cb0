"""Draw objects over their image: an outline in the colour of the class, and a tag with class and score.

An object that has a mask is drawn by it, with a thin line for its box.

Lines and letters grow with the picture, and shrink where many small objects lie side by side; where these
leave no room, tags say less, or are left out. Small pictures are enlarged by a whole factor, so that letters
can be read. The colours are those of charts, which readers without colour vision tell apart; what lies beyond
the eighth class repeats them darker and lighter, and of each class at least one tag names it.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deepresidual.backends.detected import Detected
from deepresidual.backends.images import decoded
from deepresidual.reporting.masks import enlarged, paint_mask
from deepresidual.reporting.palette import COLORS, GRAY, LIGHT_GRAY, ink_on, mixed
from deepresidual.reporting.text import fitting, font_of, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepresidual.backends.images import ImageLike
    from deepresidual.data.masks import Crop
    from deepresidual.data.objects import Objects

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_SMALLEST_PX = 360  # shorter side of a picture at least, by whole factors
_SMALLEST_MASK_PX = 36  # shorter side of the usual mask

# Shares of a picture's size, the root of its area; and least pixels.
_LINE, _LEAST_LINE = 0.0045, 2.0
_LETTERS, _LEAST_LETTERS = 0.020, 11
_BESIDE_MASK = 0.4  # of the width of its line has the box of an object that is drawn by its mask
_HALO, _HALO_COLOR, _HALO_OPACITY = 0.3, "#000000", 0.35
_SMALL_OBJECT = 3.2  # the usual object's shorter side, in letters, below which these shrink
_FEWEST = 0.6  # how far
_MANY = 10  # objects; of more that are smaller than their tags these say less
_MOST_ON_TAGS = 0.15  # of its surface may lie on other tags
_MOST_HIDDEN = 0.4  # objects may lie below a tag, all shares of them together


def draw_objects(image: ImageLike, detected: Detected, *, suffix: str = ".png") -> bytes:
    """Return a picture file: the image, upright, with what was found in it.

    Args:
        image: What the objects were found in: a path, a Pillow image, an array or the bytes of a file.
        detected: What :meth:`TorchDetector.predict` returned for it.
        suffix: ``.png``, ``.jpg`` or ``.webp``.

    Raises:
        DataError: The image cannot be read.
    """
    pixels = paint_objects(decoded(image), detected.objects, detected.label_names)
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    match _FORMATS[suffix]:
        case "PNG":
            picture.save(file, "PNG", compress_level=3)
        case "WEBP":
            picture.save(file, "WEBP", quality=90)
        case _:
            # With chroma at full size coloured lines stay sharp.
            picture.save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()


def picture_suffix(path: str) -> str:
    """Return the suffix of the picture of an image file: its own where it is drawn so, else ``.jpg``."""
    suffix = PurePath(path).suffix.casefold()
    return suffix if suffix in _FORMATS else ".jpg"


def class_color(label: int) -> str:
    """Return the colour of a class, by its number."""
    # Gray lines are lost on photos.
    colors = [color for color in COLORS if color not in (GRAY, LIGHT_GRAY)]
    color, turn = colors[label % len(colors)], label // len(colors) % 3
    return color if turn == 0 else mixed("#000000" if turn == 1 else "#ffffff", color, 0.6)


def paint_objects(
    pixels: NDArray[np.uint8],
    objects: Objects,
    label_names: Sequence[str],
    colors: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """Return an image with objects over it, small ones enlarged.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB; never changed.
        objects: The objects, in pixels of the image; what is annotated has no score on its tag. Of a view,
            pixels of the view.
        label_names: Name of every class.
        colors: Colour of every class. Default: :func:`class_color`.

    Returns:
        ``(f·H, f·W, 3)`` uint8 RGB, f a whole factor, 1 unless the image is small.
    """
    factor = _enlargement(objects, pixels.shape[0], pixels.shape[1])
    canvas = np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    if not len(objects):
        return canvas
    colors = [class_color(label) for label in range(len(label_names))] if colors is None else colors
    objects = replace(objects, boxes=objects.boxes * factor)
    height, width = canvas.shape[:2]
    _, line_px = _measures(objects, height, width)
    # What lies in front of larger ones has its whole outline.
    for row in np.argsort(-objects.areas, kind="stable").tolist():
        color, own_px = colors[int(objects.labels[row])], line_px
        if (mask := _mask_of(objects, row)) is not None:
            paint_mask(canvas, enlarged(mask, factor), color, _outline_px(mask, line_px, factor))
            own_px = max(1.0, _BESIDE_MASK * line_px)
        paint_outline(canvas, _drawn_box(objects.boxes[row], own_px, height, width), own_px, color)
    # The surest on top, where tags cannot but overlap.
    for tag in reversed(place_tags(objects, label_names, height, width, colors)):
        tag.paint(canvas)
    return canvas


def _outline_px(mask: Crop, line_px: float, factor: int) -> int:
    """Return the width of the outline of a mask: of a small one less, so that its surface is seen."""
    most: int = min(mask.pixels.shape) * factor // 8
    return max(1, min(round(line_px), most))


def _enlargement(objects: Objects, height: int, width: int) -> int:
    """Return the factor of a small picture; of small masks a larger one, so that tags do not hide them."""
    factor = -(-_SMALLEST_PX // max(1, min(height, width)))
    if factor > 1 and objects.masks is not None and len(objects):
        sizes = (objects.boxes[:, 2:] - objects.boxes[:, :2]).min(axis=1)
        factor = max(factor, math.ceil(_SMALLEST_MASK_PX / max(1.0, float(np.median(sizes)))))
    return max(1, min(factor, 4 * _SMALLEST_PX // max(height, width)))


def _mask_of(objects: Objects, row: int) -> Crop | None:
    """Return the pixels of a mask, in the image or in its view; ``None`` of an object that has none."""
    if objects.crops is not None:
        return objects.crops[row]
    masks = objects.masks
    return None if masks is None or not masks.known[row] else masks.crop(row)


def _measures(objects: Objects, height: int, width: int) -> tuple[int, float]:
    """Return the size of letters and the width of lines, in pixels, for a picture of some size."""
    scale = math.sqrt(height * width)
    sizes = (objects.boxes[:, 2:] - objects.boxes[:, :2]).min(axis=1)
    # Of many small objects the letters would hide more than they say.
    share = min(1.0, max(_FEWEST, float(np.median(sizes)) / _SMALL_OBJECT / (_LETTERS * scale)))
    letters_px = max(_LEAST_LETTERS, round(_LETTERS * scale * share))
    return letters_px, max(_LEAST_LINE, _LINE * scale * (1 + share) / 2)


# -- outlines --------------------------------------------------------------------------------------------


def _drawn_box(
    box: NDArray[np.float32], line_px: float, height: int, width: int
) -> tuple[float, float, float, float]:
    """Return the middle of the line around a box, so far inside of the picture that it is seen."""
    half = line_px / 2
    left, top, right, bottom = box.tolist()
    left, top = max(left, half), max(top, half)
    return (
        left,
        top,
        max(left + line_px, min(right, width - half)),
        max(top + line_px, min(bottom, height - half)),
    )


def paint_outline(
    canvas: NDArray[np.uint8], box: tuple[float, float, float, float], line_px: float, color: str
) -> None:
    """Paint a line with rounded corners, and a dark halo that parts it from what has its colour."""
    left, top, right, bottom = box
    radius = min(2 * line_px, (right - left) / 2, (bottom - top) / 2)
    halo = max(0.8, _HALO * line_px)
    reach = int(np.ceil(line_px / 2 + halo + 1))
    deep = int(np.ceil(reach + radius))
    x0, x1 = int(left) - reach, int(right) + reach + 1
    y0, y1 = int(top) - reach, int(bottom) + reach + 1
    # The line alone is looked at, not all that it encloses: photos have millions of pixels.
    inner_top, inner_bottom = int(top) + deep, int(bottom) - deep
    inner_left, inner_right = int(left) + deep, int(right) - deep
    strips = [(x0, y0, x1, y1)]
    if inner_top < inner_bottom and inner_left < inner_right:
        strips = [
            (x0, y0, x1, inner_top),
            (x0, inner_bottom, x1, y1),
            (x0, inner_top, inner_left, inner_bottom),
            (inner_right, inner_top, x1, inner_bottom),
        ]
    for strip in strips:
        area = _within(canvas, strip)
        if area is None:
            continue
        distance = np.abs(_distance(area, box, radius))
        part = canvas[area[1] : area[3], area[0] : area[2]]
        _blend(part, _HALO_COLOR, _HALO_OPACITY * _coverage(distance - line_px / 2 - halo))
        _blend(part, color, _coverage(distance - line_px / 2))


def _within(canvas: NDArray[np.uint8], area: tuple[int, int, int, int]) -> tuple[int, int, int, int] | None:
    """Return the part of an area that lies in the picture."""
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = max(area[0], 0), max(area[1], 0), min(area[2], width), min(area[3], height)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _distance(
    area: tuple[int, int, int, int], box: tuple[float, float, float, float], radius: float
) -> NDArray[np.floating[Any]]:
    """Return how far the middle of each pixel lies outside of a box with rounded corners; negative inside."""
    left, top, right, bottom = box
    x = np.abs(np.arange(area[0], area[2], dtype=np.float32) + 0.5 - (left + right) / 2)
    y = np.abs(np.arange(area[1], area[3], dtype=np.float32) + 0.5 - (top + bottom) / 2)
    across, down = (x - ((right - left) / 2 - radius))[None, :], (y - ((bottom - top) / 2 - radius))[:, None]
    outside = np.hypot(np.maximum(across, 0), np.maximum(down, 0))
    distance: NDArray[np.floating[Any]] = outside + np.minimum(np.maximum(across, down), 0) - radius
    return distance


def _coverage(distance: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return which share of each pixel is covered by what ends at distance 0."""
    share: NDArray[np.floating[Any]] = np.clip(0.5 - distance, 0, 1)
    return share


def _blend(part: NDArray[np.uint8], color: str, opacity: NDArray[np.floating[Any]]) -> None:
    """Lay a colour over pixels ``(h, w, 3)``, in place."""
    over = np.array(tuple(bytes.fromhex(color[1:])), np.float32)
    part[:] = np.rint(part + (over - part) * opacity[:, :, None]).astype(np.uint8)


# -- tags ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tag:
    """A filled tag with text.

    Attributes:
        box: Left, top, right and bottom, whole pixels.
        text: What it says.
        letters_px: Size of its letters.
        color: Its colour.
    """

    box: tuple[int, int, int, int]
    text: str
    letters_px: int
    color: str

    def paint(self, canvas: NDArray[np.uint8]) -> None:
        """Paint it."""
        left, top, right, bottom = self.box
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).text(
            (_padding(self.letters_px), (bottom - top) / 2),
            self.text,
            font=font_of(self.text, self.letters_px),
            fill=255,
            anchor="lm",
        )
        area = _within(canvas, self.box)
        if area is None:
            return
        part = canvas[area[1] : area[3], area[0] : area[2]]
        corner = min(0.2 * self.letters_px, (right - left) / 2, (bottom - top) / 2)
        _blend(part, self.color, _coverage(_distance(area, (left, top, right, bottom), corner)))
        written = np.asarray(mask, np.float32)[area[1] - top : area[3] - top, area[0] - left : area[2] - left]
        _blend(part, ink_on(self.color), written / 255)


def _padding(letters_px: int) -> int:
    return max(2, round(0.3 * letters_px))


def place_tags(
    objects: Objects,
    label_names: Sequence[str],
    height: int,
    width: int,
    colors: Sequence[str] | None = None,
) -> list[Tag]:
    """Return the tags of objects, each at the best of a few places that those before it leave.

    Where every place would cover another tag, or objects that are small beside it, a tag says less: the score
    where all objects are of one class, else the class. Where that is too much as well there is none, save one
    for each class. Of many objects that are smaller than their tags all say less from the start.

    Args:
        objects: The objects, in pixels of the picture.
        label_names: Name of every class; empty: tags say the score alone.
        height: Height of the picture.
        width: Its width.
        colors: Colour of every class. Default: :func:`class_color`.
    """
    letters_px, line_px = _measures(objects, height, width)
    padding, boxes = _padding(letters_px), objects.boxes.astype(np.float64)
    tags: list[Tag] = []
    taken, explained = np.zeros((0, 4)), set[int]()
    texts = [
        _texts(objects, row, label_names[label], letters_px, max(1, width - 2 * padding))
        for row, label in enumerate(objects.labels.tolist())
    ]
    whole_area = sum(width_of(text[0], letters_px) for text in texts if text) * 1.35 * letters_px
    is_full = len(objects) > _MANY and whole_area > float(_areas(boxes).sum())
    for row, label in enumerate(objects.labels.tolist()):
        for text in texts[row][1:] if is_full and label in explained else texts[row]:
            size = width_of(text, letters_px) + 2 * padding, round(1.35 * letters_px)
            places = _places(boxes[row], size, (width, height), line_px)
            costs = [_cost(place, boxes, row, taken) + 0.04 * order for order, place in enumerate(places)]
            place = places[int(np.argmin(costs))]
            # One tag of each class stays whatever it hides: it says what the colour means.
            if label not in explained or not _crowds(place, boxes, taken):
                taken = np.vstack([taken, place])
                explained.add(label)
                color = class_color(label) if colors is None else colors[label]
                tags.append(Tag(place, text, letters_px, color))
                break
    return tags


def _texts(objects: Objects, row: int, name: str, letters_px: int, room: int) -> list[str]:
    """Return what the tag of an object may say, the longest first: class and score, or what sets it apart."""
    score = "" if objects.scores is None else f"{objects.scores[row]:.2f}"
    whole = fitting(name, f" {score}" if name and score else score, letters_px, room)
    is_told_by_score = not name or bool((objects.labels == objects.labels[0]).all())
    shorter = score if is_told_by_score else fitting(name, "", letters_px, room)
    return [text for text in (whole, shorter) if text]


def _places(
    box: NDArray[np.float64], tag: tuple[int, int], size: tuple[int, int], line_px: float
) -> list[tuple[int, int, int, int]]:
    """Return where a tag may lie, within the picture, the usual place first: above the upper left corner."""
    width, height = min(tag[0], size[0]), min(tag[1], size[1])
    half = line_px / 2
    left, top, right, bottom = (float(edge) for edge in box)
    columns = left - half, right + half - width
    # On the line, so that both are one thing.
    outside = [(x, y) for y in (top + half - height, bottom - half) for x in columns]
    inside = [(x, y) for y in (top - half, bottom + half - height) for x in columns]
    found = []
    for x, y in [outside[0], inside[0], outside[2], outside[1], inside[2], outside[3], inside[1], inside[3]]:
        at_x = round(min(max(x, 0), size[0] - width))
        at_y = round(min(max(y, 0), size[1] - height))
        found.append((at_x, at_y, at_x + width, at_y + height))
    return found


def _cost(
    place: tuple[int, int, int, int], boxes: NDArray[np.float64], row: int, taken: NDArray[np.float64]
) -> float:
    """Return how bad a place is: other tags below it most of all, then objects that it hides."""
    here = np.array(place, np.float64)
    on_tags = float(_overlaps(here, taken).sum()) / float(_areas(here))
    hidden = _overlaps(here, boxes) / _areas(boxes)
    own = float(hidden[row])
    return 10 * on_tags + 0.8 * own + 0.6 * (float(hidden.sum()) - own)


def _crowds(place: tuple[int, int, int, int], boxes: NDArray[np.float64], taken: NDArray[np.float64]) -> bool:
    """Return whether a tag lies on others, or hides as much of objects as is too much."""
    here = np.array(place, np.float64)
    on_tags = float(_overlaps(here, taken).sum()) / float(_areas(here))
    return on_tags > _MOST_ON_TAGS or float((_overlaps(here, boxes) / _areas(boxes)).sum()) > _MOST_HIDDEN


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas of ``(..., 4)`` boxes, 1 at least."""
    sides = boxes[..., 2:] - boxes[..., :2]
    areas: NDArray[np.float64] = np.maximum(1.0, sides[..., 0] * sides[..., 1])
    return areas


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area that each of ``(n, 4)`` boxes has in common with a box."""
    low, high = np.maximum(others[:, :2], box[:2]), np.minimum(others[:, 2:], box[2:])
    sides = np.maximum(high - low, 0)
    common: NDArray[np.float64] = sides[:, 0] * sides[:, 1]
    return common
