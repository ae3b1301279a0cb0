"""Options are values: each dataclass of options has the same fields as its typed keywords."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from deepresidual.errors import ConfigurationError
from deepresidual.evaluation import options as evaluation_options
from deepresidual.runtime import compute
from deepresidual.training import options as train_options

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "public_api.json").read_text())

PAIRS = [
    (compute.ComputeOptions, compute.ComputeKeywords),
    (evaluation_options.EvaluationOptions, evaluation_options.EvaluationKeywords),
    (train_options.TrainOptions, train_options.TrainKeywords),
]


def fields_as_written(kind: type[Any]) -> dict[str, Any]:
    """Return the annotations of a class and its parents, as they are written."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        found |= inspect.get_annotations(base)
    # ``TypedDict`` wraps the strings of the annotations.
    return {name: getattr(hint, "__forward_arg__", hint) for name, hint in found.items()}


@pytest.mark.parametrize(("options", "keywords"), PAIRS)
def test_keywords_are_the_fields(options: type[Any], keywords: type[Any]) -> None:
    assert fields_as_written(keywords) == fields_as_written(options)


@pytest.mark.parametrize("options", [options for options, _ in PAIRS])
def test_every_field_has_a_default_and_a_sentence(options: type[Any]) -> None:
    options()  # every field has a default
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    assert isinstance(tree, ast.ClassDef)
    for field, sentence in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(sentence, ast.Expr), ast.unparse(field)


@pytest.mark.parametrize("options", [options for options, _ in PAIRS if options.__name__ in GOLDEN["fields"]])
def test_the_fields_are_public(options: type[Any]) -> None:
    assert sorted(field.name for field in dataclasses.fields(options)) == GOLDEN["fields"][options.__name__]


CATCH_ALL = {"rendered"}  # what a template of Jinja asks for
LONG = {"estimator.__init__"}  # scikit-learn reads the parameters of an estimator there, and nowhere else


def test_lists_of_parameters_are_short_and_typed() -> None:
    long, catch_all = set(), set()
    for file in Path(inspect.getfile(compute)).parents[1].rglob("*.py"):
        if file.parent.name == "cli":
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            name = f"{file.stem}.{node.name}" if node.name == "__init__" else node.name
            own = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [each.arg for each in (*own, node.args.kwarg) if each and each.arg not in ("self", "cls")]
            if len(names) > 8:
                long.add(name)
            kind = node.args.kwarg.annotation if node.args.kwarg else None
            if kind is not None and ast.unparse(kind) == "Any":
                catch_all.add(name)
    assert long <= LONG
    assert catch_all <= CATCH_ALL


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"bad_samples": "drop"}, "bad_samples is 'drop'; expected one of stop, skip"),
        ({"compile": "maybe"}, "compile is 'maybe'; expected one of auto, yes, no"),
        ({"tensorboard": "no"}, "tensorboard is 'no'; expected True or False"),
        ({"fit_memory": 1}, "fit_memory is 1; expected True or False"),
    ],
)
def test_another_word_than_those_allowed_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train_options.TrainOptions(**keywords)
