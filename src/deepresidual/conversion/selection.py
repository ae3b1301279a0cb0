"""Select the network's tensors in a PyTorch state dict; each of the others is dropped with a reason.

Programs save a network as they held it: inside ``DataParallel`` or ``torch.compile`` (``module.``,
``_orig_mod.``, one inside the other), as part of a larger module (``model.``, ``backbone.``), beside a loss,
a metric, a second network or a projection head. Where the names of a residual network begin is where its
first unit is (``….layer1.0.conv1.``): whatever stands before is the prefix, and what does not have it is of
another module. Inside the prefix only what is known not to be the network's is dropped. The rest is left for
the ecosystems to read strictly.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.readers.torch_file import SECOND_CHOICE
from deepresidual.errors import ModelFileError

# The first names of transformers' networks, of its bare models, of timm's resnetv2, and of torchvision's.
_START = re.compile(
    r"((?:.*?\.)??)(?:resnet\.embedder\.embedder|embedder\.embedder|stages\.0\.blocks\.0|layer1\.0\.conv1)\.",
    re.DOTALL,
)
_OWN = re.compile(r"conv1|bn1|layer\d+|stem|stages|norm|resnet|embedder|encoder")
# nn.Sequential(*network.children()) of a ResNet of torchvision numbers its modules.
_NUMBERED_START = re.compile(r"((?:.*?\.)?)4\.0\.conv1\.weight", re.DOTALL)
_NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
# A prefix that tells self-supervised training, whose `fc` is a projection (MoCo: 128 "classes").
_SELF_SUPERVISED = re.compile(
    r"(?:^|[._])(?:encoder_[qk]|(?:base|online|target|query|key|momentum)_encoder)\.$"
)

# Words of a module's name.
_LOSSES = {"criterion", "criteria", "loss", "losses"}
_METRICS = {"metric", "metrics", "acc", "accuracy", "auroc", "f1", "precision", "recall", "confmat"}
_METRIC_STATES = {"tp", "fp", "tn", "fn", "confmat"}  # torchmetrics
_COUNTERS = {"n_averaged", "num_updates", "global_step", "queue_ptr"}
_HEADS = {"fc", "classifier", "linear", "head", "heads"}
_PROJECTIONS = {
    *("projection", "projector", "proj", "prototypes", "prototype", "predictor", "mlp", "contrast", "queue"),
}
STATE_DICTS = ("torch", "safetensors", "pickle")
"""Formats whose tensors have a program's names, with whatever prefix it has put before them."""
_LISTED = 4
_MAX_NETWORKS = 50


@dataclass(frozen=True)
class Selection:
    """The network's part of a checkpoint.

    Attributes:
        checkpoint: The checkpoint with the network's tensors alone, under the names that its library gives.
        prefix: What stood before these names.
        dropped: The other tensors, by their full names, with the reason.
        alternatives: Other networks of the file, by their prefixes, with what they are.
        assumed: What was taken for granted, one clause each.
    """

    checkpoint: ForeignCheckpoint
    prefix: str = ""
    dropped: Mapping[str, str] = field(default_factory=dict)
    alternatives: Mapping[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


def select_network(checkpoint: ForeignCheckpoint, state_dict: str = "") -> Selection:
    """Find the network among the tensors of a checkpoint.

    Args:
        checkpoint: What was read. Formats that hold no state dict are returned as they are.
        state_dict: Prefix of the network, where there are several, or the keys by which the reader has
            found the state dict.

    Raises:
        ModelFileError: There are several networks and nothing tells which is meant, or none of the name.
    """
    if checkpoint.format not in STATE_DICTS:
        if state_dict:
            raise ModelFileError(
                f"{checkpoint.path} is a {checkpoint.format} file, which has one set of weights",
                remedy="leave out --state-dict",
            )
        return Selection(checkpoint)
    unwrapped = ".".join(checkpoint.metadata.get("unwrapped", ()))
    wanted = "" if state_dict == unwrapped else state_dict
    tensors = checkpoint.tensors
    prefixes, is_numbered = _prefixes(tensors)
    if wanted and f"{wanted.removesuffix('.')}." not in prefixes:
        known = [
            name for name in (unwrapped, *checkpoint.metadata.get("alternatives", ()), *prefixes) if name
        ]
        raise ModelFileError(
            f"{checkpoint.path} has no network called {wanted[:100]!r}", expected=_one_of(known)
        )
    if not prefixes:
        return Selection(checkpoint)
    if len(prefixes) > _MAX_NETWORKS:
        raise ModelFileError(
            f"{checkpoint.path} holds {len(prefixes):,} networks", expected=f"at most {_MAX_NETWORKS}"
        )
    prefix = f"{wanted.removesuffix('.')}." if wanted else chosen_prefix(prefixes, tensors, checkpoint.path)
    return _split(checkpoint, prefix, prefixes, is_numbered)


def _one_of(names: list[str]) -> str:
    if not names:
        return "no name; the file holds one network"
    return f"one of {', '.join(names[:_LISTED])}{', …' if len(names) > _LISTED else ''}"


# -- the prefix --------------------------------------------------------------------------------------


def _prefixes(tensors: Iterable[str]) -> tuple[list[str], bool]:
    """Return the prefixes under which a network begins, and whether its modules are numbered."""
    names = list(tensors)
    found = dict.fromkeys(match[1] for name in names if (match := _START.match(name)))
    if found:
        return list(found), False
    numbered = dict.fromkeys(match[1] for name in names if (match := _NUMBERED_START.fullmatch(name)))
    present = set(names)
    return [
        prefix for prefix in numbered if {f"{prefix}0.weight", f"{prefix}1.running_mean"} <= present
    ], True


def chosen_prefix(prefixes: list[str], tensors: Mapping[str, Tensor], path: Path) -> str:
    """Return the prefix of the network that is meant where the file holds several."""
    first = [prefix for prefix in prefixes if not SECOND_CHOICE.search(prefix)] or prefixes
    shortest = min(first, key=len)
    for other in first:
        if not other.startswith(shortest) and not _are_equal(shortest, other, tensors):
            raise ModelFileError(
                f"{path} holds {len(prefixes)} networks, {_enumerated(prefixes)}",
                expected="one",
                remedy="say which with --state-dict",
            )
    return shortest


def _are_equal(one: str, other: str, tensors: Mapping[str, Tensor]) -> bool:
    theirs = {name.removeprefix(other): tensor for name, tensor in tensors.items() if name.startswith(other)}
    ours = {name.removeprefix(one): tensor for name, tensor in tensors.items() if name.startswith(one)}
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# -- inside and outside of it ------------------------------------------------------------------------


def _split(checkpoint: ForeignCheckpoint, prefix: str, prefixes: list[str], is_numbered: bool) -> Selection:
    network: dict[str, Tensor] = {}
    heads: dict[str, str] = {}  # name inside the prefix → name in the file
    outside: dict[str, Tensor] = {}
    dropped: dict[str, list[str]] = {}  # reason → names
    by_length = sorted(prefixes, key=len, reverse=True)
    parent = prefix[: prefix[:-1].rfind(".") + 1]  # where the modules lie that stand beside the network
    for name, tensor in checkpoint.tensors.items():
        owner = next((each for each in by_length if name.startswith(each)), None)
        inside = name.removeprefix(parent if owner is None else owner)
        if owner not in (prefix, None):
            dropped.setdefault(f"of another network, {_called(str(owner))}", []).append(name)
        elif reason := _reason(inside, tensor):
            dropped.setdefault(reason, []).append(name)
        elif owner is None:
            outside[name] = tensor
        else:
            inside = _unnumbered(inside) if is_numbered else inside
            if _is_head(inside, is_numbered):
                heads[inside] = name
            network[inside] = tensor
    assumed = []
    if "layer1.0.conv1.weight" in network:
        assumed += _settle_heads(network, heads, prefix, outside, dropped)
    if is_numbered:
        assumed.append("its numbered modules are those of torchvision's ResNet, in their order")
    if outside:
        dropped[f"outside the network, which is under {prefix[:100]}"] = list(outside)
        if "fc.weight" not in network:
            assumed.append(
                "every stage strides; the dilated backbone of a segmentation network looks the same"
            )
    return Selection(
        dataclasses.replace(checkpoint, tensors=network),
        prefix,
        {name: f"{why} ({_modules(names)})" for why, names in dropped.items() for name in names},
        alternatives(prefix, prefixes, checkpoint.tensors),
        tuple(assumed),
    )


def _reason(name: str, tensor: Tensor) -> str:
    """Return why a tensor is no part of a network, by the name of its module; nothing where it may be one."""
    first, _, rest = name.partition(".")
    words = _words(first)
    if words & _LOSSES:
        return "of a loss"
    if words & _METRICS or (rest.rpartition(".")[2] in _METRIC_STATES and not _OWN.fullmatch(first)):
        return "of a metric"
    if first in _COUNTERS and tensor.numel() == 1:
        return "a counter of training"
    return ""


def _words(name: str) -> set[str]:
    """Return the words of a module's name, and those without their numbers: ``val_acc1`` has ``acc``."""
    words = set(re.split(r"[._]", name.lower()))
    return words | {word.rstrip("0123456789") for word in words}


def _unnumbered(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{_NUMBERED[first]}.{rest}" if first in _NUMBERED else name


def _is_head(name: str, is_numbered: bool = False) -> bool:
    first = name.partition(".")[0]
    return bool(_words(first) & (_HEADS | _PROJECTIONS)) or (is_numbered and first.isdecimal())


def _settle_heads(
    network: dict[str, Tensor],
    heads: Mapping[str, str],
    prefix: str,
    outside: dict[str, Tensor],
    dropped: dict[str, list[str]],
) -> list[str]:
    """Leave in ``network`` the linear classifier, if there is one, and drop other heads.

    The classifier is ``fc``, or ``linear`` (akamaster's), or the one linear layer that a head consists of:
    ``fc.1`` after a dropout, ``classifier`` beside a ``backbone``. What is assumed by that is returned.
    """
    own = {name for name in ("fc.weight", "fc.bias", "linear.weight", "linear.bias") if name in heads}
    is_self_supervised = _SELF_SUPERVISED.search(prefix) is not None
    if not own and not is_self_supervised:
        parent = prefix[: prefix[:-1].rfind(".") + 1]
        beside = [] if heads else [name for name in outside if _is_head(name.removeprefix(parent))]
        for tensors, names in ((network, list(heads)), (outside, beside)):
            if module := _only_linear(tensors, names, _num_features(network)):
                for part in ("weight", "bias"):
                    network[f"fc.{part}"] = tensors.pop(f"{module}.{part}")
                return [f"the linear layer {module} is the classifier"]
    why = "of a second head" if own and not is_self_supervised else "of a head that is no linear classifier"
    for name, full in heads.items():
        if is_self_supervised or name not in own:
            del network[name]
            dropped.setdefault(why, []).append(full)
    return []


def _only_linear(tensors: Mapping[str, Tensor], names: Iterable[str], num_features: int) -> str:
    """Return the linear layer that is all of a head, by its shapes; nothing where there is more, or none."""
    modules = {name.rpartition(".")[0] for name in names}
    module = next(iter(modules), "")
    if len(modules) != 1 or _words(module) & _PROJECTIONS:
        return ""
    weight, bias = tensors.get(f"{module}.weight"), tensors.get(f"{module}.bias")
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        return ""
    return module if weight.shape[1] == num_features else ""


def _num_features(network: Mapping[str, Tensor]) -> int:
    """Return the channels that the last stage puts out; 0 where none is found."""
    kernel = re.compile(r"layer(\d{1,2})\.0\.conv([23])\.weight")
    last = max(((int(m[1]), int(m[2]), m[0]) for m in map(kernel.fullmatch, network) if m), default=None)
    return network[last[2]].shape[0] if last and network[last[2]].ndim == 4 else 0


# -- for people --------------------------------------------------------------------------------------


def alternatives(chosen: str, prefixes: Iterable[str], tensors: Iterable[str]) -> dict[str, str]:
    """Return the networks that were not chosen, by their prefixes, with what they are."""
    return {prefix: _kind_of(prefix, tensors) for prefix in prefixes if prefix != chosen}


def _kind_of(prefix: str, tensors: Iterable[str]) -> str:
    count = sum(name.startswith(prefix) for name in tensors)
    kind = "averaged or second" if SECOND_CHOICE.search(prefix) else "other"
    return f"{kind} weights of {count:,} tensors, not taken"


def _called(prefix: str) -> str:
    return f"which is under {prefix[:100]}" if prefix else "which has no prefix"


def _enumerated(prefixes: list[str]) -> str:
    shown = [repr(prefix[:100]) for prefix in prefixes[:_LISTED]]
    return ", ".join(shown) + (", …" if len(prefixes) > _LISTED else "")


def _modules(names: Iterable[str]) -> str:
    """Return the modules that tensors belong to, a few of them."""
    modules = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    outer = list(dict.fromkeys(".".join(module.split(".")[:3]) for module in modules))
    shown = ", ".join(module[:60] for module in outer[:_LISTED])
    return shown + (", …" if len(outer) > _LISTED else "")
