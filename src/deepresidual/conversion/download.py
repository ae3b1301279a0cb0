"""Fetch files by their URL into Residual's cache."""

from __future__ import annotations

from pathlib import Path

from deepresidual.errors import RunError

__all__ = ["fetch_url"]


def fetch_url(url: str, sha256: str = "") -> Path:
    """Return the file at ``url``, kept in Residual's cache; it is downloaded once.

    It is held against ``sha256`` or, without one, against the 8 or more hexadecimal digits at the end of its
    name that are the beginning of its SHA-256, as torchvision writes them (``resnet18-f37072fd.pth``).

    Args:
        url: Address, ``http:`` or ``https:``.
        sha256: SHA-256 of the file, 64 hexadecimal digits.

    Returns:
        The file; its name is that of the URL.

    Raises:
        RunError: It cannot be fetched, or not kept.
        ModelFileError: It is not what its hash says.
    """
    raise RunError(f"{url} cannot be fetched yet, {sha256}")
