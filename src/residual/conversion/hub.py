"""Checkpoints on the Hugging Face Hub: fetched or found in its cache, and held against their hashes."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residual.errors import MissingDependencyError, ModelFileError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fetch", "is_hub_id"]

# Only what a conversion reads; a repository may hold much more, and code.
_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
_PICKLE = "pytorch_model.bin"


def is_hub_id(source: str) -> bool:
    """Return whether ``source`` reads like ``owner/name`` and is no path that exists."""
    return (
        re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source) is not None
        and not Path(source).exists()
    )


def fetch(hub_id: str) -> Path:
    """Return the folder of a repository's weights and configuration, downloading what the cache lacks.

    ``HF_HUB_OFFLINE=1`` and ``HF_HOME`` are honoured, as by every tool of the Hub.

    Args:
        hub_id: ``owner/name``, or with a revision ``owner/name`` as the Hub writes it.

    Raises:
        MissingDependencyError: huggingface_hub is not installed.
        RunError: There is no network and no copy in the cache, or no such repository.
        ModelFileError: A file is not what its hash says; it is removed from the cache.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependencyError(
            f"{hub_id} is on the Hugging Face Hub, and huggingface_hub is not installed",
            remedy="install it with: pip install 'residual[hub]'",
        ) from error
    # Its retries are not our user's business; the one sentence below is.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    folder: Path | None = None
    for name in (*_FILES, _PICKLE):
        if name == _PICKLE and folder is not None and (folder / "model.safetensors").exists():
            break
        try:
            path = Path(huggingface_hub.hf_hub_download(hub_id, name))
        except LocalEntryNotFoundError as error:
            # Offline, the cache cannot tell a file that the repository lacks from one never fetched.
            if folder is None and name == "config.json":
                raise RunError(
                    f"{hub_id} is not in the local cache and the Hugging Face Hub cannot be reached",
                    remedy="connect to the network, or give the path of a file or folder",
                ) from error
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise RunError(
                f"{hub_id} cannot be fetched from the Hugging Face Hub ({_first_line(error)})",
                remedy="check the name and the network, or give the path of a file or folder",
            ) from error
        else:
            _check_hash(path, hub_id)
            folder = path.parent
    if folder is None:
        raise RunError(f"{hub_id} has neither config.json nor weights", expected="a model repository")
    return folder


def _check_hash(path: Path, hub_id: str) -> None:
    """Hold a cached file against its name: a SHA-256 of large files, git's SHA-1 of the others."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", blob.name):
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    else:
        return  # a cache without links keeps no hash beside the file
    for chunk in _chunks(blob):
        digest.update(chunk)
    if digest.hexdigest() != blob.name:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise ModelFileError(
            f"{path.name} of {hub_id} has checksum {digest.hexdigest()[:12]}…",
            expected=f"{blob.name[:12]}…",
            remedy="it was removed from the cache: convert again to fetch it anew",
        )


def _chunks(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(size):
            yield chunk


def _first_line(error: Any) -> str:
    return str(error).strip().split("\n", 1)[0]
