"""Read Keras files: ``.h5`` of Keras 1 and 2, ``.weights.h5`` and ``.keras`` of Keras 3, without Keras.

Only the arrays are read, and the configuration as JSON: no layer is built and no class is looked up by
name. HDF5 files can name other files, or claim sizes and compression without measure; both are refused.
"""

from __future__ import annotations

import importlib
import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepresidual.conversion.readers.torch_file import check_members
from deepresidual.conversion.values import WEIGHT_TYPES
from deepresidual.errors import MissingDependencyError, ModelFileError, quoted
from deepresidual.runtime.strict_json import MAX_CONFIG_BYTES, parse_object

_WEIGHTS = "model.weights.h5"
_MAX_OBJECTS = 200_000
_MAX_DEPTH = 50
# deflate, shuffle, fletcher32: what h5py writes. The others are plugins or patented.
_FILTERS = {1, 2, 3}
# Trained numbers shrink by a tenth; only what was never trained packs tighter.
_MAX_RATIO = 4
_NOT_WEIGHTS = ("optimizer_weights", "optimizer", "_optimizer", "optimizer.weights")


def require() -> Any:
    """Import h5py.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise MissingDependencyError.of_extra("reading Keras files needs h5py", "keras") from error


def parse(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the arrays of a Keras file.

    Args:
        path: An HDF5 file, or a zip file (``.keras``) with one.

    Returns:
        The arrays by their path in the HDF5 file, in Keras's layout, and metadata: ``config`` (the
        model's, where the file has it), ``layer_names`` and ``weight_names`` (Keras 1 and 2), ``names``
        (Keras 3: by group the layer's own name), ``not_weights`` (by path why an array was
        left out).

    Raises:
        ModelFileError: The file is damaged, leads to other files, or claims to be larger than it is.
        MissingDependencyError: h5py is not installed.
    """
    h5py, size = require(), path.stat().st_size
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if not zipped:
        with _opened(h5py, path, path) as content:
            return _Walk(h5py, path, size).run(content)
    try:
        with zipfile.ZipFile(path) as archive:
            # Keras stores; a small configuration that something else packed is still no bomb.
            names = check_members(archive, path, 1.1 * size + 1_000_000, stored=False)
            if _WEIGHTS not in names:
                raise ModelFileError(f"{path} is a zip file without {_WEIGHTS}", expected="a .keras file")
            weights = archive.read(_WEIGHTS)
            config = None
            if "config.json" in names:
                if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
                    raise ModelFileError(
                        f"{path}: config.json is too large", expected=f"at most {MAX_CONFIG_BYTES:,} bytes"
                    )
                config = parse_object(archive.read("config.json"), f"{path}: config.json")
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OSError) as error:
        raise ModelFileError(f"{path} is damaged ({error})", remedy="copy it again") from error
    with _opened(h5py, io.BytesIO(weights), path) as content:
        tensors, metadata = _Walk(h5py, path, len(weights)).run(content)
    return tensors, metadata if config is None else {**metadata, "config": config}


def _opened(h5py: Any, source: object, path: Path) -> Any:
    try:
        return h5py.File(source, "r")
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(
            f"{path} is damaged or no HDF5 file ({reason})", remedy="copy it again"
        ) from error


class _Walk:
    """Goes through every group and array of an HDF5 file."""

    def __init__(self, h5py: Any, path: Path, size: int) -> None:
        self.h5py = h5py
        self.path = path
        self.size = size
        self.num_bytes = 0
        self.num_objects = 0
        self.groups: set[Any] = set()
        self.tensors: dict[str, torch.Tensor] = {}
        self.not_weights: dict[str, str] = {}
        self.metadata: dict[str, Any] = {}

    def run(self, file: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return all arrays and the metadata."""
        try:
            self._group(file, "", 0)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelFileError(f"{self.path} is damaged ({reason})", remedy="copy it again") from error
        if not self.tensors:
            raise ModelFileError(f"{self.path} holds no weights", expected="a Keras model or its weights")
        return self.tensors, self.metadata | {"not_weights": self.not_weights}

    def _group(self, group: Any, prefix: str, depth: int) -> None:
        address = self.h5py.h5o.get_info(group.id).addr
        if address in self.groups or depth > _MAX_DEPTH:
            raise ModelFileError(f"{self.path}: the group {quoted(prefix)} leads in a circle")
        self.groups.add(address)
        self._attributes(group, prefix)
        for name in group:
            inner = f"{prefix}/{name}" if prefix else name
            self.num_objects += 1
            if self.num_objects > _MAX_OBJECTS:
                raise ModelFileError(f"{self.path} has more than {_MAX_OBJECTS:,} groups and arrays")
            if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
                raise ModelFileError(f"{self.path}: {quoted(inner)} is a link that leads elsewhere")
            item = group[name]
            if isinstance(item, self.h5py.Group):
                self._group(item, inner, depth + 1)
            elif isinstance(item, self.h5py.Dataset):
                self._dataset(item, inner)
            else:
                raise ModelFileError(f"{self.path}: {quoted(inner)} is neither a group nor an array")

    def _dataset(self, dataset: Any, name: str) -> None:
        if dataset.is_virtual or dataset.external:
            raise ModelFileError(f"{self.path}: the values of {quoted(name)} lie in another file")
        properties = dataset.id.get_create_plist()
        filters = {properties.get_filter(number)[0] for number in range(properties.get_nfilters())}
        if not filters <= _FILTERS:
            raise ModelFileError(
                f"{self.path}: {quoted(name)} has the HDF5 filters {sorted(filters)}",
                expected="deflate, shuffle or fletcher32",
            )
        if name.split("/")[0] in _NOT_WEIGHTS:
            self.not_weights[name] = "the optimizer's; not used at inference"
            return
        # HDF5 has no bfloat16: Keras stores the bytes and says so beside them.
        is_bfloat16 = dataset.dtype == np.dtype("V2") and self._attribute(dataset, "dtype") == "bfloat16"
        if not (is_bfloat16 or dataset.dtype.kind in "fiubc") or dataset.shape is None:
            self.not_weights[name] = "no numbers"
            return
        if dataset.dtype.itemsize > 8:
            raise ModelFileError(
                f"{self.path}: {quoted(name)} is of type {dataset.dtype}", expected=WEIGHT_TYPES
            )
        num_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
        chunk_bytes = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
        self.num_bytes += num_bytes
        if max(self.num_bytes, chunk_bytes) > _MAX_RATIO * self.size:
            raise ModelFileError(
                f"{self.path}: {quoted(name)} of shape {dataset.shape} is larger than the file"
            )
        # In the machine's byte order: torch has no big-endian numbers.
        array = np.asarray(dataset[()])
        if is_bfloat16:
            self.tensors[name] = torch.from_numpy(array.view("<i2").astype("=i2")).view(torch.bfloat16)
            return
        self.tensors[name] = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))

    # -- attributes ----------------------------------------------------------------------------------

    def _attributes(self, group: Any, prefix: str) -> None:
        if not prefix:
            config = self._attribute(group, "model_config")
            if isinstance(config, str):
                source = f"{self.path}: model_config"
                self.metadata["config"] = parse_object(config.encode("utf-8", "surrogatepass"), source)
        if names := self._names(group, "layer_names"):
            self.metadata["layer_names"] = names
        if names := self._names(group, "weight_names"):
            self.metadata.setdefault("weight_names", {})[prefix] = names
        name = self._attribute(group, "name")
        if isinstance(name, str):
            self.metadata.setdefault("names", {})[prefix] = name

    def _names(self, group: Any, attribute: str) -> list[str]:
        names = self._attribute(group, attribute)
        if names is not None:
            return _strings(names)
        # Attributes hold 64 kB; Keras splits longer lists into numbered ones.
        found: list[str] = []
        for number in range(_MAX_OBJECTS):
            part = self._attribute(group, f"{attribute}{number}")
            if part is None:
                break
            found += _strings(part)
        return found

    def _attribute(self, group: Any, name: str) -> Any:
        if name not in group.attrs:
            return None
        info = self.h5py.h5a.get_info(group.id, name.encode())
        if info.data_size > MAX_CONFIG_BYTES:
            raise ModelFileError(f"{self.path}: the attribute {name!r} has {info.data_size:,} bytes")
        value = group.attrs[name]
        return value.decode("utf-8") if isinstance(value, bytes) else value


def _strings(values: Any) -> list[str]:
    items = values if isinstance(values, str) else getattr(values, "tolist", lambda: values)()
    items = items if isinstance(items, list | tuple) else [items]
    return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in items]
