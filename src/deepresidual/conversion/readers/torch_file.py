"""Read what ``torch.save`` wrote, the zip form and the form before 1.6, without running any of it.

Such files are pickles, and a pickle is a program. Only torch's own restricted reader is used
(``weights_only=True``), which knows tensors, numbers, strings and containers; where it refuses, there is no
second try. What training scripts keep beside the weights, such as their arguments, is read as inert stand-ins
(:mod:`.stand_ins`). A zip is inspected before torch sees it: its members must be stored, and no larger than
the file.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from deepresidual.conversion.readers.python_config import read_config
from deepresidual.conversion.readers.stand_ins import STAND_INS, StandIn
from deepresidual.errors import ModelFileError, kind_of, quoted
from deepresidual.runtime.known_formats import WEIGHT_SUFFIXES

# The pickled magic number of files from before torch 1.6, byte for byte.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_MAX_MEMBERS = 100_000
# Where training programs keep the state dict within a checkpoint, in the order of choice; DINO, which has a
# teacher and a student, evaluates the teacher.
_WRAPPERS = (
    "state_dict",
    "model",
    "model_state_dict",
    "network",
    "net",
    "module",
    "teacher",
    "state_dict_ema",
)
SECOND_CHOICE = re.compile(
    r"(?:^|[._])(?:ema|swa|avg|averaged?|shadow|target|momentum|student|encoder_k|key_encoder"
    r"|optim|optimizers?|opt|exp_avg|exp_avg_sq)(?:$|[._])"
)
"""Names of weights that are taken only where there are no others: averages of those that were trained, a
momentum encoder, a student, what an optimizer keeps."""
MAX_KEYS = 5  # ["state"]["model"] occurs; a pickle can nest without end, even in itself
_MAX_MAPPINGS = 10_000
_LISTED = 6
_REMEDY = "save its state_dict() with safetensors in the program that trained it"


def parse(path: Path, state_dict: str = "") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the state dict in a file that ``torch.save`` wrote.

    Args:
        path: The file.
        state_dict: Key of the state dict, or its keys joined by dots, where the file holds several; where it
            is none of them the usual one is taken.

    Returns:
        The tensors by name, and metadata: ``unwrapped``, the keys under which the state dict lay;
        ``alternatives``, other state dicts by their keys; and ``ignored``, every other key; both with the
        reason.

    Raises:
        ModelFileError: The file is damaged, holds other objects than those that are known, holds several
            state dicts of which none is the usual one, or claims to be larger.
    """
    with path.open("rb") as file:
        start = file.read(len(LEGACY_MAGIC))
    if start.startswith(b"PK\x03\x04"):
        _check_zip(path)
    elif start != LEGACY_MAGIC:
        raise ModelFileError(f"{path} is no torch file", expected="what torch.save writes")
    try:
        with torch.serialization.safe_globals([(kind, name) for name, kind in STAND_INS.items()]):
            document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _not_only_tensors(path, error) from error
    expected = f"a state dict, or one under {', '.join(_WRAPPERS)}"
    return choose_state_dict(document, path, state_dict, what="", expected=expected)


def choose_state_dict(
    document: object, path: Path, state_dict: str, *, what: str, expected: str
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the state dict in what a file held, and what else it held; see :func:`parse`.

    Args:
        document: The file's content: mappings, tensors, and whatever lies beside them.
        path: The file, for messages.
        state_dict: As for :func:`parse`.
        what: What the message for a file without tensors calls the file, up to "holds".
        expected: What that message expects.
    """
    found = _state_dicts(document)
    if not found:
        verb = f"is {what}" if what else "holds"
        raise ModelFileError(f"{path} {verb} {_describe(document)} without tensors", expected=expected)
    chosen, others = _chosen(found, state_dict, path)
    alternatives = {
        other.name: f"{'averaged weights' if _is_average(other.name) else 'other weights'} of "
        f"{other.num_tensors:,} tensors, not taken"
        for other in others
    }
    ignored = _beside(document, chosen, others)
    tensors = _checked(chosen.content, ignored, path)
    ignored = {
        name: what
        for name, what in ignored.items()
        if not any(other == name or other.startswith(f"{name}.") for other in alternatives)
    }
    said = said_by_mmdetection(document)
    return tensors, {
        "unwrapped": list(chosen.keys),
        "alternatives": alternatives,
        "ignored": ignored,
        **({"meta": said} if said else {}),
    }


def said_by_mmdetection(document: object) -> dict[str, Any]:
    """Return what mmdetection and its relatives keep of a training beside the weights.

    Returns:
        ``classes``: names of the classes; ``config``: settings of the configuration
        (:mod:`.python_config`). Each only where it is there, under the names that versions 2 and 3 give it.
    """
    meta = document.get("meta") if isinstance(document, Mapping) else None
    if not isinstance(meta, Mapping):
        return {}
    said: dict[str, Any] = {}
    data = meta.get("dataset_meta")
    for place in (meta, data if isinstance(data, Mapping) else {}):
        for key in ("CLASSES", "classes"):
            names = place.get(key)
            if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
                said["classes"] = list(names)
    for key in ("config", "cfg"):
        if isinstance(meta.get(key), str):
            said["config"] = read_config(meta[key])
    return said


def check_members(archive: zipfile.ZipFile, path: Path, max_total_bytes: float, *, stored: bool) -> list[str]:
    """Check the directory of a zip file.

    Args:
        archive: The zip file, just opened.
        path: Its path, for errors.
        max_total_bytes: What the members may have together, unpacked.
        stored: Whether compressed members are refused.

    Returns:
        The members' names.

    Raises:
        ModelFileError: A name leads elsewhere or is there twice, a member is encrypted or (if ``stored``)
            compressed, or there are too many or too large ones.
    """
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise ModelFileError(f"{path} has {len(members):,} members", expected=f"at most {_MAX_MEMBERS:,}")
    names: set[str] = set()
    for member in members:
        parts = PurePosixPath(member.filename).parts
        if ".." in parts or member.filename.startswith("/") or "\\" in member.filename:
            raise ModelFileError(f"{path}: the member {quoted(member.filename)} leads out of the archive")
        if member.filename in names:
            raise ModelFileError(f"{path}: the member {quoted(member.filename)} is there twice")
        if member.flag_bits & 1:
            raise ModelFileError(f"{path}: the member {quoted(member.filename)} is encrypted")
        if stored and member.compress_type != zipfile.ZIP_STORED:
            raise ModelFileError(
                f"{path}: the member {quoted(member.filename)} is compressed",
                expected="stored members, as torch.save writes them",
            )
        names.add(member.filename)
    total = sum(member.file_size for member in members)
    if total > max_total_bytes:
        raise ModelFileError(f"{path} has {path.stat().st_size:,} bytes and unpacks to {total:,}")
    return [member.filename for member in members]


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            # Before the members are checked: programs compress some of theirs, archives all.
            _refuse_other_archives(archive.namelist(), path)
            check_members(archive, path, path.stat().st_size, stored=True)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise ModelFileError(f"{path} is damaged ({error})", remedy="copy it again") from error


def _refuse_other_archives(names: list[str], path: Path) -> None:
    """Refuse zip files that other programs write; ``names`` are those of the members."""
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise ModelFileError(
            f"{path} is a TorchScript program (torch.jit.save)", expected="a state dict", remedy=_REMEDY
        )
    if "data.pkl" in inner:
        return
    if inner & {"archive_format", "models/model.json"}:
        raise ModelFileError(
            f"{path} is a program that torch.export wrote", expected="a state dict", remedy=_REMEDY
        )
    if "model.weights.h5" in names:
        raise ModelFileError(f"{path} is a Keras file", remedy="give it the ending .keras")
    if names and all(name.endswith(".npy") for name in names):
        raise ModelFileError(f"{path} holds NumPy arrays (.npz)", expected="what torch.save writes")
    weights = [name for name in names if name.lower().endswith(WEIGHT_SUFFIXES)]
    if weights:
        raise ModelFileError(
            f"{path} is a zip archive with {quoted(weights[0])} in it", remedy="unpack it first"
        )
    raise ModelFileError(
        f"{path} is a zip archive without data.pkl",
        expected="what torch.save writes",
        remedy="unpack it first",
    )


def _not_only_tensors(path: Path, error: Exception) -> ModelFileError:
    # torch leaves out the module of builtins.
    named = re.search(r"GLOBAL\s+([\w.]+)|(?:global|class|function)\s+([\w.]+\.[\w.]+)", str(error))
    if named is None:
        return ModelFileError(f"{path} is damaged or holds more than tensors", remedy=_REMEDY)
    name = (named[1] or named[2])[:100]
    return ModelFileError(
        f"{path} holds more than tensors ({name}), and Residual never runs what a file brings",
        remedy=_REMEDY,
    )


@dataclass(frozen=True)
class _StateDict:
    """A mapping with tensors, and the keys that lead to it."""

    keys: tuple[str, ...]
    content: Mapping[Any, Any]
    num_tensors: int
    num_matrices: int  # kernels and matrices, which a network has; counters and figures are none

    @property
    def name(self) -> str:
        """The keys, joined by dots."""
        return ".".join(map(_shown, self.keys))


def _state_dicts(document: object) -> list[_StateDict]:
    """Return all mappings with tensors, outermost first, whatever lies beside them."""
    found: list[_StateDict] = []
    level: list[tuple[tuple[str, ...], object]] = [((), document)]
    seen: set[int] = set()
    while level and len(seen) < _MAX_MAPPINGS:
        inner: list[tuple[tuple[str, ...], object]] = []
        for keys, mapping in level:
            if not isinstance(mapping, Mapping) or id(mapping) in seen:
                continue
            seen.add(id(mapping))
            tensors = [value for key, value in mapping.items() if _is_tensor(key, value)]
            if tensors:
                matrices = sum(tensor.ndim >= 2 for tensor in tensors)
                found.append(_StateDict(keys, mapping, len(tensors), matrices))
            if len(keys) < MAX_KEYS:
                inner += [((*keys, key), value) for key, value in mapping.items() if isinstance(key, str)]
        level = inner
    return found


def _is_tensor(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, torch.Tensor)


def _chosen(found: list[_StateDict], wanted: str, path: Path) -> tuple[_StateDict, list[_StateDict]]:
    """Return the state dict to read, and the others that could be meant."""
    largest = max(each.num_matrices for each in found)
    # Beside a network lie the best accuracy, or a parameter's momentum: far fewer tensors.
    candidates = [each for each in found if 2 * each.num_matrices >= largest]
    named = next((each for each in found if wanted and each.name == wanted), None)
    if named is None:
        ranked = sorted(candidates, key=_rank)  # stable: of equals, the outermost comes first
        first = ranked[0]
        is_unusual = _rank(first)[1] == len(_WRAPPERS)
        tied = [
            each
            for each in ranked
            if _rank(each) == _rank(first) and (is_unusual or len(each.keys) == len(first.keys))
        ]
        if len(tied) > 1:
            raise ModelFileError(
                f"{path} holds {len(tied)} state dicts ({_listed([each.name for each in tied])})",
                expected="one, or one of a usual name",
                remedy="say which with --state-dict",
            )
        named = first
    return named, [each for each in candidates if each is not named]


def _rank(found: _StateDict) -> tuple[bool, int]:
    last = found.keys[-1] if found.keys else ""
    usual = -1 if not found.keys else _WRAPPERS.index(last) if last in _WRAPPERS else len(_WRAPPERS)
    return SECOND_CHOICE.search(found.name) is not None, usual


def _is_average(name: str) -> bool:
    return re.search(r"(?:^|[._])(?:ema|swa|avg|averaged?|shadow)(?:$|[._])", name) is not None


def _beside(document: Any, chosen: _StateDict, others: list[_StateDict]) -> dict[str, str]:
    """Return the entries beside the state dict, on every level down to it, each with its kind."""
    ignored: dict[str, str] = {}
    led_to = {other.keys[: length + 1] for other in others for length in range(len(other.keys))}
    for depth, key in enumerate(chosen.keys):
        outer = chosen.keys[:depth]
        for other, value in list(document.items())[:1000]:
            if other != key and (*outer, other) not in led_to:
                name = ".".join(_shown(part) for part in (*outer, other))
                ignored[name] = f"beside the weights ({_describe(value)})"
        document = document[key]
    return ignored


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")


def _shown(key: object) -> str:
    text = str(key)[:200]
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _describe(value: object) -> str:
    if isinstance(value, StandIn):
        return value.described
    if isinstance(value, type) and issubclass(value, StandIn):
        return value.described
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, str):
        return f"str {quoted(value)}"
    # Python refuses to write integers of thousands of digits.
    if isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() <= 64):
        return f"{type(value).__name__} {value!r}"
    return kind_of(value)


def _checked(state: Mapping[Any, Any], ignored: dict[str, str], path: Path) -> dict[str, torch.Tensor]:
    size, total = path.stat().st_size, 0
    tensors: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            ignored[_shown(name)] = f"no tensor ({_describe(value)})"
            continue
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise ModelFileError(
                f"{path}: tensor {quoted(name)} is sparse or quantized", expected="dense tensors"
            )
        if value.device.type != "cpu":
            raise ModelFileError(f"{path}: tensor {quoted(name)} comes without its values")
        # A stride of 0 lets a few bytes stand for any number of values.
        num_bytes = value.numel() * value.element_size()
        total += num_bytes
        if num_bytes > size or total > 4 * size:
            raise ModelFileError(
                f"{path}: tensor {quoted(name)} of shape {tuple(value.shape)} is larger than the file"
            )
        tensors[name] = value.detach()
    return tensors
