"""Run a reader in a child process with limits, so that a hostile file costs one child and no more.

The child starts isolated (no ``PYTHON*`` variables, no user's site folder, a short list of environment
variables), imports what it needs, limits its own memory, processor time and file size, and only then opens
the file. It hands back tensors as a safetensors file and the rest as JSON, which the parent reads as
strictly as any file from elsewhere. Whatever the child left lies in one temporary folder, which goes.

It is no wall against code that runs in the child: no reader runs any. It bounds what parsing may cost.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from deepresidual.conversion.values import WEIGHT_TYPES, type_name
from deepresidual.errors import MissingDependencyError, ModelFileError, ResidualError, RunError, quoted
from deepresidual.runtime.safetensors_file import open_tensors
from deepresidual.runtime.strict_json import read_object

# kind → module and function; the function takes a path and returns tensors and metadata.
READERS = {
    "torch": ("torch_file", "parse"),
    "pickle": ("pickle_file", "parse"),
    "torch7": ("torch7", "parse"),
    "caffemodel": ("caffemodel", "parse"),
    "binaryproto": ("caffemodel", "parse_mean"),
    "keras": ("keras_file", "parse"),
    "tensorflow": ("tensorflow_checkpoint", "parse"),
}
MAX_TENSORS = 20_000  # the 1202-layer network has 7,200, and as many again in an optimizer's state
# A reader on a busy machine gets a share of a processor; what it may use of one is limited apart.
_WAIT_FACTOR = 10
_ALLOWANCE_BYTES = 1 << 30  # threads' stacks and arenas, imports on first use; none of it grows with the file
_BOOTSTRAP = (
    "import json, sys; request = json.load(sys.stdin.buffer); sys.path[:] = request['sys_path']; "
    "from deepresidual.conversion.readers.sandbox import child; child(request)"
)
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL", "HOME")
_ERRORS: dict[str, type[ResidualError]] = {
    kind.__name__: kind for kind in (ModelFileError, MissingDependencyError, RunError)
}
# What safetensors can write. Weights are floats; a file may hold other tensors beside them.
_DTYPES = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.uint64, torch.uint32, torch.uint16, torch.complex64),
}


def run(
    kind: str,
    path: Path,
    size: int,
    *,
    seconds: float | None = None,
    allowance_bytes: int = _ALLOWANCE_BYTES,
    state_dict: str = "",
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the file at ``path`` in a child process.

    Args:
        kind: One of :data:`READERS`.
        path: The file, or for a TensorFlow checkpoint its prefix.
        size: Bytes of the file, from which memory and time limits follow.
        seconds: Limit of processor time; by default a minute and a second for each 5 MB. On a busy machine
            the child gets only a share of a processor, so ten times as long is waited for it.
        allowance_bytes: Memory beyond what the child has after its imports and six times the file's size.
        state_dict: Which state dict of a torch file or a pickle to read; Default: the usual one.

    Returns:
        The tensors by name and the metadata.

    Raises:
        ModelFileError: The reader refused the file, crashed, or came to a limit.
        MissingDependencyError: The reader needs a library that is not installed.
        RunError: There is no room for the temporary copy.
    """
    # Old processors and shared disks read 5 MB a second even where the child re-writes all of it.
    seconds = 60 + size / 5e6 if seconds is None else seconds
    with tempfile.TemporaryDirectory(prefix="residual-", ignore_cleanup_errors=True) as folder:
        request = {
            "kind": kind,
            "path": str(path.absolute()),
            "shown": str(path),
            "size": size,
            "seconds": seconds,
            "allowance_bytes": allowance_bytes,
            "folder": folder,
            "options": {"state_dict": state_dict} if state_dict else {},
            # The same libraries as here, but never what lies in the current folder.
            "sys_path": [entry for entry in sys.path if Path(entry).is_absolute()],
        }
        try:
            ended = subprocess.run(
                [sys.executable, "-I", "-c", _BOOTSTRAP],
                input=json.dumps(request).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=_environment(folder),
                timeout=_WAIT_FACTOR * seconds if _limits_processor_time() else seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _too_slow(path, seconds) from error
        return _collect(Path(folder), path, ended.returncode, seconds)


def _limits_processor_time() -> bool:
    return hasattr(signal, "SIGXCPU")


def _environment(folder: str) -> dict[str, str]:
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | {
        "TMPDIR": folder,
        "TEMP": folder,
        "TMP": folder,
        # Each thread reserves address space, which the memory limit counts.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        # HDF5 otherwise looks for filters to load; and it cannot lock files on some file systems.
        "HDF5_PLUGIN_PRESET": "::",
        "HDF5_USE_FILE_LOCKING": "FALSE",
    }


def _collect(
    folder: Path, path: Path, returncode: int, seconds: float
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if returncode != 0 or not (folder / "result.json").is_file():
        if returncode in (-getattr(signal, "SIGXCPU", 0), -getattr(signal, "SIGKILL", 0)):
            raise _too_slow(path, seconds)
        ended = signal.Signals(-returncode).name if returncode < 0 else f"exit code {returncode}"
        raise ModelFileError(
            f"{path} broke its reader ({ended})", remedy="get the file from its source again"
        )
    try:
        result = read_object(folder / "result.json")
        if "error" in result:
            kind, (found, expected, remedy) = _ERRORS[result["error"]], map(_text, result["clauses"])
            raise kind(found, expected=expected, remedy=remedy)
        by_number = open_tensors(folder / "tensors.safetensors")
        tensors = {name: by_number[str(number)] for number, name in enumerate(result["names"])}
        metadata = result["metadata"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} broke its reader ({type(error).__name__} in its result)") from error
    if not isinstance(metadata, dict):
        raise ModelFileError(f"{path} broke its reader (its metadata is no object)")
    return tensors, metadata


def _text(clause: object) -> str:
    if not isinstance(clause, str):
        raise TypeError("a clause is no text")
    return clause


def _too_slow(path: Path, seconds: float) -> ModelFileError:
    return ModelFileError(
        f"reading {path} took longer than {seconds:,.0f} s", remedy="get the file from its source again"
    )


# -- in the child ------------------------------------------------------------------------------------


def child(request: Mapping[str, Any]) -> None:
    """Read one file as ``request`` says and write the result. Runs in the child process."""
    _answer(request)
    # Libraries' threads and exit handlers have nothing to add and, near the limits, may crash.
    os._exit(0)


def _answer(request: Mapping[str, Any]) -> None:
    path, folder = Path(request["path"]), Path(request["folder"])
    result: dict[str, Any]
    try:
        module, function = READERS[request["kind"]]
        reader = importlib.import_module(f"deepresidual.conversion.readers.{module}")
        if hasattr(reader, "require"):
            reader.require()
        _limit(request["size"], request["seconds"], request["allowance_bytes"])
        tensors, metadata = getattr(reader, function)(path, **request["options"])
        _hand_over(tensors, path, folder)
        result = {"names": list(tensors), "metadata": metadata}
        document = json.dumps(result)
    except ResidualError as error:
        document = _error_document(error, request)
    except MemoryError:
        document = _error_document(_too_large(path), request)
    except Exception as error:  # noqa: BLE001  # parsers of hostile files raise anything
        out_of_memory = "alloc" in str(error).lower() or "memory" in str(error).lower()
        refusal = _too_large(path) if out_of_memory else _unreadable(path, error)
        document = _error_document(refusal, request)
    (folder / "result.json").write_text(document, encoding="ascii")


def _too_large(path: Path) -> ModelFileError:
    return ModelFileError(f"{path} needs more memory than a file of its size may")


def _unreadable(path: Path, error: Exception) -> ModelFileError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ModelFileError(f"{path} is damaged ({reason})", remedy="get the file from its source again")


def _error_document(error: ResidualError, request: Mapping[str, Any]) -> str:
    clauses = [
        clause.replace(request["path"], request["shown"])
        for clause in (error.found, error.expected, error.remedy)
    ]
    return json.dumps({"error": type(error).__name__, "clauses": clauses})


def _limit(size: int, seconds: float, allowance_bytes: int) -> None:
    """Limit this process; where the system has no such limits, the parent's time limit remains."""
    resource: ModuleType
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return
    cpu_seconds = int(time.process_time() + seconds) + 1
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": cpu_seconds,
        "RLIMIT_FSIZE": 4 * size + (64 << 20),
    }
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        # The file's bytes, the parsed form, the contiguous copy and the one that is written.
        limits["RLIMIT_AS"] = pages * resource.getpagesize() + 6 * size + allowance_bytes
    for name, value in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            which = getattr(resource, name)
            _, hard = resource.getrlimit(which)
            allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (allowed, allowed))


def _hand_over(tensors: Mapping[str, torch.Tensor], path: Path, folder: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if len(tensors) > MAX_TENSORS:
        raise ModelFileError(f"{path} holds {len(tensors):,} tensors", expected=f"at most {MAX_TENSORS:,}")
    # Numbers instead of names: a name may be anything, even what safetensors reserves.
    numbered: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for number, (name, tensor) in enumerate(tensors.items()):
        if tensor.dtype not in _DTYPES:
            raise ModelFileError(
                f"{path}: tensor {quoted(name)} is of type {type_name(tensor.dtype)}", expected=WEIGHT_TYPES
            )
        own = tensor.detach().contiguous()
        # safetensors writes no two tensors of one storage.
        if own.untyped_storage().data_ptr() in storages:
            own = own.clone()
        storages.add(own.untyped_storage().data_ptr())
        numbered[str(number)] = own
    try:
        save_file(numbered, folder / "tensors.safetensors")
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"cannot write a temporary copy of {path} ({reason})", remedy="free some space"
        ) from error
