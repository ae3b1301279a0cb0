"""``Objects``: what stands where in an image; boxes that follow the pixels through every view of it.

Boxes are left, top, right and bottom in pixels of the upright image, whose edges are continuous: a box of one
pixel in the corner is (0, 0, 1, 1), and the whole image is (0, 0, width, height). Formats that count
otherwise are brought to this where they are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.augment.window import Window
from deepresidual.data.masks import Crop, Masks
from deepresidual.data.seen_masks import seen_mask
from deepresidual.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

MIN_VISIBLE = 0.25
"""Share of a box that a view has to show; what shows less of an object neither is one nor is none."""


# Of none a crowd, none difficult, and the areas are those of the boxes.
_NOT_SAID: Any = None


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of an image: annotated ones, or found ones, which have scores.

    Attributes:
        boxes: ``(n, 4)`` float32: left, top, right, bottom, in pixels.
        labels: ``(n,)`` int64: indices into the classes, from 0; the background is no class.
        crowd: ``(n,)`` bool: whether the box holds a crowd of such objects (COCO's ``iscrowd``). What is
            found in it is neither right nor wrong, and it is taught neither as object nor as background.
        difficult: ``(n,)`` bool: whether the object need not be found (VOC's ``difficult``).
        areas: ``(n,)`` float32: area in pixels, of a mask where there is one; else of the box.
        scores: ``(n,)`` float32 from 0 to 1 of what was found; ``None`` of what is annotated.
        masks: Which pixels of the upright image each covers; ``None``: only boxes are known.
        crops: The same in a view; of an object that has no mask ``None``.
        window: Which view of the image the boxes are in; ``None``: the image itself.
        seed: Decides which regions of the view training looks at, 0 to 2⁶³ − 1.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_] = _NOT_SAID
    difficult: NDArray[np.bool_] = _NOT_SAID
    areas: NDArray[np.float32] = _NOT_SAID
    scores: NDArray[np.float32] | None = None
    masks: Masks | None = None
    crops: tuple[Crop | None, ...] | None = None
    window: Window | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, dtype=np.float32).reshape(-1, 4)
        count = len(boxes)
        values: dict[str, NDArray[Any]] = {
            "boxes": boxes,
            "labels": np.asarray(self.labels, dtype=np.int64).reshape(-1),
            "crowd": _or_zeros(self.crowd, count, np.bool_),
            "difficult": _or_zeros(self.difficult, count, np.bool_),
            "areas": np.asarray(areas_of(boxes) if self.areas is None else self.areas, dtype=np.float32),
        }
        if self.scores is not None:
            values["scores"] = np.asarray(self.scores, dtype=np.float32).reshape(-1)
        for name, array in values.items():
            object.__setattr__(self, name, array)
        for name in (*values, "masks", "crops"):
            array = getattr(self, name)
            if array is not None and len(array) != count:
                raise ConfigurationError(f"{name} holds {len(array)} values", expected=f"{count}, one a box")

    @classmethod
    def none(cls) -> Self:
        """Return no objects."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        return f"Objects({len(self)} in {'the image' if self.window is None else 'a view of it'})"

    def __getitem__(self, chosen: NDArray[Any] | slice) -> Self:
        """Return the objects that an index array, a mask or a slice chooses."""
        return dataclasses.replace(
            self,
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            crowd=self.crowd[chosen],
            difficult=self.difficult[chosen],
            areas=self.areas[chosen],
            scores=None if self.scores is None else self.scores[chosen],
            masks=None if self.masks is None else self.masks[chosen],
            crops=None if self.crops is None else _chosen(self.crops, chosen),
        )

    # -- views ---------------------------------------------------------------------------------------

    def seen(self, window: Window, seed: int = 0) -> Self:
        """Return the objects as a view shows them: boxes and masks in its pixels, cut at its edges.

        An object of which a view shows nothing is left out. One of which it shows less than
        :data:`MIN_VISIBLE`, or no whole pixel of its mask, becomes a crowd: it is neither taught as an object
        nor as background. Where a view is turned, the box around a mask is closer than that around the turned
        box.

        Args:
            window: The view.
            seed: Decides which of its regions training looks at.
        """
        boxes, share = window.shown(self.boxes)
        seen = dataclasses.replace(
            self,
            boxes=boxes,
            crowd=self.crowd | (share < MIN_VISIBLE),
            areas=self.areas * share * np.float32(window.magnification),
            masks=None,
            window=window,
            seed=seed,
        )[share > 0]
        if self.masks is None:
            return seen
        crops = _crops_of(self.masks[share > 0], window)
        gone = np.array([crop is not None and not crop.pixels.size for crop in crops], np.bool_)
        boxes = seen.boxes.copy()
        for row, crop in enumerate(crops):
            if window.turned and crop is not None and crop.pixels.size:
                boxes[row] = crop.box
        return dataclasses.replace(seen, boxes=boxes, crowd=seen.crowd | gone, crops=crops)

    def unseen(self) -> Self:
        """Return objects of a view in pixels of its image, cut at the image's edges."""
        if self.window is None:
            return self
        boxes = self.window.place_back(self.boxes)
        return dataclasses.replace(self, boxes=boxes, areas=areas_of(boxes), crops=None, window=None)

    # -- JSON ----------------------------------------------------------------------------------------

    def to_dict(self, label_names: Sequence[str]) -> list[dict[str, Any]]:
        """Return a document for each object: ``label``, ``score``, ``box`` and ``mask``, of what there is.

        A mask is COCO's: ``size`` of the image, and ``counts``, its runs of pixels as text.
        """
        masks = self.masks
        return [
            {
                "label": label_names[int(label)],
                **({} if self.scores is None else {"score": float(self.scores[row])}),
                "box": [float(value) for value in self.boxes[row]],
                **({} if masks is None or not masks.known[row] else {"mask": masks.runs(row).to_dict()}),
                **({"crowd": True} if self.crowd[row] else {}),
                **({"difficult": True} if self.difficult[row] else {}),
            }
            for row, label in enumerate(self.labels)
        ]

    @classmethod
    def stacked(cls, targets: Sequence[Self]) -> ObjectsBatch:
        """Return the targets of a batch."""
        return ObjectsBatch(tuple(targets))


@dataclass(frozen=True)
class ObjectsBatch:
    """The objects of the images of a batch, where a task of labels has a tensor.

    Attributes:
        images: The objects of each image.
    """

    images: tuple[Objects, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Objects]:
        return iter(self.images)

    @overload
    def __getitem__(self, chosen: int) -> Objects: ...

    @overload
    def __getitem__(self, chosen: slice) -> ObjectsBatch: ...

    def __getitem__(self, chosen: int | slice) -> Objects | ObjectsBatch:
        return ObjectsBatch(self.images[chosen]) if isinstance(chosen, slice) else self.images[chosen]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:  # noqa: ARG002
        """Return itself: boxes are few, and go to the device where they are used."""
        return self

    def pin_memory(self) -> Self:
        """Return itself."""
        return self


def areas_of(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the area of each of ``(n, 4)`` boxes; 0 of one that is turned inside out."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    product: NDArray[np.float32] = (sides[:, 0] * sides[:, 1]).astype(np.float32)
    return product


def _crops_of(masks: Masks, window: Window) -> tuple[Crop | None, ...]:
    """Return the pixels of each mask in a view; ``None`` of an object without a mask."""
    return tuple(
        seen_mask(masks.crop(row), window) if is_known else None for row, is_known in enumerate(masks.known)
    )


def _chosen(crops: tuple[Crop | None, ...], chosen: NDArray[Any] | slice) -> tuple[Crop | None, ...]:
    return tuple(crops[row] for row in np.arange(len(crops))[chosen].tolist())


def _or_zeros(values: Any, count: int, kind: type[Any]) -> NDArray[Any]:
    return np.zeros(count, kind) if values is None else np.asarray(values, dtype=kind).reshape(-1)
