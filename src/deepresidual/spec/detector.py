"""``DetectorSpec``: everything that defines a detector, as a value beside that of its backbone.

Sources: Ren et al. 2015, "Faster R-CNN" (arXiv 1506.01497); He et al. 2015, appendix A ("C4": what comes
before conv5 is shared, conv5 is the head of each region); Lin et al. 2017, "Feature Pyramid Networks" (arXiv
1612.03144); He et al. 2017, "Mask R-CNN" (arXiv 1703.06870; RoIAlign). Defaults are those of torchvision's
``fasterrcnn_resnet50_fpn``, to which such a detector is equal to the bit with the same weights.

Example:
    >>> spec = DetectorSpec(backbone=ResNetSpec(unit="basic", depths=(2, 2, 2, 2), num_classes=0),
    ...                     num_classes=3)
    >>> spec.num_parameters
    28_288_930
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from deepresidual.errors import ConfigurationError
from deepresidual.fields import check_fields, check_names, number
from deepresidual.spec.detector_layers import num_macs, num_parameters
from deepresidual.spec.spec import ResNetSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Anchors", "Detections", "DetectorSpec", "MaskHead", "Neck", "Proposals", "Regions", "RoiPooling"]

Neck: TypeAlias = Literal["c4", "fpn"]
"""``c4``: all stages but the last are shared, and the last is the head of each region. ``fpn``: a pyramid of
maps of equal width, and two fully connected layers for each region."""

RoiPooling: TypeAlias = Literal["pool", "align", "align-v2"]
"""``pool``: the maximum of each bin of whole pixels (Girshick 2015). ``align``: means of bilinear samples.
``align-v2``: the same where a map's first pixel has its center half a pixel from the edge, as detectron2's
``ROIAlignV2`` and torchvision's ``aligned=True`` sample it; small regions are not widened to a pixel."""


@dataclass(frozen=True)
class Anchors:
    """Boxes at every place of a map, from which proposals are predicted."""

    sizes: tuple[tuple[float, ...], ...] = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    """Roots of the anchors' areas in pixels of the network's input, for each level of the pyramid."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Heights over widths."""
    inside_only: bool = False
    """Whether anchors that reach over the image's edges are left out of training (Ren et al. 2015, 3.3)."""
    exact: bool = False
    """Whether sides are not rounded and places lie a stride apart, as in detectron2 and mmdetection.
    Otherwise sides are even numbers and places divide the padded image into whole pixels (torchvision)."""


@dataclass(frozen=True)
class Proposals:
    """The region proposal network: what it learns from, and what it proposes."""

    samples: int = number(256, 1, 100_000)
    """Anchors of an image that are learned from."""
    positive_share: float = number(0.5, 0, 1)
    """Largest share of objects among them."""
    positive_iou: float = number(0.7, 0, 1)
    """From which overlap (IoU) on an anchor is an object's; the best of each object always is."""
    negative_iou: float = number(0.3, 0, 1)
    """Below which overlap an anchor is background."""
    smooth_l1_beta: float = number(1 / 9, 0, 10)
    """Where the loss of the boxes turns from a square to a line."""
    before_nms_train: int = number(2000, 1, 1_000_000)
    """Proposals of a level, by score, that enter suppression in training."""
    after_nms_train: int = number(2000, 1, 1_000_000)
    """Proposals of an image that are left in training."""
    before_nms: int = number(1000, 1, 1_000_000)
    """Proposals of a level that enter suppression in evaluation."""
    after_nms: int = number(1000, 1, 1_000_000)
    """Proposals of an image that are left in evaluation."""
    nms_iou: float = number(0.7, 0, 1)
    """From which overlap with a better one a proposal is suppressed."""
    min_px: float = number(1e-3, 0, 1000)
    """Smallest side of a proposal."""


@dataclass(frozen=True)
class Regions:
    """The head of each region: how it is pooled, and what it learns from."""

    pooling: RoiPooling = "align"
    """How the map under a region becomes ``bins`` × ``bins``."""
    bins: int = number(7, 1, 64)
    """Bins along each side."""
    sampling: int = number(2, 0, 16)
    """Samples along each side of a bin of ``align``; 0: as many as it has pixels."""
    convs: int = number(0, 0, 16)
    """3×3 convolutions with BN of ``fpn``, as wide as its maps, before one fully connected layer (Li et
    al. 2021, arXiv 2111.11429); 0: two fully connected layers."""
    hidden: int = number(1024, 1, 65_536)
    """Width of the fully connected layers of ``fpn``."""
    samples: int = number(512, 1, 100_000)
    """Regions of an image that are learned from."""
    positive_share: float = number(0.25, 0, 1)
    """Largest share of objects among them."""
    positive_iou: float = number(0.5, 0, 1)
    """From which overlap on a region is an object's."""
    negative_iou: tuple[float, float] = (0.0, 0.5)
    """Overlap of a region that is background: from the first, and below the second."""
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    """Factors of the regression targets: across, down, width, height."""
    smooth_l1_beta: float = number(1 / 9, 0, 10)
    """Where the loss of the boxes turns from a square to a line."""


@dataclass(frozen=True)
class MaskHead:
    """The masks of regions: which pixels of a box are the object's (He et al. 2017, section 3).

    On a pyramid, convolutions over the pooled region, whose map then doubles; of ``c4`` the backbone's last
    stage comes before, as for boxes, and pooling is that of the regions.
    """

    bins: int = number(14, 1, 64)
    """Bins along each side of a region; a mask has twice as many. Of ``c4`` those of the last stage's map."""
    convs: int = number(4, 0, 16)
    """3×3 convolutions over the pooled region."""
    channels: int = number(256, 1, 4096)
    """Their width, and that of the doubled map."""
    norm: bool = False
    """Whether each has BN in place of a bias."""


@dataclass(frozen=True)
class Detections:
    """What is given out."""

    min_score: float = number(0.05, 0, 1)
    """Lowest score."""
    nms_iou: float = number(0.5, 0, 1)
    """From which overlap with a better one of its class a detection is suppressed."""
    most: int = number(100, 1, 100_000)
    """Most detections of an image."""


@dataclass(frozen=True)
class DetectorSpec:
    """Everything that defines a detector.

    Attributes:
        backbone: The network that gives the maps; its classifier and pooling are not used.
        num_classes: Classes of objects; the background is not counted.
        neck: What stands between its maps and the regions.
        fpn_channels: Width of the pyramid's maps.
        fpn_stages: Number of the last stages that the pyramid reads.
        fpn_norm: Whether the convolutions of the pyramid have BN in place of a bias.
        fpn_extra: Whether a level of half the size follows the last (by max-pooling), for proposals only.
        rpn_convs: 3×3 convolutions of the proposal head.
        rpn_channels: Width of these for ``c4``; those of ``fpn`` are as wide as its maps.
        anchors: Boxes at every place.
        proposals: Training and limits of the proposal network.
        regions: Pooling and training of the regions.
        masks: The head that says which pixels are an object's; ``None``: boxes alone are found.
        detections: What is given out.
        size_divisor: Height and width of the input are padded to multiples of it; ``None``: of the largest
            stride. 1, as detectron2 has it for ``c4``: nothing is padded.

    Raises:
        ConfigurationError: A field is out of range, naming the field.
    """

    backbone: ResNetSpec
    num_classes: int
    neck: Neck = "fpn"
    fpn_channels: int = number(256, 1, 4096)
    fpn_stages: int = number(4, 1, 8)
    fpn_norm: bool = False
    fpn_extra: bool = True
    rpn_convs: int = number(1, 1, 8)
    rpn_channels: int = number(512, 1, 4096)
    anchors: Anchors = dataclasses.field(default_factory=Anchors)
    proposals: Proposals = dataclasses.field(default_factory=Proposals)
    regions: Regions = dataclasses.field(default_factory=Regions)
    masks: MaskHead | None = None
    detections: Detections = dataclasses.field(default_factory=Detections)
    size_divisor: int | None = None

    def __post_init__(self) -> None:
        for value in (self, self.proposals, self.regions, *filter(None, [self.masks]), self.detections):
            check_fields(value, as_json=True)
        if not 1 <= self.num_classes <= _MAX_CLASSES:
            raise ConfigurationError(f"num_classes is {self.num_classes}", expected=f"1 to {_MAX_CLASSES:,}")
        stages = len(self.backbone.stage_names)
        if self.neck == "c4" and stages < 2:
            raise ConfigurationError(
                "the neck is c4 and the backbone has one stage",
                expected="a last stage for the regions, and others before it",
            )
        if self.neck == "fpn" and self.fpn_stages > stages:
            raise ConfigurationError(f"fpn_stages is {self.fpn_stages}", expected=f"1 to {stages}")
        divisor = self.size_divisor
        if divisor is not None and not 1 <= divisor <= _MAX_SIZE:
            raise ConfigurationError(f"size_divisor is {divisor}", expected=f"1 to {_MAX_SIZE:,}, or null")
        self._check_anchors()
        self._check_regions()
        if self.proposals.negative_iou > self.proposals.positive_iou:
            raise ConfigurationError(
                f"negative_iou is {self.proposals.negative_iou} and positive_iou is "
                f"{self.proposals.positive_iou}",
                expected="negative_iou ≤ positive_iou",
            )

    def _check_regions(self) -> None:
        if self.neck == "c4" and self.regions.convs:
            raise ConfigurationError(
                f"convs of the regions is {self.regions.convs} and the neck is c4",
                expected="0: the last stage of the backbone is the head of each region",
            )
        bounds, weights = self.regions.negative_iou, self.regions.box_weights
        if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= 1:
            raise ConfigurationError(
                f"negative_iou is {list(bounds)}", expected="two rising numbers from 0 to 1"
            )
        if len(weights) != 4 or not all(0 < weight <= _MAX_WEIGHT for weight in weights):
            raise ConfigurationError(
                f"box_weights is {list(weights)}", expected=f"four numbers above 0, to {_MAX_WEIGHT:,}"
            )

    def _check_anchors(self) -> None:
        for name in ("inside_only", "exact"):
            if not isinstance(getattr(self.anchors, name), bool):
                raise ConfigurationError(
                    f"{name} of the anchors is {getattr(self.anchors, name)!r}", expected="true or false"
                )
        sizes, ratios = self.anchors.sizes, self.anchors.ratios
        levels = (*sizes, ratios) if isinstance(sizes, tuple) else (sizes, ratios)
        if not all(isinstance(level, tuple) for level in levels):
            raise ConfigurationError(
                f"anchors are {sizes} and {ratios}", expected="a list of sizes for each level, and of ratios"
            )
        flat = [value for level in levels for value in level]
        if not all(type(value) in (int, float) and 0 < value <= _MAX_SIZE for value in flat) or not ratios:
            raise ConfigurationError(f"anchors are {sizes} and {ratios}", expected="sizes and ratios above 0")
        if not sizes or not sizes[0] or len({len(level) for level in sizes}) != 1:
            raise ConfigurationError(f"sizes of the anchors are {sizes}", expected="as many on each level")
        if len(sizes) != self.num_levels:
            raise ConfigurationError(
                f"sizes of the anchors are given for {len(sizes)} levels", expected=f"{self.num_levels}"
            )

    # -- shape ---------------------------------------------------------------------------------------

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.backbone.in_channels

    @property
    def read_stages(self) -> tuple[str, ...]:
        """Names of the stages whose maps the neck reads."""
        names = self.backbone.stage_names
        return names[-2:-1] if self.neck == "c4" else names[-self.fpn_stages :]

    @property
    def num_levels(self) -> int:
        """Maps on which there are anchors."""
        return 1 if self.neck == "c4" else self.fpn_stages + self.fpn_extra

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the input a pixel of each map with anchors."""
        every = self.backbone.stage_strides
        read = [every[self.backbone.stage_names.index(name)] for name in self.read_stages]
        return (*read, *([2 * read[-1]] if self.num_levels > len(read) else []))

    def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the input for an image of ``size``.

        Unless the spec says otherwise, every map has whole pixels.
        """
        multiple = self.size_divisor or max(self.backbone.stage_strides)
        height, width = (-(-side // multiple) * multiple for side in size)
        return height, width

    @property
    def num_anchors(self) -> int:
        """Anchors at each place of a map."""
        return len(self.anchors.sizes[0]) * len(self.anchors.ratios)

    @property
    def map_channels(self) -> int:
        """Width of the maps that proposals and regions are read from."""
        if self.neck == "fpn":
            return self.fpn_channels
        return self.backbone.widths[-2] * self.backbone.expansion

    @property
    def num_parameters(self) -> int:
        """Number of learned parameters, in closed form."""
        return num_parameters(self)

    def num_macs(self, input_px: int) -> int:
        """Return the multiply-adds for a square image of ``input_px``, as many regions as there can be."""
        return num_macs(self, input_px)

    @property
    def mask_bins(self) -> int:
        """Side of the map of a region that its mask is made of; a mask has twice as many pixels."""
        if self.neck == "fpn":
            return 0 if self.masks is None else self.masks.bins
        px = self.regions.bins
        for unit in self.backbone.units():
            if unit.stage == self.backbone.stage_names[-1]:
                px = -(-px // unit.stride)
        return px

    @property
    def mask_px(self) -> int:
        """Side of the mask of a region in pixels."""
        return 2 * self.mask_bins

    # -- JSON ----------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        fields = _as_json(dataclasses.asdict(self))
        for part, later in _LATER.items():
            of_part = fields[part] if part else fields
            for name, default in later.items() if of_part is not None else ():
                if of_part[name] == default:
                    del of_part[name]  # what does not have it keeps its document
        return {**fields, "backbone": self.backbone.to_dict()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DetectorSpec:
        """Build a spec from JSON types; unknown, missing and mistyped fields are errors.

        Raises:
            ConfigurationError: A field is unknown, missing, of the wrong type or out of range.
        """
        values = _values(cls, fields, "the detector")
        for name, kind in _PARTS.items():
            if values.get(name) is not None:
                if not isinstance(values[name], dict):
                    raise ConfigurationError(f"{name} of the detector is no object")
                values[name] = kind(**_values(kind, values[name], f"{name} of the detector"))
        if not isinstance(values["backbone"], dict):
            raise ConfigurationError("backbone of the detector is no object")
        values["backbone"] = ResNetSpec.from_dict(values["backbone"])
        return cls(**values)


_PARTS: dict[str, type[Any]] = {
    "anchors": Anchors,
    "proposals": Proposals,
    "regions": Regions,
    "masks": MaskHead,
    "detections": Detections,
}
# Fields that came later, of the detector and of its parts, with what they are where they are absent.
_LATER: dict[str, dict[str, Any]] = {
    "anchors": {"exact": False},
    "regions": {"convs": 0},
    "masks": {"norm": False},
    "": {"fpn_norm": False, "masks": None, "size_divisor": None},
}
_MAX_CLASSES = 100_000
_MAX_SIZE = 16_384
_MAX_WEIGHT = 1_000


def _values(kind: type[Any], fields: Mapping[str, Any], what: str) -> dict[str, Any]:
    known = [field.name for field in dataclasses.fields(kind)]
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    check_names(fields, known, required, what)
    return {name: _as_tuples(value) for name, value in fields.items()}


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, tuple) else value
