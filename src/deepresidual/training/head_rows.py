"""Keep what a detector has learned of the classes that its data and the new data both name.

Each class has rows of its own in the last layers: a score, a box of four numbers, a mask. Those of a class of
the same name are kept, and with them the background's; the others are drawn anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

from deepresidual.errors import listed
from deepresidual.spec import DetectorSpec

__all__ = ["kept_in_words", "with_kept_rows"]

_BOXES, _MASKS = "roi_heads.box_predictor.", "roi_heads.mask_predictor."
# Rows of a class; what is not named here is of all classes together.
_ROWS = {
    f"{_BOXES}cls_score.": 1,
    f"{_BOXES}bbox_pred.": 4,
    f"{_MASKS}mask_fcn_logits.": 1,
}


def kept_in_words(classes: Sequence[str], learned: Sequence[str]) -> str:
    """Return which classes keep their rows; nothing where none does."""
    kept = [name for name in classes if name in set(learned)]
    return f"keeps what it learned of {len(kept)} of {len(classes)} classes: {listed(kept)}" if kept else ""


def with_kept_rows(
    drawn: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    specs: tuple[DetectorSpec, DetectorSpec],
    names: tuple[Sequence[str], Sequence[str]],
) -> dict[str, Tensor]:
    """Return the tensors of a detector's last layers with the rows of the classes that are known.

    Args:
        drawn: Tensors of the new detector, drawn from its seed.
        given: Those of the detector to begin with.
        specs: The new detector's spec, and that of the other.
        names: Names of their classes.

    Returns:
        The last layers of ``drawn``, of the same names. Nothing is kept where no class has a name in common,
        or where the layers before them differ.
    """
    spec, start = specs
    there = {name: row for row, name in enumerate(names[1], start=1)}
    rows = [(row, there[name]) for row, name in enumerate(names[0], start=1) if name in there]
    heads = {name: tensor for name, tensor in drawn.items() if name.startswith((_BOXES, _MASKS))}
    if not rows or not _read_the_same(spec, start):
        return heads
    pairs = [(0, 0), *rows]
    for name, tensor in heads.items():
        if name.startswith(_MASKS) and spec.masks != start.masks:
            continue
        heads[name] = _merged(tensor, given[name], pairs, _rows_of_a_class(name))
    return heads


def _read_the_same(spec: DetectorSpec, start: DetectorSpec) -> bool:
    """Return whether the last layers of the boxes of two detectors read the same and mean the same."""
    alike = dataclasses.replace(
        start,
        num_classes=spec.num_classes,
        proposals=spec.proposals,
        masks=spec.masks,
        detections=spec.detections,
    )
    return alike == spec


def _rows_of_a_class(name: str) -> int:
    return next((count for prefix, count in _ROWS.items() if name.startswith(prefix)), 0)


def _merged(drawn: Tensor, given: Tensor, pairs: Sequence[tuple[int, int]], each: int) -> Tensor:
    """Return a layer with some rows of another; with none of a class, all of the other."""
    if not each:
        return given
    merged = drawn.clone()
    ours, theirs = (rows.view(-1, each, *rows.shape[1:]) for rows in (merged, given))
    for row, of in pairs:
        ours[row] = theirs[of]
    return merged
