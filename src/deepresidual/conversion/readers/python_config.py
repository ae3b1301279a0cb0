"""Read a configuration that is a program in Python, as mmdetection keeps it in its files; it is not run.

mmdetection writes a configuration out as assignments of literals and of calls of ``dict``. The text is
parsed, and of these alone a value is made; whatever else it says has no value.
"""

from __future__ import annotations

import ast
import math
from typing import Any

_MAX_LETTERS = 1_000_000
_MAX_DEPTH = 60
# What decides a detector and the preparation of its images, in versions 2 and 3.
_WANTED = ("model", "img_norm_cfg", "test_pipeline", "test_cfg", "data", "test_dataloader")


def read_config(text: str) -> dict[str, Any]:
    """Return the settings of a configuration as JSON types; none where it cannot be parsed."""
    if len(text) > _MAX_LETTERS or _depth(text) > _MAX_DEPTH:
        return {}
    try:
        program = ast.parse(text)
        return {
            target.id: _value(line.value)
            for line in program.body
            if isinstance(line, ast.Assign)
            for target in line.targets
            if isinstance(target, ast.Name) and target.id in _WANTED
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _depth(text: str) -> int:
    """Return how deep brackets nest: the parser has no limit of its own that is safe."""
    depth = deepest = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _value(node: ast.expr) -> Any:
    """Return the value of a literal or of a call of ``dict``; ``None`` for anything else."""
    match node:
        case ast.Constant(value=bool() | str()):
            return node.value
        case ast.Constant(value=int() | float() as number):
            return number if abs(number) < 2**63 and math.isfinite(number) else None
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
            number = _value(node.operand)
            return None if number is None else -number
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {
                key.value: _value(value)
                for key, value in zip(keys, values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return {word.arg: _value(word.value) for word in keywords if word.arg is not None}
        case _:
            return None
