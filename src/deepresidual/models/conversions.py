"""The conversions that Residual's cache holds: where each lies; without torch.

A folder ``NAME@VERSION`` each under ``models``, whose version is the commit of the Hub's repository or the
SHA-256 of the file. It is an ordinary model folder, with certificate, licence and origin in its provenance.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from deepresidual.conversion.hub import HubId
from deepresidual.models.fetching import SourceFiles, cached_source
from deepresidual.models.source import CONFIG, WEIGHTS, ModelSource
from deepresidual.runtime.cache import cache_folder

# Of what a conversion writes today; another number where an older one would have to be made again.
_FORMAT = 1
_VERSION_LENGTH = 24  # of a commit or hash in the name of a folder


def conversions_folder() -> Path | None:
    """Return the folder of all conversions; ``None`` where there is no cache."""
    cache = cache_folder()
    return cache / "models" / f"v{_FORMAT}" if cache is not None else None


def conversion_of(source: ModelSource, files: SourceFiles) -> Path | None:
    """Return where the conversion of these files lies, or is to lie; ``None`` where there is no cache."""
    folder = conversions_folder()
    return folder / f"{_name(source)}@{short_version(files)}" if folder is not None else None


def short_version(files: SourceFiles) -> str:
    """Return the version of files as the name of a conversion has it."""
    kind, _, digits = files.version.partition("-")
    return f"{kind}-{digits[:_VERSION_LENGTH]}"


def newest_conversion(source: ModelSource) -> Path | None:
    """Return the conversion of a source of this name that was made last; ``None`` where there is none."""
    folder = conversions_folder()
    if folder is None or not folder.is_dir():
        return None
    found = [path for path in folder.glob(f"{_name(source)}@*") if is_whole(path)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def needs_no_network(source: ModelSource) -> bool:
    """Return whether a source is here: as a folder or file, converted, or in the cache of the Hub."""
    if source.path is not None or newest_conversion(source) is not None:
        return True
    return cached_source(source) is not None


def is_whole(folder: Path) -> bool:
    """Return whether a conversion has its files."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def _name(source: ModelSource) -> str:
    """Return the first part of a folder's name, of letters that every file system takes."""
    hub_id = source.hub_id
    if source.release is not None and (hub_id is None or hub_id == HubId(hub_id.name)):
        text = source.release.name
    elif hub_id is not None:  # also of released weights at another revision, which their name does not mean
        text = hub_id.name.replace("/", "--")
    elif source.url:
        text = f"url-{hashlib.sha256(source.url.encode()).hexdigest()[:16]}"
    else:
        text = "file"
    return re.sub(r"[^\w.-]", "-", text)
