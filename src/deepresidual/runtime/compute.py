"""``ComputeOptions``: where, how precisely and in what portions a network computes; torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from deepresidual.errors import ConfigurationError

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
Backend: TypeAlias = Literal["auto", "onnxruntime", "openvino", "torch"]
PrecisionChoice: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where, how precisely and in what portions a network computes.

    Raises:
        ConfigurationError: ``batch_size`` is out of range.
    """

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``."""

    precision: PrecisionChoice = "fp32"
    """``fp32``, ``bf16``, or ``auto`` for the faster of both, measured
    (:mod:`deepresidual.backends.precision`)."""

    batch_size: int = 100
    """Images at a time."""

    num_workers: int | None = None
    """Threads that load images. Does not change the result. Default: chosen for the machine."""

    backend: Backend = "auto"
    """What computes exported models: ``onnxruntime``, ``openvino``, ``torch``, or ``auto`` for the fastest
    here (:mod:`deepresidual.backends.engine_choice`)."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigurationError(f"batch_size is {self.batch_size}", expected="1 or more")


class ComputeKeywords(TypedDict, total=False):
    """The fields of :class:`ComputeOptions` as keyword arguments."""

    device: str
    precision: PrecisionChoice
    batch_size: int
    num_workers: int | None
    backend: Backend
