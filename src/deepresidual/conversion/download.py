"""Fetch files by their URL into Residual's cache."""

from __future__ import annotations

import hashlib
import re
import tempfile
import urllib.parse
from pathlib import Path

from deepresidual.conversion.http_errors import is_http_error, patience, reason_of, status_of, within_patience
from deepresidual.conversion.transfer import Remote, download, megabytes
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError, RunError, UnreachableError
from deepresidual.runtime.cache import cache_folder
from deepresidual.runtime.console import note
from deepresidual.runtime.files import sha256_of
from deepresidual.runtime.known_formats import MAX_FILE_BYTES

__all__ = ["cached_url", "fetch_url", "is_url"]

# torchvision, timm and others end a name so: resnet18-f37072fd.pth.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{64}|[0-9a-f]{8,32})(?:\.[A-Za-z][A-Za-z0-9]*)+")


def is_url(source: str) -> bool:
    """Return whether ``source`` is an address that :func:`fetch_url` takes."""
    return re.match(r"https?://", source, re.IGNORECASE) is not None


def fetch_url(url: str, sha256: str = "", *, answer_seconds: float | None = None) -> Path:
    """Return the file at ``url``, kept in Residual's cache; it is downloaded once.

    It is held against ``sha256`` or, without one, against the 8 or more hexadecimal digits at the end of its
    name that are the beginning of its SHA-256, as torchvision writes them (``resnet18-f37072fd.pth``).

    Args:
        url: Address, ``http:`` or ``https:``.
        sha256: SHA-256 of the file, 64 hexadecimal digits.
        answer_seconds: How long a first answer of the server is waited for. Default: 4 s, or what
            ``HF_HUB_ETAG_TIMEOUT`` says.

    Returns:
        The file; its name is that of the URL.

    Raises:
        ConfigurationError: It is no such address, or no SHA-256.
        UnreachableError: The server does not answer.
        RunError: It has no such file, or the cache cannot be written.
        ModelFileError: The file is not what its hash says; it is removed.
    """
    if (kept := cached_url(url, sha256)) is not None:
        return kept
    parts, path = _parts(url), _place(url)
    name, shown = path.name, _shown(parts)
    digest = sha256 or _hash_in(name)
    path.unlink(missing_ok=True)  # damaged since it was fetched

    def explain(error: Exception) -> ResidualError:
        return _refusal(error, shown)

    remote = Remote(url, shown, explain, size=_size(url, shown, answer_seconds), digest=digest)
    try:
        download(remote, path, path.with_name(f".{name}.incomplete"))
    except RunError as error:
        if isinstance(error.__cause__, OSError) and not is_http_error(error.__cause__):
            raise RunError(
                error.found, remedy="free some space, or set RESIDUAL_CACHE to another folder"
            ) from error
        raise
    if not digest:
        note(f"{name} is not checked: its name has no hash")
    return path


def cached_url(url: str, sha256: str = "") -> Path | None:
    """Return the file that :func:`fetch_url` has kept; ``None`` where there is none, or it is damaged.

    Raises:
        ConfigurationError: ``url`` is no address, or ``sha256`` no SHA-256.
    """
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ConfigurationError(f"sha256 is {sha256[:80]!r}", expected="64 hexadecimal digits")
    path = _place(url)
    digest = sha256 or _hash_in(path.name)
    return path if path.is_file() and (not digest or sha256_of(path).startswith(digest)) else None


def _place(url: str) -> Path:
    """Return where the file at ``url`` is kept; two addresses never share a place."""
    name = _file_name(_parts(url).path)
    return _folder() / hashlib.sha256(url.encode("utf-8", "backslashreplace")).hexdigest()[:16] / name


def _parts(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # a number, or it raises
    except ValueError as error:
        raise ConfigurationError(f"{url[:200]!r} is no address ({error})", expected="https://…") from error
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        remedy = "give the path of the file" if parts.scheme == "file" else ""
        raise ConfigurationError(
            f"{url[:200]!r} is no address of a file", expected="https://…", remedy=remedy
        )
    return parts


def _shown(parts: urllib.parse.SplitResult) -> str:
    """Return an address for messages: without a password, nor what signs it."""
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _file_name(path: str) -> str:
    name = urllib.parse.unquote(path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.+=@-]", "_", name).lstrip(".")[-150:] or "download"


def _hash_in(name: str) -> str:
    match = _HASH_IN_NAME.search(name)
    # Eight digits alone are rather a date than a hash, of which one in 43 has no letter.
    return match[1] if match and match.end() == len(name) and not match[1].isdecimal() else ""


def _folder() -> Path:
    folder = cache_folder()
    return (folder if folder is not None else Path(tempfile.gettempdir()) / "residual") / "downloads"


def _size(url: str, shown: str, answer_seconds: float | None) -> int | None:
    """Ask the server for the file's size, which tells within seconds whether it answers at all.

    Raises:
        UnreachableError: It does not.
        RunError: It has no such file.
        ModelFileError: The file is too large.
    """
    from huggingface_hub import get_session

    def ask() -> int | None:
        headers = {"Accept-Encoding": "identity"}
        response = get_session().request(
            "HEAD", url, headers=headers, timeout=patience(), follow_redirects=True
        )
        if response.status_code in (404, 410):
            response.raise_for_status()
        # A server may refuse HEAD and yet send the file.
        length = response.headers.get("Content-Length", "")
        is_file = response.status_code == 200 and length.isdigit()
        is_plain = response.headers.get("Content-Encoding", "identity") == "identity"
        return int(length) if is_file and is_plain else None

    try:
        size = within_patience(ask, answer_seconds)
    except Exception as error:
        if not is_http_error(error) and not isinstance(error, TimeoutError):
            raise
        raise _refusal(error, shown) from error
    if size is not None and size > MAX_FILE_BYTES:
        raise ModelFileError(
            f"{shown} has {megabytes(size)}", expected=f"at most {megabytes(MAX_FILE_BYTES)}"
        )
    return size


def _refusal(error: Exception, shown: str) -> ResidualError:
    status = status_of(error)
    if status in (404, 410):
        return RunError(f"{shown} does not exist ({status})", remedy="check the address")
    if status in (401, 403, 407):
        return RunError(
            f"{shown} is not given to everybody ({status})",
            remedy="download it with a browser where you are logged in, and give the path of the file",
        )
    if status is not None and status < 500 and status not in (408, 425, 429):
        return RunError(f"{shown} cannot be fetched ({status})", remedy="check the address")
    return UnreachableError(
        f"{shown} cannot be fetched: its server cannot be reached ({reason_of(error)})",
        remedy="connect to the network, or give the path of a file or folder",
    )
