"""Read TensorFlow checkpoints (``x.ckpt.index`` and ``x.ckpt.data-00000-of-00001``) by TensorFlow itself.

A checkpoint is a table of named arrays; its graph (``.meta``, ``saved_model.pb``) is a program and is never
opened. What only training needed is left out, each variable with the reason.
"""

from __future__ import annotations

import importlib
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepresidual.conversion.values import WEIGHT_TYPES
from deepresidual.errors import MissingDependencyError, ModelFileError, quoted

# The last part of the names that optimizers give to what they keep for a variable.
_SLOTS = {
    *("Momentum", "Adam", "RMSProp", "Adagrad", "Adadelta", "Ftrl", "LARSOptimizer", "adam_m", "adam_v"),
}
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # what TensorFlow 2 appends to a variable's path

_OPTIMIZER = "the optimizer's; not used at inference"
_REASONS = {
    **dict.fromkeys(("global_step", "beta1_power", "beta2_power", "save_counter"), _OPTIMIZER),
    "ExponentialMovingAverage": "exponential moving averages, kept beside the variables that are read",
    # Both are of assign_moving_average(…, zero_debias=True), which writes the corrected average back into the
    # variable itself: that is what inference uses.
    "biased": "moving averages before their correction, kept beside the corrected ones that are read",
    "local_step": "count the updates of moving averages; not used at inference",
}


def require() -> Any:
    """Import TensorFlow, silently.

    Raises:
        MissingDependencyError: It is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise MissingDependencyError.of_extra(
            "reading TensorFlow checkpoints needs tensorflow", "tensorflow"
        ) from error


def files_of(prefix: Path) -> list[Path]:
    """Return the index and data files of the checkpoint at ``prefix``, in order.

    Raises:
        ModelFileError: There is no index, or it stands without data.
    """
    index = prefix.with_name(f"{prefix.name}.index")
    start = f"{prefix.name}.data-"
    data = sorted(file for file in prefix.parent.glob("*.data-*-of-*") if file.name.startswith(start))
    if not index.is_file() or not data:
        missing = f"{start}00000-of-00001" if index.is_file() else index.name
        raise ModelFileError(
            f"{prefix} is no TensorFlow checkpoint ({missing} is missing)",
            expected="the files .index and .data-00000-of-00001 side by side",
        )
    return [index, *data]


def parse(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the variables of a checkpoint.

    Args:
        path: The checkpoint's prefix, ``x.ckpt`` for ``x.ckpt.index``.

    Returns:
        The variables by name, in TensorFlow's layout, and metadata: ``not_weights``, by name the reason why a
        variable was left out.

    Raises:
        ModelFileError: The checkpoint is damaged, or claims to be larger than its files.
        MissingDependencyError: TensorFlow is not installed.
    """
    tensorflow = require()
    size = sum(file.stat().st_size for file in files_of(path))
    try:
        reader = tensorflow.train.load_checkpoint(str(path))
        shapes = reader.get_variable_to_shape_map()
        types = reader.get_variable_to_dtype_map()
    except (ValueError, RuntimeError, tensorflow.errors.OpError) as error:
        raise _damaged(path, error) from error
    tensors: dict[str, torch.Tensor] = {}
    not_weights: dict[str, str] = {}
    num_bytes = 0
    for name in sorted(shapes):
        kind = types[name]
        if reason := reason_left_out(name):
            not_weights[name] = reason
            continue
        if not (kind.is_floating or kind.is_integer or kind.is_bool or kind.is_complex):
            not_weights[name] = "no numbers"
            continue
        num_bytes += math.prod(shapes[name]) * kind.size
        if num_bytes > size:
            raise ModelFileError(
                f"{path}: variable {quoted(name)} of shape {tuple(shapes[name])} is larger than the files"
            )
        try:
            # Of a scalar variable TensorFlow returns a NumPy scalar, which is no array.
            array = np.asarray(reader.get_tensor(name))
        except (ValueError, RuntimeError, tensorflow.errors.OpError) as error:
            raise _damaged(path, error) from error
        tensor = _to_torch(array, kind.name)
        if tensor is None:
            raise ModelFileError(
                f"{path}: variable {quoted(name)} is of type {kind.name}", expected=WEIGHT_TYPES
            )
        tensors[name] = tensor
    if not tensors:
        raise ModelFileError(f"{path} holds no weights", expected="variables of a network")
    return tensors, {"not_weights": not_weights}


def reason_left_out(name: str) -> str:
    """Return why a variable of that name is not needed at inference; nothing where the name does not say."""
    parts = name.removesuffix(_SUFFIX).split("/")
    if ".OPTIMIZER_SLOT" in parts or parts[0] in ("optimizer", "_CHECKPOINTABLE_OBJECT_GRAPH"):
        return _OPTIMIZER
    # TensorFlow numbers what has the same name: Adam_1 is Adam's second slot of a variable.
    last = re.sub(r"_\d+$", "", parts[-1])
    if last in _REASONS:
        return _REASONS[last]
    return _OPTIMIZER if last in _SLOTS and len(parts) > 1 else ""


def _to_torch(array: NDArray[Any], kind: str) -> torch.Tensor | None:
    """Return an array of TensorFlow's type ``kind`` as a tensor; ``None`` where torch has no such type."""
    if array.dtype.isbuiltin == 1:
        return torch.from_numpy(array)
    # bfloat16 and the floats of 8 bits are no types of NumPy's own.
    dtype = getattr(torch, kind, None)
    if not isinstance(dtype, torch.dtype) or dtype.itemsize != array.dtype.itemsize:
        return None
    return torch.from_numpy(array.view(f"i{dtype.itemsize}")).view(dtype)


def _damaged(path: Path, error: Exception) -> ModelFileError:
    reason = " ".join(str(error).split())[:300]
    return ModelFileError(f"{path} is damaged ({reason})", remedy="get the files from their source again")
