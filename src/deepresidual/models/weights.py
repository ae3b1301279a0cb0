"""Resolve a MODEL argument to a model folder: fetch and convert what is not one, once, and keep the result.

A second use of released weights, or of a URL, needs no network, and none reads a foreign file again.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from deepresidual.backends.classifier import DETECTORS_ARE_FOR
from deepresidual.backends.detector import TorchDetector
from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.backends.signature import read_signature
from deepresidual.conversion.hub import HubId
from deepresidual.errors import ModelFileError, RunError
from deepresidual.models.config import read_config
from deepresidual.models.conversions import (
    conversion_of,
    conversions_folder,
    is_whole,
    newest_conversion,
    short_version,
)
from deepresidual.models.fetching import SourceFiles, cached_source, fetch_source
from deepresidual.models.folder import CARD, Model, load_folder, require_free_or_model, save
from deepresidual.models.foreign import read_foreign
from deepresidual.models.source import CONFIG, WEIGHTS, ModelSource, SourceKind, find_source, is_model_folder
from deepresidual.runtime.console import note, warn
from deepresidual.runtime.files import atomic_folder, make_folder
from deepresidual.runtime.strict_json import read_object
from deepresidual.spec import DetectorSpec
from deepresidual.zoo.released import NO_LICENCE, ReleasedWeights, licence_warning


@dataclass(frozen=True)
class ResolvedWeights:
    """A model folder on this machine, and what it is.

    Attributes:
        path: The model folder.
        name: The full name of released weights; otherwise what was given.
        kind: What was given.
        version: Commit or SHA-256 of what was converted; empty for a model folder.
        licence: SPDX identifier; ``none recorded`` where the publisher names none; empty where not known.
        description: One line: name, publisher, licence, training data, accuracy, as far as they are known.
        notes: What else has to be said, one sentence each: a licence that forbids commercial use.
        released: The released weights; ``None`` for others.
    """

    path: Path
    name: str
    kind: SourceKind
    version: str = ""
    licence: str = ""
    description: str = ""
    notes: tuple[str, ...] = ()
    released: ReleasedWeights | None = None


def load_torch(path: str | Path, device: torch.device | str = "cpu") -> TorchClassifier:
    """Load a classifier that PyTorch computes.

    Raises:
        ConfigurationError: There is no such device.
        ModelFileError: There is no such model, or it is damaged, or exported, or detects objects.
        RunError: It cannot be fetched.
        MachineError: There is no network, and it is not in the cache.
    """
    model = load_network(path, device)
    if isinstance(model, TorchDetector):
        raise ModelFileError(
            f"{path} detects objects",
            expected="a model that tells the class of an image",
            remedy=DETECTORS_ARE_FOR,
        )
    return model


def load_network(path: str | Path, device: torch.device | str = "cpu") -> TorchClassifier | TorchDetector:
    """Load a model that PyTorch computes: whatever :func:`deepresidual.load` takes but an exported model.

    Raises:
        ConfigurationError: There is no such device.
        ModelFileError: There is no such model, or it is damaged, or exported.
        RunError: It cannot be fetched.
        MachineError: There is no network, and it is not in the cache.
    """
    resolved = resolve_weights(path)
    announce(resolved, path)
    try:
        return load_folder(resolved.path, device)
    except ModelFileError:
        if not resolved.version or resolved.path.parent != conversions_folder():
            raise
        # A conversion of the cache that was damaged there is made again.
        shutil.rmtree(resolved.path, ignore_errors=True)
        return load_folder(resolve_weights(path).path, device)


def detects_objects(path: str | Path) -> bool:
    """Return whether a MODEL argument stands for a detector; no network is built.

    Raises:
        ModelFileError: There is no such model, or it is damaged.
        RunError: It cannot be fetched.
        MachineError: There is no network, and it is not in the cache.
    """
    source = find_source(path)
    if source.release is not None:
        return source.release.detects
    if source.kind == "exported" and source.path is not None:
        return isinstance(read_config(source.path).spec, DetectorSpec)
    return isinstance(read_config(resolve_weights(path).path).spec, DetectorSpec)


def announce(resolved: ResolvedWeights, given: str | Path) -> None:
    """Say on stderr which weights another name stands for, and whatever limits their use."""
    if resolved.kind == "released" and str(given) != resolved.name:
        note(f"weights    {resolved.description}")
    for sentence in resolved.notes:
        note(f"note: {sentence}")


def resolve_weights(given: str | Path) -> ResolvedWeights:
    """Return the model folder that ``given`` stands for; what is not here is fetched and converted.

    Args:
        given: What :func:`load` takes.

    Raises:
        ModelFileError: It stands for nothing, or is damaged, or of no network that Residual has.
        RunError: It cannot be fetched.
        MachineError: There is no network, and it is not in the cache.
        MissingDependencyError: A library that the format needs is not installed.
    """
    source = find_source(given)
    known = _known(source)
    if known is not None:
        return known
    files = cached_source(source) if _is_fixed(source) else None
    return _converted(source, files or fetch_source(source))


def cached_weights(given: str | Path) -> ResolvedWeights | None:
    """Return the model folder that ``given`` stands for, if no network is needed for it; otherwise ``None``.

    What was fetched and not yet converted is converted.

    Raises:
        ModelFileError: It stands for nothing, or is damaged, or of no network that Residual has.
        MissingDependencyError: A library that the format needs is not installed.
    """
    source = find_source(given)
    known = _known(source)
    if known is not None:
        return known
    files = cached_source(source)
    return _converted(source, files) if files is not None else None


# -- what is here ------------------------------------------------------------------------------------


def _known(source: ModelSource) -> ResolvedWeights | None:
    """Return what is a model folder already, or was converted before; no network is asked."""
    if source.kind == "exported":
        signature = read_signature(source.path) if source.path is not None else None
        raise ModelFileError(
            f"{source.given} is an exported model, whose weights are in the format of an engine",
            expected="a model folder or a run folder",
            remedy=signature.source_in_words if signature else "",
        )
    if source.kind in ("folder", "bundled") and source.path is not None:
        return _of_folder(source, source.path)
    if source.kind == "file":
        return None  # its content decides
    if source.hub_id is not None and (source.release is None or source.hub_id != HubId(source.hub_id.name)):
        return None  # a branch moves, and another revision is another version
    folder = newest_conversion(source)
    return _resolved(source, folder, folder.name.partition("@")[2]) if folder is not None else None


def _of_folder(source: ModelSource, folder: Path) -> ResolvedWeights:
    """Return a model folder with the licence that it remembers, its own or that of what it began with."""
    own = read_object(folder / CONFIG).get("residual")
    provenance = own.get("provenance") if isinstance(own, dict) else None
    record = provenance if isinstance(provenance, dict) else {}
    licence = str(record.get("licence") or record.get("licence of the weights") or "")
    text = f"{source.given} (bundled)" if source.kind == "bundled" else source.given
    warning = licence_warning(source.given, licence)
    notes = (warning,) if warning else ()
    return ResolvedWeights(folder, source.given, source.kind, "", licence, text, notes)


def _is_fixed(source: ModelSource) -> bool:
    """Return whether what lies under a name stays: released weights, and a commit; a branch moves."""
    revision = source.hub_id.revision if source.hub_id is not None else ""
    return source.release is not None or re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def _resolved(source: ModelSource, folder: Path, version: str) -> ResolvedWeights:
    release = source.release
    if release is None:
        where = source.given if not version else f"{source.given} ({version[:19]})"
        return ResolvedWeights(folder, source.given, source.kind, version, description=where)
    return ResolvedWeights(
        folder,
        release.name,
        source.kind,
        version,
        release.licence or NO_LICENCE,
        str(release),
        (release.warning,) if release.warning else (),
        release,
    )


def copy_model(resolved: ResolvedWeights, destination: Path) -> None:
    """Write a copy of a model folder, whole or not at all.

    Raises:
        ConfigurationError: There is something else at ``destination``.
        RunError: It cannot be written.
    """
    require_free_or_model(destination)
    size = (resolved.path / WEIGHTS).stat().st_size
    with atomic_folder(destination, num_bytes=size) as folder:
        for name in (CONFIG, WEIGHTS, CARD):
            if (resolved.path / name).is_file():
                shutil.copyfile(resolved.path / name, folder / name)


# -- conversion --------------------------------------------------------------------------------------


def _converted(source: ModelSource, files: SourceFiles) -> ResolvedWeights:
    """Return the conversion of these files, made now unless it was made before."""
    if is_model_folder(files.path):  # somebody has published one
        return _resolved(source, files.path, "")
    target = conversion_of(source, files)
    if target is None or not is_whole(target):
        model = read_foreign(files, release=source.release).model
        target = _kept(model, target)
    return _resolved(source, target, short_version(files))


def _kept(model: Model, target: Path | None) -> Path:
    """Write a model folder into the cache; where that cannot be written, into one for this process."""
    if target is not None:
        try:
            return _placed(model, target)
        except (RunError, OSError) as error:
            found = error.found if isinstance(error, RunError) else str(error)
            warn(f"the converted model is not kept: {found}")
    temporary = Path(tempfile.mkdtemp(prefix="residual-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    save(model, temporary / "model")
    return temporary / "model"


def _placed(model: Model, target: Path) -> Path:
    """Write beside ``target`` and rename; where another process was faster, its result is taken."""
    make_folder(target.parent)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent, ignore_cleanup_errors=True) as beside:
        made = Path(beside) / target.name
        save(model, made)
        if not is_whole(target):
            shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is there by now
            made.rename(target)
        if not is_whole(target):
            raise RunError(f"{target} cannot be written", remedy="look at the folder of the cache")
    return target
