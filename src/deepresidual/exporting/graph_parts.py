"""Parts of an ONNX graph that is built node by node: named ranges of nodes, and exported modules put in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import onnx_ir as ir

Value: TypeAlias = Any  # ir.Value, whose operators onnxscript does not type


@contextlib.contextmanager
def scope(op: Any, name: str) -> Iterator[Any]:
    """Name nodes after a part of the graph, and let ``+ - * /`` of values add nodes to it."""
    op.builder.push_module(name)
    before = ir.set_value_magic_handler(op)
    try:
        yield op
    finally:
        ir.set_value_magic_handler(before)
        op.builder.pop_module()


def put_in(op: Any, part: ir.Model, inputs: Sequence[Value], name: str) -> list[Value]:
    """Add the nodes of an exported module to the graph, and return its outputs there.

    Weights keep the names that they have in the module. What two parts share is there once: a weight of a
    name that the graph has already is taken for the same.

    Args:
        op: The builder's operators.
        part: The module.
        inputs: What it reads, values of the graph.
        name: What its nodes are named after.
    """
    graph: ir.Graph = op.builder.graph
    values: dict[ir.Value | None, Value] = {None: None, **dict(zip(part.graph.inputs, inputs, strict=True))}
    for value in part.graph.initializers.values():
        given = str(value.name)
        own = given if "." in given else f"{name}/{given}"
        if own not in graph.initializers:
            copied = ir.Value(name=own, shape=value.shape, type=value.type, const_value=value.const_value)
            graph.register_initializer(copied)
        values[value] = graph.initializers[own]
    for node in part.graph:
        added = ir.Node(
            node.domain,
            node.op_type,
            [values[each] for each in node.inputs],
            node.attributes.values(),
            num_outputs=len(node.outputs),
            name=f"{name}/{node.name}",
        )
        for output, new in zip(node.outputs, added.outputs, strict=True):
            new.name, new.type, new.shape = f"{name}/{output.name}", output.type, output.shape
            values[output] = new
        graph.append(added)
    return [values[each] for each in part.graph.outputs]
