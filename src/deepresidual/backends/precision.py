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
import hashlib
import json
import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import torch

from deepresidual.backends.classifier import ASKED_FOR, SettledPrecision
from deepresidual.errors import ConfigurationError
from deepresidual.nn import empty_network
from deepresidual.runtime.cache import read_cache, write_cache
from deepresidual.runtime.compute import Precision, PrecisionChoice
from deepresidual.runtime.device import autocast, has_bf16

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepresidual.nn import ResNet
    from deepresidual.spec import ResNetSpec

_BUDGET_S = 3.0
# bf16 is chosen where it takes at most this share of float32's time ...
_WORTH = 0.9
# ... in so many of the pairs; where neither side has so many, or there are too few, nothing is clear.
_SHARE_OF_PAIRS = 0.75
_FEWEST_PAIRS = 3
_MOST_PAIRS = 15
# Beyond this multiple of the time that float32 took, bf16 is given up in the middle of a pass. The first pass
# in each precision prepares kernels and may take longer.
_GIVE_UP = 1.5
_GIVE_UP_FIRST = 3.0
_FIRST_S = 0.1

_MOST_IMAGES = 4
# Multiply-adds of a pass: ResNet-18 at 224 px has 1.8e9 an image and is measured with one image, the CIFAR
# networks with four; what is larger, ResNet-50 among them, at a smaller side.
_MACS = 2.5e9
_SIDE_MULTIPLE = 32

_CACHE = "precision"


@dataclass(frozen=True)
class _Measured:
    """Seconds of passes in both precisions, in pairs; ``dropped``: bf16 was given up as too slow.

    Attributes:
        fp32: Seconds of the passes in float32.
        bf16: Seconds of the passes in bf16.
        dropped: Multiple of float32's time at which bf16 was given up; 0 where it was not.
    """

    fp32: list[float]
    bf16: list[float]
    dropped: float = 0.0

    def settled(self) -> tuple[SettledPrecision, bool]:
        """Return the choice, and whether the pairs agree on it."""
        if self.dropped:
            reason = f"measured: bf16 given up at {self.dropped:.1f} times float32's time"
            return SettledPrecision("fp32", reason), True
        ratios = [below / above for above, below in zip(self.fp32, self.bf16, strict=False)]
        if len(ratios) < _FEWEST_PAIRS:
            reason = f"too slow or too busy here to measure in {_BUDGET_S:.0f} s"
            return SettledPrecision("fp32", reason), False
        faster = sum(ratio <= _WORTH for ratio in ratios) / len(ratios)
        median = statistics.median(ratios)
        reason = f"measured: bf16 takes {median:.2f} of float32's time, {len(ratios)} pairs"
        if faster >= _SHARE_OF_PAIRS:
            return SettledPrecision("bf16", reason), True
        if 1 - faster >= _SHARE_OF_PAIRS:
            return SettledPrecision("fp32", reason), True
        return SettledPrecision("fp32", f"{reason}, which do not agree"), False


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
    settled, is_clear = _measure(_filled_network(spec), side, num_images, training=training).settled()
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
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


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


class _TooSlowError(Exception):
    """A pass takes longer than it may beside the other precision's."""


class _OutOfTimeError(Exception):
    """The time for the whole measurement is used up."""


def _measure(network: ResNet, side: int, num_images: int, *, training: bool) -> _Measured:
    """Run both precisions in turn until the time is used up or one is far behind."""
    network.train(training)
    generator = torch.Generator().manual_seed(1)
    shape = (num_images, network.spec.in_channels, side, side)
    images = torch.rand(shape, generator=generator).to(memory_format=torch.channels_last)
    clock = _Clock(_BUDGET_S)
    hooks = [
        module.register_forward_hook(clock.check)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    fp32: list[float] = []
    bf16: list[float] = []
    try:
        with torch.random.fork_rng([]):  # dropout draws from torch's own state
            first = clock.time(lambda: _pass(network, images, "fp32"))
            clock.time(lambda: _pass(network, images, "bf16"), _GIVE_UP_FIRST * first + _FIRST_S)
            while len(bf16) < _MOST_PAIRS:
                fp32.append(clock.time(lambda: _pass(network, images, "fp32")))
                left = _GIVE_UP * sum(fp32) - sum(bf16)
                bf16.append(clock.time(lambda: _pass(network, images, "bf16"), left))
    except _OutOfTimeError:
        pass
    except _TooSlowError:
        return _Measured(fp32, bf16, dropped=_GIVE_UP if fp32 else _GIVE_UP_FIRST)
    finally:
        for hook in hooks:
            hook.remove()
    return _Measured(fp32, bf16)


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


class _Clock:
    """Times a pass and ends it where it takes too long: it looks after every convolution, there and back."""

    def __init__(self, budget_s: float) -> None:
        self._last_end = time.perf_counter() + budget_s
        self._end = math.inf

    def time(self, run: Callable[[], None], limit_s: float = math.inf) -> float:
        """Run something and return its seconds.

        Raises:
            _TooSlowError: It takes longer than ``limit_s``.
            _OutOfTimeError: The time for everything is used up.
        """
        started = time.perf_counter()
        self._end = started + limit_s
        run()
        self._look()
        return time.perf_counter() - started

    def check(self, module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        """Look at the time now and when the gradient of ``output`` arrives; a forward hook."""
        del module, inputs
        self._look()
        if output.requires_grad:
            output.register_hook(self._look)  # type: ignore[no-untyped-call]

    def _look(self, gradient: torch.Tensor | None = None) -> None:
        del gradient  # stays as it is
        now = time.perf_counter()
        if now > self._end:
            raise _TooSlowError
        if now > self._last_end:
            raise _OutOfTimeError
