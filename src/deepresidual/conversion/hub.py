"""Fetch checkpoints from the Hugging Face Hub or its cache, and check their hashes."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepresidual.errors import MissingDependencyError, ModelFileError, RunError
from deepresidual.runtime.files import expanded
from deepresidual.runtime.known_formats import WEIGHT_SUFFIXES

# Only what a conversion reads; a repository may hold much more, and code.
_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
_PICKLE = "pytorch_model.bin"
_PREFIX = "hf-hub:"  # timm's
_OWNER_AND_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Endings of files; names of repositories have dots as well (resnet50.a1_in1k).
_FILE_SUFFIXES = {
    *WEIGHT_SUFFIXES,
    ".json",
    ".zip",
    ".tar",
    ".gz",
    ".tgz",
    ".bz2",
    ".xz",
    ".7z",
    ".txt",
    ".meta",
}


def hub_id(source: str) -> str | None:
    """Return the ``owner/name`` that ``source`` stands for on the Hugging Face Hub; ``None`` for a path.

    ``hf-hub:owner/name`` always is one. ``owner/name`` alone is one unless it looks like a path here: there
    is such a file or folder, or a folder called ``owner``, or the name ends as files do. So no mistyped path
    of a file leaves the machine.
    """
    explicit = source.startswith(_PREFIX)
    name = source.removeprefix(_PREFIX)
    if _OWNER_AND_NAME.fullmatch(name) is None:
        return None
    is_path = _exists(name) or _exists(name.partition("/")[0]) or _is_file_name(name)
    return None if is_path and not explicit else name


def require_source(source: str) -> None:
    """Refuse a path of weights that does not exist; without torch, so that a typing error is told at once.

    Raises:
        ModelFileError: ``source`` is a path, nothing is there, and it is no ``owner/name``.
    """
    is_path = "/" in source or _is_file_name(source)
    path = str(expanded(source)) if source.startswith("~") else source
    # A checkpoint of TensorFlow is named by the beginning of its files' names.
    if not is_path or hub_id(source) or _exists(path) or _exists(f"{path}.index"):
        return
    is_name = _OWNER_AND_NAME.fullmatch(source) is not None and not _is_file_name(source)
    raise ModelFileError(
        f"{source} does not exist",
        remedy=f"for a repository of the Hugging Face Hub write {_PREFIX}{source}" if is_name else "",
    )


def _is_file_name(name: str) -> bool:
    return Path(name).suffix.lower() in _FILE_SUFFIXES


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for the system, for example
        return False


def fetch(hub_id: str) -> Path:
    """Return the folder of a repository's weights and configuration, downloading what the cache lacks.

    The Hub is asked once whether it answers; if it does not, the cache alone is used. ``HF_HUB_OFFLINE=1``,
    ``HF_HUB_ETAG_TIMEOUT`` (10 seconds) and ``HF_HOME`` are honoured, as by every tool of the Hub.

    Args:
        hub_id: ``owner/name``.

    Raises:
        MissingDependencyError: huggingface_hub is not installed.
        RunError: There is no network and no copy in the cache, or no such repository.
        ModelFileError: A file is not what its hash says; it is removed from the cache.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
        from huggingface_hub.utils import logging as hub_logging
    except ImportError as error:
        raise MissingDependencyError.of_extra(
            f"{hub_id} does not exist here, and to ask the Hugging Face Hub for it huggingface_hub has to be "
            "installed",
            "hub",
        ) from error
    # Its warnings are not our user's business; the one sentence below is.
    hub_logging.set_verbosity(logging.ERROR)
    unreachable = _why_unreachable(hub_id)
    folder: Path | None = None
    for name in (*_FILES, _PICKLE):
        if name == _PICKLE and folder is not None and (folder / "model.safetensors").exists():
            break
        try:
            path = Path(huggingface_hub.hf_hub_download(hub_id, name, local_files_only=bool(unreachable)))
        except LocalEntryNotFoundError as error:
            # Offline, the cache cannot tell a file that the repository lacks from one never fetched.
            if folder is None and name == "config.json":
                raise RunError(
                    f"{hub_id} does not exist here, is not in the cache of the Hugging Face Hub, and the Hub "
                    f"cannot be reached ({unreachable or _first_line(error)})",
                    remedy="connect to the network, or give the path of a file or folder",
                ) from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # the errors of an HTTP client, another one in each version of the library
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


def _why_unreachable(hub_id: str) -> str:
    """Ask the Hub once for a repository; return why it does not answer, or nothing where it does.

    The library itself would try for half a minute.

    Raises:
        RunError: The Hub answers that there is no such repository, or that it is not for everybody.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        get_hf_file_metadata(hf_hub_url(hub_id, _FILES[0]), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except EntryNotFoundError:
        return ""
    except GatedRepoError as error:
        raise RunError(
            f"the Hugging Face Hub gives {hub_id} only to those who accepted its terms",
            remedy="accept them on its page and log in with 'hf auth login'",
        ) from error
    except RepositoryNotFoundError as error:
        raise RunError(
            f"{hub_id} does not exist, here or on the Hugging Face Hub",
            remedy="check the name; for a private repository log in with 'hf auth login'",
        ) from error
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except HfHubHTTPError as error:
        return (
            f"it answers {error.response.status_code}" if error.response is not None else _first_line(error)
        )
    except Exception as error:  # noqa: BLE001  # the errors of an HTTP client, another one in each version
        return _first_line(error) or type(error).__name__
    return ""


def _check_hash(path: Path, hub_id: str) -> None:
    """Check a cached file against its name: a SHA-256 of large files, git's SHA-1 of the others."""
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
