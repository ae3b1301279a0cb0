"""Fetch the files that a MODEL argument stands for: from a folder here, the Hugging Face Hub, or a URL."""

from __future__ import annotations

import contextlib
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from deepresidual.conversion import hub
from deepresidual.conversion.download import cached_url, fetch_url
from deepresidual.errors import MachineError, RunError, UnreachableError
from deepresidual.models.source import ModelSource
from deepresidual.runtime.files import sha256_of
from deepresidual.runtime.known_formats import WEIGHT_SUFFIXES

# Without a network two servers are asked in vain, and within five seconds the user is to know.
_SECOND_SERVER_SECONDS = 1.5


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source, on this machine.

    Attributes:
        path: A file or folder that the readers of conversion take, or a model folder.
        version: ``commit-…`` or ``sha256-…``: what tells this content from any other of the same name.
        origin: Where they came from, for the record: ``owner/name@commit``, a URL or a file's name.
        is_fetched: Whether they came over a network, now or earlier.
    """

    path: Path
    version: str
    origin: str
    is_fetched: bool = False

    @property
    def commit(self) -> str:
        """The commit of the Hub's repository; empty where they are not from there."""
        return self.version.removeprefix("commit-") if self.version.startswith("commit-") else ""


def fetch_source(source: ModelSource) -> SourceFiles:
    """Return the files of ``source``, fetched where they are not here.

    The repository of released weights is asked first, since it says more (preprocessing, class names); where
    it cannot be had the file at their URL is taken.

    Raises:
        RunError: They cannot be fetched.
        MachineError: There is no network.
        ModelFileError: They are damaged.
        MissingDependencyError: The client of the Hub is not installed.
    """
    if source.path is not None:
        return _here(source.path)
    try:
        if source.hub_id is None:
            return _at_url(source.url)
        try:
            return _of_hub(hub.fetch(source.hub_id))
        except (RunError, MachineError):
            if not source.url or is_offline():
                raise
            # Where the Hub is blocked or down, the publisher's own server often is not.
            with contextlib.suppress(RunError, MachineError):
                return _at_url(source.url, _SECOND_SERVER_SECONDS)
            raise
    except MachineError as error:
        raise _named(error, source) from error


def cached_source(source: ModelSource) -> SourceFiles | None:
    """Return the files of ``source`` where no network is needed for them; ``None`` where one is."""
    if source.path is not None:
        return _here(source.path)
    found = hub.cached(source.hub_id) if source.hub_id is not None else None
    if found is not None:
        return _of_hub(found)
    return _at_url(source.url) if source.url and cached_url(source.url) is not None else None


def is_offline() -> bool:
    """Return whether ``HF_HUB_OFFLINE`` says, as to every tool of the Hub, that no network is to be asked."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _of_hub(fetched: hub.Fetched) -> SourceFiles:
    return SourceFiles(
        fetched.folder, f"commit-{fetched.commit}", f"{fetched.hub_id.name}@{fetched.commit[:12]}", True
    )


def _at_url(url: str, answer_seconds: float | None = None) -> SourceFiles:
    path = fetch_url(url, answer_seconds=answer_seconds)
    return SourceFiles(path, f"sha256-{sha256_of(path)}", url, is_fetched=True)


def _here(path: Path) -> SourceFiles:
    files = [path] if path.is_file() else sorted(_files(path))
    return SourceFiles(path, f"sha256-{sha256_of(*files)}", path.name)


def _files(path: Path) -> list[Path]:
    """Return the files of a folder, or of a TensorFlow checkpoint named by their beginning, that are read."""
    if not path.is_dir():
        return [file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}.")]
    return [
        file
        for file in path.iterdir()
        if file.is_file()
        and (file.suffix in (".json", *WEIGHT_SUFFIXES) or ".data-" in file.name or file.name == "checkpoint")
    ]


def _named(error: MachineError, source: ModelSource) -> MachineError:
    """Return the error of a fetch as it concerns released weights: their name, size, and how to go on."""
    if source.release is None:
        return error
    name, megabytes = source.release.name, source.release.num_bytes / 1e6
    where = (
        "the Hugging Face Hub" if source.hub_id is not None else urllib.parse.urlsplit(source.url).hostname
    )
    return UnreachableError(
        f"{name} ({megabytes:,.0f} MB) is not in the cache and {where} cannot be reached",
        remedy=(
            f"with a network 'residual fetch {name} --to FOLDER' writes a folder, here or elsewhere, whose "
            "path can be given in place of the name"
        ),
    )
