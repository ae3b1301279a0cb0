"""Select a detector's tensors in a PyTorch state dict, under whatever prefix a program has saved it."""

from __future__ import annotations

import dataclasses

from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.selection import STATE_DICTS, Selection, alternatives, chosen_prefix


def select_detector(
    checkpoint: ForeignCheckpoint, marks: tuple[str, ...], state_dict: str = ""
) -> Selection | None:
    """Find the detector among the tensors of a checkpoint; ``None`` where there is none.

    Args:
        checkpoint: What was read.
        marks: Tensors that every detector of a library has.
        state_dict: Prefix of the network that is meant, or the keys by which the reader has found the state
            dict. A prefix of something else, such as a detector's backbone, selects no detector.

    Raises:
        ModelFileError: There are several detectors, and nothing tells which is meant.
    """
    tensors = checkpoint.tensors
    first = marks[0]
    prefixes = [
        prefix
        for prefix in (name.removesuffix(first) for name in tensors if name.endswith(first))
        if (not prefix or prefix.endswith(".")) and all(prefix + mark in tensors for mark in marks)
    ]
    unwrapped = ".".join(checkpoint.metadata.get("unwrapped", ()))
    wanted = "" if state_dict == unwrapped else state_dict
    if wanted:
        prefixes = [prefix for prefix in prefixes if prefix == f"{wanted.removesuffix('.')}."]
    if not prefixes or checkpoint.format not in STATE_DICTS:
        return None
    prefix = chosen_prefix(prefixes, tensors, checkpoint.path)
    inside = {
        name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)
    }
    why = f"outside the detector, which is under {prefix[:100]}"
    return Selection(
        dataclasses.replace(checkpoint, tensors=inside),
        prefix,
        {name: why for name in tensors if not name.startswith(prefix)},
        alternatives(prefix, prefixes, tensors),
    )
