"""The commands that repeat a run: to the bit, or with its options on more images."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["command_again", "command_to_repeat"]

# Words of a command that concern one run folder alone, with whether a value follows.
_LEFT_OUT = {"--out": True, "--resume": False, "--checkpoint": True, "--json": False}
_LENGTHS = ("--minutes", "--epochs", "--steps")


def command_to_repeat(record: Mapping[str, Any]) -> str:
    """Return the command that repeats a run of minutes to the bit on the same machine.

    Args:
        record: The document of ``run.json``.

    Returns:
        The command; empty where the run has the length of its recipe, or no command started it.
    """
    words = list(record.get("command") or [])
    if "length" not in record or words[:2] != ["residual", "train"]:
        return ""
    plan, begins_with = record["plan"], record.get("begins_with", {})
    settled = {
        "--minutes": None,
        "--weights": begins_with.get("name") or "none",
        "--recipe": plan["recipe"]["name"],
        "--steps": plan["recipe"]["steps"],
        "--warmup-steps": plan["recipe"]["warmup_steps"],
        "--precision": plan["precision"],
        "--compile": "yes" if plan["compiled"] else "no",
    }
    kept, followed = _kept(words, settled), {}
    if begins_with.get("image_px") and "--image-px" not in kept:
        followed["--image-px"] = begins_with["image_px"]
    added = {**followed, **settled}
    return shlex.join([*kept, *_options(added)])


def command_again(record: Mapping[str, Any], data: str, changed: Mapping[str, Any] | None = None) -> str:
    """Return the command that trains with the options of a run.

    Args:
        record: The document of ``run.json``.
        data: Where its data lies, quoted for a shell.
        changed: Other values of options, each with its dashes; a length takes the place of every other one.
    """
    words, changed = list(record.get("command") or []), changed or {}
    left_out = [*changed, *(_LENGTHS if set(_LENGTHS) & set(changed) else ())]
    kept = _kept(words[2:], dict.fromkeys(left_out)) if words[:2] == ["residual", "train"] else []
    if kept and not kept[0].startswith("-"):
        kept = kept[1:]
    elif kept:  # its data, if any, stands behind options
        return shlex.join(["residual", "train", *kept, *_options(changed)])
    options = shlex.join([*kept, *_options(changed)])
    return f"residual train {data} {options}".rstrip()


def _options(values: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command; one without a value is left out."""
    return [str(word) for name, value in values.items() if value is not None for word in (name, value)]


def _kept(words: Sequence[str], settled: Mapping[str, Any]) -> list[str]:
    """Return the words of a command without the options that are settled or of one folder."""
    kept, is_value = [], False
    for word in words:
        option = word.partition("=")[0]
        if is_value:
            is_value = False
        elif option in settled or option in _LEFT_OUT:
            is_value = "=" not in word and _LEFT_OUT.get(option, True)
        else:
            kept.append(word)
    return kept
