"""Tell what a MODEL argument stands for; without torch, so that a mistyped name is answered at once.

The order is: a folder or file that exists, the name of a bundled model, the name of released weights (or of a
network, meaning its default release), a repository of the Hugging Face Hub, a URL.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from deepresidual import zoo
from deepresidual.backends.signature import SIGNATURE, VERSION
from deepresidual.conversion.hub import HubId, hub_id
from deepresidual.errors import ModelFileError, nearest, quoted
from deepresidual.models import bundled
from deepresidual.runtime.files import expanded
from deepresidual.runtime.known_formats import WEIGHT_SUFFIXES
from deepresidual.runtime.similar_path import did_you_mean
from deepresidual.runtime.strict_json import read_object
from deepresidual.zoo.released import (
    ReleasedWeights,
    default_release,
    find_release,
    list_released,
    num_released,
    release_of_hub_id,
    release_of_url,
    released_names,
)
from deepresidual.zoo.variants import missing_variant

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
USUAL_TASK = "classification"
"""What a model has learned whose folder does not say."""

EXPORTED_FILES = ("model.onnx", "model.xml", "model.pt2")

SourceKind: TypeAlias = Literal["folder", "exported", "bundled", "released", "hub", "url", "file"]
"""``file`` is a checkpoint of another library, a file or a folder; ``folder`` a model folder or a run's;
``exported`` a folder of ``residual export``."""

_URL = re.compile(r"(https?):/+(?=[^/])", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_EXPECTED = (
    f"a folder with {CONFIG} and {WEIGHTS}, a run folder, an exported model, one of "
    f"{', '.join(bundled.names())}, released weights, owner/name on the Hugging Face Hub, a URL, or a file "
    "of weights"
)
_LIST = "'residual models --weights' lists all names"


@dataclass(frozen=True)
class ModelSource:
    """What a MODEL argument stands for.

    Attributes:
        given: The argument.
        kind: What it is.
        path: The folder or file; ``None`` where it has to be fetched.
        hub_id: The repository of the Hugging Face Hub; ``None`` where there is none.
        url: Address of the file; empty where there is none.
        release: The released weights, also where they were given by hub id or URL; ``None`` for others.
    """

    given: str
    kind: SourceKind
    path: Path | None = None
    hub_id: HubId | None = None
    url: str = ""
    release: ReleasedWeights | None = None

    @property
    def name(self) -> str:
        """The name to show: a full name of released weights, or what was given."""
        return self.release.name if self.release else self.given

    @property
    def task(self) -> str | None:
        """What its own folder says it has learned; ``None`` where only loading it tells."""
        if self.kind not in ("folder", "bundled", "exported") or self.path is None:
            return None
        own = read_object(self.path / CONFIG).get("residual")
        return str(own.get("task", USUAL_TASK)) if isinstance(own, dict) else None


def find_source(given: str | Path) -> ModelSource:
    """Return what ``given`` stands for. No network is asked, and nothing is read but a ``config.json``.

    Raises:
        ModelFileError: It stands for nothing; the message says what is near, or how to reach it.
    """
    text = _URL.sub(r"\1://", str(given), count=1)  # pathlib makes one slash of two
    path = expanded(given)
    if exists(path):
        return _existing(text, path)
    if (folder := bundled.folder_of(text)) is not None:
        return ModelSource(text, "bundled", folder)
    if (release := find_release(text) or default_release(text)) is not None:
        where = _parsed(release.hub_id)
        return ModelSource(text, "released", None, where, release.url, release)
    if (repository := hub_id(text)) is not None:
        _refuse_variant(text, repository.name.partition("/")[2])
        return ModelSource(text, "hub", None, repository, "", release_of_hub_id(repository.name))
    if _URL.match(text):
        return ModelSource(text, "url", None, None, text, release_of_url(text))
    if exists(path.with_name(f"{path.name}.index")):  # a checkpoint of TensorFlow, by its files' common name
        return ModelSource(text, "file", path)
    raise _nothing(text)


def list_weights(pattern: str = "*") -> list[str]:
    """Return the names of learned weights that match the shell ``pattern``: bundled ones, then released ones.

    Example:
        >>> list_weights("resnet18.a*")
        ['resnet18.a1_in1k', 'resnet18.a2_in1k', 'resnet18.a3_in1k']
    """
    return [name for name in bundled.names() if fnmatch.fnmatchcase(name, pattern)] + list_released(pattern)


def model_folder(path: str | Path) -> Path:
    """Return the model folder: ``path`` itself, that of a run, or that of the bundled model of this name.

    What is none of these is returned as it is.
    """
    path = expanded(path)
    if not exists(path):
        return bundled.folder_of(str(path)) or path
    return path / "model" if (path / "model" / CONFIG).is_file() else path


def is_model_folder(path: str | Path) -> bool:
    """Return whether ``path`` is a folder of Residual's, a run with one, or a bundled model."""
    config = model_folder(path) / CONFIG
    # Other libraries' folders have a config.json too; ours has one more section.
    return exists(config) and config.is_file() and "residual" in read_object(config)


def exported_folder(path: Path) -> Path | None:
    """Return the exported model that ``path`` is, or that it is the file of or the repository around.

    Returns:
        The folder; ``None`` where it is neither.

    Raises:
        ModelFileError: It is a repository of several models.
    """
    if path.is_dir():
        return path if is_exported(path) else _served_model(path)
    folder = path.parent.parent if path.parent.name == VERSION else path.parent
    return folder if is_exported(folder) and path.name in EXPORTED_FILES else None


def served_models(repository: Path) -> list[Path]:
    """Return the exported models in a repository of Triton or OpenVINO Model Server, by name."""
    folders = sorted(entry for entry in repository.iterdir() if (entry / VERSION).is_dir())
    return [folder for folder in folders if is_exported(folder)]


def _served_model(repository: Path) -> Path | None:
    found = served_models(repository)
    if len(found) > 1:
        raise ModelFileError(
            f"{repository} is a repository of {len(found)} models",
            expected=f"one of them: {', '.join(str(folder) for folder in found[:5])}",
        )
    return found[0] if found else None


def is_exported(folder: Path) -> bool:
    """Return whether a folder is an exported model; a model folder has no signature."""
    return (folder / SIGNATURE).is_file() and (folder / CONFIG).is_file()


def exists(path: Path) -> bool:
    """Return whether something is at ``path``; nothing is where a name is too long or has a NUL in it."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _existing(text: str, path: Path) -> ModelSource:
    if (exported := exported_folder(path)) is not None:
        return ModelSource(text, "exported", exported)
    _refuse_part_of_export(path)
    if path.is_dir():
        if is_model_folder(path):
            return ModelSource(text, "folder", model_folder(path))
        files = [entry.name for entry in path.iterdir()]
        if not any(name in (CONFIG, "checkpoint") or _is_weights(name) for name in files):
            raise ModelFileError(f"{path} is not a model", expected=_EXPECTED)
    return ModelSource(text, "file", path)


def _refuse_part_of_export(path: Path) -> None:
    """Refuse what is left of an exported model whose other files are missing.

    Raises:
        ModelFileError: It is one, or a file of one.
    """
    folder = path if path.is_dir() else path.parent.parent if path.parent.name == VERSION else path.parent
    file = next((name for name in _files_of_export(folder) if path in (folder, folder / name)), None)
    if file is None or (path.is_dir() and (folder / WEIGHTS).is_file()):
        return
    has_signature = (folder / SIGNATURE).is_file()
    if has_signature or is_model_folder(folder):
        raise ModelFileError(
            f"{folder / (CONFIG if has_signature else SIGNATURE)} is missing",
            remedy="copy the whole folder, or export again",
        )
    raise ModelFileError(
        f"{folder / file} is without the files that 'residual export' wrote beside it",
        expected=f"the whole folder, with {CONFIG} and {SIGNATURE}",
        remedy="copy all of it, or give the checkpoint that it was made from",
    )


def _files_of_export(folder: Path) -> list[str]:
    """Return which files of exported models are in a folder, those for a server included."""
    names = [name for file in EXPORTED_FILES for name in (file, f"{VERSION}/{file}")]
    return [name for name in names if (folder / name).is_file()]


def _is_weights(name: str) -> bool:
    return name.lower().endswith((*WEIGHT_SUFFIXES, ".pb", ".metadata", ".distcp"))


def _parsed(text: str) -> HubId | None:
    return HubId(text) if text else None


def _nothing(text: str) -> ModelFileError:
    if (scheme := _SCHEME.match(text)) or text.startswith("file:"):
        kind = scheme[1] if scheme else "file"
        return ModelFileError(
            f"{text} is a {kind} address", expected="http or https, or the path of a file or folder"
        )
    is_path = any(mark in text for mark in ("/", "\\")) or text.startswith((".", "~")) or _is_weights(text)
    if is_path:
        forced = hub_id(f"hf:{text}") and not _is_weights(text)
        # A similar path beside it is likelier meant than a repository that the Hub has not been asked for.
        remedy = did_you_mean(text) or (
            f"for a repository of the Hugging Face Hub write hf:{text}" if forced else ""
        )
        return ModelFileError(f"{text} does not exist", expected="" if remedy else _EXPECTED, remedy=remedy)
    if text in zoo.list_models():
        return ModelFileError(
            f"{text!r} is a network without released weights",
            remedy="'--weights none' begins from nothing, 'residual models --weights' lists what there is",
        )
    _refuse_variant(text, text)
    close = _nearest_weights(text)
    if not close:
        meant = did_you_mean(text)
        return ModelFileError(
            f"{text} does not exist", expected="" if meant else _EXPECTED, remedy=meant or _LIST
        )
    return ModelFileError(
        f"there is no folder, and there are no weights, {quoted(text)}; nearest: {', '.join(close)}",
        remedy=f"'residual models --weights' lists {num_released()}",
    )


def _nearest_weights(text: str) -> list[str]:
    """Return the names of weights most like ``text``; of bundled ones their network alone is enough."""
    networks: dict[str, list[str]] = {}
    for name in bundled.names():
        networks.setdefault(name.partition("-")[0], []).append(name)
    found = nearest(text, [*bundled.names(), *released_names(), *networks])
    return list(dict.fromkeys(name for one in found for name in networks.get(one, [one])))


def _refuse_variant(text: str, name: str) -> None:
    """Refuse weights of a relative of the ResNets that Residual does not have, before they are fetched."""
    if (variant := missing_variant(name)) is None:
        return
    near = default_release(variant.nearest)
    remedy = f"nearest of the same size: {near.name}" if near else ""
    raise ModelFileError(f"{text} has {variant.what}, which Residual does not have", remedy=remedy)
