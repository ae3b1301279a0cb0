"""``Detector``: the network that a :class:`~deepresidual.spec.DetectorSpec` describes.

Parameters are named as torchvision names those of its Faster R-CNN (``backbone.body.layer1.0.conv1``,
``backbone.fpn.inner_blocks.0.0``, ``rpn.head.cls_logits``, ``roi_heads.box_head.fc6``); with the same weights
an FPN of the default spec finds the very same boxes and scores. The constructor only builds;
:func:`deepresidual.create` also initializes.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor, nn

from deepresidual.errors import ConfigurationError
from deepresidual.nn.detection.matching import Taught
from deepresidual.nn.detection.operators import FeaturePyramidNetwork, LastLevelMaxPool
from deepresidual.nn.detection.proposals import Losses, ProposalNetwork, Proposed, Size
from deepresidual.nn.detection.regions import Found, RegionHeads
from deepresidual.nn.resnet import ResNet
from deepresidual.spec import DetectorSpec


class Backbone(nn.Module):
    """A network of the family up to the maps that a detector reads."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.body = ResNet(dataclasses.replace(spec.backbone, num_classes=0))
        self._read = spec.read_stages
        self.fpn = _make_pyramid(spec) if spec.neck == "fpn" else None

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the map of every level with anchors, ``(N, C, H, W)`` each, of images ``(N, C, H, W)``."""
        maps, names = list[Tensor](), self.body.spec.stage_names
        x = self.body.stem(images)
        for name in names[: names.index(self._read[-1]) + 1]:
            x = self.body.stage(name, x)
            if name in self._read:
                maps.append(self.body.last_activation(x) if name == names[-1] else x)
        if self.fpn is None:
            return maps
        pyramid = self.fpn(OrderedDict((str(level), x) for level, x in enumerate(maps)))
        return list(pyramid.values())

    def last_stage(self, x: Tensor) -> Tensor:
        """Return the last map of what the last stage but one puts out, or of regions of it."""
        return self.body.last_activation(self.body.stage(self.body.spec.stage_names[-1], x))


class Detector(nn.Module):
    """Faster R-CNN: a backbone, a region proposal network on its maps, and a head for each region."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(spec)
        self.rpn = ProposalNetwork(spec)
        self.roi_heads = RegionHeads(spec)

    @property
    def num_classes(self) -> int:
        """Classes of objects; the background is not counted."""
        return self.spec.num_classes

    @overload
    def forward(self, images: Tensor, sizes: Sequence[Size], targets: None = None) -> list[Found]: ...

    @overload
    def forward(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Taught]) -> Losses: ...

    def forward(
        self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Taught] | None = None
    ) -> list[Found] | Losses:
        """Return what is found in images, or with ``targets`` the losses.

        What is found in an image depends on the size that its batch is padded to, so in evaluation only
        images of one padded size go together.

        Args:
            images: ``(N, in_channels, H, W)`` normalized float.
            sizes: Height and width of each image, which lies in the top left corner; the rest is zero.
            targets: What the images teach, in pixels of ``images``.

        Returns:
            One :class:`Found` an image. With targets, the sums over the images of each of their losses:
            ``rpn_class``, ``rpn_box``, ``class`` and ``box``, of a detector with masks ``mask``. A part is
            the sum over its anchors or regions divided by the number that the spec wants, not by how many
            there are, so that a gradient does not depend on which images share a batch; that of the masks is
            the mean over the regions of an image that have one.

        Raises:
            ConfigurationError: There are not as many sizes or targets as images, or a size is too large.
        """
        self._check(images, sizes, targets)
        images = blanked(images, sizes)
        maps = self.backbone(images)
        if targets is None:
            return self._found(maps, images, sizes)
        return self._losses(maps, images, sizes, targets)

    def found_and_losses(
        self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Taught]
    ) -> tuple[list[Found], Losses]:
        """Return what :meth:`forward` does without targets and with them, of the same maps.

        For evaluations that watch the loss, too: the maps take most of the time.
        """
        self._check(images, sizes, targets)
        images = blanked(images, sizes)
        maps = self.backbone(images)
        return self._found(maps, images, sizes), self._losses(maps, images, sizes, targets)

    def _found(self, maps: Sequence[Tensor], images: Tensor, sizes: Sequence[Size]) -> list[Found]:
        proposed: Proposed = self.rpn(maps, (images.shape[2], images.shape[3]), sizes)
        read = maps[: len(self.spec.read_stages)]
        found: list[Found] = self.roi_heads(read, proposed.boxes, sizes, self.backbone.last_stage)
        return [
            dataclasses.replace(each, is_finite=each.is_finite & is_finite)
            for each, is_finite in zip(found, proposed.is_finite, strict=True)
        ]

    def _losses(
        self, maps: Sequence[Tensor], images: Tensor, sizes: Sequence[Size], targets: Sequence[Taught]
    ) -> Losses:
        if not len(images):
            return self._losses_of_nothing(maps)
        targets = [taught.to(images.device) for taught in targets]
        proposed: Proposed = self.rpn(maps, (images.shape[2], images.shape[3]), sizes, targets)
        read = maps[: len(self.spec.read_stages)]
        of_regions = self.roi_heads.losses(read, proposed.boxes, targets, self.backbone.last_stage)
        return {**proposed.losses, **of_regions}

    def _losses_of_nothing(self, maps: Sequence[Tensor]) -> Losses:
        """Return the losses of no images: zeros in whose graph every weight is.

        Other processes wait for the gradients of all weights, and for the sums of synchronized BN.
        """
        last = [self.backbone.last_stage(maps[-1])] if self.spec.neck == "c4" else []
        zero = torch.stack([x.float().sum() for x in [*maps, *last, *self.parameters()]]).sum() * 0.0
        masks = () if self.spec.masks is None else ("mask",)
        return dict.fromkeys(("rpn_class", "rpn_box", "class", "box", *masks), zero)

    def _check(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Taught] | None) -> None:
        height, width = images.shape[2:]
        if len(sizes) != len(images) or (targets is not None and len(targets) != len(images)):
            taught = "" if targets is None else f" and {len(targets)} targets"
            raise ConfigurationError(
                f"there are {len(images)} images with {len(sizes)} sizes{taught}", expected="as many of each"
            )
        for rows, columns in sizes:
            if not (0 < rows <= height and 0 < columns <= width):
                raise ConfigurationError(
                    f"an image of {rows}×{columns} pixels is said to lie in {height}×{width}",
                    expected="sizes within the batch's",
                )


def empty_detector(spec: DetectorSpec) -> Detector:
    """Build a detector whose memory is allocated and not filled; for weights that come from elsewhere."""
    with torch.device("meta"):
        network = Detector(spec)
    network.to_empty(device="cpu")
    return network


def _make_pyramid(spec: DetectorSpec) -> FeaturePyramidNetwork:
    return FeaturePyramidNetwork(
        [width * spec.backbone.expansion for width in spec.backbone.widths[-spec.fpn_stages :]],
        spec.fpn_channels,
        extra_blocks=LastLevelMaxPool() if spec.fpn_extra else None,
        norm_layer=nn.BatchNorm2d if spec.fpn_norm else None,
    )


def blanked(images: Tensor, sizes: Sequence[Size]) -> Tensor:
    """Return images that are zero outside of their sizes."""
    height, width = images.shape[2:]
    if all(size == (height, width) for size in sizes):
        return images
    images = images.clone()
    for image, (rows, columns) in zip(images, sizes, strict=True):
        image[:, rows:] = 0
        image[:, :, columns:] = 0
    return images
