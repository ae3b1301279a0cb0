"""Draw how one object was found: anchors, proposals, the boxes that these become, and what is kept of them.

The object has the colour of its class in each panel, so that it can be followed from one to the next.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image

from deepresidual.explanation.object_drawing import objects_on, painted, require_explanation, title_of
from deepresidual.explanation.objects import FileObjectExplanation, ObjectExplanation
from deepresidual.explanation.panels import Panel, panel_of, sheet
from deepresidual.reporting.boxes import class_color, paint_outline

if TYPE_CHECKING:
    from torch import Tensor

_MOST_PROPOSALS = 20
_MOST_CANDIDATES = 60
_USUAL_SCORE = 0.5  # from which on other objects are drawn, too
_THIN, _THICK = 1.6, 4.0
_OTHER = "#f4f4f4"
_NEAREST_DOTS_PX = 6  # of places that lie closer, every second or fewer are shown
_DARKEST = 0.3  # of the colours of objectness, which are lost on gray below


def draw_stages(explanation: ObjectExplanation | FileObjectExplanation) -> bytes:
    """Return a PNG of four panels: anchors, proposals, the boxes that they become, and what is kept.

    Args:
        explanation: An explanation, or the result of a file that has one.

    Raises:
        DataError: The file could not be used, or there was no such object.
    """
    explanation = require_explanation(explanation)
    height, width = explanation.photo.shape[:2]
    columns = 4 if height > width else 2
    photo = panel_of(explanation.photo, columns)
    way = _Way(explanation, photo)
    panels = [way.anchors(), way.proposals(), way.candidates(), way.kept()]
    return sheet(title_of(explanation), "from anchors to objects", panels, columns)


class _Way:
    """The way of one object, in pixels of a panel."""

    def __init__(self, explanation: ObjectExplanation, photo: NDArray[np.uint8]) -> None:
        self._explanation, self._photo = explanation, photo
        self._stages = explanation.stages
        self._color = class_color(int(self._stages.found.labels[explanation.row]))
        self._proposal = int(self._stages.regions[explanation.row])
        gray = np.asarray(Image.fromarray(photo).convert("L"), np.float32)[:, :, None].repeat(3, axis=2)
        self._faint: NDArray[np.uint8] = (32 + gray / 2).astype(np.uint8)

    def _placed(self, boxes: Tensor) -> NDArray[np.float64]:
        """Return boxes of the network's input in pixels of the panel; they may reach over its edges."""
        window, (height, width) = self._explanation.window, self._photo.shape[:2]
        in_photo = (boxes.double().numpy() - np.tile(window.shift, 2)) / np.tile(window.scale, 2)
        scale = (width / window.image[1], height / window.image[0])
        placed: NDArray[np.float64] = in_photo * np.tile(scale, 2)
        return placed

    def anchors(self) -> Panel:
        """Return the places of the level at which the object began, and the anchors of its place."""
        stages, canvas = self._stages, self._faint.copy()
        anchor = int(stages.proposal_anchors[self._proposal])
        firsts = np.cumsum([0, *(len(level) for level in stages.anchors)])
        level = int(np.searchsorted(firsts, anchor, side="right")) - 1
        rows, columns = stages.places[level]
        around = stages.anchors[level].view(rows, columns, -1, 4)
        count = around.shape[2]
        place, own = divmod(anchor - int(firsts[level]), count)
        row, column = divmod(place, columns)
        boxes = self._placed(around[:, :, 0])
        self._dot(canvas, (boxes[..., :2] + boxes[..., 2:]) / 2, (row, column))
        for number, box in enumerate(self._placed(around[row, column])):
            if number != own:
                _outline(canvas, box, _THIN, _OTHER)
        _outline(canvas, self._placed(around[row, column, own]), _THICK, self._color)
        total = f"{firsts[-1]:,} anchors"
        if len(stages.anchors) > 1:
            total += f" on {len(stages.anchors)} levels; here level {level + 1}: {columns}×{rows} places"
        else:
            total += f" at {columns}×{rows} places"
        return Panel(canvas, (f"1  {total}", f"all {count} of one place; in colour the one of the object"))

    def _dot(self, canvas: NDArray[np.uint8], centers: NDArray[np.float64], at: tuple[int, int]) -> None:
        """Paint a dot at places of a level, all or a regular part of them with the object's own."""
        height, width = canvas.shape[:2]
        gap = min(height / centers.shape[0], width / centers.shape[1])
        step = max(1, math.ceil(_NEAREST_DOTS_PX / gap))
        for x, y in centers[at[0] % step :: step, at[1] % step :: step].reshape(-1, 2).round().astype(int):
            canvas[max(0, y - 1) : min(height, y + 1), max(0, x - 1) : min(width, x + 1)] = 225

    def proposals(self) -> Panel:
        """Return the proposals that are likeliest objects, in the colours of heat."""
        stages, canvas = self._stages, self._faint.copy()
        boxes, colors = self._placed(stages.proposals), colormaps["magma"]
        shown = min(_MOST_PROPOSALS, len(boxes))
        for number in reversed(range(shown)):
            shade = _DARKEST + (1 - _DARKEST) * float(stages.objectness[number])
            _outline(canvas, boxes[number], _THIN, to_hex(colors(shade)))
        _outline(canvas, boxes[self._proposal], _THICK, self._color)
        likely = float(stages.objectness[self._proposal])
        return Panel(
            canvas,
            (
                f"2  {len(boxes):,} proposals; the best {shown}, the lighter the likelier an object",
                f"in colour that of the object: number {self._proposal + 1:,}, an object at {likely:.2f}",
            ),
        )

    def candidates(self) -> Panel:
        """Return the boxes with classes that proposals become."""
        candidates, canvas = self._stages.candidates, self._faint.copy()
        boxes, own = self._placed(candidates.boxes), int(self._stages.kept[self._explanation.row])
        order = candidates.scores.argsort(descending=True, stable=True)[:_MOST_CANDIDATES].tolist()
        for row in reversed(order):
            _outline(canvas, boxes[row], _THIN, class_color(int(candidates.labels[row])))
        _outline(canvas, self._placed(self._stages.proposals[self._proposal]), _THIN, _OTHER)
        _outline(canvas, boxes[own], _THICK, self._color)
        best = f"; the surest {len(order)}" if len(order) < len(boxes) else ""
        return Panel(
            canvas,
            (
                f"3  {len(boxes):,} boxes with a class, regressed from them{best}",
                "white: the proposal of the object; in colour the box that it became",
            ),
        )

    def kept(self) -> Panel:
        """Return what is left where boxes of one class suppress less sure ones, with masks if there are."""
        objects, row = objects_on(self._explanation, self._photo), self._explanation.row
        scores = self._stages.found.scores.numpy()
        shown = np.flatnonzero((scores >= _USUAL_SCORE) | (np.arange(len(scores)) == row))
        photo = self._photo.copy()
        _outline(photo, objects.boxes[row].astype(np.float64), _THICK, self._color)
        canvas = painted(photo, objects[shown], self._explanation)
        sure = int((scores >= _USUAL_SCORE).sum())
        return Panel(
            canvas,
            (
                f"4  {len(scores):,} kept: less sure ones of a class that overlap them are gone",
                f"drawn: {sure:,} with a score of {_USUAL_SCORE} or more"
                + ("" if scores[row] >= _USUAL_SCORE else ", and the object"),
            ),
        )


def _outline(canvas: NDArray[np.uint8], box: NDArray[np.float64], line_px: float, color: str) -> None:
    left, top, right, bottom = box.tolist()
    paint_outline(canvas, (left, top, right, bottom), line_px, color)
