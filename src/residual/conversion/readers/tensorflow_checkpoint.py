"""Reading TensorFlow checkpoints (``x.ckpt.index`` and ``x.ckpt.data-00000-of-00001``) by TensorFlow itself.

A checkpoint is a table of named arrays; its graph (``.meta``, ``saved_model.pb``) is a program and is never
opened. What only training needed is listed and left out.
"""

from __future__ import annotations

import importlib
import math
import os
from typing import TYPE_CHECKING, Any

import torch

from residual.errors import MissingDependencyError, ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["files_of", "parse", "require"]

# The last part of the names that optimizers give to what they keep for a variable.
_SLOTS = {
    *("Momentum", "Adam", "Adam_1", "RMSProp", "RMSProp_1", "Adagrad", "Adadelta", "Adadelta_1"),
    *("Ftrl", "Ftrl_1", "LARSOptimizer"),
}
_COUNTERS = {"global_step", "beta1_power", "beta2_power", "save_counter"}
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # what TensorFlow 2 appends to a variable's path


def require() -> Any:
    """Import TensorFlow, silently.

    Raises:
        MissingDependencyError: It is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise MissingDependencyError(
            "reading TensorFlow checkpoints needs tensorflow",
            remedy="run: pip install 'residual[tensorflow]'",
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
        The variables by name, in TensorFlow's layout, and metadata: ``not_weights``, the names left out.

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
    not_weights, num_bytes = [], 0
    for name in sorted(shapes):
        if _is_for_training(name) or not (types[name].is_floating or types[name].is_integer):
            not_weights.append(name)
            continue
        num_bytes += math.prod(shapes[name]) * types[name].size
        if num_bytes > size:
            raise ModelFileError(
                f"{path}: variable {name[:100]!r} of shape {tuple(shapes[name])} is larger than the files"
            )
        try:
            array = reader.get_tensor(name)
        except (ValueError, RuntimeError, tensorflow.errors.OpError) as error:
            raise _damaged(path, error) from error
        # numpy knows no bfloat16 of its own.
        tensors[name] = torch.from_numpy(array.astype("f4") if array.dtype.kind == "V" else array)
    if not tensors:
        raise ModelFileError(f"{path} holds no weights", expected="variables of a network")
    return tensors, {"not_weights": not_weights}


def _is_for_training(name: str) -> bool:
    parts = name.removesuffix(_SUFFIX).split("/")
    return (
        parts[-1] in _SLOTS
        or parts[-1] in _COUNTERS
        or ".OPTIMIZER_SLOT" in parts
        or parts[0] in ("optimizer", "_CHECKPOINTABLE_OBJECT_GRAPH")
    )


def _damaged(path: Path, error: Exception) -> ModelFileError:
    reason = " ".join(str(error).split())[:300]
    return ModelFileError(f"{path} is damaged ({reason})", remedy="get the files from their source again")
