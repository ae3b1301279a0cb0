"""The cache that all tools of the Hugging Face Hub share, as its documentation lays it out.

A repository has ``blobs/`` (files under their hash: SHA-256 of large ones, git's SHA-1 of the others),
``snapshots/COMMIT/`` (the files' names, as links to blobs), ``refs/`` (the commit of a branch) and
``.no_exist/COMMIT/`` (names that the repository does not have). Where links cannot be made, a snapshot holds
the files themselves. A blob may be a link into a store that repositories share.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from deepresidual.conversion.shards import shards_of
from deepresidual.conversion.transfer import digest_of
from deepresidual.errors import ModelFileError, RunError
from deepresidual.runtime.files import cannot_write

# Only what a conversion reads; a repository may hold much more, and code.
CONFIGURATION = ("config.json", "preprocessor_config.json")
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""A file of weights, or else the index of several; the first that there is."""

_REMEDY = "free some space, or set HF_HUB_CACHE to another folder"


def is_commit(revision: str) -> bool:
    """Return whether a revision is a commit, which cannot move."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


class HubCache:
    """A repository in the cache.

    Args:
        name: ``owner/name``.
    """

    def __init__(self, name: str) -> None:
        from huggingface_hub import constants

        self._folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"

    def snapshot(self, commit: str) -> Path:
        """Return the folder of the files of a commit, which may not exist."""
        return self._folder / "snapshots" / commit

    def commit_of(self, revision: str) -> str | None:
        """Return the commit that a revision was at when it was last fetched."""
        if is_commit(revision):
            return revision
        with contextlib.suppress(OSError, ValueError):
            commit = (self._folder / "refs" / revision).read_text().strip()
            return commit if is_commit(commit) else None
        return None

    def weights(self, commit: str) -> tuple[str, ...] | None:
        """Return the names of the files with a commit's weights, index first; ``None``: not all are here.

        Raises:
            ModelFileError: The index of several files is damaged.
        """
        snapshot = self.snapshot(commit)
        for name, index in WEIGHTS:
            if (snapshot / name).exists():
                return (name,)
            if (snapshot / index).exists():
                names = shards_of(snapshot / index)
                if all((snapshot / name).exists() for name in names):
                    return (index, *names)
        return None

    def is_complete(self, commit: str) -> bool:
        """Return whether all of a commit that a conversion reads is here, or known not to exist."""
        return self.weights(commit) is not None and all(
            (self.snapshot(commit) / name).exists() or self.is_known_to_lack(commit, name)
            for name in CONFIGURATION
        )

    def is_known_to_lack(self, commit: str, name: str) -> bool:
        """Return whether it was noted that a commit has no such file."""
        return (self._folder / ".no_exist" / commit / name).exists()

    def keep_lack(self, commit: str, name: str) -> None:
        """Note that a commit has no such file, where the cache can be written."""
        path = self._folder / ".no_exist" / commit / name
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def keep_revision(self, revision: str, commit: str) -> None:
        """Note the commit of a branch or tag, where the cache can be written."""
        path = self._folder / "refs" / revision
        if is_commit(revision) or self.commit_of(revision) == commit:
            return
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(commit)
            temporary.replace(path)

    # -- files -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def place(self, path: Path, etag: str) -> Iterator[tuple[Path, Path]]:
        """Yield where a file of a snapshot is to be put, and where it is until it is whole; then link it.

        Args:
            path: The file in its snapshot.
            etag: Its name among the blobs.

        Raises:
            RunError: The cache cannot be written.
        """
        blobs = self._folder / "blobs"
        name = re.sub(r"[^\w-]", "_", etag)  # a hash, unless a mirror says something else
        # The client's own tools count and prune what ends so.
        partial = blobs / f"{name}.residual.incomplete"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            blobs.mkdir(parents=True, exist_ok=True)
            blob = blobs / name if self._has_links() else path
        except OSError as error:
            raise _refused(path, error) from error
        try:
            yield blob, partial
        except RunError as error:
            if isinstance(error.__cause__, OSError) and error.remedy.startswith("choose another folder"):
                raise RunError(error.found, remedy=_REMEDY) from error
            raise
        if blob == path:
            return
        try:
            path.symlink_to(os.path.relpath(blob, path.parent))
        except FileExistsError:
            return  # another process was as quick
        except OSError as error:
            raise _refused(path, error) from error

    def _has_links(self) -> bool:
        from huggingface_hub import constants

        if getattr(constants, "HF_HUB_DISABLE_SYMLINKS", False):
            return False
        probe = self._folder / f".{uuid.uuid4().hex[:8]}.link"
        try:
            probe.symlink_to("blobs")
        except (OSError, NotImplementedError):
            return False
        probe.unlink()
        return True

    def is_named_by_hash(self, path: Path) -> bool:
        """Return whether a file of a snapshot is a link, whose target is named by the file's hash."""
        return path.is_symlink()

    def check(self, commit: str, name: str, label: str, stated: str = "") -> None:
        """Hold a file against its hash.

        The client compares sizes alone. A snapshot's file is a link to one that is named by the hash; that
        may be a link again, into the store that repositories share, whose names are hashes of another kind.

        Args:
            commit: Its commit.
            name: Its name.
            label: What the repository is called in a message.
            stated: Its hash, for a cache without links.

        Raises:
            ModelFileError: It is another one; it is removed from the cache.
        """
        path = self.snapshot(commit) / name
        blob = path.parent / path.readlink() if path.is_symlink() else path
        expected = blob.name if blob != path else stated
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", expected):
            return
        found = digest_of(path, expected)
        if found == expected:
            return
        remedy = "it was removed from the cache: run again to fetch it anew"
        if blob.is_symlink():
            # Others link to the shared one, too, so it is theirs to keep.
            remedy = f"delete {blob.resolve()}, which all repositories share, and run again to fetch it anew"
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise ModelFileError(
            f"{name} of {label} has checksum {found[:12]}…", expected=f"{expected[:12]}…", remedy=remedy
        )


def _refused(path: Path, error: OSError) -> RunError:
    return RunError(cannot_write(path, error).found, remedy=_REMEDY)
