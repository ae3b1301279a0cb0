"""The rows of a detector's last layers in libraries that put the background last, detectron2 and mmdetection.

Here, as in torchvision, row 0 of the classes is the background's, and boxes and masks have rows for it that
are not used. There the background is the last class and has neither. The order of anchors may differ, too.
"""

from __future__ import annotations

from torch import Tensor

from deepresidual.spec import DetectorSpec


def rows_there(
    name: str, spec: DetectorSpec, found: Tensor | None, *, sizes_first: bool
) -> tuple[int, ...] | None:
    """Return for each row of a tensor here the row there; ``None``: they are the same.

    Args:
        name: The tensor's name here.
        spec: The detector.
        found: The tensor there, which says whether boxes and masks are those of classes; ``None``: they are.
        sizes_first: Whether anchors have sizes before shapes there; here it is the other way round.
    """
    classes, num_rows = spec.num_classes, len(found) if found is not None and found.ndim else 0
    sizes, ratios = len(spec.anchors.sizes[0]), len(spec.anchors.ratios)
    match name.rpartition(".")[0]:
        case "rpn.head.cls_logits" if sizes_first:
            return anchor_rows(sizes, ratios, 1)
        case "rpn.head.bbox_pred" if sizes_first:
            return anchor_rows(sizes, ratios, 4)
        case "roi_heads.box_predictor.cls_score":
            return class_rows(classes)
        case "roi_heads.box_predictor.bbox_pred":
            return box_rows(classes, num_rows)
        case "roi_heads.mask_predictor.mask_fcn_logits":
            return mask_rows(classes, num_rows)
        case _:
            return None


def class_rows(num_classes: int) -> tuple[int, ...]:
    """Return for each row of the classifier here the row there."""
    return (num_classes, *range(num_classes))


def box_rows(num_classes: int, num_rows: int) -> tuple[int, ...]:
    """Return for each row of the codes of boxes here the row there; −1: the background, which has none.

    Args:
        num_classes: Classes of objects.
        num_rows: Rows there; of four the same box is every class's.
    """
    of_classes = range(4 * num_classes) if num_rows != 4 else [0, 1, 2, 3] * num_classes
    return (-1, -1, -1, -1, *of_classes)


def mask_rows(num_classes: int, num_rows: int) -> tuple[int, ...]:
    """Return for each row of the masks here the row there; of one the same mask is every class's."""
    return (-1, *(range(num_classes) if num_rows != 1 else [0] * num_classes))


def anchor_rows(num_sizes: int, num_ratios: int, values: int) -> tuple[int, ...] | None:
    """Return for each row of a layer over anchors here the row of one where sizes come before ratios.

    Args:
        num_sizes: Sizes of anchors at a place; here the inner ones.
        num_ratios: Their shapes; there the inner ones.
        values: Rows an anchor: 1, or 4 for codes of boxes.

    Returns:
        The rows; ``None``: they are the same.
    """
    if num_sizes == 1 or num_ratios == 1:
        return None
    return tuple(
        (size * num_ratios + ratio) * values + value
        for ratio in range(num_ratios)
        for size in range(num_sizes)
        for value in range(values)
    )
