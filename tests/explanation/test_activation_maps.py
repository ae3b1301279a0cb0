"""The three methods against captum, against CAM, and against the papers' formulas in plain loops."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.explanation import LAST_MAP, METHODS, Method, activation_maps, enlarged, layer_names
from deepresidual.explanation.activation_maps import score_cam
from deepresidual.models import TorchClassifier, create
from deepresidual.nn import ResNet
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec
from tests.on_demand import OnDemand

captum = OnDemand("captum.attr")

BASIC = ResNetSpec(unit="basic", depths=(2, 2), widths=(4, 8), stem="cifar", shortcut="A", num_classes=5)
BOTTLENECK = ResNetSpec(
    unit="bottleneck", depths=(1, 2), widths=(4, 8), stem="imagenet", shortcut="B", num_classes=5
)
SPECS = {
    "residual": BASIC,
    "plain": dataclasses.replace(BASIC, shortcut="none"),
    "bottleneck": BOTTLENECK,
    "pre-activation": dataclasses.replace(BASIC, arrangement="full-preactivation", shortcut="B"),
    "relu-only": dataclasses.replace(BASIC, arrangement="relu-only-preactivation", shortcut="B"),
    "relu-before-addition": dataclasses.replace(BASIC, arrangement="relu-before-addition", shortcut="B"),
    "bn-after-addition": dataclasses.replace(BASIC, arrangement="bn-after-addition", shortcut="B"),
    "gated": dataclasses.replace(BASIC, shortcut="exclusive-gating"),
    "checkpointed": dataclasses.replace(BASIC, activation_checkpointing=True),
}
SIDE = 24


def model_of(name: str, seed: int = 0) -> TorchClassifier:
    """Return a model whose statistics are not those of a fresh one, and no channel is idle."""
    network = create(SPECS[name], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    preprocess = Preprocess(crop_px=SIDE, resize_px=SIDE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    return TorchClassifier(network, tuple("abcde"), preprocess)


def pixels_of(count: int = 3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)


# -- captum ------------------------------------------------------------------------------------------------


def captum_map(model: TorchClassifier, pixels: Tensor, layer: str, rows: list[int]) -> Tensor:
    network = model.network.eval()
    module = network.avgpool if layer == LAST_MAP else network.get_submodule(layer)
    attribution: Tensor = captum.LayerGradCam(network, module).attribute(
        model.preprocess.normalize(pixels),
        target=torch.tensor(rows),
        relu_attributions=True,
        attribute_to_layer_input=layer == LAST_MAP,
    )
    return attribution.detach()[:, 0]


@pytest.mark.parametrize("layer", [LAST_MAP, "layer2", "layer2.0", "layer1.0.conv2", "layer1.0.bn2", "conv1"])
@pytest.mark.parametrize("name", [name for name in SPECS if name != "checkpointed"])
def test_grad_cam_is_that_of_captum(name: str, layer: str) -> None:
    model, pixels, rows = model_of(name), pixels_of(), [4, 0, 2]
    ours = activation_maps(model, pixels, layer=layer, rows=rows)
    theirs = captum_map(model, pixels, layer, rows)
    assert ours.values.shape == theirs.shape
    assert theirs.amax() > 0
    torch.testing.assert_close(ours.values, theirs, rtol=1e-4, atol=1e-5 * float(theirs.amax()))


def test_activation_checkpointing_changes_nothing() -> None:
    plain, checkpointed, pixels = model_of("residual"), model_of("checkpointed"), pixels_of()
    for layer in layer_names(plain.network):
        expected = activation_maps(plain, pixels, layer=layer)
        torch.testing.assert_close(activation_maps(checkpointed, pixels, layer=layer).values, expected.values)


# -- CAM ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["residual", "plain", "pre-activation", "bottleneck"])
def test_grad_cam_of_the_last_map_is_cam(name: str) -> None:
    """Zhou et al. 2016: the classifier's weights over the channels of the map that it averages."""
    model, pixels = model_of(name), pixels_of()
    maps = activation_maps(model, pixels)
    seen: list[Tensor] = []
    hook = model.network.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(*inputs))
    logits = torch.from_numpy(model.logits(pixels.numpy()))
    hook.remove()
    assert maps.rows == tuple(logits.argmax(dim=1).tolist())
    torch.testing.assert_close(maps.logits, logits.clone())
    weights = model.network.fc.weight.detach()[list(maps.rows)]
    cam = torch.einsum("nk,nkhw->nhw", weights, seen[0].clone()).relu()
    torch.testing.assert_close(maps.values * cam[0].numel(), cam, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["residual", "pre-activation", "bottleneck"])
def test_hires_cam_of_the_last_map_is_grad_cam(name: str) -> None:
    """Draelos and Carin 2020: there the derivatives are the same at every position."""
    model, pixels = model_of(name), pixels_of()
    ours, other = (activation_maps(model, pixels, method=method) for method in ("hires-cam", "grad-cam"))
    torch.testing.assert_close(ours.values, other.values, rtol=1e-4, atol=1e-6)


# -- the papers' formulas, in loops ------------------------------------------------------------------------


def rest_of(network: ResNet, x: Tensor) -> Tensor:
    """Compute the logits from the output of the first stage, by the second stage's own layers."""
    double = network.double()
    return double.fc(double.get_submodule("layer2")(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def map_and_gradients(
    model: TorchClassifier, pixels: Tensor, row: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the output of ``layer1`` and the logit's derivatives by it, ``(K, h, w)``, in float64."""
    network = create(model.spec).double()
    network.load_state_dict(model.network.state_dict())
    network.eval()
    values = network.features(model.preprocess.normalize(pixels).double())["layer1"].detach()
    values.requires_grad_()
    rest_of(network, values)[0, row].backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    return values.detach()[0].numpy(), values.grad[0].numpy()


@pytest.mark.parametrize("row", [0, 3])
@pytest.mark.parametrize("name", ["residual", "plain", "relu-before-addition"])
def test_grad_cam_plus_plus_is_the_papers(name: str, row: int) -> None:
    model, pixels = model_of(name), pixels_of(1)
    values, gradients = map_and_gradients(model, pixels, row)
    num_channels, height, width = values.shape
    expected = np.zeros((height, width))
    for k in range(num_channels):
        total, weight = values[k].sum(), 0.0
        for i in range(height):
            for j in range(width):
                g = gradients[k, i, j]
                if g > 0:
                    weight += g**2 / (2 * g**2 + total * g**3) * g
        expected += weight * values[k]
    expected = expected.clip(min=0)
    ours = activation_maps(model, pixels, method="grad-cam++", layer="layer1", rows=[row]).values[0]
    assert expected.max() > 0
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-3, atol=1e-4 * expected.max())


@pytest.mark.parametrize("name", ["residual", "plain"])
def test_hires_cam_is_the_papers(name: str) -> None:
    """Derivative times activation, added over the channels (Draelos and Carin 2020)."""
    model, pixels = model_of(name), pixels_of(1)
    values, gradients = map_and_gradients(model, pixels, 2)
    num_channels, height, width = values.shape
    expected = np.zeros((height, width))
    for k in range(num_channels):
        for i in range(height):
            for j in range(width):
                expected[i, j] += gradients[k, i, j] * values[k, i, j]
    expected = expected.clip(min=0)
    ours = activation_maps(model, pixels, method="hires-cam", layer="layer1", rows=[2]).values[0]
    assert expected.max() > 0
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-3, atol=1e-4 * expected.max())


def bilinear(image: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Enlarge ``(h, w)`` to ``(side, side)``; pixels are areas, the edge goes on outside."""

    def weights(size: int) -> NDArray[np.float64]:
        matrix = np.zeros((side, size))
        for place in range(side):
            source = max(0.0, (place + 0.5) * size / side - 0.5)
            low = min(int(source), size - 1)
            high = min(low + 1, size - 1)
            matrix[place, low] += 1 - (source - low)
            matrix[place, high] += source - low
        return matrix

    return weights(image.shape[0]) @ image @ weights(image.shape[1]).T


@pytest.mark.parametrize("row", [1, 4])
def test_score_cam_is_the_papers(row: int) -> None:
    """Algorithm 1 of Wang et al. 2020, one channel after the other, with its baseline."""
    model, pixels = model_of("bottleneck"), pixels_of(1)
    image = model.preprocess.normalize(pixels)
    channels = model.network.eval().features(image)["layer1"][0].detach().double().numpy()
    with torch.no_grad():
        baseline = float(model.network(torch.zeros_like(image))[0, row])
        increases = []
        channels = np.stack([channel for channel in channels if channel.max() > channel.min()])
        for channel in channels:
            large = bilinear(channel, SIDE)
            mask = (large - large.min()) / (large.max() - large.min())
            increases.append(float(model.network(image * torch.tensor(mask).float())[0, row]) - baseline)
    weights = np.exp(increases) / np.exp(increases).sum()
    expected = np.einsum("k,khw->hw", weights, channels).clip(min=0)
    ours = activation_maps(model, pixels, method="score-cam", layer="layer1", rows=[row]).values[0]
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_score_cam_gives_a_channel_that_is_the_same_everywhere_no_weight() -> None:
    channels = torch.stack([torch.full((2, 2), 9.0), torch.tensor([[0.0, 0.0], [0.0, 1.0]])])[None]
    image = torch.ones(1, 1, 4, 4)

    def network(images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3))[:, None]

    only = score_cam(network, image, channels, torch.tensor([0]))
    torch.testing.assert_close(only[0], channels[0, 1])
    assert not score_cam(network, image, channels[:, :1], torch.tensor([0])).any()


# -- every layer, and what becomes of the model ------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_every_layer_that_is_named_has_a_map(name: str) -> None:
    model, pixels = model_of(name), pixels_of(1)
    names = layer_names(model.network)
    assert len(names) == len(set(names)) > 10
    assert {"conv1", "layer1", "layer2.1", LAST_MAP} <= set(names)
    assert ("maxpool" in names) == (name == "bottleneck")
    assert ("bn" in names) == (name == "pre-activation")
    for layer in names:
        values = activation_maps(model, pixels, layer=layer).values
        assert values.ndim == 3, layer
        assert values.isfinite().all(), layer
        assert 1 < values.shape[1] <= SIDE, layer


def state_of(network: ResNet) -> dict[str, Any]:
    return {
        "tensors": {name: tensor.clone() for name, tensor in network.state_dict().items()},
        "modes": [module.training for module in network.modules()],
        "learning": [parameter.requires_grad for parameter in network.parameters()],
        "gradients": [
            None if parameter.grad is None else parameter.grad.clone() for parameter in network.parameters()
        ],
        "hooks": [
            (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in network.modules()
        ],
        "spec": network.spec,
        "determinism": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
    }


def assert_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name in ("modes", "learning", "hooks", "spec", "determinism"):
        assert before[name] == after[name], name
    assert all(torch.equal(before["tensors"][name], after["tensors"][name]) for name in before["tensors"])
    for one, other in zip(before["gradients"], after["gradients"], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method: Method) -> None:
    model = model_of("checkpointed")
    network = model.network.train()
    network.get_submodule("layer1").eval()
    network.conv1.requires_grad_(requires_grad=False)
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    before = state_of(network)
    activation_maps(model, pixels_of(), method=method, layer="layer2.0")
    assert_same_state(before, state_of(network))
    with pytest.raises(ConfigurationError, match="unknown layer"):
        activation_maps(model, pixels_of(), method=method, layer="layer9")
    assert_same_state(before, state_of(network))
    broken = network.fc.register_forward_pre_hook(explode)
    with pytest.raises(RuntimeError, match="boom"):
        activation_maps(model, pixels_of(), method=method)
    broken.remove()
    assert_same_state(before, state_of(network))


def explode(_module: nn.Module, _inputs: Any) -> None:
    raise RuntimeError("boom")


@pytest.mark.parametrize("method", METHODS)
def test_the_same_images_give_the_same_bits(method: Method) -> None:
    model, pixels = model_of("bottleneck"), pixels_of()
    first, second = (activation_maps(model, pixels, method=method, layer="layer1") for _ in range(2))
    assert torch.equal(first.values, second.values)
    single = activation_maps(model, pixels[1:2], method=method, layer="layer1")
    torch.testing.assert_close(single.values[0], first.values[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_it_works_inside_inference_mode_and_for_frozen_networks(method: Method) -> None:
    model, pixels = model_of("residual"), pixels_of()
    expected = activation_maps(model, pixels, method=method, layer="layer1").values
    model.network.requires_grad_(requires_grad=False)
    with torch.inference_mode():
        ours = activation_maps(model, pixels.clone(), method=method, layer="layer1").values
    assert torch.equal(ours, expected)
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


# -- bad input ---------------------------------------------------------------------------------------------


def test_an_unknown_layer_gets_the_names() -> None:
    model = model_of("residual")
    message = (
        r"unknown layer 'layer2\.5' \(nearest: layer2.*\); expected one of layer1, layer2, layer1\.0 to "
        r"layer1\.1, layer2\.0 to layer2\.1, a convolution or BN such as layer2\.0\.conv1, or last"
    )
    with pytest.raises(ConfigurationError, match=message):
        activation_maps(model, pixels_of(), layer="layer2.5")
    with pytest.raises(ConfigurationError, match="unknown layer 'fc'"):
        activation_maps(model, pixels_of(), layer="fc")
    with pytest.raises(ConfigurationError, match="unknown layer 'bn'"):
        activation_maps(model, pixels_of(), layer="bn")  # an identity here, which nothing passes through


def test_an_unknown_method_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown method 'gradcam' \(nearest: grad-cam"):
        activation_maps(model_of("residual"), pixels_of(), method="gradcam")  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [[0, 1], [0, 1, 5], [0, 1, -1], [0, 1, True]])
def test_rows_that_do_not_fit_are_refused(rows: list[int]) -> None:
    with pytest.raises(ConfigurationError, match="for 3 images; expected one of 0 to 4 for each"):
        activation_maps(model_of("residual"), pixels_of(), rows=rows)


# -- enlarging ---------------------------------------------------------------------------------------------


def test_enlarged_maps_reach_from_0_to_1_and_empty_ones_stay_empty() -> None:
    values = torch.tensor([[[0.0, 3.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    large = enlarged(values, 8)
    assert large.shape == (2, 8, 8)
    assert float(large[0].max()) == 1
    assert not large[1].any()
    reference = bilinear(values[0].double().numpy(), 8)
    np.testing.assert_allclose(large[0].numpy(), reference / reference.max(), rtol=1e-5, atol=1e-7)


def test_score_cam_leaves_out_what_speaks_against_a_class() -> None:
    # A map without a ReLU behind it; the one channel has all of the weight.
    maps = torch.tensor([[[[-2.0, 1.0], [-1.0, 3.0]]]])
    images, rows = torch.ones(1, 1, 2, 2), torch.tensor([1])
    shown = score_cam(lambda masked: masked.mean(dim=(2, 3)).repeat(1, 2), images, maps, rows)
    assert shown.tolist() == [[[0.0, 1.0], [0.0, 3.0]]]
