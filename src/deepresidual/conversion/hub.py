"""Name repositories of the Hugging Face Hub, and fetch their weights into the Hub's cache."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual.conversion.http_errors import (
    is_http_error,
    is_transient,
    patience,
    reason_of,
    seconds_to_wait,
    status_of,
    within_patience,
)
from deepresidual.conversion.hub_cache import CONFIGURATION, WEIGHTS, HubCache, is_commit
from deepresidual.conversion.shards import shards_of
from deepresidual.conversion.transfer import Remote, digest_of, download, megabytes
from deepresidual.errors import ModelFileError, ResidualError, RunError, UnreachableError
from deepresidual.runtime.console import note, warn
from deepresidual.runtime.known_formats import MAX_FILE_BYTES, WEIGHT_SUFFIXES

_PREFIXES = ("hf-hub:", "hf:")  # timm's, and the short one
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
    cache = HubCache(wanted.name)
    commit = cache.commit_of(wanted.revision)
    if commit is None or cache.weights(commit) is None:
        return None
    found = Fetched(wanted, cache.snapshot(commit), commit, from_cache=True)
    return _verified(found, cache) if verify else found


def fetch(wanted: HubId) -> Fetched:
    """Return a repository's weights and configuration, downloading what the cache of the Hub lacks.

    Of a commit that the cache has whole nothing is asked. Else the Hub is asked once which commit a branch is
    at; if it does not answer within 3 seconds, or those that ``HF_HUB_ETAG_TIMEOUT`` says, the cache alone is
    used. ``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_ENDPOINT``, ``HF_TOKEN`` and proxies are honoured, as by every
    tool of the Hub, and these find what was fetched here.

    Args:
        wanted: The repository, and its revision.

    Raises:
        UnreachableError: The Hub does not answer, and there is no copy in the cache.
        RunError: There is no such repository, it is not for everybody, or the cache cannot be written.
        ModelFileError: A file is not what its hash says, and removed; or the weights are too large.
    """
    from huggingface_hub.utils import logging as hub_logging

    # Its warnings are not our user's business; the one sentence of an error is.
    hub_logging.set_verbosity(logging.ERROR)
    cache, before = HubCache(wanted.name), cached(wanted)
    if before is not None and is_commit(wanted.revision) and cache.is_complete(before.commit):
        return _verified(before, cache)
    try:
        commit, stated = _at_the_hub(wanted)
    except UnreachableError:
        if before is not None:
            return _verified(before, cache)
        raise
    fetching = _Fetching(wanted, cache, commit, {CONFIGURATION[0]: stated})
    try:
        for name in CONFIGURATION:
            fetching.obtain(name)
        fetching.obtain_weights()
    except UnreachableError as error:
        if before is None or before.commit == commit:
            raise
        warn(f"{error.found}; commit {before.commit[:12]} of {wanted}, in the cache, is older and is used")
        return _verified(before, cache)
    if cache.weights(commit) is None:
        raise RunError(
            f"{wanted} has no weights that are read here",
            expected=" or ".join(name for name, _ in WEIGHTS),
        )
    cache.keep_revision(wanted.revision, commit)
    return Fetched(wanted, cache.snapshot(commit), commit, from_cache=not fetching.num_fetched)


def _verified(found: Fetched, cache: HubCache) -> Fetched:
    for name in (*CONFIGURATION, *(cache.weights(found.commit) or ())):
        if (found.folder / name).exists():
            cache.check(found.commit, name, str(found.hub_id))
    return found


class _Fetching:
    """Fetches files of one commit.

    Args:
        wanted: What was asked for.
        cache: Where the files go.
        commit: The commit.
        stated: What the Hub has said already, by file; ``None`` of one that it does not have.
    """

    def __init__(self, wanted: HubId, cache: HubCache, commit: str, stated: Mapping[str, Any]) -> None:
        self._wanted, self._cache, self._commit, self._stated = wanted, cache, commit, stated
        self.num_fetched, self._num_bytes = 0, 0

    def obtain(self, name: str) -> bool:
        """Fetch a file unless it is there; return whether the repository has it."""
        cache, path = self._cache, self._cache.snapshot(self._commit) / name
        if path.exists() and cache.is_named_by_hash(path) and self._is_right(name):
            return True
        if not path.exists() and cache.is_known_to_lack(self._commit, name):
            return False
        known = self._stated
        stated = known[name] if name in known else _asked(self._wanted, name, self._commit)[1]
        if stated is None:
            cache.keep_lack(self._commit, name)
            return False
        if not stated.etag:
            raise RunError(
                f"the Hugging Face Hub states no checksum of {name} of {self._wanted} (no ETag)",
                remedy="a proxy in between may leave it out; give the path of a file or folder",
            )
        if not path.exists() or not self._is_right(name, stated.etag):
            self._download(name, path, stated)
        return True

    def _is_right(self, name: str, stated: str = "") -> bool:
        """Hold a cached file against its hash; a damaged one is removed."""
        try:
            self._cache.check(self._commit, name, str(self._wanted), stated)
        except ModelFileError as error:
            note(f"{error.found}; it was removed from the cache and is fetched anew")
            return False
        return True

    def obtain_weights(self) -> None:
        """Fetch the files that hold the weights, if the repository has any."""
        for name, index in WEIGHTS:
            if self.obtain(name):
                return
            if self.obtain(index):
                for shard in shards_of(self._cache.snapshot(self._commit) / index):
                    if not self.obtain(shard):
                        raise ModelFileError(
                            f"{index} of {self._wanted} names {shard}, which the repository does not have"
                        )
                return

    def _download(self, name: str, path: Path, stated: Any) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented there

        label = f"{name} of {self._wanted}"
        self._num_bytes += stated.size or 0
        if self._num_bytes > MAX_FILE_BYTES:
            raise ModelFileError(
                f"{self._wanted} has {megabytes(self._num_bytes)} or more to fetch",
                expected=f"at most {megabytes(MAX_FILE_BYTES)}",
            )

        def explain(error: Exception) -> ResidualError:
            return _refusal(error, self._wanted, name)

        digest = stated.etag if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", stated.etag) else ""
        url = hf_hub_url(self._wanted.name, name, revision=self._commit)
        with self._cache.place(path, stated.etag) as (place, partial):
            remote = Remote(url, label, explain, build_hf_headers(), stated.size, digest)
            if digest and place.exists() and digest_of(place, digest) != digest:
                place.unlink()  # another commit has the same file, which has been damaged
            if not place.exists():
                download(remote, place, partial)
                self.num_fetched += 1


# -- what the Hub says -------------------------------------------------------------------------------


def _at_the_hub(wanted: HubId) -> tuple[str, Any]:
    """Return the commit that a revision is at, and what the Hub says of its ``config.json``.

    Raises:
        UnreachableError: The Hub does not answer, or as something else than a Hub.
        RunError: It answers that there is no such thing, or that it is not for everybody.
    """
    from huggingface_hub import constants

    commit, stated = _asked(wanted, CONFIGURATION[0], wanted.revision)
    if not is_commit(commit):
        raise UnreachableError(
            f"{constants.ENDPOINT} answered with something else than a repository, perhaps a web page",
            remedy="the network may want you to log in first",
        )
    return commit, stated


def _asked(wanted: HubId, name: str, revision: str) -> tuple[str, Any]:
    """Ask the Hub for a file; return the commit, and the metadata or ``None`` where there is no such file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

    url = hf_hub_url(wanted.name, name, revision=revision)
    try:
        stated = within_patience(lambda: get_hf_file_metadata(url, timeout=patience()))
    except EntryNotFoundError as error:
        response = getattr(error, "response", None)
        return response.headers.get("X-Repo-Commit", "") if response is not None else "", None
    except Exception as error:
        if not is_http_error(error) and not isinstance(error, TimeoutError):
            raise
        if status_of(error) == 404 and is_commit(revision) and not isinstance(error, RevisionNotFoundError):
            return revision, None  # a mirror, which does not say what is missing; here the commit is known
        raise _refusal(error, wanted, name) from error
    return stated.commit_hash or "", stated


def _refusal(error: Exception, wanted: HubId, name: str) -> ResidualError:
    """Return what to tell of an answer of the Hub, or of none."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return RunError(
            f"the Hugging Face Hub gives {wanted.name} only to those who accepted its terms",
            remedy="accept them on its page and log in with 'hf auth login', or set HF_TOKEN",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return RunError(
            f"{wanted.name} has no revision {wanted.revision} on the Hugging Face Hub",
            remedy="check the name of the branch, tag or commit",
        )
    if status_of(error) == 401 and "Invalid credentials" in _error_message(error):
        return RunError(
            "the Hugging Face Hub does not accept the token",
            remedy="set HF_TOKEN to a valid one or to nothing, or log in anew with 'hf auth login'",
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status_of(error) == 401:
        return RunError(
            f"{wanted.name} does not exist on the Hugging Face Hub or needs a token",
            remedy="check the name; set HF_TOKEN if you have access",
        )
    if isinstance(error, errors.EntryNotFoundError) or status_of(error) == 404:
        return RunError(f"the Hugging Face Hub has no {name} of {wanted}", remedy="try again later")
    if status_of(error) == 429:
        wait = seconds_to_wait(error)
        return UnreachableError(
            f"the Hugging Face Hub asks to wait (429{'' if wait is None else f', {wait} s'})",
            remedy="try again later, or set HF_TOKEN for a higher limit",
        )
    status = status_of(error)
    if status is not None and not is_transient(error):
        return RunError(
            f"the Hugging Face Hub refuses {name} of {wanted} ({status})",
            remedy="check your access; HF_TOKEN may have to be set, or another one",
        )
    return UnreachableError(
        f"there is no folder {wanted}, it is not in the cache, and the Hugging Face Hub cannot be reached "
        f"({reason_of(error)})",
        remedy=f"connect once and run 'residual fetch {wanted}', or copy its folder here and give its path",
    )


def _error_message(error: Exception) -> str:
    response = getattr(error, "response", None)
    return response.headers.get("X-Error-Message", "") if response is not None else ""
