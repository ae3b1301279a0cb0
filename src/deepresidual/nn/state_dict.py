"""How the tensors of a file differ from those of a module, by name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Name of every tensor, with its shape."""


def shape_differences(found: Shapes, expected: Shapes) -> list[str]:
    """Return what is missing (−), extra (+) or of another shape (±) in a file.

    Args:
        found: The tensors of the file.
        expected: Those of the module.
    """
    differences = [f"− {name} {expected[name]}" for name in expected if name not in found]
    differences += [f"+ {name} {found[name]}" for name in found if name not in expected]
    differences += [
        f"± {name} {found[name]} for {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    return differences
