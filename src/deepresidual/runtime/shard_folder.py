"""``ShardFolder``: results in shards, each written whole or not at all, by one process or many at once.

A folder of shards is begun once: what decides its content (the manifest) is frozen then, and whoever goes on
with it must ask for the same. A shard that is there is done; a process that was killed leaves no part of
one. The layout is that of Spark and Hadoop, so that readers of parquet take the folder as one table: names
that begin with ``_`` or ``.`` are no data.

```text
predictions/
  _manifest/manifest.json     what was asked for; files beside it belong to it
  part-00000.parquet          shards, each renamed into place when it is whole
  part-00001.parquet
  _SUCCESS                    empty; written when the last shard is there
```

Example:
    >>> manifest = Manifest("predictions of files", 8000, 4096, ".csv", {"top_k": 1})
    >>> folder = ShardFolder.begin(Path("predictions"), manifest)
    >>> for number in Share.parse("0/2").numbers(folder.num_shards):
    ...     if number not in folder.done():
    ...         with folder.writing(number) as path:
    ...             path.write_text("…")
    >>> folder.finish()  # False until every shard is there
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from deepresidual.errors import (
    ConfigurationError,
    DataError,
    ModelFileError,
    RunError,
    listed,
    quoted,
    shortened,
)
from deepresidual.runtime.files import cannot_write, flush_folder, make_folder, write_json
from deepresidual.runtime.provenance import now
from deepresidual.runtime.strict_json import Between, read_record

MANIFEST_FOLDER = "_manifest"
SUCCESS = "_SUCCESS"
DEFAULT_SHARD_SIZE = 4096

_MANIFEST = "manifest.json"
_SCHEMA_VERSION = 1
_MAX_SHARDS = 100_000
# What other programs and file systems leave in a folder that is otherwise empty.
_NOT_OURS = frozenset({"lost+found"})
_TEMPORARY = re.compile(r"\.(?:part-\d{5}\.\w+|manifest)\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True)
class Share:
    """The shards that one of several processes takes: every ``count``-th, beginning with ``index``.

    Attributes:
        index: Number of the process, from 0.
        count: Number of processes.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the share that ``"3/64"`` stands for: the fourth of 64.

        Raises:
            ConfigurationError: It is of another form or out of range.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or not int(found[1]) < int(found[2]):
            raise ConfigurationError(
                f"--shard is {quoted(text)}", expected="I/N with I from 0 to N − 1, such as 0/64 and 63/64"
            )
        return cls(int(found[1]), int(found[2]))

    @property
    def is_whole(self) -> bool:
        """Whether one process takes all shards."""
        return self.count == 1

    def numbers(self, num_shards: int) -> range:
        """Return the numbers of the shards of this process."""
        return range(self.index, num_shards, self.count)


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards was begun for.

    Attributes:
        kind: What its shards hold, for messages: ``predictions of files``.
        num_items: Items of all shards.
        shard_size: Items of a shard; the last one may have fewer.
        suffix: Suffix of the shards' files, such as ``.parquet``.
        fingerprint: What decides the results, as JSON types.
        warnings: What was wrong when it was begun, and is no item.
        num_processes: How many were to share the work, as the one that began it was told.
        created: When, in UTC.
    """

    kind: str
    num_items: int
    shard_size: int
    suffix: str
    fingerprint: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    num_processes: int = 1
    created: str = field(default_factory=now)

    @property
    def backend(self) -> str:
        """Name of what computes the items; empty where the fingerprint does not say."""
        backend = self.fingerprint.get("backend")
        return backend if isinstance(backend, str) else ""

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-self.num_items // self.shard_size)

    def items(self, number: int) -> range:
        """Return the numbers of the items of a shard."""
        first = number * self.shard_size
        return range(first, min(first + self.shard_size, self.num_items))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {
            "schema_version": _SCHEMA_VERSION,
            "kind": self.kind,
            "created": self.created,
            "num_items": self.num_items,
            "shard_size": self.shard_size,
            "num_shards": self.num_shards,
            "format": self.suffix.removeprefix("."),
            "warnings": list(self.warnings),
            "num_processes": self.num_processes,
            "fingerprint": dict(self.fingerprint),
        }

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`to_dict` returned from a file.

        Raises:
            FileNotFoundError: There is no such file.
            DataError: It is damaged, or of a later version.
        """
        kinds = {
            "schema_version": Between(1, _SCHEMA_VERSION, whole=True),
            "kind": str,
            "created": str,
            "num_items": Between(0, whole=True),
            "shard_size": Between(1, whole=True),
            "format": str,
            "warnings": [str],
            "num_processes?": Between(1, whole=True),
            "fingerprint": dict,
        }
        try:
            fields = read_record(path, kinds)
        except ModelFileError as error:
            raise DataError(error.found, remedy="choose another folder") from error
        return cls(
            fields["kind"],
            fields["num_items"],
            fields["shard_size"],
            f".{fields['format']}",
            fields["fingerprint"],
            tuple(fields["warnings"]),
            fields.get("num_processes", 1),
            fields["created"],
        )


class ShardFolder:
    """A folder of shards that has been begun; see the module.

    Attributes:
        path: The folder.
        manifest: What it was begun for.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return self.manifest.num_shards

    # -- beginning ---------------------------------------------------------------------------------------

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Return the folder if it has been begun.

        Raises:
            DataError: Its manifest is missing or damaged.
        """
        file = path / MANIFEST_FOLDER / _MANIFEST
        if not file.parent.is_dir():
            return None
        try:
            return cls(path, Manifest.read(file))
        except FileNotFoundError:
            # Moved to its place with the manifest in it, a folder without one has lost it.
            raise DataError(f"{file} is missing", remedy="choose another folder") from None

    @classmethod
    def begin(
        cls, path: Path, manifest: Manifest, write_beside: Callable[[Path], None] = lambda _folder: None
    ) -> Self:
        """Freeze the manifest; where another process was faster, return the folder with its manifest.

        Args:
            path: The folder; made where there is none.
            manifest: What it is begun for.
            write_beside: Writes files that belong to the manifest into the folder that it is given.

        Raises:
            ConfigurationError: There are too many shards, or ``path`` holds other files.
            RunError: It cannot be written.
        """
        if manifest.num_shards > _MAX_SHARDS:
            raise ConfigurationError(
                f"there would be {manifest.num_shards:,} shards",
                expected=f"{_MAX_SHARDS:,} at most",
                remedy="make them larger with --shard-size",
            )
        require_free(path)
        make_folder(path)
        temporary = path / f".manifest.{secrets.token_hex(4)}.tmp"
        try:
            temporary.mkdir()
            write_beside(temporary)
            write_json(temporary / _MANIFEST, manifest.to_dict())
            # A folder cannot be renamed to one that holds files: of several processes one succeeds.
            temporary.rename(path / MANIFEST_FOLDER)
            flush_folder(path)
        except OSError as error:
            if not (path / MANIFEST_FOLDER / _MANIFEST).exists():
                raise cannot_write(path, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        begun = cls.find(path)
        if begun is None:
            raise RunError(f"{path} was removed meanwhile", remedy="start again")
        return begun

    def require_same(
        self,
        kind: str,
        fingerprint: Mapping[str, Any],
        *,
        shard_size: int | None = None,
        suffix: str | None = None,
    ) -> None:
        """Refuse to go on with a folder that was begun for something else.

        Args:
            kind: What its shards are to hold.
            fingerprint: What decides the results.
            shard_size: Items of a shard, if a number is asked for.
            suffix: Suffix of the shards' files, if one is asked for.

        Raises:
            ConfigurationError: Naming what differs.
        """
        begun = self.manifest
        if kind != begun.kind:
            raise ConfigurationError(
                f"{self.path} holds {begun.kind}", expected=f"a folder of {kind}, or an empty one"
            )
        before, now = _flat(begun.fingerprint), _flat(fingerprint)
        if shard_size is not None:
            before["the size of shards"], now["the size of shards"] = begun.shard_size, shard_size
        if suffix is not None:
            before["the format"], now["the format"] = begun.suffix, suffix
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if names:
            differences = [
                f"{name} was {_shown(before.get(name))} and is {_shown(now.get(name))}" for name in names
            ]
            raise ConfigurationError(
                f"{self.path} was begun with something else: {listed(differences, 4)}",
                remedy="repeat the command that began it, or choose another folder",
            )

    # -- shards ------------------------------------------------------------------------------------------

    def shard(self, number: int) -> Path:
        """Return the path of a shard, whether it is there or not."""
        return self.path / f"part-{number:05d}{self.manifest.suffix}"

    def done(self) -> set[int]:
        """Return the numbers of the shards that are there."""
        names = set(os.listdir(self.path))  # noqa: PTH208  # one call for all shards
        return {number for number in range(self.num_shards) if self.shard(number).name in names}

    @contextlib.contextmanager
    def writing(self, number: int) -> Iterator[Path]:
        """Yield where to write a shard; when the block ends well, it is moved to its place.

        Files written beside it (the same name with another suffix) are moved first. Where another process
        has written the same shard meanwhile, whatever fails here is of no account.

        Raises:
            RunError: It cannot be written.
        """
        final = self.shard(number)
        temporary = self.path / f".{final.name}.{secrets.token_hex(4)}.tmp"
        try:
            temporary.mkdir()
            yield temporary / final.name
            others = [file for file in temporary.iterdir() if file.name != final.name]
            for file in (*others, temporary / final.name):
                file.replace(self.path / file.name)
            flush_folder(self.path)
        except (OSError, RunError) as error:
            if not final.exists():
                # Not with the name of a file that is gone when the user looks.
                cause = error.__cause__ if isinstance(error, RunError) else error
                raise cannot_write(final, cause) if isinstance(cause, OSError) else error from cause
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def finish(self) -> bool:
        """Write ``_SUCCESS`` if every shard is there, remove what killed processes left, and return whether.

        Raises:
            RunError: It cannot be written.
        """
        if len(self.done()) < self.num_shards:
            return False
        try:
            (self.path / SUCCESS).touch()
        except OSError as error:
            raise cannot_write(self.path / SUCCESS, error) from error
        for name in os.listdir(self.path):  # noqa: PTH208
            if _TEMPORARY.fullmatch(name):
                shutil.rmtree(self.path / name, ignore_errors=True)
        return True


def require_free(path: Path) -> None:
    """Refuse a path at which a folder of shards cannot be begun.

    Raises:
        ConfigurationError: It is a file, or a folder with other files.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise ConfigurationError(f"{path} is a file", expected="a folder")
    try:
        others = [name for name in os.listdir(path) if not name.startswith(".")]  # noqa: PTH208
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})", remedy="choose another folder") from error
    if set(others) - _NOT_OURS and MANIFEST_FOLDER not in others:
        raise ConfigurationError(
            f"{path} holds other files ({listed(sorted(others), 2)})",
            expected="an empty folder, or one that this command began",
        )


def chosen_shard_size(choice: int | None, num_items: int, share: Share) -> int:
    """Return the size of shards: ``choice``, or such that every process has some.

    Raises:
        ConfigurationError: The choice is out of range.
    """
    if choice is None:
        return max(1, min(DEFAULT_SHARD_SIZE, -(-num_items // share.count)))
    if choice < 1:
        raise ConfigurationError(f"--shard-size is {choice}", expected="1 or more")
    return choice


def _flat(value: object, name: str = "") -> dict[str, Any]:
    """Return nested objects as one, with names such as ``preprocess.crop_px``."""
    if not isinstance(value, Mapping):
        return {name: value}
    parts = [_flat(inner, f"{name}.{key}".lstrip(".")) for key, inner in value.items()]
    return {key: inner for part in parts for key, inner in part.items()}


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f"{value[:12]}…" if re.fullmatch("[0-9a-f]{64}", value) else shortened(value, 100)
    return "none" if value is None else quoted(value)
