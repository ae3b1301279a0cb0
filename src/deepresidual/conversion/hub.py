"""Fetch checkpoints from the Hugging Face Hub or its cache, and check their hashes."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual.errors import MissingDependencyError, ModelFileError, RunError
from deepresidual.runtime.files import expanded, sha256_of
from deepresidual.runtime.known_formats import WEIGHT_SUFFIXES

# Only what a conversion reads; a repository may hold much more, and code.
_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
_PICKLE = "pytorch_model.bin"
_PREFIXES = ("hf-hub:", "hf:")  # timm's, and the short one
_SECONDS = 3.0
_MAIN = "main"
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w./-]*))?")
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


@dataclass(frozen=True, slots=True)
class HubId:
    """A repository of the Hugging Face Hub at a revision; as a string ``owner/name`` or ``owner/name@rev``.

    Attributes:
        name: ``owner/name``.
        revision: A branch, a tag, or a commit of 40 hexadecimal digits.
    """

    name: str
    revision: str = _MAIN

    def __str__(self) -> str:
        return self.name if self.revision == _MAIN else f"{self.name}@{self.revision}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A repository's weights and configuration in the cache of the Hub.

    Attributes:
        hub_id: What was asked for.
        folder: Its snapshot in the cache; nothing in it may be changed.
        commit: The commit it is of, 40 hexadecimal digits.
        from_cache: Whether all of it was there before.
    """

    hub_id: HubId
    folder: Path
    commit: str
    from_cache: bool


def hub_id(source: str) -> HubId | None:
    """Return the repository of the Hugging Face Hub that ``source`` stands for; ``None`` for a path.

    ``hf:owner/name`` always is one, and so is ``hf-hub:owner/name``, as timm writes it. ``owner/name`` alone
    is one unless it looks like a path here: there is such a file or folder, or a folder called ``owner``, or
    the name ends as files do. So no mistyped path of a file leaves the machine. Each may end in
    ``@revision``.
    """
    prefix = next((prefix for prefix in _PREFIXES if source.startswith(prefix)), "")
    match = _HUB_ID.fullmatch(source.removeprefix(prefix))
    if match is None:
        return None
    name, revision = match[1], match[2] or _MAIN
    if any(part in ("", ".", "..") for part in revision.split("/")):  # it becomes a path in the cache
        return None
    is_path = _exists(match[0]) or _exists(name.partition("/")[0]) or _is_file_name(name)
    return None if is_path and not prefix else HubId(name, revision)


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
    is_name = _HUB_ID.fullmatch(source) is not None and not _is_file_name(source)
    raise ModelFileError(
        f"{source} does not exist",
        remedy=f"for a repository of the Hugging Face Hub write hf:{source}" if is_name else "",
    )


def _is_file_name(name: str) -> bool:
    return Path(name).suffix.lower() in _FILE_SUFFIXES


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for the system, for example
        return False


def cached(wanted: HubId, *, verify: bool = False) -> Fetched | None:
    """Return what the cache of the Hub holds of a repository; ``None`` where its weights are not there.

    The network is never asked.

    Args:
        wanted: The repository.
        verify: Hold the files against their hashes as well, which reads all of them.

    Raises:
        ModelFileError: A file is not what its hash says; it is removed from the cache.
    """
    import huggingface_hub

    weights = (
        huggingface_hub.try_to_load_from_cache(wanted.name, name, revision=wanted.revision)
        for name in ("model.safetensors", _PICKLE)
    )
    path = next((Path(path) for path in weights if isinstance(path, str)), None)
    if path is None:
        return None
    if verify:
        for file in path.parent.iterdir():
            _check_hash(file, wanted.name, file.name, is_online=False)
    return Fetched(wanted, path.parent, path.parent.name, from_cache=True)


def fetch(wanted: HubId) -> Fetched:
    """Return a repository's weights and configuration, downloading what the cache of the Hub lacks.

    The Hub is asked once whether it answers; if it does not within 3 seconds, or those that
    ``HF_HUB_ETAG_TIMEOUT`` says, the cache alone is used. ``HF_HUB_OFFLINE=1`` and ``HF_HOME`` are honoured,
    as by every tool of the Hub.

    Args:
        wanted: The repository, and its revision.

    Raises:
        RunError: There is no network and no copy in the cache, or no such repository.
        ModelFileError: A file is not what its hash says; it is removed from the cache.
    """
    hub_id, before = wanted.name, cached(wanted)
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
            path = Path(
                huggingface_hub.hf_hub_download(
                    hub_id,
                    name,
                    revision=wanted.revision,
                    local_files_only=bool(unreachable),
                    etag_timeout=_patience(),
                )
            )
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
            _check_hash(path, hub_id, name, is_online=not unreachable)
            folder = path.parent
    if folder is None:
        raise RunError(f"{hub_id} has neither config.json nor weights", expected="a model repository")
    return Fetched(wanted, folder, folder.name, before is not None and before.folder == folder)


def _patience() -> float:
    """Return how many seconds an answer of the Hub is waited for."""
    from huggingface_hub import constants

    return constants.HF_HUB_ETAG_TIMEOUT if "HF_HUB_ETAG_TIMEOUT" in os.environ else _SECONDS


def _why_unreachable(hub_id: str) -> str:
    """Ask the Hub once for a repository; return why it does not answer, or nothing where it does.

    The library itself would try for half a minute, and looking up a name has no timeout at all.

    Raises:
        RunError: The Hub answers that there is no such repository, or that it is not for everybody.
    """
    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_asked(hub_id)), daemon=True).start()
    try:
        error = answers.get(timeout=_patience() + 1)
    except queue.Empty:
        return f"no answer within {_patience() + 1:.0f} s"
    return _reason(error, hub_id) if error is not None else ""


def _asked(hub_id: str) -> Exception | None:
    """Ask for a file of a repository, and return the error."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(hub_id, _FILES[0]), timeout=_patience())
    except Exception as error:  # noqa: BLE001  # the errors of an HTTP client, another one in each version
        return error
    return None


def _reason(error: Exception, hub_id: str) -> str:
    """Return why the Hub cannot be used, or nothing where it can.

    Raises:
        RunError: The Hub answers that there is no such repository, or that it is not for everybody.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.EntryNotFoundError):
        return ""
    if isinstance(error, errors.GatedRepoError):
        raise RunError(
            f"the Hugging Face Hub gives {hub_id} only to those who accepted its terms",
            remedy="accept them on its page and log in with 'hf auth login'",
        ) from error
    if isinstance(error, errors.RepositoryNotFoundError):
        raise RunError(
            f"{hub_id} does not exist, here or on the Hugging Face Hub",
            remedy="check the name; for a private repository log in with 'hf auth login'",
        ) from error
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return f"it answers {error.response.status_code}"
    return _first_line(error) or type(error).__name__


def _check_hash(path: Path, hub_id: str, name: str, *, is_online: bool) -> None:
    """Hold a cached file against its hash: a SHA-256 of large files, git's SHA-1 of the others.

    The library compares sizes alone. In its cache a file is a link to one that is named by the hash; that may
    be a link again, into a store that repositories share and whose names are hashes of another kind. A cache
    without links (Windows) has no names, so there the Hub is asked.
    """
    blob = path.parent / path.readlink() if path.is_symlink() else path
    expected = blob.name if blob != path else _stated_hash(hub_id, name) if is_online else ""
    if re.fullmatch(r"[0-9a-f]{64}", expected):
        found = sha256_of(path)
    elif re.fullmatch(r"[0-9a-f]{40}", expected):
        content = path.read_bytes()  # small ones alone have git's
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return
    if found == expected:
        return
    remedy = "it was removed from the cache: convert again to fetch it anew"
    if blob.is_symlink():
        # Others link to the shared one, too, so it is theirs to keep.
        remedy = f"delete {blob.resolve()}, which all repositories share, and convert again to fetch it anew"
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    raise ModelFileError(
        f"{path.name} of {hub_id} has checksum {found[:12]}…",
        expected=f"{expected[:12]}…",
        remedy=remedy,
    )


def _stated_hash(hub_id: str, name: str) -> str:
    """Return the hash that the Hub states for a file; nothing where it does not answer."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        return get_hf_file_metadata(hf_hub_url(hub_id, name), timeout=_patience()).etag or ""
    except Exception:  # noqa: BLE001  # as in _asked
        return ""


def _first_line(error: Any) -> str:
    return str(error).strip().split("\n", 1)[0]
