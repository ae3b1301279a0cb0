"""What went wrong with a request, in the words of a user.

huggingface_hub brings the HTTP client (httpx, in newer versions httpx2), its proxies and certificates. Of its
errors only those of the Hub are errors of the system (``OSError``); the others are classes of the client.
"""

from __future__ import annotations

import os
import queue
import re
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

_SECONDS = 3.0
_TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)

Answer = TypeVar("Answer")


def http_client() -> Any:
    """Return the module of the HTTP client that huggingface_hub uses."""
    from huggingface_hub.errors import HfHubHTTPError

    return sys.modules[HfHubHTTPError.__mro__[1].__module__.partition(".")[0]]


def is_http_error(error: BaseException) -> bool:
    """Return whether an exception is of a request, not of this program."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    client = http_client()
    kinds = (client.HTTPError, client.InvalidURL, client.StreamError, HfHubHTTPError, OfflineModeIsEnabled)
    # A token with letters that no header takes is an error of encoding.
    return isinstance(error, (*kinds, UnicodeEncodeError))


def is_transient(error: Exception) -> bool:
    """Return whether the same request may well succeed in a moment."""
    client = http_client()
    status = status_of(error)
    if status is not None:
        return status in _TRANSIENT_STATUSES
    return isinstance(error, client.TransportError) and not isinstance(
        error, (client.ProxyError, client.UnsupportedProtocol, client.LocalProtocolError)
    )


def is_silence(error: Exception) -> bool:
    """Return whether nothing came within the time that is waited."""
    return isinstance(error, http_client().TimeoutException)


def status_of(error: Exception) -> int | None:
    """Return the status of the answer that is the error, or ``None`` where there was none."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def seconds_to_wait(error: Exception) -> int | None:
    """Return how long an answer asks to wait, by ``Retry-After`` or its rate limit; ``None``: not at all."""
    response = getattr(error, "response", None)
    if response is None:
        return None
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit() and len(value) < 10:
        return int(value)
    limit = response.headers.get("ratelimit", "")  # "api";r=0;t=55
    seconds = limit.rpartition("t=")[2].partition(";")[0].strip()
    return int(seconds) if "r=0" in limit and seconds.isdigit() and len(seconds) < 10 else None


def reason_of(error: Exception) -> str:
    """Return why there is no answer to use, as a clause about the server: ``it answers 503``."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    client = http_client()
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if (status := status_of(error)) is not None:
        wait = seconds_to_wait(error)
        return f"it answers {status}" + (f" and asks to wait {wait} s" if wait is not None else "")
    if isinstance(error, (client.TimeoutException, TimeoutError)):
        return "it does not answer"
    if isinstance(error, client.TooManyRedirects):
        return "it redirects in a circle"
    if isinstance(error, client.RemoteProtocolError):
        return "it hangs up"
    if isinstance(error, (client.LocalProtocolError, UnicodeEncodeError)):
        # Its text shows the header, with the token within.
        return "a header of the request is not allowed; HF_TOKEN may be damaged"
    if isinstance(error, client.ProxyError):
        return f"the proxy says {_first_line(error)}"
    text = _first_line(error) or type(error).__name__
    if isinstance(error, client.ConnectError) and (proxies := _proxy_variables()):
        # The client does not tell which of the two refused.
        return f"{text}; {' and '.join(proxies)} may name a proxy that is not there"
    return text


def _proxy_variables() -> list[str]:
    """Return the variables that name a proxy."""
    names = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
    return [name for name in names if os.environ.get(name) or os.environ.get(name.lower())]


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without the system's number of it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error).strip().split("\n", 1)[0])


# -- how long an answer is waited for ----------------------------------------------------------------


def patience() -> float:
    """Return how many seconds an answer is waited for."""
    from huggingface_hub import constants

    return constants.HF_HUB_ETAG_TIMEOUT if "HF_HUB_ETAG_TIMEOUT" in os.environ else _SECONDS


def within_patience(ask: Callable[[], Answer], seconds: float | None = None) -> Answer:
    """Return what ``ask`` does, or give up.

    The client's own limits do not hold for looking up a name, which may take half a minute.

    Args:
        ask: Asks a server.
        seconds: How long it may take. Default: a second more than :func:`patience`.

    Raises:
        TimeoutError: It took longer; it goes on in a thread that nobody waits for.
        Exception: What ``ask`` raises.
    """
    answers: queue.SimpleQueue[tuple[Answer | None, Exception | None]] = queue.SimpleQueue()

    def put() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
            answers.put((None, error))

    seconds = patience() + 1 if seconds is None else seconds
    threading.Thread(target=put, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return cast("Answer", answer)
