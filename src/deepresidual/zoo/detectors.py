"""Detectors by name: a network of the zoo, and what stands behind it. Nothing here imports torch.

Example:
    >>> detector("resnet50-fpn", num_classes=90).num_parameters
    41808406
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from typing import TYPE_CHECKING

from deepresidual.errors import UnknownNameError
from deepresidual.spec.detector import Anchors, Detections, DetectorSpec, MaskHead, Proposals, Regions

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepresidual.spec import ResNetSpec

__all__ = [
    "KINDS",
    "backbone_name",
    "detector",
    "detector_of",
    "is_detector",
    "list_detectors",
    "name_of",
    "with_masks",
]

_NAME = re.compile(r"(.+?)-(c4|fpn|fpn-slim|fpn-tiny)")


def c4(backbone: ResNetSpec, num_classes: int) -> DetectorSpec:
    """Return the detector of He et al. 2015, appendix A: conv1 to conv4_x are shared, conv5_x is the head.

    RoI pooling, three sizes and three shapes of anchors, those over the border not trained, 300 proposals,
    NMS at 0.3 (the code of Ren et al. 2015). The paper does not say into how many bins regions are pooled:
    14, which conv5_1 halves, are Detectron's. On a network for small images all sizes are an eighth.
    """
    is_small = backbone.stem == "cifar"
    sizes = (12.0, 18.0, 26.0) if is_small else (128.0, 256.0, 512.0)
    return DetectorSpec(
        backbone=_without_classifier(backbone),
        num_classes=num_classes,
        neck="c4",
        rpn_channels=64 if is_small else 512,
        anchors=Anchors(sizes=(sizes,), inside_only=not is_small),
        proposals=Proposals(
            samples=64 if is_small else 256,
            smooth_l1_beta=1 / 9,
            before_nms_train=1000 if is_small else 12_000,
            after_nms_train=200 if is_small else 2000,
            before_nms=500 if is_small else 6000,
            after_nms=60 if is_small else 300,
            min_px=2.0 if is_small else 16.0,
        ),
        regions=Regions(
            pooling="pool",
            bins=8 if is_small else 14,
            samples=32 if is_small else 128,
            negative_iou=(0.0, 0.5),
            smooth_l1_beta=1.0,
        ),
        detections=Detections(nms_iou=0.3),
    )


def fpn(backbone: ResNetSpec, num_classes: int) -> DetectorSpec:
    """Return torchvision's Faster R-CNN with a feature pyramid, its defaults (Lin et al. 2017)."""
    spec = _without_classifier(backbone)
    stages = min(4, len(spec.stage_names))
    strides = spec.stage_strides[-stages:]
    sizes = tuple((8.0 * stride,) for stride in (*strides, 2 * strides[-1]))
    return DetectorSpec(spec, num_classes, fpn_stages=stages, anchors=Anchors(sizes=sizes))


def fpn_slim(backbone: ResNetSpec, num_classes: int) -> DetectorSpec:
    """Return a detector for CPUs: the pyramid a quarter as wide, few regions, a narrow head, small anchors.

    Of torchvision's Faster R-CNN with ResNet-18 the head of the regions, the proposals and the pyramid take
    as much as seven networks.
    """
    spec = fpn(backbone, num_classes)
    sizes = tuple((size / 2,) for (size,) in spec.anchors.sizes)
    return dataclasses.replace(
        spec,
        fpn_channels=64,
        anchors=Anchors(sizes=sizes),
        proposals=Proposals(
            samples=128, before_nms_train=500, after_nms_train=300, before_nms=300, after_nms=150
        ),
        regions=Regions(hidden=192, samples=64),
        detections=Detections(most=150),
    )


def fpn_tiny(backbone: ResNetSpec, num_classes: int) -> DetectorSpec:
    """Return :func:`fpn_slim` on a network of half the width, for training from nothing on a CPU."""
    return fpn_slim(
        dataclasses.replace(backbone, widths=tuple(max(8, width // 2) for width in backbone.widths)),
        num_classes,
    )


KINDS: dict[str, Callable[[ResNetSpec, int], DetectorSpec]] = {
    "c4": c4,
    "fpn": fpn,
    "fpn-slim": fpn_slim,
    "fpn-tiny": fpn_tiny,
}
"""What stands behind a network, by the end of the detector's name."""


def is_detector(name: str) -> bool:
    """Return whether a name is that of a detector."""
    return _NAME.fullmatch(name) is not None


def list_detectors(pattern: str) -> list[str]:
    """Return the names of all detectors that match the shell ``pattern``, in the order of their networks."""
    from deepresidual.zoo import list_models

    names = (f"{network}-{kind}" for network in list_models() for kind in KINDS)
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def backbone_name(name: str) -> str:
    """Return the name of a detector's network; a name without an end is one."""
    found = _NAME.fullmatch(name)
    return name if found is None else found[1]


def with_masks(spec: DetectorSpec) -> DetectorSpec:
    """Return a detector that says which pixels are an object's, too: Mask R-CNN (He et al. 2017).

    Its head is the paper's: of a pyramid four convolutions of 256 channels, of ``c4`` none behind the last
    stage; of a narrow detector half as many, as narrow as its pyramid.
    """
    if spec.neck == "c4":
        channels = 64 if spec.backbone.stem == "cifar" else 256
        return dataclasses.replace(spec, masks=MaskHead(convs=0, channels=channels))
    is_narrow = spec.fpn_channels < MaskHead().channels
    head = MaskHead(convs=2, channels=spec.fpn_channels) if is_narrow else MaskHead()
    return dataclasses.replace(spec, masks=head)


def detector(name: str, num_classes: int) -> DetectorSpec:
    """Return the detector called ``name``: a network of the zoo, a hyphen, and one of :data:`KINDS`.

    Raises:
        UnknownNameError: There is no such network, or no such kind of detector.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise UnknownNameError("kind of detector", name.rpartition("-")[2], KINDS)
    from deepresidual.zoo import entry

    return detector_of(entry(found[1]).spec, found[2], num_classes)


def detector_of(backbone: ResNetSpec, kind: str, num_classes: int) -> DetectorSpec:
    """Return the detector of a kind on a network."""
    return KINDS[kind](backbone, num_classes)


def name_of(spec: DetectorSpec) -> str | None:
    """Return the name of a detector, with masks or without; ``None``: it has none.

    Classes and input channels do not count.
    """
    from deepresidual.zoo import name_of as network_name

    whole = dataclasses.replace(spec.backbone, widths=tuple(2 * width for width in spec.backbone.widths))
    for kind, make in KINDS.items():
        network = whole if kind == "fpn-tiny" else spec.backbone
        name = network_name(network)
        made = dataclasses.replace(make(network, spec.num_classes), backbone=spec.backbone)
        if name is not None and spec in (made, with_masks(made)):
            return f"{name}-{kind}"
    return None


def _without_classifier(spec: ResNetSpec) -> ResNetSpec:
    return dataclasses.replace(spec, num_classes=0, head=type(spec.head)())
