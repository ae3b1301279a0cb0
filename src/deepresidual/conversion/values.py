"""Check the values of a tensor against what a network computes with.

Weights are floats that are finite in float32, variances are 0 or more, and counters are whole numbers. Every
reader of weights and :func:`deepresidual.save` ask here, so that nothing is written that is not read back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepresidual.errors import ModelFileError, shortened

WEIGHT_TYPES = "float16, bfloat16, float32 or float64"
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def checked(source: Tensor, dtype: torch.dtype, where: str, name: str, target: str) -> Tensor:
    """Return the values of ``source`` in the network's own type.

    Args:
        source: A tensor from a file, or a network's own.
        dtype: The type in the network: a float, or int64 for counters.
        where: The file, for messages; empty where there is none.
        name: The tensor's name there.
        target: Its name in the network, which says whether it is a variance.

    Raises:
        ModelFileError: It is no float where the network has one, not finite, beyond ``dtype``, or a variance
            below 0.
    """
    subject = f"{where}: tensor {shortened(name, 100)}" if where else f"tensor {shortened(name, 100)}"
    if dtype not in _FLOATS:
        if source.dtype not in _INTEGERS:
            raise ModelFileError(f"{subject} is of type {type_name(source.dtype)}", expected="whole numbers")
        return source.to(dtype)
    if source.dtype not in _FLOATS:
        raise ModelFileError(f"{subject} is of type {type_name(source.dtype)}", expected=WEIGHT_TYPES)
    finite = source.isfinite()
    if not finite.all():
        raise ModelFileError(f"{subject} has {int((~finite).sum()):,} values that are not finite")
    value = source.to(dtype)
    if source.dtype != dtype and not value.isfinite().all():
        raise ModelFileError(
            f"{subject} has values up to {float(source.abs().max()):.3g} in {type_name(source.dtype)}",
            expected=f"at most {torch.finfo(dtype).max:.3g}, the largest of {type_name(dtype)}",
        )
    if target.endswith("running_var") and bool((value < 0).any()):
        raise ModelFileError(
            f"{subject} has {int((value < 0).sum()):,} negative values",
            expected="a variance of 0 or more",
            remedy="get the file from its source again",
        )
    return value


def type_name(dtype: torch.dtype) -> str:
    """Return a type's name without the library's: ``float8_e4m3fn``."""
    return str(dtype).removeprefix("torch.")
