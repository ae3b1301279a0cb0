"""``load``: whatever a MODEL argument stands for. An exported model comes without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models.exported import open_exported
from deepresidual.models.source import find_source
from deepresidual.runtime.compute import Backend

if TYPE_CHECKING:
    import torch

    from deepresidual.backends.detector import TorchDetector
    from deepresidual.backends.pytorch import TorchClassifier

BACKENDS: tuple[Backend, ...] = get_args(Backend)


def load(
    path: str | Path, device: torch.device | str = "cpu", *, backend: Backend = "auto"
) -> TorchClassifier:
    """Load a model: a model folder, the model of a run folder, an exported model, or weights by name.

    Released weights, repositories of the Hugging Face Hub, URLs and files of other libraries are fetched and
    converted when they are first used, and kept in the cache.

    Args:
        path: A folder that :func:`save`, ``residual train`` or ``residual export`` wrote; where there is no
            such folder the name of a bundled model (``resnet20-cifar10``), of released weights
            (``resnet50.a1_in1k``) or of a network, meaning its default release (``resnet50``); ``owner/name``
            or ``owner/name@revision`` on the Hugging Face Hub; a URL; or a file or folder of another library
            that :func:`convert` reads.
        device: Where to put the weights.
        backend: What computes an exported model: ``onnxruntime``, ``openvino``, ``torch``; ``auto`` for the
            one that suits its file and this machine. A model folder is computed by PyTorch.

    Returns:
        A :class:`Classifier` in evaluation mode, with class names and preprocessing. It is typed as the form
        that PyTorch computes, since a model folder holds that; code for any backend, and for exported
        models, takes a ``Classifier``. Of a detector it is a :class:`TorchDetector`;
        :func:`load_detector` says so to type checkers, too.

    Raises:
        ConfigurationError: There is no such device or backend.
        ModelFileError: There is no such model, or it is damaged, or its parts contradict each other, or the
            backend does not compute it.
        RunError: It cannot be fetched.
        MachineError: There is no network, and it is not in the cache.
    """
    if backend not in BACKENDS:
        raise ConfigurationError(f"backend is {backend!r}", expected=f"one of {', '.join(BACKENDS)}")
    source = find_source(path)
    if source.kind == "exported" and source.path is not None:
        exported = open_exported(source.path, backend=backend).to(str(device))
        return cast("TorchClassifier", exported)
    if backend not in ("auto", "torch"):
        raise ModelFileError(
            f"{path} is a model that PyTorch computes, and the backend is {backend!r}",
            expected="an exported model",
            remedy=f"make one with 'residual export {path} FOLDER --to onnx'"
            + (", which openvino runs, too" if backend == "openvino" else ""),
        )
    from deepresidual.models.weights import load_network

    return cast("TorchClassifier", load_network(path, device))


def load_detector(
    path: str | Path, device: torch.device | str = "cpu", *, backend: Backend = "auto"
) -> TorchDetector:
    """Load a detector: a model that finds objects.

    Args:
        path: A folder that :func:`save`, ``residual train`` or ``residual export`` wrote.
        device: Where to put the weights.
        backend: What computes an exported detector: ``onnxruntime``, ``openvino``; ``auto`` for the first
            that is installed.

    Returns:
        The detector in evaluation mode, with class names and preprocessing, as :func:`load` returns it: of an
        exported one, which needs no torch, an object with the same ``predict``.

    Raises:
        ConfigurationError: There is no such device.
        ModelFileError: There is no such model, or it is damaged, or finds no objects.
        RunError: It cannot be fetched.
        MachineError: There is no network, and it is not in the cache.
    """
    model = load(path, device, backend=backend)
    if model.task != "detection":
        raise ModelFileError(
            f"{path} finds no objects",
            expected="a detector",
            remedy="load other models with deepresidual.load",
        )
    return cast("TorchDetector", model)
