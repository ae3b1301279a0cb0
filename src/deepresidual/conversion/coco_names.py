"""The names of COCO's 80 classes, in the order of their ids, as detectron2 and mmdetection count them."""

from __future__ import annotations

import functools

_NOT_CLASSES = ("__background__", "N/A")


@functools.cache
def coco_names() -> tuple[str, ...]:
    """Return the names: those of torchvision's weights, whose rows are ids, without ids that name nothing."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    categories = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return tuple(name for name in categories if name not in _NOT_CLASSES)
