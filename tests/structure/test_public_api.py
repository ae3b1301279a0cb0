"""What is public does not change by accident: names, signatures, command-line options."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

import deepresidual
from deepresidual.cli import COMMANDS, command, main

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "public_api.json").read_text())


def test_public_names() -> None:
    assert sorted(deepresidual.__all__) == GOLDEN["names"]
    for name in deepresidual.__all__:
        assert getattr(deepresidual, name) is not None
    assert dir(deepresidual) == sorted(deepresidual.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'deepresidual' has no attribute 'trian'"):
        _ = deepresidual.trian


@pytest.mark.parametrize("name", GOLDEN["parameters"])
def test_public_parameters(name: str) -> None:
    function = getattr(deepresidual, name)
    assert list(inspect.signature(function).parameters) == GOLDEN["parameters"][name]


@pytest.mark.parametrize("name", GOLDEN["parameters"])
def test_public_docstrings_name_every_parameter(name: str) -> None:
    function = getattr(deepresidual, name)
    documentation = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"(^\s*|``){parameter}(:|``)", documentation, re.MULTILINE), parameter


@pytest.mark.parametrize("name", COMMANDS)
def test_command_line_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help-all"])
    options = sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", capsys.readouterr().out)) - {"--help"})
    assert options == GOLDEN["options"][name]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says_of_itself(name: str) -> None:
    documentation = inspect.getdoc(command(name)) or ""
    assert " ".join(documentation.split("\n\n")[0].split()).startswith(COMMANDS[name])
