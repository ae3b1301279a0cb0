"""Translate names and layouts of tensors between libraries; strict both ways, and reversible to the bit.

Every tensor of the source is used once or dropped with a reason, every tensor here is filled once. A
translation only renames, permutes axes and orders rows, so that what was read can be written back unchanged;
the exceptions are Caffe's divisor and rows that stand for several, and nothing is written where they occur.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, assert_never

import torch
from torch import Tensor

from deepresidual.conversion.values import checked
from deepresidual.errors import ModelFileError, listed

Layout: TypeAlias = Literal["same", "conv-hwio", "linear-io", "linear-1x1", "flat"]
"""Layout of the axes in the source: as torch; a convolution as (H, W, in, out); a linear layer as
(in, out), or as a 1×1 convolution; or in any shape with the same numbers in the same order, as Caffe's
(1, 1, 1, C)."""


@dataclass(frozen=True)
class Rule:
    """One tensor here and where it comes from.

    Attributes:
        target: Name in our state dict.
        source: Name there.
        layout: Order of the axes there.
        divisor: Name of a scalar there that the source is divided by; zero stands for zeros (Caffe's BN).
        rows: For each row here, the row there; −1 where there is none, for zeros. ``None``: the same rows.
    """

    target: str
    source: str
    layout: Layout = "same"
    divisor: str | None = None
    rows: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Translation:
    """Names of a network's tensors in another library.

    Attributes:
        rules: One for every tensor here that exists there.
        dropped: Tensors there that are not needed, with the reason.
        filled: Tensors here that do not exist there, with the reason; they become zero.
    """

    rules: tuple[Rule, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    filled: Mapping[str, str] = field(default_factory=dict)


def read_tensors(
    translation: Translation, source: Mapping[str, Tensor], target: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """Return our state dict from the tensors of a checkpoint.

    Args:
        translation: The names.
        source: Tensors there; all of them have to be used or dropped.
        target: Our state dict, for its names, shapes and dtypes; its values are not read.
        where: The file, for messages.

    Raises:
        ModelFileError: Something is missing (−), left over (+) or of another shape (±), both sides listed;
            or a tensor is no weights (:func:`~deepresidual.conversion.values.checked`).
    """
    used = {rule.source for rule in translation.rules} | {
        rule.divisor for rule in translation.rules if rule.divisor
    }
    known = used | set(translation.dropped)
    differences = [f"− {name}" for name in sorted(used - set(source))]
    differences += [f"+ {name} {tuple(source[name].shape)}" for name in source if name not in known]
    covered = {rule.target for rule in translation.rules} | set(translation.filled)
    differences += [
        f"nothing for {name} {tuple(target[name].shape)}" for name in target if name not in covered
    ]
    result: dict[str, Tensor] = {
        name: torch.zeros_like(target[name], device="cpu") for name in translation.filled if name in target
    }
    for rule in translation.rules:
        if rule.source not in source or (rule.divisor and rule.divisor not in source):
            continue
        expected, value = target[rule.target], _to_torch(source[rule.source], rule.layout)
        if rule.layout == "flat" and value.numel() == expected.numel():
            value = value.reshape(expected.shape)
        has_rows = rule.rows is None or (value.ndim > 0 and len(value) == max(rule.rows) + 1)
        if rule.rows is not None and has_rows:
            value = _ordered(value, rule.rows)
        if not has_rows or value.shape != expected.shape:
            found, wanted = tuple(source[rule.source].shape), tuple(expected.shape)
            differences.append(f"± {rule.source} {found} for {rule.target} {wanted}")
            continue
        if rule.divisor:
            # Checked before the division as well, which would make floats of whole numbers.
            checked(value, expected.dtype, where, rule.source, "")
            divisor = checked(source[rule.divisor].reshape(-1), expected.dtype, where, rule.divisor, "")[0]
            value = value / divisor if divisor != 0 else torch.zeros_like(value)
        value = checked(value, expected.dtype, where, rule.source, rule.target)
        result[rule.target] = value.contiguous()
    if differences:
        raise ModelFileError(
            f"{where} does not fit the network (missing −, extra +, other shape ±): {listed(differences)}"
        )
    return {name: result[name] for name in target}


def write_tensors(translation: Translation, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as they are named and laid out there; the inverse of :func:`read_tensors`."""
    return {
        rule.source: _from_torch(_back(state[rule.target], rule.rows), rule.layout)
        for rule in translation.rules
    }


def num_batches_tracked(names: Iterable[str]) -> dict[str, str]:
    """Return torch's counters of batches among our names, for libraries that do not count."""
    reason = "counts training batches; not used at inference"
    return {name: reason for name in names if name.endswith(".num_batches_tracked")}


def _ordered(value: Tensor, rows: tuple[int, ...]) -> Tensor:
    """Return the rows there in the order that they have here."""
    wanted = torch.tensor(rows)
    ordered = value[wanted.clamp(min=0)]
    ordered[wanted < 0] = 0
    return ordered


def _back(value: Tensor, rows: tuple[int, ...] | None) -> Tensor:
    """Return the rows here as they are there; of rows that stand for several, the last."""
    if rows is None:
        return value
    wanted = torch.tensor(rows)
    there = value.new_zeros(max(rows) + 1, *value.shape[1:])
    there[wanted[wanted >= 0]] = value[wanted >= 0]
    return there


def _to_torch(value: Tensor, layout: Layout) -> Tensor:
    match layout:
        case "same" | "flat":
            return value
        case "conv-hwio":
            return value.permute(3, 2, 0, 1) if value.ndim == 4 else value
        case "linear-io":
            return value.t() if value.ndim == 2 else value
        case "linear-1x1":
            return value.flatten(1) if value.shape[2:] == (1, 1) else value
        case _:
            assert_never(layout)


def _from_torch(value: Tensor, layout: Layout) -> Tensor:
    match layout:
        case "same" | "flat":
            return value.clone()
        case "conv-hwio":
            return value.permute(2, 3, 1, 0).contiguous()
        case "linear-io":
            return value.t().contiguous()
        case "linear-1x1":
            return value[:, :, None, None].clone()
        case _:
            assert_never(layout)
