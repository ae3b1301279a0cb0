"""The import budget: what may not be loaded before it is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deepresidual

HEAVY = {
    "torch",
    "numpy",
    "PIL",
    "sklearn",
    "scipy",
    "pyarrow",
    "matplotlib",
    "torchvision",
    "safetensors",
    "jinja2",
}


def command(words: list[str]) -> str:
    """Return the code of a command that may leave with an exit code."""
    return f"import deepresidual.cli\ntry: deepresidual.cli.main({words})\nexcept SystemExit: pass"


STEPS = (
    "import deepresidual",
    "import deepresidual; deepresidual.list_models()",
    command(["models", "--json"]),
    command(["models", "--weights", "--json"]),
    command(["predict", "resnet50.a9_in1k", "photo.jpg"]),
    command(["fetch", "--help"]),
    command(["--help"]),
    command(["train", "--help"]),
    command(["check", "--help"]),
    command(["data", "--help"]),
    command(["evaluate", "--help"]),
    command(["compare", "--help"]),
    command(["benchmark", "--help"]),
    command(["explain", "--help"]),
    command(["report", "--help"]),
    command(["reproduce", "--help"]),
    "import deepresidual.spec, deepresidual.preprocess, deepresidual.zoo",
    "import deepresidual.recipe, deepresidual.recipe.recipes",
    command(["train", "--learnin-rate"]),
    command(["train", "digits", "--imgsz", "224"]),
    command(["--print-completion", "bash"]),
)
# What reads the names of files may load what reads files.
MISTYPED = (
    command(["train", "phots"]),
    command(["train", "digits", "--model", "resnet17"]),
    command(["train", "digits", "--weights", "resnet17"]),
    command(["train", "digits", "--recipe", "photo"]),
    command(["evaluate", "resnet56-cifar10", "phots"]),
    command(["evaluate", "resnet57", "digits"]),
    command(["predict", "resnet56-cifar10", "phots"]),
    command(["explain", "resnet56-cifar10", "phots"]),
    command(["check", "phots"]),
    command(["reproduce", "degredation"]),
    command(["reproduce", "degradation", "phots"]),
    command(["data", "shard", "phots", "shards"]),
    command(["report", "runs"]),
)
# One process for all: starting Python takes longer than most steps.
PROGRAM = """
import json, sys
for code in json.loads(sys.argv[1]):
    exec(code, {})
    sys.stderr.write(json.dumps({"LOADED": list(sys.modules)}) + "\\n")
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """What is loaded after each step."""
    codes = (*STEPS, *MISTYPED)
    command = [sys.executable, "-c", PROGRAM, json.dumps(codes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith('{"LOADED"')]
    return {code: set(json.loads(line)["LOADED"]) for code, line in zip(codes, lines, strict=True)}


@pytest.mark.parametrize("code", STEPS)
def test_nothing_heavy_is_imported(code: str, loaded: dict[str, set[str]]) -> None:
    assert HEAVY.isdisjoint(loaded[code])


@pytest.mark.parametrize("code", MISTYPED)
def test_a_mistyped_argument_is_answered_before_torch_is_loaded(
    code: str, loaded: dict[str, set[str]]
) -> None:
    assert "torch" not in loaded[code]


def test_the_list_of_commands_imports_no_command() -> None:
    program = (
        "import deepresidual.cli, sys\ntry: deepresidual.cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print('\\nLOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rsplit("LOADED", 1)[1].split())
    ours = {name for name in loaded if name.startswith("deepresidual")}
    assert ours <= {
        "deepresidual",
        "deepresidual.cli",
        "deepresidual.cli.streams",
        "deepresidual.errors",
        "deepresidual.runtime",
        "deepresidual.runtime.lazy",
        "deepresidual.runtime.openmp",
    }
    assert {"tyro", "rich"}.isdisjoint(loaded)


def test_torchvision_is_imported_where_there_are_objects_alone() -> None:
    """Its second would be everybody's, who train or use a classifier."""
    source = Path(deepresidual.__file__).parent
    room = source / "nn" / "detection"
    at_once = re.compile(r"^(import|from) (torchvision|deepresidual\.nn\.detection)\b", re.MULTILINE)
    outside = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if room not in path.parents and at_once.search(path.read_text("utf-8"))
    }
    assert outside == set()
    assert at_once.search((room / "boxes.py").read_text("utf-8"))


def test_runs_are_read_and_written_and_objects_drawn_without_torch() -> None:
    program = "import deepresidual.runs.folder, deepresidual.reporting.boxes, sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"deepresidual.runs.read", "deepresidual.reporting.boxes"} <= set(done.stdout.split())
    assert "torch" not in done.stdout.split()
