"""Download one file: continued where it broke off, held against its hash, one sentence where it fails.

The client of the Hub continues within one call alone: its partial file has a random name and goes when the
call fails. Here it has a stable name (see :mod:`deepresidual.runtime.partial_file`) and the next process asks
for the rest by ``Range``. What arrives is checked by size and hash before it gets its name.

Files of Xet repositories come from the same address: without ``hf_xet`` the client itself takes plain HTTP
from it ("Falling back to regular HTTP download", ``_download_to_tmp_and_move`` of huggingface_hub 2.4), with
its token, which the HTTP client leaves out when it follows the redirect to a storage on another host.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepresidual.conversion.http_errors import (
    http_client,
    is_http_error,
    is_silence,
    is_transient,
    patience,
    reason_of,
    seconds_to_wait,
    status_of,
)
from deepresidual.errors import ModelFileError, ResidualError, UnreachableError
from deepresidual.runtime.console import ProgressBar, note
from deepresidual.runtime.files import require_space, sha256_of
from deepresidual.runtime.partial_file import PartialFile

_TRIES = 5
_WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds after the first, second, … failure
_LONGEST_WAIT = 10  # seconds that a server may ask for and get
_PROGRESS_BYTES = 1 << 20  # a try that brought so much more is a beginning, not a failure
_SPOKEN_BYTES = 1_000_000  # smaller files come without a word
_HTML = re.compile(rb"\s*<(!doctype\s+html|html)", re.IGNORECASE)


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
        url: Its address.
        label: What it is called in messages: ``model.safetensors of timm/resnet18.a1_in1k``.
        explain: Returns the error to raise for an answer that will not change by asking again.
        headers: What the request says beside what is said of ranges.
        size: Its bytes, where they are known before.
        digest: Its SHA-256, or the beginning of it, or git's SHA-1 of it (40 digits); empty: unknown.
    """

    url: str
    label: str
    explain: Callable[[Exception], ResidualError]
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    digest: str = ""


def download(remote: Remote, path: Path, partial: Path) -> None:
    """Download a file to ``path``, or the rest of it where a process before has begun.

    Args:
        remote: The file.
        path: Where it will be; it gets this name when it is whole and right.
        partial: Where it is until then, on the same file system.

    Raises:
        UnreachableError: The server does not give it now.
        RunError: It cannot be written.
        ModelFileError: It is not what its hash or size says, twice; it is removed.
        ResidualError: What ``remote.explain`` makes of another answer.
    """

    def say_waiting() -> None:
        note(f"waiting for another process that fetches {remote.label}")

    with PartialFile(path, partial, say_waiting) as file:
        if file.is_there:
            return
        if remote.size is not None:
            if file.size > remote.size:
                file.clear()
            require_space(path, remote.size - file.size)
        started, before = time.monotonic(), file.size
        with _progress(remote, file) as show:
            _receive(remote, file, show)
            if found := _wrong_digest(remote, file):
                # A part of an older file, perhaps, or a bit that fell over on the way.
                file.clear()
                _receive(remote, file, show)
                found = _wrong_digest(remote, file)
        if found:
            file.discard()
            raise ModelFileError(
                f"{remote.label} came twice with checksum {found[:12]}…",
                expected=f"{remote.digest[:12]}…",
                remedy="it was removed: run again to fetch it anew",
            )
        size = file.size
        file.finish()
    if size >= _SPOKEN_BYTES:
        seconds = max(time.monotonic() - started, 1e-3)
        speed = f", {(size - before) / 1e6 / seconds:,.1f} MB/s" if size - before >= _SPOKEN_BYTES else ""
        checked = "checksum right" if remote.digest else "no checksum to hold it against"
        note(f"fetched {remote.label} ({megabytes(size)}{speed}; {checked})")


def digest_of(path: Path, kind: str) -> str:
    """Return the hash of a file of the same kind as ``kind``: git's SHA-1 for 40 digits, else SHA-256."""
    if len(kind) != 40:
        return sha256_of(path)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def megabytes(size: int) -> str:
    """Return a size in MB: ``45 MB``, ``0.3 MB``."""
    return f"{size / 1e6:,.0f} MB" if size >= 9_950_000 else f"{size / 1e6:.1f} MB"


def _wrong_digest(remote: Remote, file: PartialFile) -> str:
    """Return the file's hash where it is another than what it should be."""
    if not remote.digest:
        return ""
    found = digest_of(file.read_path(), remote.digest)
    return "" if found.startswith(remote.digest) else found


# -- tries -------------------------------------------------------------------------------------------


def _receive(remote: Remote, file: PartialFile, show: Callable[[], None]) -> None:
    """Receive what is missing of a file, in as many requests as it takes."""
    failures, most = 0, file.size
    while remote.size is None or file.size < remote.size:
        try:
            _request(remote, file, show)
        except Exception as error:
            if not is_http_error(error):
                raise
            if not is_transient(error):
                raise remote.explain(error) from error
            wait = seconds_to_wait(error)
            if file.size >= most + _PROGRESS_BYTES:
                failures, most = 0, file.size
            # Ten seconds of silence are as telling as two connections that broke.
            failures += 2 if is_silence(error) else 1
            if failures >= _TRIES or (wait or 0) > _LONGEST_WAIT:
                raise _given_up(remote, file, error) from error
            time.sleep(wait if wait is not None else _WAITS[min(failures, len(_WAITS)) - 1])
        else:
            return


def _request(remote: Remote, file: PartialFile, show: Callable[[], None]) -> None:
    """Ask for a file or the rest of it, and append what comes."""
    from huggingface_hub import constants, get_session, hf_raise_for_status

    client = http_client()
    # Compressed, a part of the file would not be a part of what arrives.
    headers = {**remote.headers, "Accept-Encoding": "identity"}
    validator = file.note
    if file.size and (validator or remote.digest):
        headers["Range"] = f"bytes={file.size}-"
        if validator:
            headers["If-Range"] = validator
    elif file.size:
        file.clear()  # nobody could tell whether the rest belongs to it
    timeout = client.Timeout(float(constants.HF_HUB_DOWNLOAD_TIMEOUT), connect=patience())
    stream = get_session().stream("GET", remote.url, headers=headers, timeout=timeout, follow_redirects=True)
    with stream as response:
        if response.status_code == 416:
            file.clear()
            raise client.RemoteProtocolError("it has less of the file than there is here")
        hf_raise_for_status(response)
        start = _start_of(response)
        if start != file.size:
            file.clear()  # Range was ignored, or the file is another one now
        if start not in (0, file.size):
            raise client.RemoteProtocolError(f"it sends another part, from byte {start}")
        total = _total(response, start)
        _require_model(remote, response, total)
        if start == 0:
            file.note = _validator(response)
            if total is not None and remote.size is None:
                require_space(file.path, total)
        for chunk in response.iter_bytes():
            if file.size == 0 and _HTML.match(chunk):
                raise _web_page(remote)
            file.write(chunk)
            show()
        if total is not None and file.size < total:
            raise client.RemoteProtocolError("it ended early")
    if remote.size is not None and file.size > remote.size:
        file.clear()
        raise client.RemoteProtocolError("it sends more than the file has")


def _start_of(response: Any) -> int:
    """Return the byte of the file with which the body of an answer begins."""
    match = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    return int(match[1]) if response.status_code == 206 and match else 0


def _total(response: Any, start: int) -> int | None:
    """Return the bytes of the whole file by what an answer says, or ``None`` where it does not."""
    length = response.headers.get("Content-Length", "")
    if response.headers.get("Content-Encoding", "identity") != "identity" or not length.isdigit():
        return None
    return start + int(length)


def _validator(response: Any) -> str:
    """Return what ``If-Range`` may say later: a strong ``ETag``, else ``Last-Modified``."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _require_model(remote: Remote, response: Any, total: int | None) -> None:
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _web_page(remote)
    if total is not None and remote.size is not None and total != remote.size:
        raise ModelFileError(
            f"{remote.label} has {total:,} bytes where it is stored",
            expected=f"{remote.size:,}",
            remedy="try again later; nothing was kept",
        )


def _web_page(remote: Remote) -> UnreachableError:
    scheme, _, rest = remote.url.partition("://")
    return UnreachableError(
        f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]} answered with a web page, not with a model",
        remedy="the network may want you to log in first",
    )


def _given_up(remote: Remote, file: PartialFile, error: Exception) -> UnreachableError:
    wait = seconds_to_wait(error)
    if wait is not None:
        return UnreachableError(
            f"the server of {remote.label} asks to wait ({status_of(error)}, {wait} s)",
            remedy="try again later",
        )
    if not file.size:
        return UnreachableError(
            f"{remote.label} cannot be fetched from its server, {_TRIES} times ({reason_of(error)})",
            remedy="try again later; nothing was kept",
        )
    whole = f" of {megabytes(remote.size)}" if remote.size is not None else ""
    kept = "it is kept" if file.is_kept else "nothing was kept"
    goes_on = " and go on" if file.is_kept else ""
    return UnreachableError(
        f"{remote.label} broke off after {megabytes(file.size)}{whole}, several times ({reason_of(error)})",
        remedy=f"{kept}: run the same command again{goes_on}",
    )


# -- progress ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(remote: Remote, file: PartialFile) -> Iterator[Callable[[], None]]:
    """Say what is fetched, and show in MB how much of it has come."""
    if remote.size is None or remote.size < _SPOKEN_BYTES:
        yield lambda: None
        return
    begun = f", {megabytes(file.size)} of it here" if file.size >= _SPOKEN_BYTES else ""
    note(f"fetching {remote.label} ({megabytes(remote.size)}{begun})")
    label = f"{remote.label.partition(' of ')[0].rpartition('/')[2]} (MB)"
    total, started, first = math.ceil(remote.size / 1e6), time.monotonic(), file.size
    with ProgressBar(total, done=file.size // 1_000_000, label=label) as bar:

        def show() -> None:
            seconds = max(time.monotonic() - started, 1e-3)
            bar.update(file.size // 1_000_000, f"{max(file.size - first, 0) / 1e6 / seconds:,.1f} MB/s")

        yield show
