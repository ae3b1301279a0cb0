"""Which precision a network is faster in on this processor: measured, since flags do not tell.

On a CPU with AMX or Zen 5's bf16 units, bf16 takes half the time of float32; on one with ``avx512_bf16`` and
no AMX training in bf16 takes 1.1 to 1.4 times as long; one without such instructions emulates it, ten times
slower. So ``auto`` runs a few images of the network at hand in both, in turn, and takes bf16 only where it is
clearly faster. On a GPU the hardware's own word is enough.

Example:
    >>> from deepresidual.zoo import entry
    >>> choice = settle_precision("auto", entry("resnet50").spec, torch.device("cpu"), image_px=224)
    >>> choice.precision, choice.reason
    ('fp32', 'measured: bf16 takes 9.1 times as long')
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import TYPE_CHECKING, Any, get_args

import torch

from deepresidual.backends.classifier import ASKED_FOR, SettledPrecision
from deepresidual.errors import ConfigurationError
from deepresidual.nn import empty_network
from deepresidual.runtime.autotune import BUDGET_S, Clock, Pass, key_of, run_in_turn
from deepresidual.runtime.cache import read_cache, write_cache
from deepresidual.runtime.compute import Precision, PrecisionChoice
from deepresidual.runtime.device import autocast, has_bf16

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepresidual.nn import ResNet
    from deepresidual.runtime.autotune import Rounds
    from deepresidual.spec import ResNetSpec

# bf16 is chosen where it takes at most this share of float32's time.
_WORTH = 0.9

_MOST_IMAGES = 4
# Multiply-adds of a pass: ResNet-18 at 224 px has 1.8e9 an image and is measured with one image, the CIFAR
# networks with four; what is larger, ResNet-50 among them, at a smaller side.
_MACS = 2.5e9
_SIDE_MULTIPLE = 32

_CACHE = "precision"


def settle_precision(
    choice: PrecisionChoice,
    spec: ResNetSpec,
    device: torch.device,
    *,
    image_px: int,
    training: bool = True,
) -> SettledPrecision:
    """Return the precision to compute in and why; ``auto`` measures on a CPU.

    The measurement takes about three seconds at most and is kept for the processor, the versions and the
    network; what is unclear, on a machine that is busy with other things, is measured again the next time.

    Args:
        choice: A precision, or ``auto``.
        spec: The network.
        device: Where it computes.
        image_px: Side of its input in pixels.
        training: Whether the backward pass is measured, too.

    Raises:
        ConfigurationError: The choice is unknown.
    """
    if choice not in get_args(PrecisionChoice):
        raise ConfigurationError(
            f"precision is {choice!r}", expected=f"one of {', '.join(get_args(PrecisionChoice))}"
        )
    if choice != "auto":
        return SettledPrecision(choice, ASKED_FOR)
    if device.type != "cpu":
        precision: Precision = "bf16" if has_bf16(device) else "fp32"
        return SettledPrecision(precision, f"{device.type} {'has' if precision == 'bf16' else 'lacks'} bf16")
    # What only changes how much of the network runs, or keeps, changes nothing in which precision it likes.
    spec = dataclasses.replace(spec, activation_checkpointing=False, stochastic_depth=0.0)
    side, num_images = _size_of_pass(spec, image_px)
    key = _key(spec, side, num_images, training=training)
    kept = read_cache(_CACHE, key)
    if kept is not None and kept.get("precision") in ("fp32", "bf16") and isinstance(kept.get("reason"), str):
        return SettledPrecision(kept["precision"], kept["reason"])
    settled, is_clear = _settled(_measure(_filled_network(spec), side, num_images, training=training))
    if is_clear:
        write_cache(_CACHE, key, dataclasses.asdict(settled))
    return settled


def _size_of_pass(spec: ResNetSpec, image_px: int) -> tuple[int, int]:
    """Return side and number of the images to measure with: at most :data:`_MACS` where that is possible."""
    macs = spec.num_macs(image_px)
    side = image_px
    if macs > _MACS:
        side = int(image_px * math.sqrt(_MACS / macs)) // _SIDE_MULTIPLE * _SIDE_MULTIPLE
        side = min(image_px, max(_SIDE_MULTIPLE, side))
        macs = spec.num_macs(side)
    num_images = max(1, min(_MOST_IMAGES, int(_MACS / macs)))
    last_px = [layer.out_px for layer in spec.layers(side) if layer.kind == "conv"][-1]
    # Batch normalization needs more than one value a channel.
    return side, max(num_images, 2) if last_px == 1 else num_images


def _key(spec: ResNetSpec, side: int, num_images: int, *, training: bool) -> str:
    """Return a name for all that the answer depends on."""
    facts: dict[str, Any] = {
        "spec": spec.to_dict(),
        "side": side,
        "images": num_images,
        "training": training,
        "cpu": {name: value for name, value in torch.cpu.get_capabilities().items() if "size" not in name},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return key_of(facts)


def _filled_network(spec: ResNetSpec) -> ResNet:
    """Return the network with numbers in it that take as long as any: small, and none denormal."""
    network = empty_network(spec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.fill_(1)
            elif tensor.is_floating_point():
                tensor.uniform_(-0.05, 0.05, generator=generator)
            else:
                tensor.zero_()
    return network.to(memory_format=torch.channels_last)


def _measure(network: ResNet, side: int, num_images: int, *, training: bool) -> Rounds:
    """Run both precisions in turn until the time is used up or bf16 is far behind."""
    network.train(training)
    generator = torch.Generator().manual_seed(1)
    shape = (num_images, network.spec.in_channels, side, side)
    images = torch.rand(shape, generator=generator).to(memory_format=torch.channels_last)
    clock = Clock(BUDGET_S)
    hooks = [
        module.register_forward_hook(_look_at(clock))
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    passes = {
        "fp32": Pass(lambda: _pass(network, images, "fp32")),
        "bf16": Pass(lambda: _pass(network, images, "bf16")),
    }
    try:
        with torch.random.fork_rng([]):  # dropout draws from torch's own state
            return run_in_turn(passes, clock, baseline="fp32")
    finally:
        for hook in hooks:
            hook.remove()


def _look_at(clock: Clock) -> Callable[[torch.nn.Module, object, torch.Tensor], None]:
    """Return a forward hook that looks at the clock now and when the gradient of the output arrives."""

    def look(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        del module, inputs
        clock.look()
        if output.requires_grad:
            output.register_hook(lambda _: clock.look())  # type: ignore[no-untyped-call]

    return look


def _pass(network: ResNet, images: torch.Tensor, precision: Precision) -> None:
    device = torch.device("cpu")
    if not network.training:
        with torch.inference_mode(), autocast(device, precision):
            network(images)
        return
    with torch.enable_grad(), autocast(device, precision):
        loss = network(images).float().square().mean()
    loss.backward()
    network.zero_grad(set_to_none=True)


def _settled(rounds: Rounds) -> tuple[SettledPrecision, bool]:
    """Return the choice, and whether the rounds agree on it."""
    if "bf16" in rounds.given_up:
        reason = f"measured: bf16 given up at {rounds.given_up['bf16']:.1f} times float32's time"
        return SettledPrecision("fp32", reason), True
    if not rounds.are_enough:
        reason = f"too slow or too busy here to measure in {BUDGET_S:.0f} s"
        return SettledPrecision("fp32", reason), False
    ratios = rounds.ratios("bf16", "fp32")
    reason = f"measured: bf16 takes {statistics.median(ratios):.2f} of float32's time, {len(ratios)} pairs"
    match rounds.verdict("bf16", "fp32", _WORTH):
        case "faster":
            return SettledPrecision("bf16", reason), True
        case "slower":
            return SettledPrecision("fp32", reason), True
        case _:
            return SettledPrecision("fp32", f"{reason}, which do not agree"), False
