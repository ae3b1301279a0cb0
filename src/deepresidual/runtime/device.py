"""Devices and precisions; :mod:`deepresidual.backends.precision` finds which one is faster."""

from __future__ import annotations

import contextlib
import platform
from typing import TYPE_CHECKING, Any

import torch

from deepresidual.errors import ConfigurationError
from deepresidual.runtime.openmp import describe_spinning
from deepresidual.runtime.processes import usable_cores

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from deepresidual.runtime.compute import Precision

__all__ = [
    "autocast",
    "describe_hardware",
    "has_bf16",
    "resolve_device",
]


def resolve_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is CUDA where there is one, else MPS, else the CPU.

    Raises:
        ConfigurationError: The name is unknown or the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type not in ("cpu", "cuda", "mps") or (device.type == "cpu" and device.index):
            raise RuntimeError("not a device to compute on")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        available = ["auto", "cpu"]
        available += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        available += ["mps"] if torch.backends.mps.is_available() else []
        raise ConfigurationError(
            f"device {name!r} is not available", expected=f"one of {', '.join(available)}"
        ) from error
    return device


def has_bf16(device: torch.device) -> bool:
    """Return whether ``device`` says that it multiplies bfloat16; on a CPU that need not be faster."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(
            capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16")
        )
    return False


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Return the context in which a forward pass computes in ``precision``; weights stay float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """Return what a run should remember of the machine, as JSON types."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor())
    )
    return {
        "device": device.type,
        "name": name,
        "machine": platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "bf16": has_bf16(device),
        "idle_threads": describe_spinning(),
    }
