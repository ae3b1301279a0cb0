"""The command that repeats a run of minutes: with the numbers of updates that were settled while it ran."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["command_to_repeat"]

# Words of a command that concern one run folder alone, with whether a value follows.
_LEFT_OUT = {"--minutes": True, "--out": True, "--resume": False, "--checkpoint": True, "--json": False}


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
    return shlex.join([*kept, *(str(word) for pair in added.items() for word in pair)])


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
