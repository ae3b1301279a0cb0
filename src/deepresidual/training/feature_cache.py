"""Features that were computed before, found again by the content of the image file.

A row is known by the SHA-256 of the encoded file and by everything else that it depends on: weights,
architecture, preprocessing, view, head, precision, versions of PyTorch and of the decoders, processor. A
photo that has changed under its name, or other weights of the same name, are therefore never served. What
lies here can be deleted at any time, and a cache that cannot be read or written is no error: the rows are
computed again.

Rows lie in segments, safetensors files that appear whole under a new name and are never changed: a process
that is killed leaves at most a temporary file, and several processes write side by side. Every row has a
checksum. The segments that were not used for longest go first where all come to more than the bound.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.numpy import save

from deepresidual.errors import DISTRIBUTION, ResidualError
from deepresidual.runtime.cache import cache_folder
from deepresidual.runtime.files import write_bytes
from deepresidual.runtime.provenance import version_of
from deepresidual.runtime.safetensors_file import check_header
from deepresidual.training.features import batch_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.models import TorchClassifier
    from deepresidual.nn import ResNet
    from deepresidual.training.features import View

MAX_BYTES = 2_000_000_000
"""Most that all segments together hold, in bytes; 250,000 views of 2,048 features."""

_FORMAT = 1
# Another version may decode or resize a photo to other pixels.
_DECODERS = ("Pillow", "simplejpeg")
_ENDING = ".safetensors"
_KEY_BYTES = 32
# A segment costs a flush to the disk, and what is not in one yet is lost when the process is killed.
_ROWS_OF_SEGMENT = 256
# Temporary files of this age are of a process that was killed.
_ABANDONED_SECONDS = 3600


class FeatureCache:
    """Rows of features in a folder.

    Args:
        folder: The folder. Default: ``features`` in the user's cache folder; without one nothing is kept.
        max_bytes: Most that it holds, in bytes.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        home = cache_folder()
        self.folder = folder or (home and home / "features")
        self.max_bytes = max_bytes

    @contextlib.contextmanager
    def opened(self, model: TorchClassifier, views: Sequence[View]) -> Iterator[CachedFeatures]:
        """Yield the rows of a backbone; what is added is kept when the block ends, however it ends."""
        weights = weights_checksum(model.network)
        contexts = [_context(model, view, weights) for view in views]
        folders = [None if self.folder is None else self.folder / context for context in contexts]
        rows = CachedFeatures(
            [_ViewRows(folder, model.network.num_features, self.make_room) for folder in folders]
        )
        try:
            yield rows
        finally:
            rows.flush()

    def make_room(self) -> None:
        """Remove the segments that were not used for longest until the rest is within the bound."""
        if self.folder is None:
            return
        found = []
        for path in self.folder.glob(f"*/*{_ENDING}"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.max_bytes:
                return
            _discard(path)
            total -= size


class CachedFeatures:
    """Rows of one backbone in some views; used by several threads at once for finding, by one for adding."""

    def __init__(self, views: list[_ViewRows]) -> None:
        self._views = views

    def find(self, digest: bytes) -> dict[int, NDArray[np.float32]]:
        """Return the rows ``(F,)`` of an image file with this SHA-256, by number of the view."""
        found = {number: view.find(digest) for number, view in enumerate(self._views)}
        return {number: row for number, row in found.items() if row is not None}

    def add(self, number: int, digests: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        """Keep the rows ``(N, F)`` of N image files in view ``number``."""
        self._views[number].add(digests, rows)

    def flush(self) -> None:
        """Write what has been added."""
        for view in self._views:
            view.flush()


@dataclass(frozen=True)
class _Place:
    """Where a row lies: its first byte in a file, and its checksum."""

    path: Path
    offset: int
    checksum: int


class _ViewRows:
    """The rows of one view, in one folder of segments."""

    def __init__(self, folder: Path | None, num_features: int, make_room: Callable[[], None]) -> None:
        self._folder, self._num_features, self._make_room = folder, num_features, make_room
        self._places: dict[bytes, _Place] = {}
        self._used: set[Path] = set()
        self._digests: list[bytes] = []
        self._rows: list[NDArray[np.float32]] = []
        if folder is None:
            return
        with contextlib.suppress(OSError):
            for path in sorted(folder.iterdir()):
                if path.name.endswith(_ENDING):
                    self._read(path)
                elif time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    _discard(path)

    def find(self, digest: bytes) -> NDArray[np.float32] | None:
        place = self._places.get(digest)
        if place is None:
            return None
        content = b""
        with contextlib.suppress(OSError), place.path.open("rb") as file:
            file.seek(place.offset)
            content = file.read(4 * self._num_features)
        if zlib.crc32(content, zlib.crc32(digest)) != place.checksum:
            _discard(place.path)
            return None
        if place.path not in self._used:
            self._used.add(place.path)
            with contextlib.suppress(OSError):
                os.utime(place.path)
        return np.frombuffer(content, dtype="<f4")

    def add(self, digests: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        self._digests += digests
        self._rows += list(rows)
        if len(self._digests) >= _ROWS_OF_SEGMENT:
            self.flush()

    def flush(self) -> None:
        digests, rows = self._digests, self._rows
        self._digests, self._rows = [], []
        if not digests or self._folder is None:
            return
        sums = [
            zlib.crc32(row.astype("<f4").tobytes(), zlib.crc32(key))
            for key, row in zip(digests, rows, strict=True)
        ]
        content = save(
            {
                "keys": np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, _KEY_BYTES),
                "rows": np.stack(rows).astype("<f4"),
                "checksums": np.array(sums, dtype=np.uint32),
            }
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self._folder / f"{uuid.uuid4().hex}{_ENDING}", content)
        except (ResidualError, OSError):
            self._folder = None  # full or not ours to write: this extraction tries no more
            return
        self._make_room()

    def _read(self, path: Path) -> None:
        """Note the rows of a segment; remove one that is damaged."""
        try:
            header = check_header(path)
            rows, found = header["rows"], {}
            with path.open("rb") as file:
                start = 8 + int.from_bytes(file.read(8), "little")
                for name, dtype in (("keys", "u1"), ("checksums", "<u4")):
                    first, last = header[name]["data_offsets"]
                    file.seek(start + first)
                    found[name] = np.frombuffer(file.read(last - first), dtype)
            keys, checksums = found["keys"].reshape(-1, _KEY_BYTES), found["checksums"].tolist()
            if (rows["dtype"], rows["shape"]) != ("F32", [len(checksums), self._num_features]):
                raise ValueError("rows of another shape")
            offset = start + rows["data_offsets"][0]
            for key, checksum in zip(keys, checksums, strict=True):
                self._places[key.tobytes()] = _Place(path, offset, checksum)
                offset += 4 * self._num_features
        except (ResidualError, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
            _discard(path)


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


# -- what a row depends on -----------------------------------------------------------------------------------


def weights_checksum(network: ResNet) -> str:
    """Return the SHA-256 of the tensors of a network but for its classifier, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
            values = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
            digest.update(values.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _context(model: TorchClassifier, view: View, weights: str) -> str:
    """Return the name of everything that a row depends on but for the image file."""
    spec = model.network.spec.architecture.to_dict()
    # Tensors alone do not tell the function: two networks can share all shapes and stride elsewhere.
    del spec["num_classes"]
    document = {
        "format": _FORMAT,
        "weights": weights,
        "spec": spec,
        "head": model.network.spec.head.to_dict(),
        "preprocess": model.preprocess.to_dict(),
        "view": view,
        "precision": f"fp32, products {torch.get_float32_matmul_precision()}",
        "batch": batch_size(model.network),
        "torch": torch.__version__,
        "pixels": [version_of(package) for package in (DISTRIBUTION, *_DECODERS)],
        "processor": _processor(model.network.conv1.weight.device),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _processor(device: torch.device) -> str:
    """Return what computes: another one rounds differently."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else device.type
    return f"{platform.machine()} {capability}"
