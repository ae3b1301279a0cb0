"""Carry BN to another epsilon: the same function, up to rounding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deepresidual.errors import ModelFileError

_VARIANCE = ".running_var"


def with_eps(state: Mapping[str, Tensor], eps: float, wanted: float, where: str) -> dict[str, Tensor]:
    """Return a state dict for BN that adds ``wanted`` to the variance where it was ``eps``.

    The weight is scaled by √((variance + wanted) / (variance + eps)); bias and statistics stay.

    Raises:
        ModelFileError: A variance is 0 and ``eps`` as well: there is no such function.
    """
    result = dict(state)
    if eps == wanted:
        return result
    for name, variance in state.items():
        if not name.endswith(_VARIANCE):
            continue
        if not bool((variance.double() + eps > 0).all()):
            raise ModelFileError(
                f"{where}: {name} has variances of 0, to which these weights add {eps:g}",
                expected="variances above 0",
            )
        weight = f"{name.removesuffix(_VARIANCE)}.weight"
        factor = torch.sqrt((variance.double() + wanted) / (variance.double() + eps))
        result[weight] = (state[weight].double() * factor).to(state[weight].dtype)
    return result
