"""Class activation maps: where in an image a layer finds what speaks for a class.

Each method weighs the K channels of a layer's map A and adds them up, L = ReLU(Σₖ wₖ·Aₖ). They differ in w:

``grad-cam``    the mean over all positions of ∂y/∂Aₖ, where y is the logit of the class (Selvaraju et al.
                2017, equations 1 and 2). Of the map that the classifier averages this is CAM itself (Zhou et
                al. 2016), up to a constant factor.
``grad-cam++``  a mean of the positive derivatives in which a position counts the more, the less the others
                of its channel say (Chattopadhay et al. 2018, equations 5, 10 and 19): several objects of one
                class all show.
``hires-cam``   no mean: each position is weighed by its own derivative, L = ReLU(Σₖ ∂y/∂Aₖ ⊙ Aₖ) (Draelos and
                Carin 2020). Where y depends on one part of a map alone, as the score of one object does, the
                heat stays there. Of the map that the classifier averages it is Grad-CAM up to a factor.
``score-cam``   the logit of the class for the image seen through Aₖ as a mask, in a softmax over the channels
                (Wang et al. 2020, algorithm 1). It needs no gradients, which saturate, and K forward passes.

A map is as coarse as its layer: 7×7 for the last of a network for 224 px. It says where evidence lies and not
what it is, and ReLU leaves out what speaks against the class.

Example:
    >>> maps = activation_maps(model, pixels, method="grad-cam", layer="layer4.1")  # doctest: +SKIP
    >>> enlarged(maps.values, 224)  # (N, 224, 224), 0 to 1  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never, get_args

import torch
from torch import Tensor
from torch.nn import functional

from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.explanation.layers import LAST_MAP, captured_map, undisturbed
from deepresidual.models import TorchClassifier, require_classes

Method: TypeAlias = Literal["grad-cam", "grad-cam++", "hires-cam", "score-cam"]
METHODS: tuple[Method, ...] = get_args(Method)

Network: TypeAlias = Callable[[Tensor], Tensor]

_MASKED_IMAGES = 32  # at a time; each is an image of its own to the network


@dataclass(frozen=True)
class ActivationMaps:
    """Heat maps of several images: the evidence for one class by place.

    Attributes:
        values: ``(N, h, w)`` float32 on the CPU, 0 or more, at the resolution of the layer. The scale depends
            on method, layer and network, so only maps of one of each compare.
        rows: The class that each map is for, as a row of the classifier; N of them.
        logits: ``(N, num_classes)`` float32 on the CPU, of the whole images.
    """

    values: Tensor
    rows: tuple[int, ...]
    logits: Tensor


def enlarged(values: Tensor, side_px: int) -> Tensor:
    """Return maps ``(N, h, w)`` at the size of an image, each over its largest value: ``(N, S, S)``, 0 to 1.

    Values between the positions of the layer are bilinear. Where nothing speaks for the class all is 0.
    """
    large = functional.interpolate(values[:, None], (side_px, side_px), mode="bilinear")[:, 0]
    most = large.amax(dim=(1, 2), keepdim=True)
    return torch.where(most > 0, large / most, 0.0)


def activation_maps(
    model: TorchClassifier,
    pixels: Tensor,
    *,
    method: Method = "grad-cam",
    layer: str = LAST_MAP,
    rows: Sequence[int] | None = None,
) -> ActivationMaps:
    """Compute heat maps of the evidence for a class in images.

    The model is left as it was: mode, ``requires_grad``, gradients and hooks. The same images give the same
    maps each time on the same machine.

    Args:
        model: The model, on the device to use.
        pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them; N at least 1.
        method: One of :data:`METHODS`.
        layer: A name of :func:`layer_names`.
        rows: The class of each image, as a row of the classifier. Default: the most probable.

    Raises:
        ModelFileError: The model has no classifier.
        UnknownNameError: There is no such method.
        ConfigurationError: There is no such layer, or ``rows`` do not fit.
    """
    require_classes(model)
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if rows is not None and (len(rows) != len(pixels) or not _are_rows(rows, model.spec.num_classes)):
        raise ConfigurationError(
            f"rows are {list(rows)[:8]} for {len(pixels)} images",
            expected=f"one of 0 to {model.spec.num_classes - 1} for each",
        )
    network = model.network
    # Under a caller's inference mode there would be no gradients.
    with torch.inference_mode(mode=False), undisturbed(network), deterministic():
        images = model.preprocess.normalize(pixels.to(model.device))
        with captured_map(network, layer) as captured, torch.enable_grad():
            logits = network(images)
        chosen = logits.detach().argmax(dim=1) if rows is None else torch.tensor(rows, device=model.device)
        match method:
            case "grad-cam":
                values = grad_cam(*_derivatives(captured.values, logits, chosen))
            case "grad-cam++":
                values = grad_cam_plus_plus(*_derivatives(captured.values, logits, chosen))
            case "hires-cam":
                values = hires_cam(*_derivatives(captured.values, logits, chosen))
            case "score-cam":
                values = score_cam(network, images, captured.values.detach(), chosen)
            case _:
                assert_never(method)
    return ActivationMaps(values.cpu(), tuple(chosen.tolist()), logits.detach().cpu())


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Let cuDNN choose no algorithm by the clock, and none whose sums depend on who comes first."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _are_rows(rows: Sequence[int], num_classes: int) -> bool:
    return all(type(row) is int and 0 <= row < num_classes for row in rows)


def _derivatives(maps: Tensor, logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maps, and the derivatives of each image's logit by its map; both ``(N, K, h, w)``."""
    # In evaluation mode no image depends on another, so the gradient of the sum holds those of all.
    total = logits.gather(1, rows[:, None]).sum()
    (gradients,) = torch.autograd.grad(total, maps)
    return maps.detach(), gradients


# -- the methods -------------------------------------------------------------------------------------------


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Return the map of Grad-CAM.

    Args:
        maps: ``(N, K, h, w)``, A.
        gradients: ``(N, K, h, w)``, ∂y/∂A of the logit y.

    Returns:
        ``(N, h, w)``, 0 or more.
    """
    return (gradients.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu()


def grad_cam_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    """Return the map of Grad-CAM++; arguments and result as of :func:`grad_cam`.

    The score is exp(y), so with g = ∂y/∂A its derivatives are exp(y)·g, exp(y)·g² and exp(y)·g³, and the
    paper's α = g² / (2g² + g³·ΣA) is 1 / (2 + g·ΣA). The factor exp(y) is the same at every position and
    left out.
    """
    positive = gradients.relu()
    denominator = 2 + positive * maps.sum(dim=(2, 3), keepdim=True)
    # A layer without a ReLU behind it can have a negative sum that makes this 0.
    alpha = torch.where(denominator != 0, 1 / denominator, 0.0)
    return ((alpha * positive).sum(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu()


def hires_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Return the map of HiResCAM; arguments and result as of :func:`grad_cam`."""
    return (gradients * maps).sum(dim=1).relu()


def score_cam(network: Network, images: Tensor, maps: Tensor, rows: Tensor) -> Tensor:
    """Return the map of Score-CAM.

    The paper subtracts the logit of a baseline image from those of the masked ones, which a softmax over the
    channels does not see. A channel that is the same everywhere is no mask and gets no weight.

    Args:
        network: ``(n, C, S, S)`` → ``(n, num_classes)`` logits.
        images: ``(N, C, S, S)`` normalized, so what is masked out becomes the mean colour.
        maps: ``(N, K, h, w)``.
        rows: ``(N,)`` int64, the class of each image.

    Returns:
        ``(N, h, w)``, 0 or more.
    """
    with torch.no_grad():
        sums = [_score_cam_of_one(network, *one) for one in zip(images, maps, rows.tolist(), strict=True)]
    return torch.stack(sums).relu()


def _score_cam_of_one(network: Network, image: Tensor, channels: Tensor, row: int) -> Tensor:
    """Return the weighted sum, ``(h, w)``, of the channels ``(K, h, w)`` of one image ``(C, S, S)``."""
    varied = (channels.amax(dim=(1, 2)) > channels.amin(dim=(1, 2))).nonzero()[:, 0]
    if not len(varied):
        return torch.zeros_like(channels[0])
    scores = []
    for first in range(0, len(varied), _MASKED_IMAGES):
        part = channels[varied[first : first + _MASKED_IMAGES]]
        masks = functional.interpolate(part[:, None], image.shape[1:], mode="bilinear")
        low, high = masks.amin(dim=(2, 3), keepdim=True), masks.amax(dim=(2, 3), keepdim=True)
        # What differs by less than rounding may be equal once it is enlarged.
        masks = torch.where(high > low, (masks - low) / (high - low), 0.0)
        scores.append(network(image * masks)[:, row])
    weights = torch.cat(scores).softmax(dim=0)
    return (weights[:, None, None] * channels[varied]).sum(dim=0)
