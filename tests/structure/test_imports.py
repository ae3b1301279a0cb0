"""The import budget: what may not be loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    "code",
    [
        "import residual",
        "import residual; residual.list_models()",
        "import residual.cli; residual.cli.main(['models', '--json'])",
        "import residual.cli\ntry: residual.cli.main(['--help'])\nexcept SystemExit: pass",
        "import residual.cli\ntry: residual.cli.main(['train', '--help'])\nexcept SystemExit: pass",
        "import residual.cli\ntry: residual.cli.main(['check', '--help'])\nexcept SystemExit: pass",
        "import residual.cli\ntry: residual.cli.main(['data', '--help'])\nexcept SystemExit: pass",
        "import residual.cli\ntry: residual.cli.main(['evaluate', '--help'])\nexcept SystemExit: pass",
        "import residual.cli\ntry: residual.cli.main(['compare', '--help'])\nexcept SystemExit: pass",
        "import residual.cli\ntry: residual.cli.main(['benchmark', '--help'])\nexcept SystemExit: pass",
        "import residual.cli\ntry: residual.cli.main(['explain', '--help'])\nexcept SystemExit: pass",
        "import residual.cli\ntry: residual.cli.main(['report', '--help'])\nexcept SystemExit: pass",
        "import residual.cli\ntry: residual.cli.main(['reproduce', '--help'])\nexcept SystemExit: pass",
        "import residual.spec, residual.preprocess, residual.zoo",
        "import residual.recipe, residual.recipe.recipes",
        "import residual.cli\ntry: residual.cli.main(['train', '--learnin-rate'])\nexcept SystemExit: pass",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    program = f"{code}\nimport sys\nprint('\\nLOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.rsplit("LOADED", 1)[1].split()
    assert HEAVY.isdisjoint(loaded)


def test_the_list_of_commands_imports_no_command() -> None:
    program = (
        "import residual.cli, sys\ntry: residual.cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print('\\nLOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rsplit("LOADED", 1)[1].split())
    ours = {name for name in loaded if name.startswith("residual")}
    assert ours <= {
        "residual",
        "residual.cli",
        "residual.cli.streams",
        "residual.errors",
        "residual.runtime",
        "residual.runtime.openmp",
    }
    assert {"tyro", "rich"}.isdisjoint(loaded)
