"""Heat maps of one object that a detector finds: where in the image the evidence for it lies.

The score is the logit of the object's class for the region that became the object, so its derivatives pass
the pooling of that region and nothing else. They are taken by the maps that the detector reads (of ``c4`` the
shared one, of a pyramid those that its levels are made of), and each level's map of evidence is added at the
size of the input, as evidence a pixel.

``hires-cam`` weighs each position by its own derivative (Draelos and Carin 2020, arXiv 2011.08891), as
ODAM does for detectors (Zhao and Chan 2023, arXiv 2304.06354). ``grad-cam`` weighs all positions of a channel
by the mean derivative (Selvaraju et al. 2017): a score that reads one region then warms all that looks like
it. In photos of blood cells 6 % of the heat of ``grad-cam`` lies in the box, which is about its share of the
area, and 89 % of that of ``hires-cam``.

The evidence for a mask is the mean of the logits of its pixels, for the object's own box, from which the mask
is computed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deepresidual.backends.detector import TorchDetector, padded
from deepresidual.data.augment import Window
from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.explanation.activation_maps import deterministic, grad_cam, hires_cam
from deepresidual.explanation.layers import LAST_MAP, captured_map, constant, layer_names, undisturbed

if TYPE_CHECKING:
    from deepresidual.nn.detection import Detector, Stages

ObjectMethod: TypeAlias = Literal["hires-cam", "grad-cam"]
OBJECT_METHODS: tuple[ObjectMethod, ...] = get_args(ObjectMethod)

_METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"hires-cam": hires_cam, "grad-cam": grad_cam}
_LIKELY = 0.5  # from which on a pixel of a mask is the object's


@dataclass(frozen=True, eq=False)
class ObjectMaps:
    """The evidence for one object by place.

    Attributes:
        row: Which detection it is.
        values: ``(h, w)`` float32 on the CPU, 0 or more: the evidence for its class at each pixel of the part
            of the network's input that holds the image. Only maps of one network and layer compare.
        mask_values: The evidence for its mask; ``None`` of a detector of boxes.
        stages: How all objects were found, on the CPU.
    """

    row: int
    values: Tensor
    mask_values: Tensor | None
    stages: Stages


def object_layer_names(network: Detector) -> tuple[str, ...]:
    """Return the names of the layers that give a map of the image, and :data:`LAST_MAP`: the maps it reads.

    Of ``c4`` the last stage is the head of each region and has none.
    """
    spec, body = network.spec, network.backbone.body
    stages = body.spec.stage_names
    unread = (*stages[stages.index(spec.read_stages[-1]) + 1 :], "bn", "avgpool")
    return tuple(name for name in layer_names(body) if name.split(".")[0] not in unread)


def object_maps(
    detector: TorchDetector,
    pixels: NDArray[np.uint8],
    window: Window,
    choose: Callable[[Stages], int],
    *,
    method: ObjectMethod = "hires-cam",
    layer: str = LAST_MAP,
) -> ObjectMaps:
    """Compute heat maps of the evidence for one of the objects that are found in an image.

    The detector is left as it was: mode, ``requires_grad``, gradients and hooks. The same image gives the
    same maps each time on the same machine.

    Args:
        detector: The detector, on the device to use.
        pixels: ``(S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.
        window: Where the view shows its image (:func:`deepresidual.data.augment.window_of`).
        choose: Returns which detection to explain, given how all were found.
        method: One of :data:`OBJECT_METHODS`.
        layer: A name of :func:`object_layer_names`.

    Raises:
        UnknownNameError: There is no such method.
        ConfigurationError: There is no such layer.
    """
    from deepresidual.nn.detection import blanked, detect_in_stages

    network, spec = detector.network, detector.spec
    require_object_method(method)
    require_object_layer(network, layer)
    layers = spec.read_stages if layer == LAST_MAP else (layer,)
    size = spec.padded_size(window.filled)
    body = network.backbone.body
    with (
        torch.inference_mode(mode=False),  # under a caller's there would be no gradients
        constant(network),
        undisturbed(body),
        deterministic(),
    ):
        view = torch.from_numpy(np.array(pixels))[None].to(detector.device)
        images = blanked(padded(detector.preprocess.normalize(view), size), [window.filled])
        # Passes that remember what a gradient needs may round otherwise, so this one finds the objects.
        stages = detect_in_stages(network, images, window.filled)
        row = choose(stages)
        with contextlib.ExitStack() as hooks, torch.enable_grad():
            captured = [hooks.enter_context(captured_map(body, name)) for name in layers]
            maps = network.backbone(images)
        scores = [_class_score(network, maps, stages, row)]
        if spec.masks is not None:
            scores.append(_mask_score(network, maps, stages, row))
        inputs = [each.values for each in captured]
        of_scores = [
            _joined(score, inputs, method, size)[: window.filled[0], : window.filled[1]] for score in scores
        ]
    return ObjectMaps(
        row, of_scores[0].cpu(), of_scores[1].cpu() if len(of_scores) > 1 else None, stages.cpu()
    )


def require_object_method(method: str) -> None:
    """Refuse a method that is none, or that is for classifiers alone.

    Raises:
        UnknownNameError: It is not in :data:`OBJECT_METHODS`.
    """
    if method not in OBJECT_METHODS:
        raise UnknownNameError("method of a detector", method, OBJECT_METHODS)


def require_object_layer(network: Detector, layer: str) -> None:
    """Refuse a layer that gives no map of the image.

    Raises:
        ConfigurationError: There is no such layer, or a detector has it for each region.
    """
    if layer in object_layer_names(network):
        return
    if layer in layer_names(network.backbone.body):
        raise ConfigurationError(
            f"layer {layer} is the head of each region in this detector, and sees no image",
            expected=f"a layer up to {network.spec.read_stages[-1]}, or {LAST_MAP}: the maps that it reads",
        )
    with captured_map(network.backbone.body, layer):
        pass  # raises, with the names that there are


@torch.enable_grad()
def _class_score(network: Detector, maps: Sequence[Tensor], stages: Stages, row: int) -> Tensor:
    """Return the logit of a detection's class for the region that it was."""
    region = stages.proposals[stages.regions[row]][None]
    read = maps[: len(network.spec.read_stages)]
    logits, _ = network.roi_heads.predict(read, [region], network.backbone.last_stage)
    return logits[0, 1 + stages.found.labels[row]]  # row 0 is the background's


@torch.enable_grad()
def _mask_score(network: Detector, maps: Sequence[Tensor], stages: Stages, row: int) -> Tensor:
    """Return the mean of the logits of the pixels of a detection's mask; of one without pixels of all."""
    from deepresidual.nn.detection.masks import of_class

    found = stages.found
    read = maps[: len(network.spec.read_stages)]
    logits = network.roi_heads.mask_logits(read, [found.boxes[row][None]], network.backbone.last_stage)
    of_mask = of_class(logits, found.labels[row][None] + 1)[0]
    is_inside = of_mask.detach().sigmoid() >= _LIKELY
    return of_mask[is_inside].mean() if is_inside.any() else of_mask.mean()


def _joined(score: Tensor, maps: Sequence[Tensor], method: str, size: tuple[int, int]) -> Tensor:
    """Return the sum of the evidence in several maps ``(1, K, h, w)`` for each pixel of the input.

    A position of a coarse map stands for many pixels, among which its evidence is divided.
    """
    gradients = torch.autograd.grad(score, maps, retain_graph=True)
    total = torch.zeros(size, device=score.device)
    for values, gradient in zip(maps, gradients, strict=True):
        evidence = _METHODS[method](values.detach(), gradient)
        height, width = evidence.shape[1:]
        # Of an image that is not padded the last pixel of a map reaches over its edge.
        down, across = _stride(size[0], height), _stride(size[1], width)
        large = functional.interpolate(evidence[:, None], (down * height, across * width), mode="bilinear")
        total += large[0, 0, : size[0], : size[1]] / (down * across)
    return total


def _stride(length: int, places: int) -> int:
    """Return how many pixels of the input a place of a map is along an axis: a power of two."""
    stride: int = 2 ** math.ceil(math.log2(length / places))
    return stride
