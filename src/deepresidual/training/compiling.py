"""When compiling a network pays: a rule, so that the same command computes the same bits every time.

A probe would decide by the clock, and on a busy machine now one way, now the other.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Literal, TypeAlias

from deepresidual.errors import MissingDependencyError

if TYPE_CHECKING:
    import torch

    from deepresidual.spec import ResNetSpec

__all__ = ["CompileChoice", "resolve_compile"]

CompileChoice: TypeAlias = Literal["auto", "yes", "no"]

# Compiling ResNet-20 takes about a minute on two cores and saves a tenth of the time that follows
# (docs/results.md), so it pays from ten minutes on; at 50 GFLOP/s a core that many operations.
_CPU_FLOP_A_CORE = 50e9 * 600
# ResNet-50 at 224 px spends its time in convolutions, which compiling leaves as they are: 0.98 of the speed
# (0.94 – 1.09, n = 4, Intel Ice Lake, one thread, torch 2.14.1), after minutes of compiling; ResNet-20 at
# 32 px 1.15 times (1.07 – 1.20, n = 9).
_CPU_MOST_PX = 64
# On a GPU it saves more, and small networks are bound by launches rather than by operations.
_CUDA_STEPS = 5_000


def resolve_compile(
    choice: CompileChoice,
    device: torch.device,
    spec: ResNetSpec,
    *,
    image_px: int,
    num_sizes: int,
    batch_size: int,
    total_steps: int,
    num_cores: int,
) -> bool:
    """Return whether the network is compiled before it is trained.

    Args:
        choice: ``yes``, ``no``, or ``auto``: where the run is long enough to make up for it.
        device: Where it is trained.
        spec: The network.
        image_px: Side of the training images in pixels.
        num_sizes: Sizes of training images in the run, each of which is compiled for itself.
        batch_size: Images an update.
        total_steps: Updates of the run.
        num_cores: Cores that compute.

    Raises:
        MissingDependencyError: ``yes`` on the CPU, and there is no C++ compiler.
    """
    has_compiler = device.type == "cuda" or any(
        shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl") if name
    )
    if choice == "yes" and not has_compiler:
        raise MissingDependencyError(
            "compiling for the CPU needs a C++ compiler, and none is installed",
            remedy="install g++ or clang++, or leave out --compile",
        )
    if choice != "auto":
        return choice == "yes"
    if not has_compiler or spec.activation_checkpointing or spec.stochastic_depth:
        return False
    if device.type == "cuda":
        return total_steps >= _CUDA_STEPS
    # Multiply and add; the backward pass is two of the forward's.
    flop = 6 * spec.num_macs(image_px) * batch_size * total_steps
    return (
        device.type == "cpu" and image_px <= _CPU_MOST_PX and flop >= num_sizes * num_cores * _CPU_FLOP_A_CORE
    )
